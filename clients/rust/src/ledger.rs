//! The ledger from a client: reads shown by proofs from a pinned genesis, signed transactions and their receipts.
//!
//! The gateway and the validator are believed in nothing but that they answer: every value read one by one is held against a
//! header that the pinned genesis's validators signed. Listings have no proof; what matters of them is read again by key. A
//! handle never goes back: what it reads is never older than what it wrote or read before.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::ledger::port::{Answer, FinalHeader, LIST_MAX, ProvedValue, READ_KEYS_MAX};
use ::ledger::records::Account;
use ::ledger::{
    Action, Certificate, Expiry, Genesis, Header, LightClient, Outcome, Receipt, Record,
    SignedTransaction, StateKey, StatePrefix, StateProof, Transaction, transaction_hash,
};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use domain::{DeploymentId, GenesisHash, Height, TimestampMs, TransactionHash};
use http::Method;
use wire::problem::Code;
use wire::rest::Base64Url;
use wire::rest::ledger::{LedgerList, LedgerReadAnswer, LedgerReadBody, LedgerStatus};

use crate::api::json;
use crate::client::{Client, Inner};
use crate::error::{Error, Result};
use crate::state;
use crate::transport::Body;

/// How long a transaction may wait to be applied, by the ledger's time.
const TRANSACTION_LIFETIME_MS: u64 = 120_000;
/// A header older than this is fetched anew before its time is used.
const TIME_MAX_AGE: Duration = Duration::from_secs(15);
/// Keys and values of one listing that a client takes, at most.
const LISTED_MAX: usize = 100_000;

/// What a client keeps of the ledger.
pub(crate) struct View {
    pinned_now: bool,
    genesis: Genesis,
    chain: GenesisHash,
    seen: Mutex<Seen>,
    /// One transaction of this client at a time: the next one's nonce follows from it.
    submitting: tokio::sync::Mutex<()>,
}

struct Seen {
    light: LightClient,
    /// Nothing older is read.
    height: Height,
    /// The newest header's time and when it came.
    time: Option<(TimestampMs, Instant)>,
}

/// The ledger of a client's deployment. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    pub(crate) client: Client,
    pub(crate) view: Arc<View>,
}

/// A transaction that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Which.
    pub transaction: TransactionHash,
    /// In which block.
    pub height: Height,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({:?})", self.view.chain)
    }
}

impl Client {
    /// The deployment's ledger, by the pinned genesis; the gateway's is pinned when there is none yet.
    ///
    /// # Errors
    /// When the deployment has no ledger, or its genesis is another deployment's.
    pub async fn ledger(&self) -> Result<Ledger> {
        let view = self
            .inner
            .ledger
            .get_or_try_init(|| self.inner.open_ledger())
            .await?;
        Ok(Ledger {
            client: self.clone(),
            view: Arc::clone(view),
        })
    }
}

/// The pinned genesis of a deployment, if there is one in this folder. Needs no network.
///
/// # Errors
/// [`Error::State`] when the file cannot be read, or is no genesis of that deployment.
pub fn pinned_genesis(
    folder: &std::path::Path,
    deployment: &DeploymentId,
) -> Result<Option<Genesis>> {
    let path = genesis_path(folder, deployment);
    let Some(bytes) = state::read(&path)? else {
        return Ok(None);
    };
    let damaged = |reason: String| Error::State {
        path: path.clone(),
        reason,
    };
    let genesis = Genesis::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    if genesis.deployment != *deployment {
        return Err(damaged("the genesis of another deployment".to_owned()));
    }
    Ok(Some(genesis))
}

fn genesis_path(folder: &std::path::Path, deployment: &DeploymentId) -> PathBuf {
    folder.join(format!("{deployment}.cbor"))
}

impl Inner {
    /// Where genesis records are pinned.
    fn genesis_dir(&self) -> PathBuf {
        match &self.config.genesis_dir {
            Some(folder) => folder.clone(),
            None => self.config.state_dir.join("genesis"),
        }
    }

    async fn open_ledger(&self) -> Result<Arc<View>> {
        let deployment = *self.transport.deployment();
        let folder = self.genesis_dir();
        let (genesis, pinned_now) = match pinned_genesis(&folder, &deployment)? {
            Some(genesis) => (genesis, false),
            None => (self.first_genesis(&folder, &deployment).await?, true),
        };
        let view = View {
            pinned_now,
            chain: genesis.hash(),
            seen: Mutex::new(Seen {
                light: LightClient::new(&genesis),
                height: Height(0),
                time: None,
            }),
            genesis,
            submitting: tokio::sync::Mutex::default(),
        };
        Ok(Arc::new(view))
    }

