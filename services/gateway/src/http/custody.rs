//! Custodians and workers over REST: how they are, what they confirm, what they wrote down.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use wire::rest::custody::{AuditAnswer, AuditBody, ConfirmAnswer, ConfirmBody, CustodyInfo};

use super::Answer;
use super::authentication::Caller;
use super::keys::json_body;
use crate::app::App;
use crate::use_cases::keys;

/// Custodians and workers as this gateway sees them: reachable means that there is a session in which the enclave has proved its
/// code against the ledger's policy.
#[utoipa::path(get, path = "/v1/custody", tag = "keys",
    responses((status = 200, body = CustodyInfo), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn show(State(app): State<Arc<App>>) -> Answer<Json<CustodyInfo>> {
    keys::show_custody(&app).await.map(Json)
}

/// Tells all custodians of a final header: those that confirm release nothing any more on proofs older than it.
#[utoipa::path(post, path = "/v1/custody/confirm", tag = "keys", request_body = ConfirmBody,
    responses((status = 200, body = ConfirmAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn confirm(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Json<ConfirmAnswer>> {
    let body = json_body(&app, &caller, request).await?;
    keys::confirm(&app, body).await.map(Json)
}

/// A page of a custodian's audit log: in full where the request's principal owns the key or governs, as hashes elsewhere.
#[utoipa::path(post, path = "/v1/custody/audit", tag = "keys", request_body = AuditBody,
    responses((status = 200, body = AuditAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn audit(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Json<AuditAnswer>> {
    let body: AuditBody = json_body(&app, &caller, request).await?;
    keys::audit(&app, body).await.map(Json)
}
