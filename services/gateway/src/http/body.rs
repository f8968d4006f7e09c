//! Request bodies with bounds on size and patience, and response bodies that hold their share of the byte
//! budget until they have left.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use wire::problem::Code;

use super::answer::Failure;
use super::flow::{self, Flows};
use crate::budget::BudgetGuard;

/// Grace before a sender's rate is looked at.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// The declared length of a body.
///
/// # Errors
/// When it is absent, not a number or over `max`.
pub fn declared_length(headers: &HeaderMap, max: usize) -> Result<usize, Failure> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok())
        .ok_or_else(|| Failure::new(Code::BadRequest, "a Content-Length header is needed"))?;
    if length > max {
        return Err(Failure::new(
            Code::BodyTooLarge,
            format!("the body has {length} bytes; this route takes at most {max}"),
        ));
    }
    Ok(length)
}

/// Reads a body of at most `max` bytes into one buffer; a sender that stays under `min_rate` bytes per second for more
/// than ten seconds is dropped.
///
/// # Errors
/// [`Code::BodyTooLarge`], [`Code::Timeout`], [`Code::BadRequest`] when the connection breaks.
pub async fn collect(
    mut body: Body,
    capacity: usize,
    max: usize,
    min_rate: u64,
) -> Result<Bytes, Failure> {
    let mut out = BytesMut::with_capacity(capacity.min(max));
    let begun = Instant::now();
    loop {
        let received = u64::try_from(out.len()).unwrap_or(u64::MAX);
        let earned = Duration::from_secs(received.checked_div(min_rate).unwrap_or(0));
        let Ok(frame) = tokio::time::timeout_at(begun + RATE_GRACE + earned, body.frame()).await
        else {
            return Err(Failure::new(Code::Timeout, "the body came too slowly"));
        };
        let Some(frame) = frame else {
            return Ok(out.freeze());
        };
        let frame = frame.map_err(|error| {
            Failure::new(Code::BadRequest, format!("the body ended early: {error}"))
        })?;
        if let Ok(data) = frame.into_data() {
            if data.len() > max - out.len() {
                return Err(Failure::new(
                    Code::BodyTooLarge,
                    format!("the body has more than {max} bytes"),
                ));
            }
            out.extend_from_slice(&data);
        }
    }
}

/// Frames to send, in order.
#[derive(Debug)]
pub struct Frames {
    frames: VecDeque<Bytes>,
    left: u64,
}

impl Frames {
    /// Sends `frames`; `guard` is held until the last of them has left the connection, and a receiver that does not take
    /// them at a minimum rate loses it.
    pub fn body(frames: Vec<Bytes>, guard: Option<BudgetGuard>, flows: &Flows) -> Body {
        let left = frames
            .iter()
            .map(|frame| u64::try_from(frame.len()).unwrap_or(0))
            .sum();
        Body::new(Self {
            frames: flow::tied(frames, guard, flows).into(),
            left,
        })
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.pop_front();
        if let Some(frame) = &frame {
            self.left = self
                .left
                .saturating_sub(u64::try_from(frame.len()).unwrap_or(0));
        }
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
