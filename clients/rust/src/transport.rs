//! One signed request and its answer: deadlines, bounded bodies, bounded retries.
//!
//! Every attempt is signed anew with a fresh nonce. Only failures that may pass are retried (nobody answers, the
//! connection broke, 429, 502, 503, 504), with full-jitter back-off, for as long as the configuration says; every route is
//! idempotent, so an attempt that was carried out although its answer got lost does no harm.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use crypto::Identity;
use domain::{Cid, DeploymentId, TimestampMs};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RANGE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wire::http_signature::{
    self, CONTENT_DIGEST_HEADER, NONCE_BYTES, RequestView, SignatureParams, content_digest,
};
use wire::problem::{Code, PROBLEM_BYTES_MAX, Problem};
use wire::rest::{CBOR, CHUNK_CID_HEADER, OCTET_STREAM};

use crate::config::{ClientConfig, Endpoint};
use crate::connector::Connector;
use crate::error::{Error, Result};
use crate::random;

const SIGNATURE_LIFETIME_S: u64 = 300;
const ATTEMPTS_MAX: u32 = 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// How long too few nodes or shards are waited for: long enough for a restart, short enough for a clear refusal.
const RETRY_NODES_FOR: Duration = Duration::from_secs(3);
const IDLE_CONNECTIONS_MAX: usize = 64;

/// What a request carries.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Empty,
    Json(Bytes),
    Cbor(Bytes),
    /// A chunk's ciphertext; its CID stands for a digest.
    Chunk(Bytes, Cid),
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// For messages: "listing a bucket".
    pub(crate) what: &'static str,
    pub(crate) method: Method,
    /// Path and query, encoded.
    pub(crate) target: String,
    pub(crate) body: Body,
    /// Inclusive byte range.
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) signed: bool,
    pub(crate) timeout: Duration,
    pub(crate) retry_for: Duration,
    /// Bytes of the answer, at most.
    pub(crate) answer_max: usize,
}

/// The answer's head; its body is in the buffer that was passed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

pub(crate) struct Transport {
    http: HttpClient<Connector, Full<Bytes>>,
    endpoint: Endpoint,
    identity: Arc<Identity>,
    deployment: DeploymentId,
}

/// Why one attempt failed.
enum Attempt {
    /// May pass.
    Again(Error, Option<Duration>),
    /// Will not.
    Final(Error),
}

