//! The ledger: what validators answer, passed on as it came. Clients check signatures and proofs from their pinned genesis; this
//! gateway can be silent or show an old state to who does not ask for freshness, and nothing worse.

use bytes::Bytes;
use domain::{Height, TransactionHash};
use ledger::port::{FinalHeader, Freshness, Ledger as _, ReadError, SubmitError};
use ledger::{Record as _, StatePrefix};
use transport::LedgerClient;
use wire::problem::{Code, Problem};
use wire::rest::Base64Url;
use wire::rest::ledger::{
    LEDGER_LIST_MAX, LEDGER_READ_KEYS_MAX, LedgerEntry, LedgerHeader, LedgerList, LedgerReadAnswer,
    LedgerReadBody, LedgerStatus, LedgerValue, TRANSACTION_BYTES_MAX,
};

use crate::app::App;
use crate::http::Answer;
use crate::http::answer::Failure;

/// Bytes of a key of the state, at most.
const KEY_BYTES_MAX: usize = 256;

impl App {
    /// The way to the ledger.
    fn ledger(&self) -> Answer<&LedgerClient> {
        self.ledger.as_ref().ok_or_else(|| {
            Failure::new(
                Code::NotImplemented,
                "this deployment has no ledger: start it without --no-custody",
            )
        })
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let text = error.to_string();
        match error {
            ReadError::NotReached { wanted, height } => Self::from(
                Problem::new(Code::Unavailable, text)
                    .with("wanted", wanted.0)
                    .with("height", height.0),
            ),
            ReadError::Pruned(_) => Self::not_found("block: it is not kept any more"),
            ReadError::Malformed(_) => Self::new(Code::BadRequest, text),
            ReadError::Unavailable(_) => {
                tracing::warn!(reason = %text, "the ledger does not answer");
                Self::new(Code::Unavailable, "the ledger does not answer: try again")
            }
        }
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        let text = error.to_string();
        match error {
            SubmitError::Rejected(rejection) => Self::from(
                Problem::new(Code::LedgerRejected, text).with("rejection", rejection.code()),
            ),
            SubmitError::Busy => Self::new(Code::TooManyRequests, text),
            SubmitError::Unavailable(_) => {
                tracing::warn!(reason = %text, "the ledger takes no transaction");
                Self::new(
                    Code::Unavailable,
                    "the ledger takes no transactions now: what was sent may or may not be applied; send the same again",
                )
            }
        }
    }
}

/// The ledger as its validator describes it. Not proved.
///
/// # Errors
/// [`Failure`].
pub async fn status(app: &App) -> Answer<LedgerStatus> {
    let ledger = app.ledger()?;
    let status = ledger.status().await?;
    let last = ledger.finality(None).await?;
    Ok(LedgerStatus {
        height: status.height.0,
        time_ms: last.header.time.0,
        keys: status.keys,
        waiting: status.waiting,
        writable: status.writable.is_ok(),
        writable_detail: status.writable.err(),
        engine: status.engine,
        development: status.development,
        software_version: status.version,
        genesis: ledger.genesis().hash(),
    })
}

/// The genesis record, whose hash clients pin.
///
/// # Errors
/// [`Failure`].
pub fn genesis(app: &App) -> Answer<Vec<u8>> {
    Ok(app.ledger()?.genesis().encode())
}

/// Sends a signed transaction and answers with its receipt record when its block is final. Sending the sender's last one again gives
/// its receipt again.
///
/// # Errors
/// [`Failure`].
pub async fn submit(app: &App, transaction: Bytes) -> Answer<Vec<u8>> {
    let ledger = app.ledger()?;
    if transaction.len() > TRANSACTION_BYTES_MAX {
        return Err(Failure::new(
            Code::BodyTooLarge,
            format!("a transaction has at most {TRANSACTION_BYTES_MAX} bytes"),
        ));
    }
    Ok(ledger.submit(transaction).await?.encode())
}

