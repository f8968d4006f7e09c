//! The ledger over REST.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use domain::TransactionHash;
use serde::Deserialize;
use wire::rest::Base64Url;
use wire::rest::ledger::{
    LEDGER_LIST_MAX, LedgerHeader, LedgerList, LedgerReadAnswer, LedgerReadBody, LedgerStatus,
};

use super::Answer;
use super::answer::Failure;
use super::authentication::Caller;
use super::buckets::{cbor, control_body};
use super::keys::json_body;
use crate::app::App;
use crate::use_cases::ledger;

/// The ledger as its validator describes it. Not proved.
#[utoipa::path(get, path = "/v1/ledger/status", tag = "ledger",
    responses((status = 200, body = LedgerStatus), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn status(State(app): State<Arc<App>>) -> Answer<Json<LedgerStatus>> {
    ledger::status(&app).await.map(Json)
}

/// The genesis record, whose hash clients pin.
#[utoipa::path(get, path = "/v1/ledger/genesis", tag = "ledger",
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn genesis(State(app): State<Arc<App>>) -> Answer<Response> {
    Ok(cbor(StatusCode::OK, ledger::genesis(&app)?))
}

/// Sends a signed transaction and answers with its receipt record when its block is final. Sending the sender's last one again gives
/// its receipt again.
#[utoipa::path(post, path = "/v1/ledger/transactions", tag = "ledger",
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn submit(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Response> {
    let (transaction, _guard) = control_body(&app, &caller, request).await?.into_parts();
    let receipt = ledger::submit(&app, transaction.into()).await?;
    Ok(cbor(StatusCode::OK, receipt))
}

/// What became of a recent transaction: a receipt record.
#[utoipa::path(get, path = "/v1/ledger/receipts/{hash}", tag = "ledger",
    params(("hash" = String, Path, description = "Hash of the transaction, 64 hexadecimal digits")),
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn receipt(State(app): State<Arc<App>>, Path(hash): Path<String>) -> Answer<Response> {
    let hash: TransactionHash = hash
        .parse()
        .map_err(|_| Failure::not_found("transaction"))?;
    let receipt = ledger::receipt(&app, hash).await?;
    let receipt = receipt.ok_or_else(|| Failure::not_found("recent transaction"))?;
    Ok(cbor(StatusCode::OK, receipt))
}

/// Values of one height, or that there are none, with proofs.
#[utoipa::path(post, path = "/v1/ledger/read", tag = "ledger", request_body = LedgerReadBody,
    responses((status = 200, body = LedgerReadAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn read(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Json<LedgerReadAnswer>> {
    let body = json_body(&app, &caller, request).await?;
    ledger::read(&app, body).await.map(Json)
}

/// What to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// The beginning of the keys, base64url: one of the ledger's prefixes.
    #[param(value_type = String)]
    prefix: Base64Url,
    /// Continue after this key, base64url.
    #[param(value_type = Option<String>)]
    after: Option<Base64Url>,
    /// 1 to 1,000.
    limit: Option<u32>,
}

/// Keys and values under a prefix. Without proof: read what matters one by one.
#[utoipa::path(get, path = "/v1/ledger/list", tag = "ledger", params(Listing),
    responses((status = 200, body = LedgerList), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn list(
    State(app): State<Arc<App>>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Answer<Json<LedgerList>> {
    let Query(listing) = listing?;
    let after = listing.after.map(|after| after.0.into());
    let limit = listing.limit.unwrap_or(LEDGER_LIST_MAX);
    ledger::list(&app, &listing.prefix.0, after, limit)
        .await
        .map(Json)
}

/// Which header.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Its height; absent: the newest.
    height: Option<u64>,
    /// 32 random bytes, base64url: validators sign over them which height is final.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]
    nonce: Option<Base64Url>,
}

/// A final block's header with its certificate and, over a nonce of the caller's, validators' word on which height is final.
#[utoipa::path(get, path = "/v1/ledger/headers", tag = "ledger", params(Which),
    responses((status = 200, body = LedgerHeader), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn header(
    State(app): State<Arc<App>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Json<LedgerHeader>> {
    let Query(which) = which?;
    // Before the header: it is the newest when they have answered.
    let fresh = match which.nonce {
        None => Vec::new(),
        Some(nonce) => ledger::freshness(&app, &nonce.0).await?,
    };
    let mut header = ledger::header(&app, which.height).await?;
    header.fresh = fresh.into_iter().map(Into::into).collect();
    Ok(Json(header))
}
