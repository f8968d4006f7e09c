//! Objects by key: small puts, gets, stat, listing, tombstones, copies.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use domain::limits::{CONTROL_BODY_BYTES_MAX, MANIFEST_PAGE_CHUNKS, SMALL_PLAIN_BYTES_MAX};
use domain::{ObjectKey, Permission, Profile, ShardTag};
use objects::layout::NodeSlot;
use objects::metadata::{
    ChunkRow, CopyVersion, ListQuery, ListedObject, Metadata as _, NewVersion, PutSmall,
    PutTombstone, RecoveryRecord, VersionKind, VersionRow,
};
use serde::Deserialize;
use wire::problem::Code;
use wire::rest::{
    CopyBody, ListAnswer, ObjectAnswer, ObjectInfo, ObjectKind, ObjectNode, ObjectStat, PutAnswer,
};

use super::Answer;
use super::answer::Failure;
use super::authentication::Caller;
use super::body::Frames;
use super::buckets::{budgeted_body, cbor, control_body, page_limit};
use super::uploads::{Wait, put_answer};
use crate::app::App;
use crate::budget::{BudgetGuard, Share};
use crate::records::{self, Bucket};
use crate::recovery::Kind;
use crate::unsettled::Claims;

/// What a listing is limited to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ObjectPage {
    /// Only keys that start with this.
    #[serde(default)]
    prefix: String,
    /// Keys that have this after the prefix are rolled up into common prefixes.
    delimiter: Option<String>,
    /// Only keys and common prefixes after this.
    after: Option<String>,
    /// Keys and common prefixes together, 1 to 1,000; 1,000 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

fn object_info(listed: ListedObject) -> ObjectInfo {
    ObjectInfo {
        key: listed.key,
        version: listed.version,
        cid: listed.manifest,
        size_bytes: listed.plain_bytes,
        modified_ms: listed.modified.0,
        writer: listed.writer,
        fully_placed: listed.fully_placed,
    }
}

/// Lists a bucket, in the order of the keys' UTF-8 bytes.
#[utoipa::path(get, path = "/v1/buckets/{bucket}/objects", tag = "objects",
    params(("bucket" = String, Path), ObjectPage),
    responses((status = 200, body = ListAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    page: Result<Query<ObjectPage>, QueryRejection>,
) -> Answer<Json<ListAnswer>> {
    let Query(page) = page?;
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Read)?;
    let query = ListQuery {
        prefix: page.prefix,
        delimiter: page.delimiter.filter(|text| !text.is_empty()),
        after: page.after.filter(|text| !text.is_empty()),
        limit: page_limit(page.limit)?,
    };
    let page = app.metadata.list(bucket.row.id, query).await?;
    Ok(Json(ListAnswer {
        objects: page.objects.into_iter().map(object_info).collect(),
        prefixes: page.prefixes,
        next: page.next,
    }))
}

/// Which object, and how the put is answered.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PutQuery {
    /// The key: at most 1,024 bytes of UTF-8 without a NUL.
    #[param(min_length = 1, max_length = 1024, pattern = r"^[^\x00]+$")]
    key: String,
    /// `placed`: answer when fully placed, or after a minute.
    wait: Option<String>,
}

fn object_key(text: &str) -> Answer<ObjectKey> {
    text.parse()
        .map_err(|error: domain::NameError| Failure::new(Code::BadName, error.to_string()))
}