impl Transport {
    pub(crate) fn new(
        config: &ClientConfig,
        endpoint: Endpoint,
        deployment: DeploymentId,
    ) -> Result<Self> {
        let connector = Connector::new(&endpoint, config.ca_certificate.as_deref())?;
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self {
            http,
            endpoint,
            identity: Arc::clone(&config.identity),
            deployment,
        })
    }

    /// For the deployment that was found at first use.
    pub(crate) fn with_deployment(self, deployment: DeploymentId) -> Self {
        Self { deployment, ..self }
    }

    pub(crate) fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Carries out the call; the answer's body replaces the buffer's contents.
    pub(crate) async fn call(&self, call: &Call, answer: &mut Vec<u8>) -> Result<Answer> {
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            let (error, asked_to_wait) = match self.attempt(call, answer, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error, wait)) => (error, wait),
            };
            let allowed = match error.code() {
                Some(Code::NotEnoughNodes | Code::NotEnoughShards) => {
                    call.retry_for.min(RETRY_NODES_FOR)
                }
                _ => call.retry_for,
            };
            let pause = backoff(attempt)?.max(asked_to_wait.unwrap_or_default());
            if attempt >= ATTEMPTS_MAX || started.elapsed() + pause > allowed {
                return Err(error);
            }
            tracing::debug!(what = call.what, attempt, %error, "request failed, trying again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        call: &Call,
        answer: &mut Vec<u8>,
        attempt: u32,
    ) -> std::result::Result<Answer, Attempt> {
        let request = self.request(call).map_err(Attempt::Final)?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| {
                Attempt::Again(
                    Error::Unreachable {
                        endpoint: self.endpoint.to_string(),
                        reason: innermost(&error),
                    },
                    None,
                )
            })?;
            let (head, body) = response.into_parts();
            let max = if head.status.is_success() {
                call.answer_max
            } else {
                PROBLEM_BYTES_MAX
            };
            collect(body, answer, max, call.what).await?;
            Ok(head)
        };
        let head = match tokio::time::timeout(call.timeout, exchange).await {
            Ok(head) => head?,
            Err(_) => {
                let after = call.timeout;
                return Err(Attempt::Again(
                    Error::Timeout {
                        what: call.what,
                        after,
                    },
                    None,
                ));
            }
        };
        // What is to be removed and is gone at the second attempt was removed by the first, whose answer got lost.
        let removed =
            call.method == Method::DELETE && attempt > 1 && head.status == StatusCode::NOT_FOUND;
        if head.status.is_success() || removed {
            return Ok(Answer {
                status: head.status,
                headers: head.headers,
            });
        }
        let wait = head
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let passing = matches!(head.status.as_u16(), 429 | 502 | 503 | 504);
        let error = match Problem::from_json(answer) {
            Some(problem) => Error::refused(problem),
            None => Error::Protocol {
                what: call.what,
                reason: format!("status {} without a problem document", head.status),
            },
        };
        Err(if passing {
            Attempt::Again(error, wait)
        } else {
            Attempt::Final(error)
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>> {
        let uri = self.endpoint.uri(&call.target)?;
        let mut request = Request::new(Full::default());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some((first, last)) = call.range {
            let value = format!("bytes={first}-{last}");
            headers.insert(RANGE, text_header(&value)?);
        }
        let body = match &call.body {
            Body::Empty => Bytes::new(),
            Body::Json(body) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers.insert(CONTENT_DIGEST_HEADER, content_digest(body));
                body.clone()
            }
            Body::Cbor(body) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(CBOR));
                headers.insert(CONTENT_DIGEST_HEADER, content_digest(body));
                body.clone()
            }
            Body::Chunk(body, cid) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTET_STREAM));
                headers.insert(CHUNK_CID_HEADER, text_header(&cid.to_string())?);
                body.clone()
            }
        };
        if call.signed {
            self.sign(&mut request)?;
        }
        *request.body_mut() = Full::new(body);
        Ok(request)
    }

    fn sign(&self, request: &mut Request<Full<Bytes>>) -> Result<()> {
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce)?;
        let created_s = now()?.0 / 1_000;
        let params = SignatureParams {
            principal: self.identity.principal(),
            deployment: self.deployment,
            created_s,
            expires_s: created_s + SIGNATURE_LIFETIME_S,
            nonce,
        };
        let view = RequestView {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
        };
        let signed = http_signature::sign(view, &params, |base| self.identity.sign_http(base).0)
            .map_err(|error| Error::Internal(error.to_string()))?;
        signed.insert_into(request.headers_mut());
        Ok(())
    }
}

/// The wall clock, which entries and signatures carry.
pub(crate) fn now() -> Result<TimestampMs> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Error::Config("this machine's clock is before 1970: set it".to_owned()))?;
    u64::try_from(since.as_millis())
        .map(TimestampMs)
        .map_err(|_| Error::Config("this machine's clock is out of range: set it".to_owned()))
}

/// Reads a body of at most `max` bytes into `answer`.
async fn collect(
    mut body: Incoming,
    answer: &mut Vec<u8>,
    max: usize,
    what: &'static str,
) -> std::result::Result<(), Attempt> {
    answer.clear();
    let too_large = || {
        Attempt::Final(Error::Protocol {
            what,
            reason: format!("an answer of more than {max} bytes"),
        })
    };
    if let Some(exact) = body.size_hint().exact() {
        let exact = usize::try_from(exact).map_err(|_| too_large())?;
        if exact > max {
            return Err(too_large());
        }
        answer.reserve(exact);
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let reason = format!(
                "the connection broke in the middle of an answer: {}",
                innermost(&error)
            );
            Attempt::Again(Error::Protocol { what, reason }, None)
        })?;
        if let Some(data) = frame.data_ref() {
            if answer.len() + data.len() > max {
                return Err(too_large());
            }
            answer.extend_from_slice(data);
        }
    }
    Ok(())
}

/// Full jitter: anything up to a ceiling that doubles.
fn backoff(attempt: u32) -> Result<Duration> {
    let mut bytes = [0; 4];
    random::fill(&mut bytes)?;
    let doubled = BACKOFF_FIRST.saturating_mul(1 << attempt.min(10));
    let ceiling = doubled.min(BACKOFF_MAX);
    // A fraction below one of the ceiling.
    Ok(ceiling.mul_f64(f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)))
}

/// The cause that says most: hyper wraps "connection refused" twice.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn text_header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|error| Error::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_and_is_bounded() {
        for attempt in 1..40 {
            assert!(backoff(attempt).unwrap() <= BACKOFF_MAX);
        }
        assert!(backoff(1).unwrap() <= BACKOFF_FIRST * 2);
    }
}
