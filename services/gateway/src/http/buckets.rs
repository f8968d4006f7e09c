//! Buckets and bucket keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use domain::limits::{CONTROL_BODY_BYTES_MAX, LIST_KEYS_MAX};
use domain::{BucketKeyId, BucketName, Permission, Principal};
use objects::metadata::{BucketRow, Metadata as _, Mutation};
use serde::Deserialize;
use wire::problem::{Code, Problem};
use wire::rest::{BucketInfo, BucketList, CBOR};

use super::answer::Failure;
use super::authentication::Caller;
use super::{Answer, body};
use crate::app::App;
use crate::budget::{BudgetGuard, Share};
use crate::records::{self, Bucket};
use crate::recovery::Kind;
use crate::unsettled::Claims;

/// A control body, which counts against the byte budget as long as it is held.
pub(crate) struct ControlBody {
    bytes: Vec<u8>,
    guard: BudgetGuard,
}

impl ControlBody {
    /// The bytes, and what they hold of the budget as long as the guard lives.
    pub(crate) fn into_parts(self) -> (Vec<u8>, BudgetGuard) {
        (self.bytes, self.guard)
    }
}

impl std::ops::Deref for ControlBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a control body within the byte budget and checks it against the signature.
pub(crate) async fn control_body(
    app: &App,
    caller: &Caller,
    request: Request,
) -> Answer<ControlBody> {
    let announced = match request.headers().get(axum::http::header::CONTENT_LENGTH) {
        Some(_) => body::declared_length(request.headers(), CONTROL_BODY_BYTES_MAX)?,
        None => CONTROL_BODY_BYTES_MAX,
    };
    let mut guard = app
        .budget
        .take(caller.principal, Share::Put, announced)
        .await?;
    let bytes = budgeted_body(app, caller, request).await?;
    guard.shrink_to(bytes.len());
    Ok(ControlBody { bytes, guard })
}

/// As [`control_body`], for whoever has taken the budget for it already.
pub(super) async fn budgeted_body(app: &App, caller: &Caller, request: Request) -> Answer<Vec<u8>> {
    let declared = request
        .headers()
        .get(axum::http::header::CONTENT_LENGTH)
        .map(|_| body::declared_length(request.headers(), CONTROL_BODY_BYTES_MAX))
        .transpose()?;
    let bytes = body::collect(
        request.into_body(),
        declared.unwrap_or(0),
        CONTROL_BODY_BYTES_MAX,
        app.config.min_rate_bytes,
    )
    .await?;
    app.metrics
        .request_bytes
        .inc_by(u64::try_from(bytes.len()).unwrap_or(0));
    caller.check_body(&bytes)?;
    Ok(bytes.into())
}

pub(super) fn cbor(status: StatusCode, bytes: Vec<u8>) -> Response {
    let mut response = (status, bytes).into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(CBOR));
    response
}

fn info(row: &BucketRow) -> BucketInfo {
    BucketInfo {
        name: row.name.clone(),
        id: row.id,
        owner: row.owner,
        profile: row.profile,
        created_ms: row.created.0,
        record: row.record.clone(),
    }
}

/// Registers a bucket: the body is the owner-signed bucket record.
#[utoipa::path(post, path = "/v1/buckets", tag = "buckets",
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 201, body = BucketInfo), (status = 200, body = BucketInfo, description = "registered before"),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer<Response> {
    caller.administrator(&app)?;
    let bytes = control_body(&app, &caller, request).await?;
    let now = app.now();
    let mut row = records::new_bucket(
        bytes.to_vec(),
        &caller.principal,
        &app.config.deployment,
        now,
    )?;
    let nodes = app.peers.iter().count();
    if nodes < row.profile.total() {
        return Err(Failure::from(
            Problem::new(
                Code::NotEnoughNodes,
                format!(
                    "profile {} needs {} nodes; this deployment has {nodes}",
                    row.profile,
                    row.profile.total()
                ),
            )
            .with("needed", row.profile.total())
            .with("reachable", nodes),
        ));
    }
    let mut claims = Claims::default();
    let record = app
        .store_recovery(Kind::Bucket, &[&row.record], &mut claims)
        .await?;
    row.recovery = vec![record];
    let answer = info(&row);
    let created = app.metadata.create_bucket(row, caller.mutation(&app)).await;
    claims.settle(&created, |fresh| *fresh);
    let status = if created? {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(answer)).into_response())
}

/// Where a listing goes on.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BucketPage {
    /// Only names after this; all when empty.
    #[param(value_type = Option<String>, pattern = "^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")]
    after: Option<String>,
    /// At most this many, 1 to 1,000; 1,000 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Checks a page size.
pub(super) fn page_limit(limit: Option<usize>) -> Answer<usize> {
    let limit = limit.unwrap_or(LIST_KEYS_MAX);
    if limit == 0 || limit > LIST_KEYS_MAX {
        let detail = format!("limit is 1 to {LIST_KEYS_MAX}");
        return Err(Failure::new(Code::BadRequest, detail));
    }
    Ok(limit)
}

/// Buckets that the caller may read, by name.
#[utoipa::path(get, path = "/v1/buckets", tag = "buckets", params(BucketPage),
    responses((status = 200, body = BucketList), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page: Result<Query<BucketPage>, axum::extract::rejection::QueryRejection>,
) -> Answer<Json<BucketList>> {
    let Query(page) = page?;
    let limit = page_limit(page.limit)?;
    let mut after: Option<BucketName> = page
        .after
        .as_deref()
        .filter(|name| !name.is_empty())
        .map(str::parse)
        .transpose()
        .map_err(|error| Failure::new(Code::BadName, format!("after: {error}")))?;
    let mut buckets = Vec::new();
    let next = loop {
        let rows = app.metadata.buckets(after.as_ref(), limit).await?;
        let last_page = rows.len() < limit;
        let mut full = None;
        for row in rows {
            let name = row.name.clone();
            let visible = app
                .bucket_by_id(row.id)
                .await
                .is_ok_and(|bucket| caller.allow(&bucket, Permission::Read).is_ok());
            if visible {
                buckets.push(info(&row));
            }
            after = Some(name.clone());
            if buckets.len() == limit {
                full = Some(name);
                break;
            }
        }
        match full {
            Some(name) => break Some(name),
            None if last_page => break None,
            None => {}
        }
    };
    Ok(Json(BucketList { buckets, next }))
}

