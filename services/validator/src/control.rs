//! The gRPC service.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use domain::{Height, TransactionHash};
use futures_util::Stream;
use ledger::port::{
    Block, Blocks as _, FinalHeader, Freshness, LIST_MAX, Ledger as _, ReadError, SubmitError,
};
use ledger::{Receipt, Record as _};
use solo::Solo;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use wire::grpc::v1::ledger_service_server::LedgerService;
use wire::grpc::{REJECTION, v1};

use crate::metrics::{Metrics, Operation};

type Answer<T> = Result<Response<T>, Status>;

/// A validator's answers.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) solo: Solo,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) subscriptions: Arc<Semaphore>,
}

impl Control {
    async fn observed<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Answer<T> {
        let start = std::time::Instant::now();
        let result = work.await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(status) => match status.metadata().get(REJECTION) {
                Some(code) => code
                    .to_str()
                    .map_or("unknown", ledger::Rejection::known_code),
                None => "refused",
            },
        };
        self.metrics.observe(operation, outcome, start.elapsed());
        result.map(Response::new)
    }
}

#[tonic::async_trait]
impl LedgerService for Control {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitResponse> {
        let transaction = request.into_inner().transaction;
        self.observed(Operation::Submit, async {
            let receipt = self.solo.submit(transaction).await;
            let receipt = receipt.map_err(|error| submit_status(&error))?;
            Ok(v1::SubmitResponse {
                receipt: receipt.encode().into(),
            })
        })
        .await
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Answer<v1::ReadResponse> {
        let v1::ReadRequest { keys, at_least } = request.into_inner();
        self.observed(Operation::Read, async {
            let freshness = match at_least {
                0 => Freshness::Local,
                height => Freshness::AtLeast(Height(height)),
            };
            let answer = self.solo.read(keys, freshness).await;
            let answer = answer.map_err(|error| read_status(&error))?;
            let values = answer.values.into_iter().map(|value| v1::ProvedValue {
                value: value.value,
                proof: value.proof.encode().into(),
            });
            let (header, certificate) = encode(&answer.last);
            Ok(v1::ReadResponse {
                values: values.collect(),
                header,
                certificate,
            })
        })
        .await
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Answer<v1::ListResponse> {
        let v1::ListRequest {
            prefix,
            after,
            limit,
        } = request.into_inner();
        self.observed(Operation::List, async {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            if prefix.is_empty() || limit == 0 || limit > LIST_MAX {
                return Err(Status::invalid_argument(format!(
                    "a listing has a prefix and a limit of 1 to {LIST_MAX}"
                )));
            }
            let after = (!after.is_empty()).then_some(after);
            let entries = self.solo.list_bytes(&prefix, after.as_deref(), limit);
            let entries = entries
                .into_iter()
                .map(|(key, value)| v1::ListEntry { key, value });
            Ok(v1::ListResponse {
                entries: entries.collect(),
            })
        })
        .await
    }

    type SubscribeStream =
        Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send + 'static>>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Answer<Self::SubscribeStream> {
        let from = Height(request.into_inner().from);
        let Ok(slot) = self.subscriptions.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many subscriptions"));
        };
        let blocks = self.solo.subscribe(from).await;
        let blocks = blocks.map_err(|error| read_status(&error))?;
        let stream = futures_util::stream::unfold(Some((blocks, slot)), |state| async {
            let (mut blocks, slot) = state?;
            match blocks.next().await {
                Ok(block) => Some((Ok(message(&block)), Some((blocks, slot)))),
                Err(error) => Some((Err(read_status(&error)), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn finality(
        &self,
        request: Request<v1::FinalityRequest>,
    ) -> Answer<v1::FinalityResponse> {
        let height = request.into_inner().height.map(Height);
        self.observed(Operation::Finality, async {
            let last = self.solo.finality(height).await;
            let (header, certificate) = encode(&last.map_err(|error| read_status(&error))?);
            Ok(v1::FinalityResponse {
                header,
                certificate,
            })
        })
        .await
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Answer<v1::GetReceiptResponse> {
        let hash = TransactionHash::try_from(request.into_inner().transaction.as_ref());
        self.observed(Operation::Receipt, async {
            let hash = hash.map_err(|error| Status::invalid_argument(error.to_string()))?;
            let receipt = self.solo.receipt(hash).await;
            let receipt = receipt.map_err(|error| read_status(&error))?;
            Ok(v1::GetReceiptResponse {
                receipt: receipt.map(|receipt| receipt.encode().into()),
            })
        })
        .await
    }

    async fn freshness(
        &self,
        request: Request<v1::FreshnessRequest>,
    ) -> Answer<v1::FreshnessResponse> {
        let nonce = <[u8; 32]>::try_from(request.into_inner().nonce.as_ref());
        self.observed(Operation::Freshness, async {
            let nonce = nonce.map_err(|_| Status::invalid_argument("a nonce has 32 bytes"))?;
            let answers = self.solo.freshness(nonce).await;
            let answers = answers.map_err(|error| read_status(&error))?;
            Ok(v1::FreshnessResponse {
                answers: answers
                    .iter()
                    .map(|answer| answer.encode().into())
                    .collect(),
            })
        })
        .await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        self.observed(Operation::Status, async {
            let status = self.solo.status();
            Ok(v1::StatusResponse {
                height: status.height.0,
                time_ms: status.time.0,
                keys: u64::try_from(status.keys).unwrap_or(u64::MAX),
                waiting: u64::try_from(status.waiting).unwrap_or(u64::MAX),
                writable: status.writable.is_ok(),
                writable_detail: status.writable.err().unwrap_or_default(),
                engine: status.engine.to_owned(),
                development: status.development,
                genesis: self.solo.genesis().encode().into(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                snapshot: status.snapshot.0,
            })
        })
        .await
    }
}

fn encode(last: &FinalHeader) -> (Bytes, Bytes) {
    (
        last.header.encode().into(),
        last.certificate.encode().into(),
    )
}

fn message(block: &Block) -> v1::SubscribeResponse {
    let (header, certificate) = encode(&block.last);
    v1::SubscribeResponse {
        header,
        certificate,
        transactions: block.transactions.clone(),
        receipts: block
            .receipts
            .iter()
            .map(|receipt: &Receipt| receipt.encode().into())
            .collect(),
    }
}

fn submit_status(error: &SubmitError) -> Status {
    match error {
        SubmitError::Rejected(rejection) => {
            let mut status = Status::failed_precondition(rejection.to_string());
            status
                .metadata_mut()
                .insert(REJECTION, MetadataValue::from_static(rejection.code()));
            status
        }
        SubmitError::Busy => Status::resource_exhausted(error.to_string()),
        SubmitError::Unavailable(_) => Status::unavailable(error.to_string()),
    }
}

fn read_status(error: &ReadError) -> Status {
    let mut status = match error {
        ReadError::NotReached { .. } => Status::out_of_range(error.to_string()),
        ReadError::Pruned(_) => Status::not_found(error.to_string()),
        ReadError::Malformed(_) => Status::invalid_argument(error.to_string()),
        ReadError::Unavailable(_) => Status::unavailable(error.to_string()),
    };
    let mut note = |name: &'static str, height: Height| {
        if let Ok(value) = height.to_string().parse() {
            status.metadata_mut().insert(name, value);
        }
    };
    match error {
        ReadError::NotReached { wanted, height } => {
            note("strongroom-wanted", *wanted);
            note("strongroom-height", *height);
        }
        ReadError::Pruned(wanted) => note("strongroom-wanted", *wanted),
        ReadError::Malformed(_) | ReadError::Unavailable(_) => {}
    }
    status
}