/// Puts an object of at most 256 KiB: the body is the small record with chunk, manifest and version record.
#[utoipa::path(put, path = "/v1/buckets/{bucket}/object", tag = "objects",
    params(("bucket" = String, Path), PutQuery),
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 201, body = PutAnswer), (status = 200, body = PutAnswer, description = "put before"),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn put_small(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<PutQuery>, QueryRejection>,
    request: Request,
) -> Answer<Response> {
    let Query(query) = query?;
    let key = object_key(&query.key)?;
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Write)?;
    let length = super::body::declared_length(request.headers(), CONTROL_BODY_BYTES_MAX)?;
    // The body, the record made of it, and what is in flight to five nodes share their bytes but for one copy.
    let guard = app
        .budget
        .take(caller.principal, Share::Put, length * 3)
        .await?;
    let bytes = budgeted_body(&app, &caller, request).await?;
    app.metrics
        .uploaded_bytes
        .inc_by(u64::try_from(bytes.len()).unwrap_or(0));
    // Rights may have ended while the body came.
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Write)?;
    let small = records::small(&bytes)?;
    let now = app.now();
    let checked = records::object_version(&small.version_record, &bucket, &caller.principal, now)?;
    let version = checked.row;
    if version.key != key {
        return Err(Failure::new(
            Code::MalformedRecord,
            "the entry names another key than the request",
        ));
    }
    if version.plain_bytes > u64::try_from(SMALL_PLAIN_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(Failure::new(
            Code::BodyTooLarge,
            "a small record holds at most 262,144 bytes: use an upload",
        ));
    }
    if let Some((id, record)) = small.bucket_key {
        app.put_bucket_key(&bucket, &caller.principal, id, record, app.own_mutation())
            .await?;
    }
    app.usable_bucket_key(&bucket, checked.bucket_key).await?;
    app.require_session().await?;
    let recovery = app
        .recovery
        .seal(Kind::Small, &[&small.version_record, &small.manifest]);
    let record = objects::small_copy::encode(&small.chunk, &recovery).map_err(Failure::internal)?;
    let tag = ShardTag::Small { epoch: app.epoch };
    let stored = app.store_record(record, tag, Some(guard)).await?;
    let id = version.version;
    let put = PutSmall {
        version,
        manifest_root: small.manifest,
        record_cid: stored.cid,
        layout: stored.layout.clone(),
        pending: stored.stored.pending.clone(),
    };
    let committed = app.metadata.put_small(put, caller.mutation(&app)).await;
    let mut claims = Claims::default();
    claims.add(stored.claim);
    claims.settle(&committed, |committed| committed.fresh);
    let committed = committed?;
    let pending = stored.stored.pending.len();
    if pending > 0 {
        app.pending_work.notify_one();
    }
    if !committed.fresh || (pending > 0 && query.wait.is_some()) {
        return put_answer(&app, id, committed, &Wait { wait: query.wait }).await;
    }
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let answer = PutAnswer {
        version: id,
        sequence: committed.sequence,
        replaced: committed.replaced,
        fully_placed: pending == 0,
        durable_shards: number(stored.stored.durable),
        total_shards: number(stored.layout.shards.len()),
    };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// Which object, and what comes with it.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct GetQuery {
    /// The key: at most 1,024 bytes of UTF-8 without a NUL.
    #[param(min_length = 1, max_length = 1024, pattern = r"^[^\x00]+$")]
    key: String,
    /// `1`: with the bucket key's record.
    bucket_key: Option<String>,
}

/// Opens an object by key: version record and manifest root; for small objects the ciphertext too.
#[utoipa::path(get, path = "/v1/buckets/{bucket}/object", tag = "objects",
    params(("bucket" = String, Path), GetQuery),
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<GetQuery>, QueryRejection>,
) -> Answer<Response> {
    let Query(query) = query?;
    let key = object_key(&query.key)?;
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Read)?;
    let (version, small) = app
        .metadata
        .current_with_small(bucket.row.id, &key)
        .await?
        .ok_or_else(|| Failure::not_found("object"))?;
    let with_key = query.bucket_key.as_deref() == Some("1");
    object_answer(&app, &caller, &bucket, version, small, with_key).await
}