/// One bucket with its record.
#[utoipa::path(get, path = "/v1/buckets/{bucket}", tag = "buckets", params(("bucket" = String, Path)),
    responses((status = 200, body = BucketInfo), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<Json<BucketInfo>> {
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Read)?;
    Ok(Json(info(&bucket.row)))
}

/// Changes who may read and write a bucket, or its keys: the body is the bucket's record, newer and signed by its owner.
#[utoipa::path(put, path = "/v1/buckets/{bucket}", tag = "buckets", params(("bucket" = String, Path)),
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 200, body = BucketInfo), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Answer<Json<BucketInfo>> {
    let known = app.bucket_by_name(&name).await?;
    caller.allow(&known, Permission::Admin)?;
    let bytes = control_body(&app, &caller, request).await?;
    // What is cached may be older than what another gateway stored.
    app.forget_bucket(&known);
    let known = app.bucket_by_name(&name).await?;
    let mut row = records::changed_bucket(bytes.to_vec(), &known, &app.config.deployment)?;
    let mut claims = Claims::default();
    let record = app
        .store_recovery(Kind::Bucket, &[&row.record], &mut claims)
        .await?;
    row.recovery = vec![record];
    let answer = info(&row);
    let changed = app
        .metadata
        .update_bucket(row, known.row.record.clone(), caller.mutation(&app))
        .await;
    claims.settle(&changed, |fresh| *fresh);
    app.forget_bucket(&known);
    changed?;
    Ok(Json(answer))
}

/// Removes an empty bucket.
#[utoipa::path(delete, path = "/v1/buckets/{bucket}", tag = "buckets", params(("bucket" = String, Path)),
    responses((status = 204), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Admin)?;
    app.metadata
        .delete_bucket(bucket.row.id, caller.mutation(&app))
        .await?;
    app.forget_bucket(&bucket);
    Ok(StatusCode::NO_CONTENT)
}

fn key_id(text: &str) -> Answer<BucketKeyId> {
    text.parse().map_err(|_| Failure::not_found("bucket key"))
}

/// Stores a bucket key's record, made by the caller.
#[utoipa::path(put, path = "/v1/buckets/{bucket}/keys/{key_id}", tag = "buckets",
    params(("bucket" = String, Path), ("key_id" = String, Path)),
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 201), (status = 200, description = "stored before"), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn put_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((name, id)): Path<(String, String)>,
    request: Request,
) -> Answer<StatusCode> {
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Write)?;
    let id = key_id(&id)?;
    let bytes = control_body(&app, &caller, request).await?;
    let mutation = caller.mutation(&app);
    let fresh = app
        .put_bucket_key(&bucket, &caller.principal, id, bytes.to_vec(), mutation)
        .await?;
    Ok(if fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    })
}

impl App {
    /// Checks that new objects may come under a bucket key. Where nobody has lost a right yet, every key is good.
    pub(super) async fn usable_bucket_key(
        &self,
        bucket: &Bucket,
        id: Option<BucketKeyId>,
    ) -> Answer<()> {
        let Some(id) = id.filter(|_| bucket.record.record().key_generation > 0) else {
            return Ok(());
        };
        let key = self.metadata.bucket_key(bucket.row.id, id).await?;
        let key = key.ok_or_else(|| Failure::not_found("bucket key"))?;
        records::usable_bucket_key(&key.record, bucket)
    }

    /// Checks and stores a bucket key's record with its recovery record; `false` when the same one is there already.
    pub(super) async fn put_bucket_key(
        &self,
        bucket: &Bucket,
        writer: &Principal,
        id: BucketKeyId,
        record: Vec<u8>,
        mutation: Mutation,
    ) -> Answer<bool> {
        let deployment = &self.config.deployment;
        let mut row = records::new_bucket_key(record, id, bucket, writer, deployment)?;
        if let Some(known) = self.metadata.bucket_key(bucket.row.id, id).await?
            && known.record == row.record
        {
            return Ok(false);
        }
        let mut claims = Claims::default();
        let recovery = self
            .store_recovery(Kind::BucketKey, &[&row.record], &mut claims)
            .await?;
        row.recovery = vec![recovery];
        let stored = self.metadata.put_bucket_key(row, mutation).await;
        claims.settle(&stored, |fresh| *fresh);
        Ok(stored?)
    }
}

/// A bucket key's record.
#[utoipa::path(get, path = "/v1/buckets/{bucket}/keys/{key_id}", tag = "buckets",
    params(("bucket" = String, Path), ("key_id" = String, Path)),
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn get_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((name, id)): Path<(String, String)>,
) -> Answer<Response> {
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Read)?;
    let row = app
        .metadata
        .bucket_key(bucket.row.id, key_id(&id)?)
        .await?
        .ok_or_else(|| Failure::not_found("bucket key"))?;
    Ok(cbor(StatusCode::OK, row.record))
}

impl From<axum::extract::rejection::QueryRejection> for Failure {
    fn from(rejection: axum::extract::rejection::QueryRejection) -> Self {
        Self::new(Code::BadRequest, rejection.body_text())
    }
}