/// What became of a recent transaction: a receipt record, if it is kept.
///
/// # Errors
/// [`Failure`].
pub async fn receipt(app: &App, hash: TransactionHash) -> Answer<Option<Vec<u8>>> {
    let receipt = app.ledger()?.receipt(hash).await?;
    Ok(receipt.map(|receipt| receipt.encode()))
}

/// Values of one height, or that there are none, with proofs.
///
/// # Errors
/// [`Failure`].
pub async fn read(app: &App, body: LedgerReadBody) -> Answer<LedgerReadAnswer> {
    let ledger = app.ledger()?;
    let LedgerReadBody { keys, at_least } = body;
    if keys.is_empty()
        || keys.len() > LEDGER_READ_KEYS_MAX
        || keys.iter().any(|key| key.0.len() > KEY_BYTES_MAX)
    {
        return Err(Failure::new(
            Code::BadRequest,
            format!("1 to {LEDGER_READ_KEYS_MAX} keys of at most {KEY_BYTES_MAX} bytes"),
        ));
    }
    let freshness = match at_least {
        0 => Freshness::Local,
        height => Freshness::AtLeast(Height(height)),
    };
    let keys = keys.into_iter().map(|key| key.0.into()).collect();
    let answer = ledger.read(keys, freshness).await?;
    let values = answer.values.into_iter().map(|proved| LedgerValue {
        value: proved.value.map(Base64Url::from),
        proof: proved.proof.encode().into(),
    });
    Ok(LedgerReadAnswer {
        values: values.collect(),
        header: answer.last.header.encode().into(),
        certificate: answer.last.certificate.encode().into(),
    })
}

/// Keys and values under a prefix, `limit` of them after `after`. Without proof: read what matters one by one.
///
/// # Errors
/// [`Failure`].
pub async fn list(
    app: &App,
    prefix: &[u8],
    after: Option<Bytes>,
    limit: u32,
) -> Answer<LedgerList> {
    let ledger = app.ledger()?;
    let prefix = StatePrefix::decode(prefix)
        .ok_or_else(|| Failure::new(Code::BadRequest, "prefix: not one of the ledger's"))?;
    let too_long = after
        .as_ref()
        .is_some_and(|after| after.len() > KEY_BYTES_MAX);
    if !(1..=LEDGER_LIST_MAX).contains(&limit) || too_long {
        return Err(Failure::new(
            Code::BadRequest,
            format!("limit is 1 to {LEDGER_LIST_MAX}, after at most {KEY_BYTES_MAX} bytes"),
        ));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = ledger.list(prefix, after, limit).await?;
    let entries = found.into_iter().map(|(key, value)| LedgerEntry {
        key: key.into(),
        value: value.into(),
    });
    Ok(LedgerList {
        entries: entries.collect(),
    })
}

/// Validators' word, over a nonce of the caller's, on which height is final: ledger-fresh-answer records.
///
/// # Errors
/// [`Failure`].
pub async fn freshness(app: &App, nonce: &[u8]) -> Answer<Vec<Vec<u8>>> {
    let ledger = app.ledger()?;
    let nonce = <[u8; 32]>::try_from(nonce)
        .map_err(|_| Failure::new(Code::BadRequest, "nonce: 32 random bytes"))?;
    let fresh = ledger.freshness(nonce).await?;
    Ok(fresh.iter().map(|one| one.encode()).collect())
}

/// A final block's header with its certificate, the newest where no height is asked for. `fresh` is empty.
///
/// # Errors
/// [`Failure`].
pub async fn header(app: &App, height: Option<u64>) -> Answer<LedgerHeader> {
    let FinalHeader {
        header,
        certificate,
    } = app
        .ledger()?
        .finality(height.map(Height))
        .await
        .map_err(|error| match error {
            ReadError::NotReached { wanted, .. } => {
                Failure::not_found(&format!("block {wanted}: it is not there yet"))
            }
            error => error.into(),
        })?;
    Ok(LedgerHeader {
        header: header.encode().into(),
        certificate: certificate.encode().into(),
        fresh: Vec::new(),
    })
}