    async fn first_genesis(
        &self,
        folder: &std::path::Path,
        deployment: &DeploymentId,
    ) -> Result<Genesis> {
        let what = "asking for the ledger's genesis";
        let target = "/v1/ledger/genesis".to_owned();
        let call = self.control(what, Method::GET, target, Body::Empty);
        let (_, bytes) = self.call(&call).await?;
        let genesis = Genesis::decode(&bytes).map_err(|error| Error::Protocol {
            what,
            reason: error.to_string(),
        })?;
        if genesis.deployment != *deployment {
            return Err(Error::integrity(
                "the ledger's genesis",
                "it is of another deployment",
            ));
        }
        state::make_dir(folder)?;
        state::write(&genesis_path(folder, deployment), &bytes)?;
        Ok(genesis)
    }
}

impl View {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_least(&self, height: Height) {
        let mut seen = self.seen();
        seen.height = seen.height.max(height);
    }

    /// Checks an answer's header, certificate and proofs; remembers how far the ledger is.
    fn check(&self, answer: &Answer, keys: &[Vec<u8>]) -> Result<()> {
        let wrong = |reason: String| Error::integrity("the ledger's answer", reason);
        let mut seen = self.seen();
        let header = &answer.last.header;
        if header.height < seen.height {
            return Err(wrong(format!(
                "it is of block {}, and block {} was seen before",
                header.height, seen.height
            )));
        }
        answer
            .verify(&mut seen.light, keys)
            .map_err(|error| wrong(error.to_string()))?;
        seen.height = header.height;
        if seen.time.is_none_or(|(time, _)| header.time >= time) {
            seen.time = Some((header.time, Instant::now()));
        }
        Ok(())
    }
}

impl Ledger {
    /// Whether the genesis was pinned by this client just now, on nothing but the gateway's word.
    #[must_use]
    pub fn pinned_now(&self) -> bool {
        self.view.pinned_now
    }

