//! The typed client of a validator: the ledger's port over gRPC.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use domain::{Height, TransactionHash};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use ledger::header::Certificate;
use ledger::port::{
    Answer, Block, Blocks, FinalHeader, Freshness, Ledger, ProvedValue, ReadError, SubmitError,
};
use ledger::{FreshAnswer, Genesis, Header, Receipt, Record, Rejection, StatePrefix, StateProof};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use wire::grpc::v1;
use wire::grpc::v1::ledger_service_client::LedgerServiceClient;
use wire::grpc::{LEDGER_MESSAGE_BYTES_MAX, REJECTION};

use super::connection::Connections;
use super::{ClientOptions, Deadline, NodeAddress, PeerError};
use crate::body::MessageBody;
use crate::credentials::Credentials;
use crate::identity::Role;

/// How long an ordinary call may take.
const CALL: Duration = Duration::from_secs(15);
/// How long a subscription waits for its next block; an idle ledger makes one every few seconds.
const NEXT_BLOCK: Duration = Duration::from_secs(60);

/// A validator's account of itself. Not proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerStatus {
    /// The newest block.
    pub height: Height,
    /// Keys with a value.
    pub keys: u64,
    /// Transactions that wait.
    pub waiting: u64,
    /// Whether transactions are taken, or why not.
    pub writable: Result<(), String>,
    /// How the ledger agrees, such as "solo: the operator is the ledger".
    pub engine: String,
    /// Whether it is a development deployment.
    pub development: bool,
    /// Version of its program.
    pub version: String,
}

/// A client of one validator. Cheap to clone; clones share the connections. What it answers is checked by whoever asked: values against
/// their proofs, headers against their certificates.
#[derive(Clone)]
pub struct LedgerClient {
    connections: Arc<Connections>,
    genesis: Arc<Genesis>,
}

impl fmt::Debug for LedgerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerClient").finish_non_exhaustive()
    }
}

impl LedgerClient {
    /// A client of the validator at `address`, for the ledger that began with `genesis`; connects when first used.
    ///
    /// # Errors
    /// [`rustls::Error`] when the credentials cannot be used for TLS.
    pub fn new(
        address: NodeAddress,
        genesis: Arc<Genesis>,
        credentials: Arc<Credentials>,
        options: ClientOptions,
    ) -> Result<Self, rustls::Error> {
        let connections = Connections::new(address, Role::Validator, None, credentials, options)?;
        Ok(Self {
            connections: Arc::new(connections),
            genesis,
        })
    }

    /// What the validator says of itself.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn status(&self) -> Result<LedgerStatus, ReadError> {
        let answer = self
            .call(|mut service| async move { service.status(v1::StatusRequest {}).await })
            .await?;
        Ok(LedgerStatus {
            height: Height(answer.height),
            keys: answer.keys,
            waiting: answer.waiting,
            writable: if answer.writable {
                Ok(())
            } else {
                Err(answer.writable_detail)
            },
            engine: answer.engine,
            development: answer.development,
            version: answer.version,
        })
    }

    fn service(&self, deadline: Deadline) -> LedgerServiceClient<Channel> {
        let channel = Channel {
            connections: self.connections.clone(),
            deadline,
        };
        LedgerServiceClient::with_origin(channel, Uri::from_static("http://validator"))
            .max_decoding_message_size(LEDGER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(LEDGER_MESSAGE_BYTES_MAX)
    }

    async fn call<T, F>(
        &self,
        call: impl FnOnce(LedgerServiceClient<Channel>) -> F,
    ) -> Result<T, ReadError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = Instant::now() + CALL;
        match timeout_at(deadline, call(self.service(deadline))).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(read_error(&status)),
            Err(_) => Err(ReadError::Unavailable("no answer in time".to_owned())),
        }
    }
}

/// The connections as the transport of generated code.
#[derive(Clone)]
struct Channel {
    connections: Arc<Connections>,
    deadline: Deadline,
}

impl tower_service::Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = PeerError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, PeerError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), PeerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let (connections, deadline) = (self.connections.clone(), self.deadline);
        Box::pin(async move {
            connections
                .call(request.map(MessageBody::Grpc), deadline)
                .await
        })
    }
}

fn read_error(status: &Status) -> ReadError {
    let number = |name| {
        let text = status.metadata().get(name)?.to_str().ok()?;
        text.parse().ok().map(Height)
    };
    match status.code() {
        Code::OutOfRange => match (number("strongroom-wanted"), number("strongroom-height")) {
            (Some(wanted), Some(height)) => ReadError::NotReached { wanted, height },
            _ => ReadError::Unavailable(status.message().to_owned()),
        },
        Code::NotFound => match number("strongroom-wanted") {
            Some(wanted) => ReadError::Pruned(wanted),
            None => ReadError::Unavailable(status.message().to_owned()),
        },
        Code::InvalidArgument => ReadError::Malformed(status.message().to_owned()),
        _ => ReadError::Unavailable(status.message().to_owned()),
    }
}

