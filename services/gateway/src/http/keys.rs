//! Named keys: signed requests in, sealed answers out. This gateway reads neither.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, Request, State};
use crypto::kem::PqCiphertextHash;
use crypto::kem::pq::PqCiphertext;
use custody::DecryptRequest;
use domain::{KeyId, KeyVersion, Principal};
use enclave_wire::v1;
use sealed::signed::Signed;
use serde::de::DeserializeOwned;
use wire::problem::Code;
use wire::rest::custody::{
    AcknowledgementInfo, CustodianRefusal, DECRYPT_MAX, DealAnswer, DealBody, DecryptAnswer,
    DecryptBody, SealedPartialsInfo,
};

use super::Answer;
use super::answer::Failure;
use super::authentication::Caller;
use super::buckets::control_body;
use crate::app::App;
use crate::custody::Custody;

impl App {
    /// The way to custodians and workers.
    pub(super) fn custody(&self) -> Answer<&Custody> {
        self.custody.as_ref().ok_or_else(|| {
            Failure::new(
                Code::NotImplemented,
                "this deployment has no custodians: start it without --no-custody",
            )
        })
    }
}

/// A JSON body of a control call.
pub(super) async fn json_body<T: DeserializeOwned>(
    app: &App,
    caller: &Caller,
    request: Request,
) -> Answer<T> {
    let bytes = control_body(app, caller, request).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Code::BadRequest, format!("the body: {error}")))
}

/// Has the pending version of a key made by custodians and workers. What comes back goes into an activate-version transaction.
#[utoipa::path(post, path = "/v1/keys/{key}/versions/{version}/deal", tag = "keys",
    params(("key" = String, Path, description = "Id of the key"), ("version" = u32, Path)), request_body = DealBody,
    responses((status = 200, body = DealAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn deal(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((key, version)): Path<(String, String)>,
    request: Request,
) -> Answer<Json<DealAnswer>> {
    let custody = app.custody()?;
    let key = key_id(&key)?;
    let version = version
        .parse()
        .ok()
        .and_then(|version| KeyVersion::new(version).ok())
        .ok_or_else(|| Failure::not_found("version of the key"))?;
    let DealBody { fencing } = json_body(&app, &caller, request).await?;
    let proof = custody.proof_for_deal(key).await?;
    let dealt = custody
        .deal(v1::DealVersion {
            key: key.as_bytes().to_vec().into(),
            version: version.get(),
            fencing,
            proof: Some(proof),
        })
        .await?;
    let acknowledgements = dealt.acknowledgements.into_iter().map(|one| {
        Ok(AcknowledgementInfo {
            index: index(one.index)?,
            standby: one.standby,
            signature: one.signature.into(),
        })
    });
    Ok(Json(DealAnswer {
        statement: dealt.statement.into(),
        commitments: dealt.commitments.into(),
        acknowledgements: acknowledgements.collect::<Answer<Vec<_>>>()?,
        activation_worker: principal(&dealt.activation_worker)?,
        activation_signature: dealt.activation_signature.into(),
    }))
}

/// Opens 1 to 64 ciphertexts of one version of a key: custodians check the request and the ledger, a worker puts the
/// post-quantum leg together, and what comes back is sealed to the request's recipient.
#[utoipa::path(post, path = "/v1/keys/{key}/decrypt", tag = "keys",
    params(("key" = String, Path, description = "Id of the key")), request_body = DecryptBody,
    responses((status = 200, body = DecryptAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn decrypt(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
    request: Request,
) -> Answer<Json<DecryptAnswer>> {
    let custody = app.custody()?;
    let key = key_id(&key)?;
    let body: DecryptBody = json_body(&app, &caller, request).await?;
    let asked = Signed::<DecryptRequest>::decode(&body.request.0).map_err(|error| {
        Failure::new(Code::MalformedRecord, format!("decrypt request: {error}"))
    })?;
    if asked.key != key {
        return Err(Failure::new(
            Code::BadRequest,
            "the request is for another key than the path",
        ));
    }
    if body.ciphertexts.is_empty() || body.ciphertexts.len() > DECRYPT_MAX {
        return Err(Failure::new(
            Code::BadRequest,
            format!("1 to {DECRYPT_MAX} ciphertexts"),
        ));
    }
    let deployment = &app.config.deployment;
    let ciphertexts = body.ciphertexts.into_iter().map(|one| {
        let pq = PqCiphertext::from_bytes(&one.pq.0).ok_or_else(|| {
            Failure::new(Code::BadRequest, "an ML-KEM-768 ciphertext has 1,088 bytes")
        })?;
        Ok(v1::Ciphertext {
            dh: one.dh.0.into(),
            pq_hash: PqCiphertextHash::of(deployment, &pq).0.to_vec().into(),
            pq: one.pq.0.into(),
            context: one.context.0.into(),
        })
    });
    let ciphertexts = ciphertexts.collect::<Answer<Vec<_>>>()?;
    let proof = custody
        .proof_for_release(key, asked.version, asked.principal, asked.min_height)
        .await?;
    let opened = custody
        .decrypt(v1::Decrypt {
            request: body.request.0.into(),
            ciphertexts,
            proof: Some(proof),
            avoid: Vec::new(),
        })
        .await?;
    let partials = opened.partials.into_iter().map(|one| {
        let by = one
            .signature
            .ok_or_else(|| Failure::internal("partials without their custodian's signature"))?;
        Ok(SealedPartialsInfo {
            index: index(by.index)?,
            custodian: principal(&by.principal)?,
            sealed: one.sealed.into(),
            signature: by.signature.into(),
        })
    });
    let failures = opened.failures.into_iter().map(|one| {
        let why = enclave_client::Refusal::from(one.refusal.unwrap_or_default());
        Ok(custodian_refusal(index(one.index)?, why))
    });
    Ok(Json(DecryptAnswer {
        partials: partials.collect::<Answer<Vec<_>>>()?,
        sealed_secrets: opened.sealed_secrets.into(),
        worker: principal(&opened.worker)?,
        signature: opened.signature.into(),
        failures: failures.collect::<Answer<Vec<_>>>()?,
    }))
}

pub(super) fn custodian_refusal(index: u8, why: enclave_client::Refusal) -> CustodianRefusal {
    CustodianRefusal {
        index,
        code: why.code,
        detail: why.detail,
        retry: why.retry,
    }
}

pub(super) fn key_id(text: &str) -> Answer<KeyId> {
    text.parse().map_err(|_| Failure::not_found("key"))
}

fn index(number: u32) -> Answer<u8> {
    u8::try_from(number).map_err(|_| Failure::internal("a share index over 255"))
}

pub(super) fn principal(bytes: &[u8]) -> Answer<Principal> {
    let bytes = <[u8; 32]>::try_from(bytes);
    bytes
        .map(Principal)
        .map_err(|_| Failure::internal("an enclave's key of another length"))
}