    /// What the ledger began with; pinned.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.view.genesis
    }

    /// The chain's id.
    #[must_use]
    pub fn chain(&self) -> GenesisHash {
        self.view.chain
    }

    /// The newest height that this handle has seen proved, or has written at.
    #[must_use]
    pub fn height(&self) -> Height {
        self.view.seen().height
    }

    /// What the validator says of itself. Not proved.
    ///
    /// # Errors
    /// What the gateway says.
    pub async fn status(&self) -> Result<LedgerStatus> {
        self.client
            .inner
            .get_json(
                "asking for the ledger's status",
                "/v1/ledger/status".to_owned(),
            )
            .await
    }

    /// Reads up to 64 keys of one height and checks everything that shows them. Absent values are shown to be absent.
    ///
    /// # Errors
    /// [`Error::Integrity`] when header, certificate or a proof does not hold, or the answer is older than one before.
    pub async fn answer(&self, keys: &[StateKey]) -> Result<Answer> {
        let what = "reading the ledger";
        if keys.is_empty() || keys.len() > READ_KEYS_MAX {
            return Err(Error::Internal(format!("{} keys in one read", keys.len())));
        }
        let keys: Vec<Vec<u8>> = keys.iter().map(StateKey::encode).collect();
        let body = LedgerReadBody {
            keys: keys.iter().cloned().map(Base64Url).collect(),
            at_least: self.height().0,
        };
        let answer: LedgerReadAnswer = self.post(what, "/v1/ledger/read", &body).await?;
        let malformed = |error: records::RecordError| Error::Protocol {
            what,
            reason: error.to_string(),
        };
        let values = answer.values.into_iter().map(|value| {
            Ok(ProvedValue {
                value: value.value.map(|value| Bytes::from(value.0)),
                proof: StateProof::decode(&value.proof.0)?,
            })
        });
        let answer = Answer {
            values: values
                .collect::<std::result::Result<_, _>>()
                .map_err(malformed)?,
            last: FinalHeader {
                header: Header::decode(&answer.header.0).map_err(malformed)?,
                certificate: Certificate::decode(&answer.certificate.0).map_err(malformed)?,
            },
        };
        self.view.check(&answer, &keys)?;
        Ok(answer)
    }

    /// The proved bytes at up to 64 keys, in order.
    ///
    /// # Errors
    /// As [`Ledger::answer`].
    pub async fn read(&self, keys: &[StateKey]) -> Result<Vec<Option<Bytes>>> {
        let answer = self.answer(keys).await?;
        Ok(answer.values.into_iter().map(|value| value.value).collect())
    }

    /// The proved record at a key.
    ///
    /// # Errors
    /// As [`Ledger::answer`]; [`Error::Integrity`] for bytes that are no such record.
    pub async fn record<T: Record>(&self, key: &StateKey) -> Result<Option<T>> {
        let values = self.read(std::slice::from_ref(key)).await?;
        let value = values.into_iter().next().flatten();
        value.map(|bytes| decode(&bytes)).transpose()
    }

    /// Every key and value under a prefix. Without proof: a lying gateway can leave some out or make some up.
    ///
    /// # Errors
    /// What the gateway says; [`Error::Protocol`] for a listing without an end.
    pub async fn list(&self, prefix: StatePrefix) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let what = "listing the ledger";
        let prefix = prefix.encode();
        let mut out: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        loop {
            let after = out.last().map(|(key, _)| BASE64URL_NOPAD.encode(key));
            let target = format!(
                "/v1/ledger/list?prefix={}&after={}&limit={LIST_MAX}",
                BASE64URL_NOPAD.encode(&prefix),
                after.unwrap_or_default()
            );
            let page: LedgerList = self.client.inner.get_json(what, target).await?;
            let full = page.entries.len() >= LIST_MAX;
            for entry in page.entries {
                let ascending = out.last().is_none_or(|(key, _)| *key < entry.key.0);
                if !ascending || !entry.key.0.starts_with(&prefix) || out.len() >= LISTED_MAX {
                    return Err(Error::Protocol {
                        what,
                        reason: "keys out of order, outside of the prefix, or too many".to_owned(),
                    });
                }
                out.push((entry.key.0, entry.value.0));
            }
            if !full {
                return Ok(out);
            }
        }
    }

    /// The ledger's time: of the newest header, and what has passed here since it came.
    ///
    /// # Errors
    /// As [`Ledger::answer`].
    pub async fn time(&self) -> Result<TimestampMs> {
        let known = self.view.seen().time;
        let fresh = known.filter(|(_, at)| at.elapsed() < TIME_MAX_AGE);
        let (time, at) = match fresh {
            Some(known) => known,
            None => {
                let answer = self.answer(&[StateKey::Governance]).await?;
                (answer.last.header.time, Instant::now())
            }
        };
        let passed = u64::try_from(at.elapsed().as_millis()).unwrap_or(0);
        Ok(TimestampMs(time.0.saturating_add(passed)))
    }

    /// Signs and sends a transaction; returns when it took effect. Another transaction of the same principal that came in between is
    /// given way to once.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Error::rejection`] when the ledger does not apply it.
    pub async fn submit(&self, action: Action) -> Result<Applied> {
        let _one = self.view.submitting.lock().await;
        match self.submit_once(action.clone()).await {
            Err(error) if matches!(error.rejection(), Some("nonce-used" | "nonce-too-high")) => {
                self.submit_once(action).await
            }
            other => other,
        }
    }

    async fn submit_once(&self, action: Action) -> Result<Applied> {
        let what = "sending a transaction";
        let inner = &self.client.inner;
        let identity = &*inner.config.identity;
        let sender = identity.principal();
        let account: Option<Account> = self.record(&StateKey::Account(sender)).await?;
        let deployment = *inner.transport.deployment();
        let expires = self.time().await?.0.saturating_add(TRANSACTION_LIFETIME_MS);
        let transaction = Transaction {
            chain: self.view.chain,
            sender,
            nonce: account.map_or(0, |account| account.nonce),
            expires: Expiry::Time(TimestampMs(expires)),
            action,
        };
        let signed = SignedTransaction::sign(identity, &deployment, transaction);
        let hash = transaction_hash(&deployment, &signed);
        let target = "/v1/ledger/transactions".to_owned();
        let body = Body::Cbor(signed.encode().into());
        let call = inner.control(what, Method::POST, target, body);
        let (_, bytes) = inner.call(&call).await?;
        let receipt = Receipt::decode(&bytes).map_err(|error| Error::Protocol {
            what,
            reason: error.to_string(),
        })?;
        if receipt.transaction != hash {
            return Err(Error::integrity("a receipt", "it is another transaction's"));
        }
        match receipt.outcome {
            Outcome::Applied => {
                self.view.at_least(receipt.height);
                Ok(Applied {
                    transaction: hash,
                    height: receipt.height,
                })
            }
            Outcome::Rejected(code) => {
                let detail = format!("the ledger did not apply the transaction: {code}");
                let problem = wire::problem::Problem::new(Code::LedgerRejected, detail);
                Err(Error::refused(problem.with("rejection", code)))
            }
        }
    }

    /// What became of a transaction, if its block is recent. Not proved.
    ///
    /// # Errors
    /// What the gateway says.
    pub async fn receipt(&self, transaction: &TransactionHash) -> Result<Option<Receipt>> {
        let what = "asking for a receipt";
        let target = format!("/v1/ledger/receipts/{transaction}");
        let inner = &self.client.inner;
        let call = inner.control(what, Method::GET, target, Body::Empty);
        match inner.call(&call).await {
            Ok((_, bytes)) => decode(&bytes).map(Some),
            Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn post<T: serde::de::DeserializeOwned>(
        &self,
        what: &'static str,
        target: &str,
        body: &impl serde::Serialize,
    ) -> Result<T> {
        let inner = &self.client.inner;
        let body = json_body(body)?;
        let call = inner.control(what, Method::POST, target.to_owned(), body);
        let (_, bytes) = inner.call(&call).await?;
        json(what, &bytes)
    }
}

pub(crate) fn json_body(body: &impl serde::Serialize) -> Result<Body> {
    serde_json::to_vec(body)
        .map(|bytes| Body::Json(bytes.into()))
        .map_err(|error| Error::Internal(error.to_string()))
}

/// A record of the ledger that its proof showed.
pub(crate) fn decode<T: Record>(bytes: &[u8]) -> Result<T> {
    T::decode(bytes).map_err(|error| Error::integrity("a record of the ledger", error))
}
