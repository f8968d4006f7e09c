//! The enclave's side: asks a relay, and believes that something was answered, nothing more.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::Height;
use futures_util::{SinkExt as _, StreamExt as _};
use ledger::port::{Answer, FinalHeader, Freshness, ReadError, SubmitError};
use ledger::{FreshAnswer, Receipt, Record as _, StatePrefix};
use prost::Message as _;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::convert::{answer, bad, final_header, read_error, record, submit_error};
use crate::limits::{ASK_BYTES_MAX, OPEN_MAX, REPLY_BYTES_MAX, codec};
use crate::v1;
use crate::v1::ask::What;
use crate::v1::reply::Outcome;

/// How long a question may take, from the wait for its turn to the reply.
const CALL: Duration = Duration::from_secs(15);

/// One enclave's way to its relay. Cheap to clone; clones share one connection, which is made when it is first needed and again
/// whenever it has ended. What comes back is parsed and otherwise unchecked: use [`crate::View`] to judge by.
#[derive(Clone)]
pub struct RelayClient(Arc<Inner>);

struct Inner {
    path: PathBuf,
    open: Semaphore,
    next: AtomicU64,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

/// Questions that wait, by number; `None` once the connection has ended.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>>;

struct Connection {
    asks: mpsc::Sender<Bytes>,
    waiting: Waiting,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes the number out again when the one who asked gives up.
struct Turn<'a> {
    id: u64,
    waiting: &'a Waiting,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = lock(self.waiting).as_mut() {
            waiting.remove(&self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RelayClient {
    /// A client of the relay at `path`; connects when first used.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            path: path.into(),
            open: Semaphore::new(OPEN_MAX),
            next: AtomicU64::new(1),
            connection: tokio::sync::Mutex::new(None),
        }))
    }

    /// The relay's socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Validators' signed answers to a nonce. Not checked.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn freshness(&self, nonce: [u8; 32]) -> Result<Vec<FreshAnswer>, ReadError> {
        let nonce = Bytes::copy_from_slice(&nonce);
        match self.ask(What::Freshness(v1::Freshness { nonce })).await? {
            Outcome::Fresh(fresh) => fresh.answers.iter().map(record).collect(),
            other => Err(unexpected(other)),
        }
    }

    /// A header with its certificate; `None`: the newest. Not checked.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn finality(&self, height: Option<Height>) -> Result<FinalHeader, ReadError> {
        let height = height.map(|height| height.0);
        match self.ask(What::Finality(v1::Finality { height })).await? {
            Outcome::Final(last) => final_header(Some(&last)),
            other => Err(unexpected(other)),
        }
    }

    /// Values of up to 64 keys with their proofs, all of one height. Not checked.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, keys: Vec<Bytes>, freshness: Freshness) -> Result<Answer, ReadError> {
        let at_least = match freshness {
            Freshness::Local => 0,
            Freshness::AtLeast(height) => height.0,
        };
        match self.ask(What::Read(v1::Read { keys, at_least })).await? {
            Outcome::Values(values) => answer(values),
            other => Err(unexpected(other)),
        }
    }

    /// Keys and values under a prefix, after `after`, at most `limit` (1 to 1,000); and whether more follow. Nothing shows that none is
    /// left out, nor that the values are right: read what matters with proofs.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(
        &self,
        prefix: StatePrefix,
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<(Bytes, Bytes)>, bool), ReadError> {
        let ask = v1::List {
            prefix: prefix.encode().into(),
            after: after.unwrap_or_default(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        match self.ask(What::List(ask)).await? {
            Outcome::Entries(found) => {
                let entries = found.entries.into_iter();
                let entries = entries.map(|entry| (entry.key, entry.value)).collect();
                Ok((entries, found.more))
            }
            other => Err(unexpected(other)),
        }
    }

    /// Sends a signed transaction; resolves when the relay says that its block is final. A receipt is the relay's word: read what it
    /// should have changed.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, transaction: Bytes) -> Result<Receipt, SubmitError> {
        let unavailable = |error: ReadError| SubmitError::Unavailable(error.to_string());
        let asked = self.call(What::Submit(v1::Submit { transaction })).await;
        match asked.map_err(unavailable)? {
            Outcome::Submitted(submitted) => {
                Receipt::decode(&submitted.receipt).map_err(|error| unavailable(bad(error)))
            }
            Outcome::Failure(failure) => Err(submit_error(failure)),
            _ => Err(unavailable(bad("an answer to another question"))),
        }
    }

    async fn ask(&self, what: What) -> Result<Outcome, ReadError> {
        match self.call(what).await? {
            Outcome::Failure(failure) => Err(read_error(failure)),
            outcome => Ok(outcome),
        }
    }

    async fn call(&self, what: What) -> Result<Outcome, ReadError> {
        let call = async {
            let _open = self.0.open.acquire().await.map_err(|_| gone())?;
            let id = self.0.next.fetch_add(1, Ordering::Relaxed);
            let ask = v1::Ask {
                id,
                what: Some(what),
            };
            if ask.encoded_len() > ASK_BYTES_MAX {
                return Err(ReadError::Malformed(format!(
                    "a question has at most {ASK_BYTES_MAX} bytes"
                )));
            }
            let mut bytes = BytesMut::with_capacity(ask.encoded_len());
            // A BytesMut grows as it must.
            let _ = ask.encode(&mut bytes);
            let connection = self.connection().await?;
            let (reply, replied) = oneshot::channel();
            match lock(&connection.waiting).as_mut() {
                Some(waiting) => drop(waiting.insert(id, reply)),
                None => return Err(gone()),
            }
            let _turn = Turn {
                id,
                waiting: &connection.waiting,
            };
            let sent = connection.asks.send(bytes.freeze()).await;
            sent.map_err(|_| gone())?;
            replied.await.map_err(|_| gone())
        };
        timeout(CALL, call)
            .await
            .unwrap_or_else(|_| Err(ReadError::Unavailable("no answer in time".to_owned())))
    }

    /// The connection, or a new one in place of one that has ended.
    async fn connection(&self) -> Result<Arc<Connection>, ReadError> {
        let mut slot = self.0.connection.lock().await;
        if let Some(connection) = slot.as_ref()
            && lock(&connection.waiting).is_some()
        {
            return Ok(connection.clone());
        }
        let path = &self.0.path;
        let stream = UnixStream::connect(path).await.map_err(|error| {
            ReadError::Unavailable(format!("the relay at {}: {error}", path.display()))
        })?;
        let connection = Arc::new(Connection::new(stream));
        *slot = Some(connection.clone());
        Ok(connection)
    }
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        let (asks, to_send) = mpsc::channel(OPEN_MAX);
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let task = tokio::spawn(carry(stream, to_send, waiting.clone()));
        Self {
            asks,
            waiting,
            task,
        }
    }
}

