//! Shard bytes as raw HTTP/2 bodies.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use domain::limits::SHARD_BYTES_MAX;
use domain::{Cid, ShardTag};
use http::header::{CONTENT_LENGTH, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout_at;

use super::{Deadline, NodeClient, PeerError, ShardRead, Stored};
use crate::body::{Buffers, MessageBody};
use crate::protocol::{
    PROOF_BYTES_MAX, PROOF_LENGTH, REFUSAL, REFUSAL_BYTES_MAX, REQUEST_ID, Refusal, SHARDS_PATH,
    TAG, TOTAL_BYTES, WANT_PROOF, range_to_header, tag_from_header, tag_to_header,
};

/// A shard on its way: what is known before its bytes, then the bytes as they arrive.
///
/// Unchecked: whoever reads it checks it against the CID or the proof. Dropping it cancels the rest.
#[derive(Debug)]
pub struct ShardStream {
    /// Bytes of the whole shard, without proof.
    pub total_bytes: u32,
    /// Why it is on the node.
    pub tag: ShardTag,
    /// The chunk proof, when asked for and held.
    pub proof: Option<Bytes>,
    body: Frames,
}

impl ShardStream {
    /// The next bytes; `None` after the last. Exactly the bytes asked for arrive, or an error does.
    ///
    /// # Errors
    /// [`PeerError`] when the connection breaks, the deadline passes, or the node sends more or less than it said.
    pub async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        self.body.next().await
    }

    /// Bytes that are still to come.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.body.remaining
    }
}

impl NodeClient {
    /// Stores a shard with its proof (empty: none). Answers when it is durable.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn put(
        &self,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
        deadline: Deadline,
    ) -> Result<Stored, PeerError> {
        let proof_bytes = proof.len();
        let body = Buffers::new(std::iter::once(proof).chain(body));
        let mut request = self.request(Method::PUT, &cid)?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.remaining()));
        headers.insert(PROOF_LENGTH, HeaderValue::from(proof_bytes));
        headers.insert(TAG, header(&tag_to_header(tag))?);
        *request.body_mut() = MessageBody::Buffers(body);
        let response = self.connections.call(request, deadline).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Stored { already: false }),
            StatusCode::OK => Ok(Stored { already: true }),
            _ => Err(refusal(response, deadline).await),
        }
    }

    /// Reads a shard, or a range of it, in one piece.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::NotFound`] when the node does not hold it.
    pub async fn get(
        &self,
        cid: Cid,
        range: Option<Range<u32>>,
        want_proof: bool,
        deadline: Deadline,
    ) -> Result<ShardRead, PeerError> {
        let mut stream = self.get_stream(cid, range, want_proof, deadline).await?;
        let mut body = Vec::with_capacity(1);
        while let Some(bytes) = stream.next().await? {
            body.push(bytes);
        }
        Ok(ShardRead {
            total_bytes: stream.total_bytes,
            tag: stream.tag,
            proof: stream.proof,
            body,
        })
    }

    /// Reads a shard, or a range of it, as it arrives. The deadline covers the bytes too.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::NotFound`] when the node does not hold it.
    pub async fn get_stream(
        &self,
        cid: Cid,
        range: Option<Range<u32>>,
        want_proof: bool,
        deadline: Deadline,
    ) -> Result<ShardStream, PeerError> {
        let mut request = self.request(Method::GET, &cid)?;
        let headers = request.headers_mut();
        if let Some(range) = &range {
            headers.insert(RANGE, header(&range_to_header(range))?);
        }
        if want_proof {
            headers.insert(WANT_PROOF, HeaderValue::from_static("1"));
        }
        let response = self.connections.call(request, deadline).await?;
        let expected = if range.is_some() {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        if response.status() != expected {
            return Err(refusal(response, deadline).await);
        }
        let (head, body) = response.into_parts();
        let total_bytes: u32 = number(&head.headers, TOTAL_BYTES)?;
        let proof_bytes: usize = number(&head.headers, PROOF_LENGTH)?;
        let length: usize = number(&head.headers, CONTENT_LENGTH.as_str())?;
        let tag = text(&head.headers, TAG)
            .and_then(tag_from_header)
            .ok_or_else(|| PeerError::misbehaved("an answer without a tag"))?;
        let total = usize::try_from(total_bytes).unwrap_or(usize::MAX);
        let wanted = match &range {
            Some(range) if range.end <= total_bytes => {
                usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
            }
            Some(_) => return Err(PeerError::misbehaved("a range beyond the shard's end")),
            None => total,
        };
        if total > SHARD_BYTES_MAX
            || proof_bytes > PROOF_BYTES_MAX
            || (proof_bytes > 0 && !want_proof)
            || Some(length) != wanted.checked_add(proof_bytes)
        {
            return Err(PeerError::misbehaved(
                "an answer whose lengths do not fit together",
            ));
        }
        let mut body = Frames {
            incoming: body,
            rest: None,
            remaining: length,
            deadline,
        };
        let proof = match proof_bytes {
            0 => None,
            _ => Some(body.exactly(proof_bytes).await?),
        };
        Ok(ShardStream {
            total_bytes,
            tag,
            proof,
            body,
        })
    }

    fn request(&self, method: Method, cid: &Cid) -> Result<Request<MessageBody>, PeerError> {
        let uri = Uri::builder()
            .scheme("http")
            .authority("node")
            .path_and_query(format!("{SHARDS_PATH}{cid}"))
            .build()
            .map_err(|error| PeerError::unavailable(&error))?;
        let mut request = Request::new(MessageBody::Buffers(Buffers::default()));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        if let Some(id) = &self.request_id {
            request.headers_mut().insert(REQUEST_ID, id.clone());
        }
        Ok(request)
    }
}