fn submit_error(status: &Status) -> SubmitError {
    match status
        .metadata()
        .get(REJECTION)
        .and_then(|code| code.to_str().ok())
    {
        Some(code) => SubmitError::Rejected(Rejection::Remote {
            code: Rejection::known_code(code),
            detail: status.message().to_owned(),
        }),
        None if status.code() == Code::ResourceExhausted => SubmitError::Busy,
        None => SubmitError::Unavailable(status.message().to_owned()),
    }
}

fn record<T: Record>(bytes: &[u8]) -> Result<T, ReadError> {
    T::decode(bytes).map_err(|error| ReadError::Unavailable(format!("a bad answer: {error}")))
}

fn final_header(header: &[u8], certificate: &[u8]) -> Result<FinalHeader, ReadError> {
    Ok(FinalHeader {
        header: record::<Header>(header)?,
        certificate: record::<Certificate>(certificate)?,
    })
}

impl Ledger for LedgerClient {
    type Blocks = RemoteBlocks;

    fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    async fn submit(&self, transaction: Bytes) -> Result<Receipt, SubmitError> {
        let deadline = Instant::now() + CALL;
        let request = v1::SubmitRequest { transaction };
        match timeout_at(deadline, self.service(deadline).submit(request)).await {
            Ok(Ok(response)) => Receipt::decode(&response.into_inner().receipt)
                .map_err(|error| SubmitError::Unavailable(format!("a bad answer: {error}"))),
            Ok(Err(status)) => Err(submit_error(&status)),
            Err(_) => Err(SubmitError::Unavailable("no answer in time".to_owned())),
        }
    }

    async fn read(&self, keys: Vec<Bytes>, freshness: Freshness) -> Result<Answer, ReadError> {
        let at_least = match freshness {
            Freshness::Local => 0,
            Freshness::AtLeast(height) => height.0,
        };
        let request = v1::ReadRequest { keys, at_least };
        let answer = self
            .call(|mut service| async move { service.read(request).await })
            .await?;
        let values = answer
            .values
            .into_iter()
            .map(|value| {
                let proof = StateProof::decode(&value.proof)
                    .map_err(|error| ReadError::Unavailable(format!("a bad answer: {error}")))?;
                Ok(ProvedValue {
                    value: value.value,
                    proof,
                })
            })
            .collect::<Result<_, ReadError>>()?;
        Ok(Answer {
            values,
            last: final_header(&answer.header, &answer.certificate)?,
        })
    }

    async fn list(
        &self,
        prefix: StatePrefix,
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let request = v1::ListRequest {
            prefix: prefix.encode().into(),
            after: after.unwrap_or_default(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        let answer = self
            .call(|mut service| async move { service.list(request).await })
            .await?;
        let entries = answer.entries.into_iter();
        Ok(entries.map(|entry| (entry.key, entry.value)).collect())
    }

    async fn subscribe(&self, from: Height) -> Result<RemoteBlocks, ReadError> {
        let blocks = self
            .call(|mut service| async move {
                service
                    .subscribe(v1::SubscribeRequest { from: from.0 })
                    .await
            })
            .await?;
        Ok(RemoteBlocks(blocks))
    }

    async fn finality(&self, height: Option<Height>) -> Result<FinalHeader, ReadError> {
        let request = v1::FinalityRequest {
            height: height.map(|height| height.0),
        };
        let answer = self
            .call(|mut service| async move { service.finality(request).await })
            .await?;
        final_header(&answer.header, &answer.certificate)
    }

    async fn freshness(&self, nonce: [u8; 32]) -> Result<Vec<FreshAnswer>, ReadError> {
        let request = v1::FreshnessRequest {
            nonce: Bytes::copy_from_slice(&nonce),
        };
        let answer = self
            .call(|mut service| async move { service.freshness(request).await })
            .await?;
        answer.answers.iter().map(|bytes| record(bytes)).collect()
    }

    async fn receipt(&self, transaction: TransactionHash) -> Result<Option<Receipt>, ReadError> {
        let request = v1::GetReceiptRequest {
            transaction: Bytes::copy_from_slice(transaction.as_bytes()),
        };
        let answer = self
            .call(|mut service| async move { service.get_receipt(request).await })
            .await?;
        answer.receipt.map(|bytes| record(&bytes)).transpose()
    }
}

/// Blocks as a validator sends them.
pub struct RemoteBlocks(tonic::Streaming<v1::SubscribeResponse>);

impl fmt::Debug for RemoteBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteBlocks").finish_non_exhaustive()
    }
}

impl Blocks for RemoteBlocks {
    async fn next(&mut self) -> Result<Block, ReadError> {
        let gone = || ReadError::Unavailable("the subscription has ended".to_owned());
        let message = timeout_at(Instant::now() + NEXT_BLOCK, self.0.message())
            .await
            .map_err(|_| ReadError::Unavailable("no block in time".to_owned()))?
            .map_err(|status| read_error(&status))?
            .ok_or_else(gone)?;
        Ok(Block {
            last: final_header(&message.header, &message.certificate)?,
            transactions: message.transactions,
            receipts: message
                .receipts
                .iter()
                .map(|bytes| record(bytes))
                .collect::<Result<_, _>>()?,
        })
    }
}