/// Carries both ways until either end is through; then nobody waits any longer.
async fn carry(stream: UnixStream, mut to_send: mpsc::Receiver<Bytes>, waiting: Waiting) {
    let (from, to) = stream.into_split();
    let mut replies = FramedRead::new(from, codec(REPLY_BYTES_MAX));
    let mut sink = FramedWrite::new(to, codec(ASK_BYTES_MAX));
    let write = async {
        while let Some(ask) = to_send.recv().await {
            if sink.send(ask).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        while let Some(Ok(frame)) = replies.next().await {
            let Ok(v1::Reply {
                id,
                outcome: Some(outcome),
            }) = v1::Reply::decode(frame.freeze())
            else {
                tracing::warn!("the relay sends what is no reply");
                return;
            };
            // One that nobody waits for any longer is dropped.
            let asker = lock(&waiting).as_mut().and_then(|all| all.remove(&id));
            if let Some(asker) = asker {
                let _ = asker.send(outcome);
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
    lock(&waiting).take();
}

fn gone() -> ReadError {
    ReadError::Unavailable("the relay closed the connection".to_owned())
}

fn unexpected(outcome: Outcome) -> ReadError {
    match outcome {
        Outcome::Failure(failure) => read_error(failure),
        _ => bad("an answer to another question"),
    }
}

impl fmt::Debug for RelayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayClient")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}
