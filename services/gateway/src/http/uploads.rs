//! Uploads: chunks in any order, then one completion that makes the object visible.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use domain::limits::{CHUNK_BYTES_MAX, OBJECT_CHUNKS_MAX, TAG_BYTES};
use domain::{Cid, Permission, ShardTag, UploadId, VersionId};
use objects::metadata::{
    Committed, CompleteUpload, Metadata as _, MetadataError, SlotChoice, SlotRow, UploadRow,
};
use serde::Deserialize;
use wire::problem::Code;
use wire::rest::{
    CHUNK_CID_HEADER, ChunkAnswer, CompleteBody, CreateUpload, PutAnswer, UploadInfo, UploadList,
    UploadSlot, UploadStatus,
};

use super::answer::Failure;
use super::authentication::Caller;
use super::buckets::{control_body, page_limit};
use super::{Answer, body};
use crate::app::App;
use crate::budget::Share;
use crate::records::{self, Bucket};
use crate::recovery::Kind;
use crate::shard_io::write::{Encoded, encode};

/// Uploads listed at once.
const UPLOADS_MAX: usize = 1_000;
/// Slots read at once.
const SLOT_PAGE: usize = 1_000;
/// How long `wait=placed` waits.
const PLACED_DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// Starts an upload.
#[utoipa::path(post, path = "/v1/buckets/{bucket}/uploads", tag = "uploads", params(("bucket" = String, Path)),
    request_body = CreateUpload,
    responses((status = 201, body = UploadInfo), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Answer<Response> {
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Write)?;
    let bytes = control_body(&app, &caller, request).await?;
    let wanted: CreateUpload = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Code::BadRequest, format!("the body: {error}")))?;
    let mut id = [0; UploadId::LEN];
    getrandom::fill(&mut id).map_err(Failure::internal)?;
    let row = UploadRow {
        id: UploadId(id),
        bucket: bucket.row.id,
        key: wanted.key,
        principal: caller.principal,
        created: app.now(),
        completed: None,
    };
    let info = upload_info(&row, &bucket);
    app.metadata
        .create_upload(row, caller.mutation(&app))
        .await?;
    Ok((StatusCode::CREATED, Json(info)).into_response())
}

fn upload_info(row: &UploadRow, bucket: &Bucket) -> UploadInfo {
    UploadInfo {
        upload: row.id,
        key: row.key.clone(),
        created_ms: row.created.0,
        profile: bucket.row.profile,
    }
}