/// The bytes of an answer, counted against what its head promised.
#[derive(Debug)]
struct Frames {
    incoming: Incoming,
    /// What a frame held beyond the proof.
    rest: Option<Bytes>,
    remaining: usize,
    deadline: Deadline,
}

impl Frames {
    async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        loop {
            let bytes = match self.rest.take() {
                Some(rest) => rest,
                None if self.remaining == 0 => return Ok(None),
                None => self.frame().await?,
            };
            if !bytes.is_empty() {
                self.remaining = self
                    .remaining
                    .checked_sub(bytes.len())
                    .ok_or_else(|| PeerError::misbehaved("more bytes than it said"))?;
                return Ok(Some(bytes));
            }
        }
    }

    async fn frame(&mut self) -> Result<Bytes, PeerError> {
        loop {
            match timeout_at(self.deadline, self.incoming.frame()).await {
                Err(_) => return Err(PeerError::Timeout),
                Ok(None) => return Err(PeerError::misbehaved("fewer bytes than it said")),
                Ok(Some(Err(error))) => return Err(PeerError::unavailable(&error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(bytes);
                    }
                }
            }
        }
    }

    /// Takes the first `length` bytes; without a copy when they arrive in one frame, as they mostly do.
    async fn exactly(&mut self, length: usize) -> Result<Bytes, PeerError> {
        let mut gathered = BytesMut::new();
        loop {
            let mut bytes = self
                .next()
                .await?
                .ok_or_else(|| PeerError::misbehaved("fewer bytes than it said"))?;
            let missing = length - gathered.len();
            if bytes.len() > missing {
                let rest = bytes.split_off(missing);
                self.remaining += rest.len();
                self.rest = Some(rest);
            }
            if gathered.is_empty() && bytes.len() == length {
                return Ok(bytes);
            }
            gathered.extend_from_slice(&bytes);
            if gathered.len() == length {
                return Ok(gathered.freeze());
            }
        }
    }
}

/// Reads why a request was refused.
async fn refusal(response: Response<Incoming>, deadline: Deadline) -> PeerError {
    let status = response.status();
    let reason = text(response.headers(), REFUSAL).and_then(Refusal::from_code);
    let Some(reason) = reason else {
        return PeerError::misbehaved(format!("the answer {status} without a reason"));
    };
    let body = http_body_util::Limited::new(response.into_body(), REFUSAL_BYTES_MAX);
    let detail = match timeout_at(deadline, body.collect()).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        // The code is what counts.
        Ok(Err(_)) | Err(_) => String::new(),
    };
    PeerError::from_refusal(reason, detail)
}

fn header(text: &str) -> Result<HeaderValue, PeerError> {
    HeaderValue::from_str(text).map_err(|error| PeerError::unavailable(&error))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn number<N: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<N, PeerError> {
    text(headers, name)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| PeerError::misbehaved(format!("an answer without `{name}`")))
}