/// The answer that opens a version.
pub(super) async fn object_answer(
    app: &App,
    caller: &Caller,
    bucket: &Bucket,
    version: VersionRow,
    small: Option<ChunkRow>,
    with_key: bool,
) -> Answer<Response> {
    let bucket_key = if with_key {
        match records::stored_protection(&version.version.record)?.0 {
            Some(id) => app
                .metadata
                .bucket_key(bucket.row.id, id)
                .await?
                .map(|row| row.record),
            None => None,
        }
    } else {
        None
    };
    let mut held = None;
    let chunk = match (version.kind, &small) {
        (VersionKind::Small, Some(row)) => {
            let (chunk, guard) = small_chunk(app, caller, row).await?;
            held = Some(guard);
            Some(chunk)
        }
        (VersionKind::Small, None) => {
            return Err(Failure::internal(
                "a small object without its record's place",
            ));
        }
        _ => None,
    };
    let answer = ObjectAnswer {
        version_record: Cow::Borrowed(&version.version.record),
        manifest: Cow::Borrowed(&version.manifest_root),
        chunk: chunk.as_deref().map(Cow::Borrowed),
        bucket_key: bucket_key.map(Cow::Owned),
        fully_placed: version.pending_shards == 0,
    };
    // What a slow receiver keeps waiting counts until it is gone.
    let mut response = cbor(StatusCode::OK, Vec::new());
    *response.body_mut() = Frames::body(vec![answer.encode().into()], held, &caller.flows);
    Ok(response)
}

/// The ciphertext of a small object. The record is small enough to check here each time: a copy that is not what its CID
/// says is never passed on.
async fn small_chunk(
    app: &App,
    caller: &Caller,
    row: &ChunkRow,
) -> Answer<(bytes::Bytes, BudgetGuard)> {
    let length = usize::try_from(row.layout.chunk_bytes).unwrap_or(usize::MAX);
    let guard = app
        .budget
        .take(caller.principal, Share::Get, length)
        .await?;
    let read = match app.reader.range(row, 0..length, false).await {
        Ok(read) => read,
        Err(error) => return Err(app.read_failed(0, row, false, error).await),
    };
    if !read.lost.is_empty() {
        app.report_lost(row, &read.lost, false).await;
    }
    let stored = objects::peer::ShardBytes {
        proof: None,
        body: read.body,
    }
    .contiguous();
    let stored = if domain::Cid::of_raw(&stored) == row.cid {
        stored
    } else {
        let checked = match app.reader.verified_chunk(row).await {
            Ok(read) => read,
            Err(error) => return Err(app.read_failed(0, row, true, error).await),
        };
        app.report_lost(row, &checked.lost, true).await;
        objects::peer::ShardBytes {
            proof: None,
            body: checked.body,
        }
        .contiguous()
    };
    let range = objects::small_copy::chunk_range(&stored).map_err(Failure::internal)?;
    app.metrics
        .downloaded_bytes
        .inc_by(u64::try_from(range.len()).unwrap_or(0));
    Ok((stored.slice(range), guard))
}

/// Which object.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct KeyQuery {
    /// The key: at most 1,024 bytes of UTF-8 without a NUL.
    #[param(min_length = 1, max_length = 1024, pattern = r"^[^\x00]+$")]
    key: String,
}

