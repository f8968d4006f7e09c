//! Named keys over REST.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, Request, State};
use domain::KeyId;
use serde::de::DeserializeOwned;
use wire::problem::Code;
use wire::rest::custody::{DealAnswer, DealBody, DecryptAnswer, DecryptBody};

use super::Answer;
use super::answer::Failure;
use super::authentication::Caller;
use super::buckets::control_body;
use crate::app::App;
use crate::use_cases::keys;

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
    let key = key_id(&key)?;
    let version = keys::version(version.parse().unwrap_or(0))?;
    let body = json_body(&app, &caller, request).await?;
    keys::deal(&app, key, version, body).await.map(Json)
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
    let key = key_id(&key)?;
    let body = json_body(&app, &caller, request).await?;
    keys::decrypt(&app, key, body).await.map(Json)
}

fn key_id(text: &str) -> Answer<KeyId> {
    text.parse().map_err(|_| Failure::not_found("key"))
}
