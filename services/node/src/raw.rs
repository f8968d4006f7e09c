//! The raw shard routes (see `transport::protocol`): a shard's bytes as an HTTP/2 body.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::limits::SHARD_BYTES_MAX;
use domain::{Cid, ShardTag};
use http::header::{CONTENT_LENGTH, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use transport::body::Buffers;
use transport::protocol::{
    PROOF_BYTES_MAX, PROOF_LENGTH, REFUSAL, TAG, TOTAL_BYTES, WANT_PROOF, range_from_header,
    tag_from_header, tag_to_header,
};
use transport::{Peer, Refusal, Stored};

use crate::body::NodeBody;
use crate::config::NodeLimits;
use crate::metrics::Operation;
use crate::operations::{Operations, may_write};
use crate::storage::{Refused, Shard, Storage};

/// Answers `PUT` and `GET` of `/shards/<cid>`; `name` is what follows the prefix.
pub async fn shard<S: Storage>(
    node: &Operations<S>,
    peer: &Arc<Peer>,
    name: &str,
    request: Request<Incoming>,
) -> Response<NodeBody> {
    let method = request.method().clone();
    let outcome = match (name.parse::<Cid>(), method) {
        (Err(error), _) => Err(Refused::new(Refusal::Malformed, error.to_string())),
        (Ok(cid), Method::PUT) => node
            .observed(Operation::Put, put(node, peer, cid, request))
            .await
            .map(stored),
        (Ok(cid), Method::GET) => {
            node.observed(Operation::Get, get(node, peer, cid, request.headers()))
                .await
        }
        (Ok(_), _) => Err(Refused::new(
            Refusal::Malformed,
            "shards are put and got here",
        )),
    };
    outcome.unwrap_or_else(|refused| refusal(&refused))
}

/// A refusal as an answer.
pub fn refusal(refused: &Refused) -> Response<NodeBody> {
    let mut response = Response::new(NodeBody::from_bytes(Bytes::from(refused.detail.clone())));
    *response.status_mut() = refused.reason.status();
    response
        .headers_mut()
        .insert(REFUSAL, HeaderValue::from_static(refused.reason.code()));
    response
}

fn stored(stored: Stored) -> Response<NodeBody> {
    let mut response = Response::new(NodeBody::empty());
    *response.status_mut() = if stored.already {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    response
}

async fn put<S: Storage>(
    node: &Operations<S>,
    peer: &Peer,
    cid: Cid,
    request: Request<Incoming>,
) -> Result<Stored, Refused> {
    may_write(peer)?;
    let head = PutHead::read(request.headers())?;
    // Held until the shard is durable: so a slow disk slows its senders down instead of filling the memory.
    let _room = node.write_room(head.length).await?;
    let (proof, body) = receive(request.into_body(), &head, node.limits()).await?;
    node.put(peer, cid, head.tag, proof, body).await
}

struct PutHead {
    tag: ShardTag,
    /// Proof and shard together.
    length: usize,
    proof: usize,
}

impl PutHead {
    fn read(headers: &HeaderMap) -> Result<Self, Refused> {
        let malformed =
            |name: &str| Refused::new(Refusal::Malformed, format!("`{name}` is missing or wrong"));
        let length: usize =
            number(headers, CONTENT_LENGTH.as_str()).ok_or_else(|| malformed("content-length"))?;
        let proof: usize = number(headers, PROOF_LENGTH).ok_or_else(|| malformed(PROOF_LENGTH))?;
        let tag = text(headers, TAG)
            .and_then(tag_from_header)
            .ok_or_else(|| malformed(TAG))?;
        let Some(shard) = length.checked_sub(proof) else {
            return Err(malformed(PROOF_LENGTH));
        };
        if proof > PROOF_BYTES_MAX || shard > SHARD_BYTES_MAX {
            return Err(Refused::new(
                Refusal::TooLarge,
                format!("a shard has at most {SHARD_BYTES_MAX} bytes, a proof {PROOF_BYTES_MAX}"),
            ));
        }
        Ok(Self { tag, length, proof })
    }
}

/// Takes a body apart into proof and shard. Frames are kept as they arrive, without copying; only a proof that arrives
/// in pieces is put together.
async fn receive(
    mut body: Incoming,
    head: &PutHead,
    limits: &NodeLimits,
) -> Result<(Bytes, Vec<Bytes>), Refused> {
    let mut pace = Pace::new(head.length, limits);
    let mut proof = Bytes::new();
    let mut gathered = BytesMut::new();
    let mut shard = Vec::with_capacity(1);
    let mut received = 0_usize;
    loop {
        let frame = match timeout_at(pace.next(), body.frame()).await {
            Err(_) => return Err(Refused::new(Refusal::TooSlow, "the sender was too slow")),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Refused::new(Refusal::Malformed, "the body broke off")),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(mut bytes) = frame.into_data() else {
            continue;
        };
        received = received.saturating_add(bytes.len());
        if received > head.length {
            return Err(Refused::new(Refusal::TooLarge, "more bytes than announced"));
        }
        let missing = head.proof - proof.len().max(gathered.len());
        if missing > 0 {
            let part = bytes.split_to(missing.min(bytes.len()));
            if part.len() == head.proof {
                proof = part;
            } else {
                gathered.extend_from_slice(&part);
            }
        }
        if !bytes.is_empty() {
            shard.push(bytes);
        }
    }
    if received != head.length {
        return Err(Refused::new(
            Refusal::Malformed,
            "fewer bytes than announced",
        ));
    }
    if !gathered.is_empty() {
        proof = gathered.freeze();
    }
    Ok((proof, shard))
}

/// How long a sender may take: never silent for long, and never slower than a minimum over the whole body.
struct Pace {
    silence: Duration,
    end: Instant,
}

impl Pace {
    fn new(length: usize, limits: &NodeLimits) -> Self {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let rate = u64::from(limits.sender_bytes_per_second.max(1));
        let whole = Duration::from_millis(length.saturating_mul(1_000) / rate);
        Self {
            silence: limits.sender_silence,
            end: Instant::now() + limits.sender_silence + whole,
        }
    }

    fn next(&mut self) -> Instant {
        self.end.min(Instant::now() + self.silence)
    }
}

async fn get<S: Storage>(
    node: &Operations<S>,
    peer: &Peer,
    cid: Cid,
    headers: &HeaderMap,
) -> Result<Response<NodeBody>, Refused> {
    let range: Option<Range<u32>> =
        match headers.get(RANGE) {
            None => None,
            Some(value) => Some(value.to_str().ok().and_then(range_from_header).ok_or_else(
                || {
                    Refused::new(
                        Refusal::BadRange,
                        "one range `bytes=first-last` is spoken here",
                    )
                },
            )?),
        };
    let want_proof = headers.get(WANT_PROOF).is_some_and(|value| value == "1");
    let partial = range.is_some();
    let shard = node.get(peer, cid, range, want_proof).await?;
    Ok(found(shard, partial))
}

fn found(shard: Shard, partial: bool) -> Response<NodeBody> {
    let proof = shard.proof.unwrap_or_default();
    let proof_bytes = proof.len();
    let body = Buffers::new([proof, shard.body]);
    let length = body.remaining();
    let mut response = Response::new(NodeBody::Buffers(body));
    *response.status_mut() = if partial {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(TOTAL_BYTES, HeaderValue::from(shard.total_bytes));
    headers.insert(PROOF_LENGTH, HeaderValue::from(proof_bytes));
    if let Ok(tag) = HeaderValue::from_str(&tag_to_header(shard.tag)) {
        headers.insert(TAG, tag);
    }
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn number(headers: &HeaderMap, name: &str) -> Option<usize> {
    text(headers, name)?.parse().ok()
}
