//! The host's side: carries questions to a ledger and its answers back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::Height;
use futures_util::{SinkExt as _, StreamExt as _};
use ledger::port::{Freshness, LIST_MAX, Ledger, READ_KEYS_MAX, ReadError};
use ledger::{Record as _, StatePrefix};
use prost::Message as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::convert::{from_answer, from_final, from_read_error, from_submit_error};
use crate::limits::{ASK_BYTES_MAX, KEY_BYTES_MAX, LIST_BYTES_MAX, Limits, REPLY_BYTES_MAX, codec};
use crate::v1;
use crate::v1::ask::What;
use crate::v1::reply::Outcome;

/// How long accepting rests when the system has no room for another connection.
const REST: Duration = Duration::from_millis(50);

/// Answers whoever connects, until `stop` resolves; then everything that still runs is dropped. Who may connect is decided by the
/// folder that the socket lies in.
pub async fn serve<L: Ledger + 'static>(
    listener: UnixListener,
    ledger: Arc<L>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let open = Arc::new(Semaphore::new(limits.open_total_max));
    let mut running = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = &mut stop => return,
            Some(ended) = running.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a connection's task panicked");
                }
            }
            (place, accepted) = next => match (place, accepted) {
                (Ok(place), Ok((stream, _))) => {
                    running.spawn(connection(stream, ledger.clone(), limits, open.clone(), place));
                }
                (_, Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(REST).await;
                }
                (Err(_), _) => return,
            },
        }
    }
}

/// Reads questions and answers them side by side; what is not a question ends the connection.
async fn connection<L: Ledger + 'static>(
    stream: UnixStream,
    ledger: Arc<L>,
    limits: Limits,
    open_total: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
) {
    let (from, to) = stream.into_split();
    let mut asks = FramedRead::new(from, codec(ASK_BYTES_MAX));
    let mut sink = FramedWrite::new(to, codec(REPLY_BYTES_MAX));
    let (replies, mut ready) = mpsc::channel::<Bytes>(limits.open_max);
    let write = async {
        while let Some(reply) = ready.recv().await {
            match timeout(limits.write, sink.send(reply)).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    };
    let read = async {
        let open = Arc::new(Semaphore::new(limits.open_max));
        // Dropped with the connection, and what it still answers with it.
        let mut answering = JoinSet::new();
        loop {
            let Ok(own) = open.clone().acquire_owned().await else {
                return;
            };
            while answering.try_join_next().is_some() {}
            let Ok(Some(Ok(frame))) = timeout(limits.idle, asks.next()).await else {
                return;
            };
            let Ok(ask) = v1::Ask::decode(frame.freeze()) else {
                tracing::debug!("a frame that is no question");
                return;
            };
            let (ledger, replies, total) = (ledger.clone(), replies.clone(), open_total.clone());
            answering.spawn(async move {
                let Ok(_all) = total.acquire_owned().await else {
                    return;
                };
                let outcome = timeout(limits.answer, answer(&*ledger, ask.what)).await;
                let outcome = outcome.unwrap_or_else(|_| unavailable("it took too long"));
                let _ = replies.send(encode(ask.id, outcome)).await;
                drop(own);
            });
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

fn encode(id: u64, outcome: Outcome) -> Bytes {
    let reply = v1::Reply {
        id,
        outcome: Some(outcome),
    };
    let reply = if reply.encoded_len() <= REPLY_BYTES_MAX {
        reply
    } else {
        v1::Reply {
            id,
            outcome: Some(malformed("the answer is too long: ask for less")),
        }
    };
    let mut bytes = BytesMut::with_capacity(reply.encoded_len());
    // A BytesMut grows as it must.
    let _ = reply.encode(&mut bytes);
    bytes.freeze()
}

fn unavailable(why: &str) -> Outcome {
    Outcome::Failure(from_read_error(&ReadError::Unavailable(why.to_owned())))
}

fn malformed(why: &str) -> Outcome {
    Outcome::Failure(from_read_error(&ReadError::Malformed(why.to_owned())))
}

async fn answer<L: Ledger>(ledger: &L, ask: Option<What>) -> Outcome {
    let Some(ask) = ask else {
        return malformed("an empty question");
    };
    let outcome = match ask {
        What::Freshness(ask) => freshness(ledger, &ask).await,
        What::Finality(ask) => ledger
            .finality(ask.height.map(Height))
            .await
            .map(|last| Outcome::Final(from_final(&last))),
        What::Read(ask) => read(ledger, ask).await,
        What::List(ask) => list(ledger, &ask).await,
        What::Submit(ask) => {
            return match ledger.submit(ask.transaction).await {
                Ok(receipt) => Outcome::Submitted(v1::Submitted {
                    receipt: receipt.encode().into(),
                }),
                Err(error) => Outcome::Failure(from_submit_error(&error)),
            };
        }
    };
    outcome.unwrap_or_else(|error| Outcome::Failure(from_read_error(&error)))
}

async fn freshness<L: Ledger>(ledger: &L, ask: &v1::Freshness) -> Result<Outcome, ReadError> {
    let nonce = <[u8; 32]>::try_from(ask.nonce.as_ref())
        .map_err(|_| ReadError::Malformed("a nonce has 32 bytes".to_owned()))?;
    let answers = ledger.freshness(nonce).await?;
    Ok(Outcome::Fresh(v1::FreshAnswers {
        answers: answers.iter().map(|one| one.encode().into()).collect(),
    }))
}

async fn read<L: Ledger>(ledger: &L, ask: v1::Read) -> Result<Outcome, ReadError> {
    let v1::Read { keys, at_least } = ask;
    if keys.is_empty()
        || keys.len() > READ_KEYS_MAX
        || keys.iter().any(|key| key.len() > KEY_BYTES_MAX)
    {
        return Err(ReadError::Malformed(format!(
            "1 to {READ_KEYS_MAX} keys of at most {KEY_BYTES_MAX} bytes"
        )));
    }
    let freshness = match at_least {
        0 => Freshness::Local,
        height => Freshness::AtLeast(Height(height)),
    };
    let answer = ledger.read(keys, freshness).await?;
    Ok(Outcome::Values(from_answer(&answer)))
}

async fn list<L: Ledger>(ledger: &L, ask: &v1::List) -> Result<Outcome, ReadError> {
    let limit = usize::try_from(ask.limit).unwrap_or(usize::MAX);
    let prefix = StatePrefix::decode(&ask.prefix).filter(|_| (1..=LIST_MAX).contains(&limit));
    let Some(prefix) = prefix.filter(|_| ask.after.len() <= KEY_BYTES_MAX) else {
        return Err(ReadError::Malformed(format!(
            "a listing has a known prefix and a limit of 1 to {LIST_MAX}"
        )));
    };
    let after = (!ask.after.is_empty()).then(|| ask.after.clone());
    let found = ledger.list(prefix, after, limit).await?;
    let mut more = found.len() >= limit;
    let mut bytes = 0;
    let mut entries = Vec::with_capacity(found.len());
    for (key, value) in found {
        bytes += key.len() + value.len();
        if bytes > LIST_BYTES_MAX && !entries.is_empty() {
            more = true;
            break;
        }
        entries.push(v1::Entry { key, value });
    }
    Ok(Outcome::Entries(v1::Entries { entries, more }))
}
