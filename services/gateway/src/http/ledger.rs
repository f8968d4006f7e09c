//! The ledger: what validators answer, passed on as it came. Clients check signatures and proofs from their pinned genesis; this
//! gateway can be silent or show an old state to who does not ask for freshness, and nothing worse.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use domain::{Height, TransactionHash};
use ledger::port::{FinalHeader, Freshness, Ledger as _, ReadError, SubmitError};
use ledger::{Record as _, StatePrefix};
use serde::Deserialize;
use transport::LedgerClient;
use wire::problem::{Code, Problem};
use wire::rest::Base64Url;
use wire::rest::ledger::{
    LEDGER_LIST_MAX, LEDGER_READ_KEYS_MAX, LedgerEntry, LedgerHeader, LedgerList, LedgerReadAnswer,
    LedgerReadBody, LedgerStatus, LedgerValue, TRANSACTION_BYTES_MAX,
};

use super::Answer;
use super::answer::Failure;
use super::authentication::Caller;
use super::buckets::{cbor, control_body};
use crate::app::App;

/// Bytes of a key of the state, at most.
const KEY_BYTES_MAX: usize = 256;

impl App {
    /// The way to the ledger.
    pub(crate) fn ledger(&self) -> Answer<&LedgerClient> {
        self.ledger.as_ref().ok_or_else(|| {
            Failure::new(
                Code::NotImplemented,
                "this deployment has no ledger: start it without --no-custody",
            )
        })
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let text = error.to_string();
        match error {
            ReadError::NotReached { wanted, height } => Self::from(
                Problem::new(Code::Unavailable, text)
                    .with("wanted", wanted.0)
                    .with("height", height.0),
            ),
            ReadError::Pruned(_) => Self::not_found("block: it is not kept any more"),
            ReadError::Malformed(_) => Self::new(Code::BadRequest, text),
            ReadError::Unavailable(_) => {
                tracing::warn!(reason = %text, "the ledger does not answer");
                Self::new(Code::Unavailable, "the ledger does not answer: try again")
            }
        }
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        let text = error.to_string();
        match error {
            SubmitError::Rejected(rejection) => Self::from(
                Problem::new(Code::LedgerRejected, text).with("rejection", rejection.code()),
            ),
            SubmitError::Busy => Self::new(Code::TooManyRequests, text),
            SubmitError::Unavailable(_) => {
                tracing::warn!(reason = %text, "the ledger takes no transaction");
                Self::new(
                    Code::Unavailable,
                    "the ledger takes no transactions now: what was sent may or may not be applied; send the same again",
                )
            }
        }
    }
}

