//! `LedgerService` of a gateway: messages to use-cases and back. Blocks are subscribed to at a validator.

use std::sync::Arc;

use domain::TransactionHash;
use tokio_stream::Empty;
use tonic::{Request, Response, Status};
use wire::grpc::v1;
use wire::grpc::v1::ledger_service_server::LedgerService;
use wire::problem::Code;
use wire::rest::ledger::LedgerReadBody;

use super::answer::refused;
use super::keys::{Reply, bytes};
use crate::app::App;
use crate::http::answer::Failure;
use crate::use_cases::ledger;

/// The service.
#[derive(Clone, Debug)]
pub struct Ledger(pub(super) Arc<App>);

#[tonic::async_trait]
impl LedgerService for Ledger {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let transaction = request.into_inner().transaction;
        let receipt = ledger::submit(&self.0, transaction)
            .await
            .map_err(refused)?;
        Ok(Response::new(v1::SubmitResponse {
            receipt: receipt.into(),
        }))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Reply<v1::ReadResponse> {
        let v1::ReadRequest { keys, at_least } = request.into_inner();
        let body = LedgerReadBody {
            keys: keys.into_iter().map(Into::into).collect(),
            at_least,
        };
        let answer = ledger::read(&self.0, body).await.map_err(refused)?;
        let values = answer.values.into_iter().map(|value| v1::ProvedValue {
            value: value.value.map(bytes),
            proof: bytes(value.proof),
        });
        Ok(Response::new(v1::ReadResponse {
            values: values.collect(),
            header: bytes(answer.header),
            certificate: bytes(answer.certificate),
        }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Reply<v1::ListResponse> {
        let v1::ListRequest {
            prefix,
            after,
            limit,
        } = request.into_inner();
        let after = (!after.is_empty()).then_some(after);
        let found = ledger::list(&self.0, &prefix, after, limit)
            .await
            .map_err(refused)?;
        let entries = found.entries.into_iter().map(|entry| v1::ListEntry {
            key: bytes(entry.key),
            value: bytes(entry.value),
        });
        Ok(Response::new(v1::ListResponse {
            entries: entries.collect(),
        }))
    }

    type SubscribeStream = Empty<Result<v1::SubscribeResponse, Status>>;

    async fn subscribe(&self, _: Request<v1::SubscribeRequest>) -> Reply<Self::SubscribeStream> {
        Err(refused(Failure::new(
            Code::NotImplemented,
            "blocks are subscribed to at a validator: a gateway answers Finality and Read",
        )))
    }

    async fn finality(&self, request: Request<v1::FinalityRequest>) -> Reply<v1::FinalityResponse> {
        let height = request.into_inner().height;
        let last = ledger::header(&self.0, height).await.map_err(refused)?;
        Ok(Response::new(v1::FinalityResponse {
            header: bytes(last.header),
            certificate: bytes(last.certificate),
        }))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Reply<v1::GetReceiptResponse> {
        let hash = TransactionHash::try_from(request.into_inner().transaction.as_ref());
        let hash = hash.map_err(|_| {
            refused(Failure::new(
                Code::BadRequest,
                "transaction: a hash of 32 bytes",
            ))
        })?;
        let receipt = ledger::receipt(&self.0, hash).await.map_err(refused)?;
        Ok(Response::new(v1::GetReceiptResponse {
            receipt: receipt.map(Into::into),
        }))
    }

    async fn freshness(
        &self,
        request: Request<v1::FreshnessRequest>,
    ) -> Reply<v1::FreshnessResponse> {
        let nonce = request.into_inner().nonce;
        let fresh = ledger::freshness(&self.0, &nonce).await.map_err(refused)?;
        Ok(Response::new(v1::FreshnessResponse {
            answers: fresh.into_iter().map(Into::into).collect(),
        }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Reply<v1::StatusResponse> {
        let status = ledger::status(&self.0).await.map_err(refused)?;
        Ok(Response::new(v1::StatusResponse {
            height: status.height,
            time_ms: status.time_ms,
            keys: status.keys,
            waiting: status.waiting,
            writable: status.writable,
            writable_detail: status.writable_detail.unwrap_or_default(),
            engine: status.engine,
            development: status.development,
            genesis: ledger::genesis(&self.0).map_err(refused)?.into(),
            version: status.software_version,
            snapshot: 0,
        }))
    }
}
