//! The side that is asked.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use attestation::{Appraisal, Role};
use attested::{Admit, Endpoint, Listen, Receiver, Sender, Session};
use enclave_wire::secrets::{wipe_answer, wipe_question};
use enclave_wire::v1::{Answer, Question, answer::Outcome, question::Ask};
use futures_util::FutureExt as _;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::code;
use crate::error::Refusal;

/// Encoded answers of one session that wait to be written, at most.
const OUTGOING_MAX: usize = 16;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// What it proved to be; [`Role::Client`] proved nothing.
    pub role: Role,
    /// Its key in TLS.
    pub key: [u8; 32],
    /// What it proved.
    pub appraisal: Option<Appraisal>,
}

/// Answers questions. Which role may ask what is for the implementation to decide.
pub trait Answering: Send + Sync + 'static {
    /// Answers one question. Dropped before its end when it takes longer than [`ServeBounds::patience`] or the session ends.
    fn answer(
        &self,
        asker: &Asker,
        ask: Ask,
    ) -> impl Future<Output = Result<Outcome, Refusal>> + Send;
}

/// Bounds of one listener. What comes beyond them is refused as `busy` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeBounds {
    /// Questions of one session being answered at a time.
    pub per_session_max: usize,
    /// Questions of all attested sessions being answered at a time.
    pub attested_max: usize,
    /// Questions of all clients' sessions being answered at a time; apart, so that clients never keep enclaves waiting.
    pub clients_max: usize,
    /// What one answer may take.
    pub patience: Duration,
}

impl Default for ServeBounds {
    fn default() -> Self {
        Self {
            per_session_max: 128,
            attested_max: 512,
            clients_max: 512,
            patience: Duration::from_secs(60),
        }
    }
}

/// Serves sessions on `listener` until `stop` resolves; what still runs is dropped then.
pub async fn serve<L: Listen, A: Answering>(
    listener: L,
    endpoint: Arc<Endpoint>,
    admit: Admit,
    answering: Arc<A>,
    bounds: ServeBounds,
    stop: impl Future<Output = ()>,
) {
    let shared = Arc::new(Shared {
        answering,
        bounds,
        attested: Arc::new(Semaphore::new(bounds.attested_max)),
        clients: Arc::new(Semaphore::new(bounds.clients_max)),
        bytes_max: endpoint.limits().message_bytes_max,
    });
    let handle = move |session: Session<L::Stream>| {
        let shared = shared.clone();
        async move { shared.session(session).await }
    };
    attested::serve(listener, endpoint, admit, handle, stop).await;
}

struct Shared<A> {
    answering: Arc<A>,
    bounds: ServeBounds,
    attested: Arc<Semaphore>,
    clients: Arc<Semaphore>,
    bytes_max: usize,
}

/// How reading a session's questions ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The peer asks no more, and all that it asked is answered.
    Answered,
    /// The session broke, is over, or the peer does not follow the protocol.
    Broken,
}

/// A place in the session's bound and one in the listener's.
type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl<A: Answering> Shared<A> {
    async fn session<S>(self: Arc<Self>, session: Session<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (peer, sender, receiver) = session.split();
        let asker = Arc::new(Asker {
            role: peer.role,
            key: peer.key,
            appraisal: peer.appraisal,
        });
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let mut writing = std::pin::pin!(write(sender, queue));
        let ended = tokio::select! {
            () = &mut writing => return,
            ended = self.read(receiver, asker, outgoing) => ended,
        };
        if ended == Ended::Answered {
            // The last answers may still be in the queue.
            writing.await;
        }
    }

    async fn read<S>(
        self: Arc<Self>,
        mut receiver: Receiver<S>,
        asker: Arc<Asker>,
        outgoing: mpsc::Sender<Zeroizing<Vec<u8>>>,
    ) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let own = Arc::new(Semaphore::new(self.bounds.per_session_max));
        let mut running = JoinSet::new();
        loop {
            let frame = tokio::select! {
                frame = receiver.receive() => match frame {
                    Ok(Some(frame)) => Zeroizing::new(frame),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(role = %asker.role, code = error.code(), %error, "a session ended");
                        return Ended::Broken;
                    }
                },
                Some(_) = running.join_next() => continue,
            };
            let Ok(Question { id, ask: Some(ask) }) = Question::decode(frame.as_slice()) else {
                tracing::warn!(role = %asker.role, "a session was closed: not a question");
                return Ended::Broken;
            };
            match self.places(&own, asker.role) {
                Some(places) => {
                    let (shared, asker) = (self.clone(), asker.clone());
                    running.spawn(shared.handle(asker, id, ask, outgoing.clone(), places));
                }
                None => {
                    wipe_question(&mut Question { id, ask: Some(ask) });
                    let busy =
                        Refusal::new("busy", "too many questions at a time: try again", true);
                    self.send(&outgoing, id, Err(busy)).await;
                }
            }
        }
        // The peer has asked all it wanted: what it still waits for is answered.
        while running.join_next().await.is_some() {}
        Ended::Answered
    }

    fn places(&self, own: &Arc<Semaphore>, role: Role) -> Option<Places> {
        let all = match role {
            Role::Client => &self.clients,
            Role::Custodian | Role::Worker => &self.attested,
        };
        let own = own.clone().try_acquire_owned().ok()?;
        Some((own, all.clone().try_acquire_owned().ok()?))
    }

    async fn handle(
        self: Arc<Self>,
        asker: Arc<Asker>,
        id: u64,
        ask: Ask,
        outgoing: mpsc::Sender<Zeroizing<Vec<u8>>>,
        places: Places,
    ) {
        let work = AssertUnwindSafe(self.answering.answer(&asker, ask)).catch_unwind();
        let result = match tokio::time::timeout(self.bounds.patience, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                tracing::error!("answering a question panicked");
                Err(Refusal::new(
                    code::INTERNAL,
                    "answering failed: this is a bug",
                    false,
                ))
            }
            Err(_) => Err(Refusal::new(
                "busy",
                "answering took too long: try again",
                true,
            )),
        };
        self.send(&outgoing, id, result).await;
        drop(places);
    }

    async fn send(
        &self,
        outgoing: &mpsc::Sender<Zeroizing<Vec<u8>>>,
        id: u64,
        result: Result<Outcome, Refusal>,
    ) {
        let outcome = result.unwrap_or_else(|refusal| Outcome::Refusal(refusal.into()));
        let mut answer = Answer {
            id,
            outcome: Some(outcome),
        };
        if answer.encoded_len() > self.bytes_max {
            wipe_answer(&mut answer);
            let long = Refusal::new(
                code::INTERNAL,
                "the answer is longer than a message may be",
                false,
            );
            answer.outcome = Some(Outcome::Refusal(long.into()));
        }
        let frame = Zeroizing::new(answer.encode_to_vec());
        wipe_answer(&mut answer);
        // Fails when the session has ended: then nobody waits.
        let _ = outgoing.send(frame).await;
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    mut sender: Sender<S>,
    mut queue: mpsc::Receiver<Zeroizing<Vec<u8>>>,
) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = sender.send(&frame).await {
            tracing::debug!(code = error.code(), %error, "an answer was not sent");
            return;
        }
    }
    // Every asker is gone: say so.
    let _ = sender.close().await;
}
