//! The secret fields of three messages: shares of the post-quantum leg, which only the session protects.
//!
//! Wiped here: a field that is read or done with, and that of every such message when it is dropped, whether its call came to an end,
//! failed or was cancelled; each when nothing else refers to its bytes. Not claimed: the buffers of TLS and of the sockets.

use std::fmt;

use bytes::Bytes;
use crypto::Secret;
use zeroize::Zeroize as _;

use crate::v1::{self, answer, question};

/// Overwrites bytes that nothing else refers to; others are left to their other holders.
pub fn wipe(bytes: &mut Bytes) {
    if let Ok(mut owned) = std::mem::take(bytes).try_into_mut() {
        #[cfg(test)]
        tests::WIPED.with(|wiped| wiped.set(wiped.get() + owned.len()));
        owned.as_mut().zeroize();
    }
}

/// Takes a secret of exactly N bytes out of a field, which is wiped and empty afterwards whatever it held.
#[must_use]
pub fn take<const N: usize>(field: &mut Bytes) -> Option<Secret<N>> {
    let secret = Secret::from_slice(field);
    wipe(field);
    secret
}

/// A secret as a field. The field is wiped by [`wipe_question`] and [`wipe_answer`] once it is encoded.
#[must_use]
pub fn put<const N: usize>(secret: &Secret<N>) -> Bytes {
    Bytes::copy_from_slice(secret.expose())
}

/// Wipes what is secret in a question that is encoded or not sent.
pub fn wipe_question(question: &mut v1::Question) {
    if let Some(question::Ask::HoldShare(hold)) = &mut question.ask {
        wipe(&mut hold.pq_share);
    }
}

/// Wipes what is secret in an answer that is encoded or not used.
pub fn wipe_answer(answer: &mut v1::Answer) {
    match &mut answer.outcome {
        Some(answer::Outcome::Release(release)) => wipe(&mut release.pq_share),
        Some(answer::Outcome::Shown(shown)) => wipe(&mut shown.pq_share),
        _ => {}
    }
}

impl Drop for v1::HoldShare {
    fn drop(&mut self) {
        wipe(&mut self.pq_share);
    }
}

impl Drop for v1::Shown {
    fn drop(&mut self) {
        wipe(&mut self.pq_share);
    }
}

impl Drop for v1::Release {
    fn drop(&mut self) {
        wipe(&mut self.pq_share);
    }
}

impl fmt::Debug for v1::Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Release")
            .field("sealed_partials", &self.sealed_partials.len())
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::HoldShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoldShare")
            .field("statement", &self.statement)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(
    clippy::field_reassign_with_default,
    reason = "messages that are wiped when dropped cannot be taken apart"
)]
mod tests {
    use std::cell::Cell;
    use std::future::Future as _;
    use std::task::{Context, Poll, Waker};

    use super::*;

    thread_local! {
        /// Bytes that were overwritten on this thread.
        pub(super) static WIPED: Cell<usize> = const { Cell::new(0) };
    }

    fn hold() -> v1::HoldShare {
        let mut hold = v1::HoldShare::default();
        hold.pq_share = put(&Secret::take(&mut [7; 96]));
        hold
    }

    /// How many bytes are wiped while `act` runs.
    fn wiped(act: impl FnOnce()) -> usize {
        let before = WIPED.get();
        act();
        WIPED.get() - before
    }

    #[test]
    fn whatever_holds_a_share_is_wiped_when_it_is_dropped() {
        assert_eq!(wiped(|| drop(hold())), 96);
        let mut shown = v1::Shown::default();
        shown.pq_share = put(&Secret::take(&mut [7; 96]));
        assert_eq!(wiped(|| drop(shown)), 96);
        let mut release = v1::Release::default();
        release.pq_share = put(&Secret::take(&mut [7; 96]));
        let answer = v1::Answer {
            id: 1,
            outcome: Some(answer::Outcome::Release(release)),
        };
        assert_eq!(wiped(|| drop(answer)), 96);
        // A copy shares the bytes: the last one to go wipes them, once.
        let (first, second) = (hold(), hold().clone());
        let copy = first.clone();
        assert_eq!(wiped(|| drop(first)), 0);
        assert_eq!(wiped(|| drop(copy)), 96);
        drop(second);
    }

    #[test]
    fn a_call_that_is_cancelled_or_fails_leaves_no_share_behind() {
        let mut cancelled = Box::pin(async {
            let holds = vec![hold(), hold()];
            std::future::pending::<()>().await;
            drop(holds);
        });
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(cancelled.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(wiped(|| drop(cancelled)), 2 * 96);
        let fails = |hold: v1::HoldShare| -> Result<v1::HoldShare, ()> {
            let _question = v1::Question {
                id: 1,
                ask: Some(question::Ask::HoldShare(hold)),
            };
            Err(())
        };
        assert_eq!(wiped(|| assert!(fails(hold()).is_err())), 96);
    }

    #[test]
    fn a_field_is_empty_once_it_was_taken_and_other_lengths_give_nothing() {
        let mut field = put(&Secret::take(&mut [7; 96]));
        assert_eq!(field.len(), 96);
        let taken: Secret<96> = take(&mut field).unwrap();
        assert_eq!(taken.expose(), &[7; 96]);
        assert!(field.is_empty());
        let mut short = Bytes::from_static(&[1; 95]);
        assert!(take::<96>(&mut short).is_none());
        assert!(short.is_empty());
    }

    #[test]
    fn no_message_prints_a_share() {
        let pq_share = Bytes::from(vec![0xab; 96]);
        let mut release = v1::Release::default();
        release.pq_share = pq_share.clone();
        let mut hold = v1::HoldShare::default();
        hold.pq_share = pq_share.clone();
        let answer = |outcome| v1::Answer {
            id: 1,
            outcome: Some(outcome),
        };
        let question = v1::Question {
            id: 1,
            ask: Some(question::Ask::HoldShare(hold)),
        };
        for text in [
            format!("{:?}", answer(answer::Outcome::Release(release))),
            format!(
                "{:?}",
                answer(answer::Outcome::Shown(v1::Shown { pq_share }))
            ),
            format!("{question:?}"),
        ] {
            assert!(
                !text.contains("171, 171") && !text.contains("\\xab"),
                "{text}"
            );
        }
    }
}