/// What is known of an object: sizes, coding, where its shards are.
#[utoipa::path(get, path = "/v1/buckets/{bucket}/stat", tag = "objects",
    params(("bucket" = String, Path), KeyQuery),
    responses((status = 200, body = ObjectStat), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn stat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<KeyQuery>, QueryRejection>,
) -> Answer<Json<ObjectStat>> {
    let Query(query) = query?;
    let key = object_key(&query.key)?;
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Read)?;
    let row = app
        .metadata
        .current(bucket.row.id, &key)
        .await?
        .ok_or_else(|| Failure::not_found("object"))?;
    let (bucket_key, own_wraps) = records::stored_protection(&row.version.record)?;
    let bucket_key_id =
        bucket_key.ok_or_else(|| Failure::internal("an object without a bucket key"))?;
    let mut wraps = match app
        .metadata
        .bucket_key(bucket.row.id, bucket_key_id)
        .await?
    {
        Some(key) => records::bucket_key_wraps(&key.record)?,
        None => Vec::new(),
    };
    wraps.extend(own_wraps);
    let mut tally = Tally::default();
    let mut from = 0;
    loop {
        let chunks = app
            .metadata
            .chunks(row.version.version, from, 1_000)
            .await?;
        for chunk in &chunks {
            tally.add(&app, chunk);
        }
        from = from.saturating_add(u32::try_from(chunks.len()).unwrap_or(u32::MAX));
        if chunks.is_empty() || from >= row.chunks {
            break;
        }
    }
    let nodes = tally
        .nodes
        .iter()
        .filter_map(|(slot, shards)| {
            let peer = app.peers.get(*slot)?;
            Some(ObjectNode {
                slot: slot.0,
                id: peer.id,
                zone: peer.zone.clone(),
                state: super::admin::wire_state(peer.state(), peer.reachable()),
                shards: *shards,
            })
        })
        .collect();
    Ok(Json(ObjectStat {
        kind: match row.kind {
            VersionKind::Small => ObjectKind::Small,
            VersionKind::Chunked | VersionKind::Tombstone => ObjectKind::Chunked,
        },
        profile: if row.kind == VersionKind::Small {
            Profile::SMALL
        } else {
            bucket.row.profile
        },
        chunks: row.chunks,
        pending_shards: tally.pending,
        live_shards_min: u32::try_from(tally.live_min.unwrap_or(0)).unwrap_or(u32::MAX),
        stored_bytes: tally.bytes,
        bucket_key_id,
        wraps,
        nodes,
        object: ObjectInfo {
            key: row.version.key,
            version: row.version.version,
            cid: row.version.manifest,
            size_bytes: row.version.plain_bytes,
            modified_ms: row.version.modified.0,
            writer: row.version.writer,
            fully_placed: tally.pending == 0,
        },
    }))
}

/// Sums over the chunks of a version.
#[derive(Default)]
struct Tally {
    nodes: BTreeMap<NodeSlot, u64>,
    pending: u64,
    bytes: u64,
    live_min: Option<usize>,
}

impl Tally {
    fn add(&mut self, app: &App, chunk: &ChunkRow) {
        let mut live = 0;
        let shard_bytes = u64::try_from(chunk.layout.shard_bytes()).unwrap_or(0);
        for (index, place) in chunk.layout.shards.iter().enumerate() {
            self.bytes += shard_bytes;
            if u8::try_from(index).is_ok_and(|index| chunk.pending.contains(&index)) {
                self.pending += 1;
                continue;
            }
            *self.nodes.entry(place.node).or_default() += 1;
            if app
                .peers
                .get(place.node)
                .is_some_and(|peer| peer.reachable())
            {
                live += 1;
            }
        }
        self.live_min = Some(self.live_min.map_or(live, |least| least.min(live)));
    }
}

/// Deletes an object: the body is a signed tombstone, which names the key.
#[utoipa::path(post, path = "/v1/buckets/{bucket}/tombstones", tag = "objects",
    params(("bucket" = String, Path)),
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 201, body = PutAnswer), (status = 200, body = PutAnswer, description = "deleted before"),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Answer<Response> {
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Delete)?;
    let bytes = control_body(&app, &caller, request).await?;
    let version = records::tombstone(&bytes, &bucket, &caller.principal, app.now())?;
    if app
        .metadata
        .current(bucket.row.id, &version.key)
        .await?
        .is_none()
    {
        // Nothing to store a recovery record for; an idempotent repeat is answered by metadata all the same.
        let put = PutTombstone {
            version: version.clone(),
            recovery: Vec::new(),
        };
        let committed = app
            .metadata
            .put_tombstone(put, caller.mutation(&app))
            .await?;
        return put_answer(&app, version.version, committed, &Wait::default()).await;
    }
    let mut claims = Claims::default();
    let record = app
        .store_recovery(Kind::Version, &[&version.record], &mut claims)
        .await?;
    let id = version.version;
    let put = PutTombstone {
        version,
        recovery: vec![record],
    };
    let committed = app.metadata.put_tombstone(put, caller.mutation(&app)).await;
    claims.settle(&committed, |committed| committed.fresh);
    put_answer(&app, id, committed?, &Wait::default()).await
}