/// The ledger as its validator describes it. Not proved.
#[utoipa::path(get, path = "/v1/ledger/status", tag = "ledger",
    responses((status = 200, body = LedgerStatus), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn status(State(app): State<Arc<App>>) -> Answer<Json<LedgerStatus>> {
    let ledger = app.ledger()?;
    let status = ledger.status().await?;
    let last = ledger.finality(None).await?;
    Ok(Json(LedgerStatus {
        height: status.height.0,
        time_ms: last.header.time.0,
        keys: status.keys,
        waiting: status.waiting,
        writable: status.writable.is_ok(),
        writable_detail: status.writable.err(),
        engine: status.engine,
        development: status.development,
        software_version: status.version,
        genesis: ledger.genesis().hash(),
    }))
}

/// The genesis record, whose hash clients pin.
#[utoipa::path(get, path = "/v1/ledger/genesis", tag = "ledger",
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn genesis(State(app): State<Arc<App>>) -> Answer<Response> {
    Ok(cbor(StatusCode::OK, app.ledger()?.genesis().encode()))
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
    let ledger = app.ledger()?;
    let bytes = control_body(&app, &caller, request).await?;
    if bytes.len() > TRANSACTION_BYTES_MAX {
        return Err(Failure::new(
            Code::BodyTooLarge,
            format!("a transaction has at most {TRANSACTION_BYTES_MAX} bytes"),
        ));
    }
    let receipt = ledger.submit(bytes.to_vec().into()).await?;
    Ok(cbor(StatusCode::OK, receipt.encode()))
}

/// What became of a recent transaction: a receipt record.
#[utoipa::path(get, path = "/v1/ledger/receipts/{hash}", tag = "ledger",
    params(("hash" = String, Path, description = "Hash of the transaction, 64 hexadecimal digits")),
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn receipt(State(app): State<Arc<App>>, Path(hash): Path<String>) -> Answer<Response> {
    let ledger = app.ledger()?;
    let hash: TransactionHash = hash
        .parse()
        .map_err(|_| Failure::not_found("transaction"))?;
    let receipt = ledger.receipt(hash).await?;
    let receipt = receipt.ok_or_else(|| Failure::not_found("recent transaction"))?;
    Ok(cbor(StatusCode::OK, receipt.encode()))
}

/// Values of one height, or that there are none, with proofs.
#[utoipa::path(post, path = "/v1/ledger/read", tag = "ledger", request_body = LedgerReadBody,
    responses((status = 200, body = LedgerReadAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn read(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Json<LedgerReadAnswer>> {
    let ledger = app.ledger()?;
    let bytes = control_body(&app, &caller, request).await?;
    let LedgerReadBody { keys, at_least } = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Code::BadRequest, format!("the body: {error}")))?;
    if keys.is_empty()
        || keys.len() > LEDGER_READ_KEYS_MAX
        || keys.iter().any(|key| key.0.len() > KEY_BYTES_MAX)
    {
        return Err(Failure::new(
            Code::BadRequest,
            format!("1 to {LEDGER_READ_KEYS_MAX} keys of at most {KEY_BYTES_MAX} bytes"),
        ));
    }
    let freshness = match at_least {
        0 => Freshness::Local,
        height => Freshness::AtLeast(Height(height)),
    };
    let keys = keys.into_iter().map(|key| key.0.into()).collect();
    let answer = ledger.read(keys, freshness).await?;
    let values = answer.values.into_iter().map(|proved| LedgerValue {
        value: proved.value.map(Base64Url::from),
        proof: proved.proof.encode().into(),
    });
    Ok(Json(LedgerReadAnswer {
        values: values.collect(),
        header: answer.last.header.encode().into(),
        certificate: answer.last.certificate.encode().into(),
    }))
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
    let ledger = app.ledger()?;
    let Query(listing) = listing?;
    let prefix = StatePrefix::decode(&listing.prefix.0)
        .ok_or_else(|| Failure::new(Code::BadRequest, "prefix: not one of the ledger's"))?;
    let limit = listing.limit.unwrap_or(LEDGER_LIST_MAX);
    let after = listing.after.map(|after| after.0);
    let too_long = after
        .as_ref()
        .is_some_and(|after| after.len() > KEY_BYTES_MAX);
    if !(1..=LEDGER_LIST_MAX).contains(&limit) || too_long {
        return Err(Failure::new(
            Code::BadRequest,
            format!("limit is 1 to {LEDGER_LIST_MAX}, after at most {KEY_BYTES_MAX} bytes"),
        ));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = ledger.list(prefix, after.map(Into::into), limit).await?;
    let entries = found.into_iter().map(|(key, value)| LedgerEntry {
        key: key.into(),
        value: value.into(),
    });
    Ok(Json(LedgerList {
        entries: entries.collect(),
    }))
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
    let ledger = app.ledger()?;
    let Query(which) = which?;
    let fresh = match which.nonce {
        None => Vec::new(),
        Some(nonce) => {
            let nonce = <[u8; 32]>::try_from(nonce.0)
                .map_err(|_| Failure::new(Code::BadRequest, "nonce: 32 bytes, base64url"))?;
            ledger.freshness(nonce).await?
        }
    };
    let FinalHeader {
        header,
        certificate,
    } = ledger
        .finality(which.height.map(Height))
        .await
        .map_err(|error| match error {
            ReadError::NotReached { wanted, .. } => {
                Failure::not_found(&format!("block {wanted}: it is not there yet"))
            }
            error => error.into(),
        })?;
    Ok(Json(LedgerHeader {
        header: header.encode().into(),
        certificate: certificate.encode().into(),
        fresh: fresh.iter().map(|one| one.encode().into()).collect(),
    }))
}