/// Uploads in progress in a bucket, oldest first.
#[utoipa::path(get, path = "/v1/buckets/{bucket}/uploads", tag = "uploads", params(("bucket" = String, Path)),
    responses((status = 200, body = UploadList), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<Json<UploadList>> {
    let bucket = app.bucket_by_name(&name).await?;
    caller.allow(&bucket, Permission::Write)?;
    let rows = app.metadata.uploads(bucket.row.id, UPLOADS_MAX).await?;
    let uploads = rows.iter().map(|row| upload_info(row, &bucket)).collect();
    Ok(Json(UploadList { uploads }))
}

/// The caller's own upload; anybody else's does not exist.
async fn own_upload(app: &App, caller: &Caller, id: &str) -> Answer<(UploadRow, Arc<Bucket>)> {
    let missing = || Failure::not_found("upload");
    let id: UploadId = id.parse().map_err(|_| missing())?;
    let upload = app.metadata.upload(id).await?.ok_or_else(missing)?;
    if upload.principal != caller.principal {
        return Err(missing());
    }
    let bucket = app.bucket_by_id(upload.bucket).await?;
    caller.allow(&bucket, Permission::Write)?;
    Ok((upload, bucket))
}

/// Where the list of slots goes on.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SlotPage {
    /// Slots from this chunk index on.
    from: Option<u32>,
    /// At most this many, 1 to 1,000; 1,000 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// What of an upload is there: to resume it.
#[utoipa::path(get, path = "/v1/uploads/{upload}", tag = "uploads", params(("upload" = String, Path), SlotPage),
    responses((status = 200, body = UploadStatus), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    page: Result<Query<SlotPage>, axum::extract::rejection::QueryRejection>,
) -> Answer<Json<UploadStatus>> {
    let Query(page) = page?;
    let limit = page_limit(page.limit)?;
    let (upload, _) = own_upload(&app, &caller, &id).await?;
    let from = page.from.unwrap_or(0);
    let rows = app.metadata.slots(upload.id, from, limit).await?;
    // Several slots may share an index: a page ends where an index ends, or it would be cut in two.
    let mut next = None;
    let mut slots: Vec<UploadSlot> = rows.iter().map(slot).collect();
    if rows.len() == limit
        && let Some(last) = slots.last().map(|slot| slot.n)
    {
        let whole = slots.iter().take_while(|slot| slot.n < last).count();
        if whole > 0 {
            slots.truncate(whole);
            next = Some(last);
        } else {
            next = last.checked_add(1);
        }
    }
    Ok(Json(UploadStatus {
        upload: upload.id,
        completed: upload.completed,
        slots,
        next,
    }))
}

fn slot(row: &SlotRow) -> UploadSlot {
    UploadSlot {
        n: row.n,
        cid: row.chunk.cid,
        size_bytes: row.chunk.layout.chunk_bytes.into(),
        acknowledged: row.acknowledged,
    }
}

/// Ends an upload without an object.
#[utoipa::path(delete, path = "/v1/uploads/{upload}", tag = "uploads", params(("upload" = String, Path)),
    responses((status = 204), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn abort(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let (upload, _) = own_upload(&app, &caller, &id).await?;
    if upload.completed.is_some() {
        return Err(Failure::new(
            Code::UploadCompleted,
            "the upload is an object by now",
        ));
    }
    app.metadata
        .abort_upload(upload.id, caller.mutation(&app))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stores chunk `n`: the body is its ciphertext, the header `strongroom-chunk-cid` its BLAKE3.
#[utoipa::path(put, path = "/v1/uploads/{upload}/chunks/{n}", tag = "uploads",
    params(("upload" = String, Path), ("n" = u32, Path),
        ("strongroom-chunk-cid" = String, Header, description = "CID of the body")),
    request_body(content = super::openapi::ByteString, content_type = "application/octet-stream"),
    responses((status = 200, body = ChunkAnswer), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn put_chunk(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((id, n)): Path<(String, String)>,
    request: Request,
) -> Answer<Json<ChunkAnswer>> {
    let n: u32 = n
        .parse()
        .ok()
        .filter(|n| usize::try_from(*n).is_ok_and(|n| n < OBJECT_CHUNKS_MAX))
        .ok_or_else(|| Failure::not_found("chunk index"))?;
    let (upload, bucket) = own_upload(&app, &caller, &id).await?;
    if upload.completed.is_some() {
        return Err(Failure::new(
            Code::UploadCompleted,
            "the upload takes no more chunks",
        ));
    }
    let cid = request
        .headers()
        .get(CHUNK_CID_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<Cid>().ok())
        .ok_or_else(|| {
            Failure::new(
                Code::BadRequest,
                format!("a {CHUNK_CID_HEADER} header with a CID is needed"),
            )
        })?;
    caller.check_chunk_cid(&cid)?;
    let length = body::declared_length(request.headers(), CHUNK_BYTES_MAX)?;
    if length < TAG_BYTES {
        return Err(Failure::new(
            Code::BadRequest,
            "a chunk has at least the 16 bytes of a tag",
        ));
    }
    let profile = bucket.row.profile;
    let held = length + profile.shard_bytes(length) * profile.parity();
    let guard = app.budget.take(caller.principal, Share::Put, held).await?;
    let chunk = body::collect(
        request.into_body(),
        length,
        length,
        app.config.min_rate_bytes,
    )
    .await?;
    app.metrics
        .uploaded_bytes
        .inc_by(u64::try_from(chunk.len()).unwrap_or(0));
    let encoded = checked_encoding(&app, profile, chunk.clone(), cid).await?;
    let layout = app.writer.plan(&encoded, &cid)?;
    let total = layout.shards.len();
    let slot = app.metadata.plan_chunk(upload.id, n, cid, layout).await?;
    if slot.acknowledged {
        let pending = slot.chunk.pending.len();
        return Ok(Json(chunk_answer(
            slot.chunk.layout.shards.len() - pending,
            total,
        )));
    }
    let layout = slot.chunk.layout;
    // Another upload may have planned the same ciphertext, under another bucket's coding: its plan counts.
    let encoded = if layout.profile == encoded.profile {
        encoded
    } else {
        checked_encoding(&app, layout.profile, chunk, cid).await?
    };
    let planned = layout.shards.iter().map(|place| place.cid);
    if !planned.eq(encoded.shards.iter().map(|(cid, _)| *cid)) {
        return Err(Failure::internal(
            "a planned layout that is not of this chunk",
        ));
    }
    let stored = app
        .writer
        .store(encoded, &layout, ShardTag::Chunk, guard)
        .await?;
    let pending = !stored.pending.is_empty();
    app.metadata
        .acknowledge_chunk(slot.chunk.id, layout, stored.pending, app.now())
        .await?;
    if pending {
        app.pending_work.notify_one();
    }
    Ok(Json(chunk_answer(stored.durable, total)))
}

fn chunk_answer(durable: usize, total: usize) -> ChunkAnswer {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    ChunkAnswer {
        durable_shards: number(durable),
        total_shards: number(total),
    }
}

/// Checks the chunk's CID and cuts it into shards, off the runtime's threads.
async fn checked_encoding(
    app: &App,
    profile: domain::Profile,
    chunk: Bytes,
    cid: Cid,
) -> Answer<Encoded> {
    let codecs = Arc::clone(&app.codecs);
    let begun = Instant::now();
    let encoded = tokio::task::spawn_blocking(move || {
        let (found, proof) = crypto::chunk_proof::chunk_cid_and_proof(&chunk)
            .map_err(|error| Failure::new(Code::BadRequest, error.to_string()))?;
        if found != cid {
            return Err(Failure::new(
                Code::ChunkCidMismatch,
                "the body is not what its CID says: send the chunk again",
            ));
        }
        encode(&codecs, profile, &chunk, proof.encode().into()).map_err(Failure::from)
    })
    .await
    .map_err(Failure::internal)??;
    app.metrics
        .encode_duration
        .with_label_values(&[&profile.to_string()])
        .observe(begun.elapsed().as_secs_f64());
    Ok(encoded)
}

/// Whether the answer waits until every shard is on its node.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// `placed`: answer when fully placed, or after a minute.
    pub(super) wait: Option<String>,
}

/// Makes the object visible: the body selects one slot for each chunk of the manifest.
#[utoipa::path(post, path = "/v1/uploads/{upload}/complete", tag = "uploads",
    params(("upload" = String, Path), Wait),
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 201, body = PutAnswer), (status = 200, body = PutAnswer, description = "completed before"),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn complete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Answer<Response> {
    let Query(wait) = wait?;
    let (upload, bucket) = own_upload(&app, &caller, &id).await?;
    let bytes = control_body(&app, &caller, request).await?;
    let complete = CompleteBody::decode(&bytes)?;
    let now = app.now();
    let version =
        records::object_version(&complete.version_record, &bucket, &caller.principal, now)?;
    records::same_bucket(&version.row, upload.bucket)?;
    if version.row.key != upload.key {
        return Err(Failure::new(
            Code::MalformedRecord,
            "the entry names another key than the upload",
        ));
    }
    let pages: Vec<&[u8]> = complete.pages.iter().map(|page| page.as_slice()).collect();
    let manifest = records::manifest(&complete.manifest, &pages, &version.row.manifest)?;
    if manifest.plain_bytes != version.row.plain_bytes {
        return Err(Failure::new(
            Code::MalformedRecord,
            "entry and manifest disagree on the size",
        ));
    }
    if let Some(done) = upload.completed
        && done != version.row.version
    {
        return Err(Failure::new(
            Code::UploadCompleted,
            "the upload was completed with another entry",
        ));
    }
    let slots: Vec<SlotChoice> = (0..)
        .zip(&manifest.chunks)
        .map(|(n, &cid)| SlotChoice { n, cid })
        .collect();
    let chunks = manifest.chunks.len();
    let recovery = version_recovery(&app, &upload, &complete, &pages, &slots).await?;
    let version_id = version.row.version;
    let committed = app
        .metadata
        .complete_upload(
            CompleteUpload {
                upload: upload.id,
                version: version.row,
                slots,
                manifest_root: complete.manifest.clone(),
                pages: complete
                    .pages
                    .into_iter()
                    .map(serde_bytes::ByteBuf::into_vec)
                    .collect(),
                recovery: recovery.clone(),
            },
            caller.mutation(&app),
        )
        .await;
    let committed = settle(&app, committed, &recovery).await?;
    put_answer(&app, version_id, committed, chunks, &wait).await
}

/// Recovery records of what was not committed go again.
pub(super) async fn settle(
    app: &App,
    committed: Result<Committed, MetadataError>,
    recovery: &[objects::layout::ChunkLayout],
) -> Answer<Committed> {
    match committed {
        Ok(committed) if committed.fresh => Ok(committed),
        // Nobody knows whether that was committed: the records may be the only copies. If it was not, the next start's
        // clean-up finds them without a row.
        Err(error @ MetadataError::Unavailable(_)) => Err(error.into()),
        other => {
            app.drop_recovery(recovery).await;
            Ok(other?)
        }
    }
}

/// Writes the recovery records of a chunked version: the version itself, and each manifest page with its layouts.
async fn version_recovery(
    app: &App,
    upload: &UploadRow,
    complete: &CompleteBody,
    pages: &[&[u8]],
    chosen: &[SlotChoice],
) -> Answer<Vec<objects::layout::ChunkLayout>> {
    let page_count = u32::try_from(pages.len()).unwrap_or(u32::MAX).to_be_bytes();
    let parts: [&[u8]; 3] = [&complete.version_record, &complete.manifest, &page_count];
    let mut stored = vec![app.store_recovery(Kind::Version, &parts).await?];
    let per_page = domain::limits::MANIFEST_PAGE_CHUNKS;
    for (number, choices) in chosen.chunks(per_page).enumerate() {
        let selected: HashSet<(u32, Cid)> = choices.iter().map(|c| (c.n, c.cid)).collect();
        let mut found: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let (Some(first), Some(last)) = (choices.first(), choices.last()) else {
            continue;
        };
        let mut from = first.n;
        while from <= last.n {
            let slots = app.metadata.slots(upload.id, from, SLOT_PAGE).await?;
            let Some(end) = slots.last().map(|slot| slot.n) else {
                break;
            };
            let chosen = slots
                .iter()
                .filter(|slot| selected.contains(&(slot.n, slot.chunk.cid)))
                .map(|slot| (slot.n, slot.chunk.layout.encode()));
            found.extend(chosen);
            // A full page may end amid the candidates of one index: that index is read again.
            from = if slots.len() < SLOT_PAGE || end == from {
                end.saturating_add(1)
            } else {
                end
            };
        }
        if let Some(choice) = choices.iter().find(|choice| !found.contains_key(&choice.n)) {
            return Err(MetadataError::ChunkMissing { n: choice.n }.into());
        }
        let layouts: Vec<Vec<u8>> = found.into_values().collect();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let page = pages
            .get(usize::try_from(number).unwrap_or(usize::MAX))
            .copied();
        let number = number.to_be_bytes();
        let mut parts: Vec<&[u8]> =
            vec![&complete.version_record, &number, page.unwrap_or_default()];
        parts.extend(layouts.iter().map(Vec::as_slice));
        stored.push(app.store_recovery(Kind::Page, &parts).await?);
    }
    Ok(stored)
}

/// The answer to a put: says whether the object is fully placed.
pub(super) async fn put_answer(
    app: &App,
    version: VersionId,
    committed: Committed,
    chunks: usize,
    wait: &Wait,
) -> Answer<Response> {
    let begun = Instant::now();
    let (total, pending) = loop {
        let (total, pending) = placement(app, version, chunks).await?;
        let waiting = wait.wait.as_deref() == Some("placed") && pending > 0;
        if !waiting || begun.elapsed() > PLACED_DEADLINE {
            break (total, pending);
        }
        app.pending_work.notify_one();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let status = if committed.fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let answer = PutAnswer {
        version,
        sequence: committed.sequence,
        replaced: committed.replaced,
        fully_placed: pending == 0,
        durable_shards: total - pending,
        total_shards: total,
    };
    Ok((status, Json(answer)).into_response())
}

/// Shards of a version: all, and those that have not reached their node.
async fn placement(app: &App, version: VersionId, chunks: usize) -> Answer<(u64, u64)> {
    let (mut total, mut pending) = (0, 0);
    let mut from = 0;
    while usize::try_from(from).is_ok_and(|from| from < chunks) {
        let rows = app.metadata.chunks(version, from, 1_000).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            total += u64::try_from(row.layout.shards.len()).unwrap_or(0);
            pending += u64::try_from(row.pending.len()).unwrap_or(0);
        }
        from = from.saturating_add(u32::try_from(rows.len()).unwrap_or(u32::MAX));
    }
    Ok((total, pending))
}