/// Copies or moves an object: a new entry over the same content; chunks are counted by reference.
#[utoipa::path(post, path = "/v1/buckets/{bucket}/copies", tag = "objects",
    params(("bucket" = String, Path)),
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 201, body = PutAnswer), (status = 200, body = PutAnswer, description = "copied before"),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn copy(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Answer<Response> {
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Write)?;
    let bytes = control_body(&app, &caller, request).await?;
    let bucket = app.bucket_by_name(bucket.row.name.as_str()).await?;
    caller.allow(&bucket, Permission::Write)?;
    let body = CopyBody::decode(&bytes)?;
    let now = app.now();
    let missing = || Failure::not_found("source version");
    let source = app
        .metadata
        .version(body.source)
        .await?
        .ok_or_else(missing)?;
    let source_bucket = app.bucket_by_id(source.version.bucket).await?;
    caller
        .allow(&source_bucket, Permission::Read)
        .map_err(|_| missing())?;
    let checked = records::object_version(&body.version_record, &bucket, &caller.principal, now)?;
    app.usable_bucket_key(&bucket, checked.bucket_key).await?;
    let version = checked.row;
    if version.manifest != source.version.manifest
        || version.plain_bytes != source.version.plain_bytes
    {
        return Err(Failure::new(
            Code::MalformedRecord,
            "the entry names other content than the source",
        ));
    }
    let mut claims = Claims::default();
    let own = copy_recovery(&app, &version, &source, &mut claims).await?;
    let tombstone = match &body.tombstone {
        None => None,
        Some(bytes) => {
            caller.allow(&source_bucket, Permission::Delete)?;
            let tombstone = records::tombstone(bytes, &source_bucket, &caller.principal, now)?;
            if tombstone.key != source.version.key {
                return Err(Failure::new(
                    Code::MalformedRecord,
                    "the tombstone is not the source's",
                ));
            }
            let record = app
                .store_recovery(Kind::Version, &[&tombstone.record], &mut claims)
                .await?;
            Some(PutTombstone {
                version: tombstone,
                recovery: vec![record],
            })
        }
    };
    let id = version.version;
    let copy = CopyVersion {
        source: body.source,
        version,
        tombstone,
        recovery: own,
    };
    let committed = app.metadata.copy_version(copy, caller.mutation(&app)).await;
    claims.settle(&committed, |committed| committed.fresh);
    put_answer(&app, id, committed?, &Wait::default()).await
}

/// Recovery records of a copy: its own version record, and the pages and layouts that it shares with the source, so that
/// it can be rebuilt when the source is long gone.
async fn copy_recovery(
    app: &App,
    version: &NewVersion,
    source: &VersionRow,
    claims: &mut Claims,
) -> Answer<Vec<RecoveryRecord>> {
    let per_page = u32::try_from(MANIFEST_PAGE_CHUNKS).unwrap_or(u32::MAX);
    let id = source.version.version;
    // One page of chunks stands in the root, more in pages.
    let in_pages = app.metadata.manifest_page(id, 0).await?.is_some();
    let pages = source.chunks.div_ceil(per_page);
    let page_count = if in_pages { pages } else { 0 }.to_be_bytes();
    let head: [&[u8]; 3] = [&version.record, &source.manifest_root, &page_count];
    let mut stored = vec![app.store_recovery(Kind::Version, &head, claims).await?];
    for number in 0..pages {
        let from = number.saturating_mul(per_page);
        let chunks = app.metadata.chunks(id, from, MANIFEST_PAGE_CHUNKS).await?;
        let layouts: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.layout.encode()).collect();
        let page = app.metadata.manifest_page(id, number).await?;
        let number = number.to_be_bytes();
        let page = page.as_deref().unwrap_or_default();
        let mut parts: Vec<&[u8]> = vec![&version.record, &number, page];
        parts.extend(layouts.iter().map(Vec::as_slice));
        stored.push(app.store_recovery(Kind::Page, &parts, claims).await?);
    }
    Ok(stored)
}
