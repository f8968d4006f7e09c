//! `KeyService`: messages to use-cases and back.

use std::sync::Arc;

use domain::KeyId;
use tonic::{Request, Response, Status};
use wire::grpc::v1;
use wire::grpc::v1::key_service_server::KeyService;
use wire::problem::Code;
use wire::rest::Base64Url;
use wire::rest::custody::{
    AuditBody, CiphertextInfo, ConfirmBody, CustodianRefusal, DealBody, DecryptBody, EnclaveInfo,
};

use super::answer::refused;
use crate::app::App;
use crate::http::Answer;
use crate::http::answer::Failure;
use crate::use_cases::keys;

/// The service.
#[derive(Clone, Debug)]
pub struct Keys(pub(super) Arc<App>);

/// What a method returns.
pub(super) type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl KeyService for Keys {
    async fn deal_version(
        &self,
        request: Request<v1::DealVersionRequest>,
    ) -> Reply<v1::DealVersionResponse> {
        let asked = request.into_inner();
        let key = key_id(&asked.key).map_err(refused)?;
        let version = keys::version(asked.version).map_err(refused)?;
        let body = DealBody {
            request: asked.request.into(),
        };
        let dealt = keys::deal(&self.0, key, version, body)
            .await
            .map_err(refused)?;
        let acknowledgements = dealt.acknowledgements.into_iter();
        Ok(Response::new(v1::DealVersionResponse {
            statement: bytes(dealt.statement),
            commitments: bytes(dealt.commitments),
            acknowledgements: acknowledgements
                .map(|one| v1::ShareAcknowledgement {
                    index: one.index.into(),
                    standby: one.standby,
                    signature: bytes(one.signature),
                })
                .collect(),
            activation_worker: id(&dealt.activation_worker.0),
            activation_signature: bytes(dealt.activation_signature),
        }))
    }

    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Reply<v1::DecryptResponse> {
        let asked = request.into_inner();
        let key = key_id(&asked.key).map_err(refused)?;
        let ciphertexts = asked.ciphertexts.into_iter().map(|one| CiphertextInfo {
            dh: one.dh.into(),
            pq: one.pq.into(),
            context: one.context.into(),
        });
        let body = DecryptBody {
            request: asked.request.into(),
            ciphertexts: ciphertexts.collect(),
        };
        let opened = keys::decrypt(&self.0, key, body).await.map_err(refused)?;
        let partials = opened.partials.into_iter().map(|one| v1::SealedPartials {
            sealed: bytes(one.sealed),
            index: one.index.into(),
            custodian: id(&one.custodian.0),
            signature: bytes(one.signature),
        });
        Ok(Response::new(v1::DecryptResponse {
            partials: partials.collect(),
            sealed_secrets: bytes(opened.sealed_secrets),
            worker: id(&opened.worker.0),
            signature: bytes(opened.signature),
            failures: opened.failures.into_iter().map(refusal).collect(),
        }))
    }

    async fn get_custody(
        &self,
        _: Request<v1::GetCustodyRequest>,
    ) -> Reply<v1::GetCustodyResponse> {
        let shown = keys::show_custody(&self.0).await.map_err(refused)?;
        let committees = shown.committees.iter();
        Ok(Response::new(v1::GetCustodyResponse {
            committees: committees.map(|one| id(one.as_bytes())).collect(),
            custodians: shown.custodians.into_iter().map(enclave).collect(),
            workers: shown.workers.into_iter().map(enclave).collect(),
        }))
    }

    async fn confirm_header(
        &self,
        request: Request<v1::ConfirmHeaderRequest>,
    ) -> Reply<v1::ConfirmHeaderResponse> {
        let asked = request.into_inner();
        let body = ConfirmBody {
            header: asked.header.into(),
            certificate: asked.certificate.into(),
            key: key_id(&asked.key).map_err(refused)?,
            nonce: asked.nonce.into(),
        };
        let said = keys::confirm(&self.0, body).await.map_err(refused)?;
        let confirmed = said.confirmed.into_iter();
        let confirmed = confirmed.map(|one| v1::HeaderConfirmation {
            index: one.index.into(),
            height: one.height,
            custodian: id(&one.custodian.0),
            signature: bytes(one.signature),
        });
        Ok(Response::new(v1::ConfirmHeaderResponse {
            confirmed: confirmed.collect(),
            refused: said.refused.into_iter().map(refusal).collect(),
        }))
    }

    async fn read_audit(
        &self,
        request: Request<v1::ReadAuditRequest>,
    ) -> Reply<v1::ReadAuditResponse> {
        let asked = request.into_inner();
        let index = u8::try_from(asked.index)
            .map_err(|_| refused(Failure::new(Code::BadRequest, "index is 1 to 255")))?;
        let body = AuditBody {
            index,
            standby: asked.standby,
            request: asked.request.into(),
        };
        let page = keys::audit(&self.0, body).await.map_err(refused)?;
        let entries = page.entries.into_iter().map(|entry| v1::AuditRecord {
            sequence: entry.sequence,
            hash: bytes(entry.hash),
            record: entry.record.map(bytes),
        });
        Ok(Response::new(v1::ReadAuditResponse {
            entries: entries.collect(),
            head: page.head,
            head_hash: bytes(page.head_hash),
            custodian: id(&page.custodian.0),
            signature: bytes(page.signature),
            start: page.start,
            start_hash: bytes(page.start_hash),
            start_time_ms: page.start_time_ms,
        }))
    }
}

fn enclave(info: EnclaveInfo) -> v1::Enclave {
    v1::Enclave {
        principal: id(&info.principal.0),
        index: info.index.map(Into::into),
        standby: info.standby,
        reachable: info.reachable,
        detail: info.detail,
        description: info.description.map(|said| v1::EnclaveDescription {
            role: said.role,
            platform: said.platform,
            measurement: bytes(said.measurement),
            software_version: said.software_version,
            height: said.height,
            time_ms: said.time_ms,
            fresh: said.fresh,
            counters: said.counters.into_iter().collect(),
        }),
    }
}

fn refusal(one: CustodianRefusal) -> v1::CustodianRefusal {
    v1::CustodianRefusal {
        index: one.index.into(),
        code: one.code,
        detail: one.detail,
        retry: one.retry,
    }
}

fn key_id(bytes: &[u8]) -> Answer<KeyId> {
    let bytes = <[u8; 32]>::try_from(bytes);
    bytes
        .map(KeyId)
        .map_err(|_| Failure::new(Code::BadRequest, "key: 32 bytes"))
}

/// The bytes that REST writes as text.
pub(super) fn bytes(text: Base64Url) -> bytes::Bytes {
    text.0.into()
}

fn id(of: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(of)
}
