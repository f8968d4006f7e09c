//! Custodians and workers: how they are, what they confirm, what they wrote down.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use custody::AuditRequest;
use domain::Slot;
use enclave_client::Peer;
use enclave_wire::v1;
use sealed::signed::Signed;
use wire::problem::Code;
use wire::rest::custody::{
    AuditAnswer, AuditBody, AuditEntryInfo, ConfirmAnswer, ConfirmBody, ConfirmedInfo, CustodyInfo,
    EnclaveDescription, EnclaveInfo,
};

use super::Answer;
use super::answer::Failure;
use super::authentication::Caller;
use super::keys::{custodian_refusal, json_body, principal};
use crate::app::App;

fn info(slot: Option<Slot>, peer: &Peer) -> EnclaveInfo {
    let state = peer.state();
    EnclaveInfo {
        principal: peer.principal(),
        index: slot.map(|slot| slot.index.get()),
        standby: slot.is_some_and(|slot| slot.standby),
        reachable: state.connected,
        detail: state.reason,
        description: state.description.map(|said| EnclaveDescription {
            role: said.role,
            platform: said.platform,
            measurement: said.measurement.into(),
            software_version: said.version,
            height: said.height,
            time_ms: said.time_ms,
            fresh: said.fresh,
            counters: said.counters.into_iter().collect(),
        }),
    }
}

/// Custodians and workers as this gateway sees them: reachable means that there is a session in which the enclave has proved its
/// code against the ledger's policy.
#[utoipa::path(get, path = "/v1/custody", tag = "keys",
    responses((status = 200, body = CustodyInfo), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn show(State(app): State<Arc<App>>) -> Answer<Json<CustodyInfo>> {
    let custody = app.custody()?;
    Ok(Json(CustodyInfo {
        committees: custody.committees().await?,
        custodians: custody
            .custodians()
            .map(|(slot, peer)| info(Some(slot), peer))
            .collect(),
        workers: custody
            .workers()
            .iter()
            .map(|peer| info(None, peer))
            .collect(),
    }))
}

/// Tells all custodians of a final header: those that confirm release nothing any more on proofs older than it.
#[utoipa::path(post, path = "/v1/custody/confirm", tag = "keys", request_body = ConfirmBody,
    responses((status = 200, body = ConfirmAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn confirm(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Json<ConfirmAnswer>> {
    let custody = app.custody()?;
    let body: ConfirmBody = json_body(&app, &caller, request).await?;
    let question = v1::Confirm {
        header: body.header.0.into(),
        certificate: body.certificate.0.into(),
        key: body.key.as_bytes().to_vec().into(),
        nonce: body.nonce.0.into(),
    };
    let mut answer = ConfirmAnswer {
        confirmed: Vec::new(),
        refused: Vec::new(),
    };
    for (slot, said) in custody.confirm(&question).await {
        match said {
            Ok(confirmed) => answer.confirmed.push(ConfirmedInfo {
                index: slot.index.get(),
                height: confirmed.height,
                custodian: principal(&confirmed.principal)?,
                signature: confirmed.signature.into(),
            }),
            Err(error) => {
                let why = custodian_refusal(slot.index.get(), error.to_refusal());
                answer.refused.push(why);
            }
        }
    }
    Ok(Json(answer))
}

/// A page of a custodian's audit log: in full where the request's principal owns the key or governs, as hashes elsewhere.
#[utoipa::path(post, path = "/v1/custody/audit", tag = "keys", request_body = AuditBody,
    responses((status = 200, body = AuditAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn audit(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Json<AuditAnswer>> {
    let custody = app.custody()?;
    let AuditBody {
        index,
        standby,
        request,
    } = json_body(&app, &caller, request).await?;
    let asked = Signed::<AuditRequest>::decode(&request.0)
        .map_err(|error| Failure::new(Code::MalformedRecord, format!("audit request: {error}")))?;
    let proof = custody.proof_for_audit(asked.principal, asked.key).await?;
    let page = custody
        .audit(
            (index, standby),
            v1::Audit {
                request: request.0.into(),
                proof: Some(proof),
            },
        )
        .await?;
    let entries = page.entries.into_iter().map(|entry| AuditEntryInfo {
        sequence: entry.sequence,
        hash: entry.hash.into(),
        record: entry.record.map(Into::into),
    });
    Ok(Json(AuditAnswer {
        entries: entries.collect(),
        head: page.head,
        head_hash: page.head_hash.into(),
        custodian: principal(&page.principal)?,
        signature: page.signature.into(),
    }))
}
