//! One session: questions go out numbered, answers come back in any order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use attested::{Peer as Proved, Receiver, Sender, Session, SessionError};
use enclave_wire::secrets::{wipe_answer, wipe_question};
use enclave_wire::v1::{Answer, Question, answer::Outcome, question::Ask};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::error::CallError;

/// Encoded questions that wait to be written, at most.
const OUTGOING_MAX: usize = 16;

/// An open session.
pub(crate) struct Connection {
    outgoing: mpsc::Sender<Zeroizing<Vec<u8>>>,
    waiting: Arc<Waiting>,
    places: Semaphore,
    closed: watch::Receiver<Option<Arc<str>>>,
    over: Over,
    bytes_max: usize,
    proved: Proved,
    tasks: [JoinHandle<()>; 2],
}

/// Who waits for which answer.
#[derive(Default)]
struct Waiting {
    /// `None`: the session is over, nobody can wait any more.
    callers: Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>,
    /// The next question's number.
    next: AtomicU64,
}

impl Connection {
    /// Starts the session's two tasks.
    pub(crate) fn start<S>(session: Session<S>, in_flight_max: usize, bytes_max: usize) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (proved, sender, receiver) = session.split();
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let (over, closed) = watch::channel(None);
        let waiting = Arc::new(Waiting {
            callers: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(1),
        });
        let over = Arc::new(over);
        let writer = tokio::spawn(write(sender, queue, waiting.clone(), over.clone()));
        let reader = tokio::spawn(read(receiver, waiting.clone(), over.clone()));
        Self {
            outgoing,
            waiting,
            places: Semaphore::new(in_flight_max),
            closed,
            over,
            bytes_max,
            proved,
            tasks: [reader, writer],
        }
    }

    /// Whom the other side proved to be.
    pub(crate) fn proved(&self) -> &Proved {
        &self.proved
    }

    /// Whether it still counts, as far as this side has noticed.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.borrow().is_none()
    }

    /// Waits for the session's end; why it ended.
    pub(crate) async fn closed(&self) -> Arc<str> {
        let mut closed = self.closed.clone();
        let ended = closed.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or_else(|| "closed".into())
    }

    /// Ends it from this side.
    pub(crate) fn give_up(&self, reason: &str) {
        end(&self.waiting, &self.over, reason);
    }

    /// Asks and waits. May be cancelled: the answer is then dropped.
    pub(crate) async fn call(&self, ask: Ask) -> Result<Outcome, CallError> {
        let mut question = Question {
            id: 0,
            ask: Some(ask),
        };
        let place = self.places.acquire().await;
        let result = self.send(&mut question).await;
        wipe_question(&mut question);
        let (receive, _entry) = result?;
        let answer = receive.await.map_err(|_| CallError::Lost(self.reason()));
        drop(place);
        answer
    }

    async fn send(
        &self,
        question: &mut Question,
    ) -> Result<(oneshot::Receiver<Outcome>, Entry<'_>), CallError> {
        let (send, receive) = oneshot::channel();
        question.id = self.waiting.next.fetch_add(1, Ordering::Relaxed);
        let bytes = question.encoded_len();
        if bytes > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(CallError::TooLong { bytes, bytes_max });
        }
        let unreachable = || CallError::Unreachable(self.reason());
        let entry = self
            .waiting
            .add(question.id, send)
            .ok_or_else(unreachable)?;
        let frame = Zeroizing::new(question.encode_to_vec());
        self.outgoing.send(frame).await.map_err(|_| unreachable())?;
        Ok((receive, entry))
    }

    fn reason(&self) -> String {
        let reason = self.closed.borrow().clone();
        reason.map_or_else(|| "closing".to_owned(), |reason| reason.to_string())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Waiting {
    fn add(&self, id: u64, caller: oneshot::Sender<Outcome>) -> Option<Entry<'_>> {
        self.lock().as_mut()?.insert(id, caller);
        Some(Entry { waiting: self, id })
    }

    /// Gives an answer to whoever waits. An answer that came too late is dropped; one to no question is an error.
    fn answer(&self, answer: Answer) -> Result<(), SessionError> {
        let Answer { id, outcome } = answer;
        if id == 0 || id >= self.next.load(Ordering::Relaxed) {
            return Err(SessionError::Malformed("an answer to no question"));
        }
        let outcome = outcome.ok_or(SessionError::Malformed("an answer that says nothing"))?;
        let caller = self.lock().as_mut().and_then(|callers| callers.remove(&id));
        let outcome = match caller {
            Some(caller) => caller.send(outcome).err(),
            None => Some(outcome),
        };
        if outcome.is_some() {
            wipe_answer(&mut Answer { id, outcome });
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Outcome>>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits any more.
    fn close(&self) {
        *self.lock() = None;
    }
}

/// A caller's entry, taken out when it goes away.
struct Entry<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(callers) = self.waiting.lock().as_mut() {
            callers.remove(&self.id);
        }
    }
}

type Over = Arc<watch::Sender<Option<Arc<str>>>>;

fn end(waiting: &Waiting, over: &Over, reason: &str) {
    // The reason first: callers that lose their answer read it.
    over.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(reason.into());
        }
        first
    });
    waiting.close();
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    mut sender: Sender<S>,
    mut queue: mpsc::Receiver<Zeroizing<Vec<u8>>>,
    waiting: Arc<Waiting>,
    over: Over,
) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = sender.send(&frame).await {
            end(&waiting, &over, &error.to_string());
            return;
        }
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut receiver: Receiver<S>,
    waiting: Arc<Waiting>,
    over: Over,
) {
    let reason = loop {
        let frame = match receiver.receive().await {
            Ok(Some(frame)) => Zeroizing::new(frame),
            Ok(None) => break "the peer closed".to_owned(),
            Err(error) => break error.to_string(),
        };
        // From a slice: every field gets bytes of its own, which can be wiped.
        let taken = Answer::decode(frame.as_slice())
            .map_err(|_| SessionError::Malformed("not an answer"))
            .and_then(|answer| waiting.answer(answer));
        if let Err(error) = taken {
            break error.to_string();
        }
    };
    end(&waiting, &over, &reason);
}
