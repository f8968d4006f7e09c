//! Uploads: chunks in any order, then one completion that makes the object visible.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use domain::limits::{
    CHUNK_BYTES_MAX, MANIFEST_PAGE_CHUNKS, MANIFEST_PAGES_MAX, OBJECT_CHUNKS_MAX, TAG_BYTES,
};
use domain::{Cid, Permission, ShardTag, TimestampMs, UploadId, VersionId};
use objects::layout::NodeSlot;
use objects::metadata::{
    Committed, CompleteUpload, Metadata as _, MetadataError, SlotChoice, SlotRow, UploadRow,
};
use sealed::ContentManifest;
use sealed::manifest::ChunkList;
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
use crate::shard_io::write::{Encoded, Substitution, encode};
use crate::unsettled::Claims;
use crate::upkeep::SUBSTITUTED_CLEAR_MS;

/// Uploads listed at once.
const UPLOADS_MAX: usize = 1_000;
/// Slots read at once.
const SLOT_PAGE: usize = 1_000;
/// How long `wait=placed` waits.
const PLACED_DEADLINE: Duration = Duration::from_secs(60);
/// How often it looks without being told that something landed.
const PLACED_LOOK: Duration = Duration::from_secs(1);

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
    let slot = app
        .metadata
        .plan_chunk(upload.id, n, cid, layout, app.now())
        .await?;
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
    let planned = PlannedChunk {
        app: &app,
        chunk: slot.chunk.id,
    };
    let stored = app
        .writer
        .store(encoded, &layout, ShardTag::Chunk, guard, &planned)
        .await?;
    let layout = stored.layout(layout);
    let pending = !stored.pending.is_empty();
    app.metadata
        .acknowledge_chunk(slot.chunk.id, layout, stored.pending, app.now())
        .await?;
    if pending {
        app.pending_work.notify_one();
    }
    Ok(Json(chunk_answer(stored.durable, total)))
}

/// A chunk whose plan may be changed while it is written.
struct PlannedChunk<'a> {
    app: &'a App,
    chunk: i64,
}

impl Substitution for PlannedChunk<'_> {
    async fn substitute(&self, index: u8, node: NodeSlot) -> bool {
        let clear_at = TimestampMs(self.app.now().0.saturating_add(SUBSTITUTED_CLEAR_MS));
        let noted = self
            .app
            .metadata
            .substitute_node(self.chunk, index, node, clear_at)
            .await;
        if noted.is_ok() {
            self.app.metrics.substitutions.inc();
        }
        noted.is_ok()
    }
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

/// Keeps page `page` of the manifest for the completion: for objects whose manifest does not fit one request.
#[utoipa::path(put, path = "/v1/uploads/{upload}/pages/{page}", tag = "uploads",
    params(("upload" = String, Path), ("page" = u32, Path)),
    request_body(content = super::openapi::ByteString, content_type = "application/cbor"),
    responses((status = 204), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn put_page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((id, page)): Path<(String, String)>,
    request: Request,
) -> Answer<StatusCode> {
    let number: u32 = page
        .parse()
        .ok()
        .filter(|page| usize::try_from(*page).is_ok_and(|page| page < MANIFEST_PAGES_MAX))
        .ok_or_else(|| Failure::not_found("manifest page"))?;
    let (upload, _) = own_upload(&app, &caller, &id).await?;
    if upload.completed.is_some() {
        return Err(Failure::new(
            Code::UploadCompleted,
            "the upload takes no more pages",
        ));
    }
    let bytes = control_body(&app, &caller, request).await?;
    let page = records::staged_page(number, bytes.to_vec())?;
    app.metadata.stage_page(upload.id, page, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
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
    own_upload(&app, &caller, &id).await?;
    let bytes = control_body(&app, &caller, request).await?;
    // Rights may have ended while the body came.
    let (upload, bucket) = own_upload(&app, &caller, &id).await?;
    let complete = CompleteBody::decode(&bytes)?;
    let now = app.now();
    let version =
        records::object_version(&complete.version_record, &bucket, &caller.principal, now)?;
    records::same_bucket(&version.row, upload.bucket)?;
    app.usable_bucket_key(&bucket, version.bucket_key).await?;
    if version.row.key != upload.key {
        return Err(Failure::new(
            Code::MalformedRecord,
            "the entry names another key than the upload",
        ));
    }
    let manifest = records::manifest(&complete.manifest, &version.row.manifest)?;
    if manifest.size() != version.row.plain_bytes {
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
    let pages = Pages::of(&manifest, &complete)?;
    let mut claims = Claims::default();
    let (mut recovery, mut slots) = (Vec::new(), Vec::new());
    // A repeat writes nothing.
    if upload.completed.is_none() {
        let head = &complete.version_record;
        let page_count = u32::try_from(pages.count())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let parts: [&[u8]; 3] = [head, &complete.manifest, &page_count];
        recovery.push(
            app.store_recovery(Kind::Version, &parts, &mut claims)
                .await?,
        );
        // One page after the other, so that memory does not grow with the object.
        for number in 0..manifest.chunk_count().div_ceil(MANIFEST_PAGE_CHUNKS) {
            let (page, choices) = pages.open(&app, upload.id, number).await?;
            let parts = page_recovery(&app, upload.id, head, number, page, &choices).await?;
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            recovery.push(app.store_recovery(Kind::Page, &parts, &mut claims).await?);
            if !pages.staged() {
                slots.extend(choices);
            }
        }
    }
    let staged = pages.staged_cids();
    let version_id = version.row.version;
    let committed = app
        .metadata
        .complete_upload(
            CompleteUpload {
                upload: upload.id,
                version: version.row,
                slots,
                staged,
                manifest_root: complete.manifest,
                pages: complete
                    .pages
                    .into_iter()
                    .map(serde_bytes::ByteBuf::into_vec)
                    .collect(),
                recovery,
            },
            caller.mutation(&app),
        )
        .await;
    claims.settle(&committed, |committed| committed.fresh);
    put_answer(&app, version_id, committed?, &wait).await
}

/// Where the pages of a manifest come from.
struct Pages<'a> {
    manifest: &'a ContentManifest,
    sent: Vec<Vec<u8>>,
}

impl<'a> Pages<'a> {
    /// All pages come with the completion, or all were staged before it.
    fn of(manifest: &'a ContentManifest, complete: &CompleteBody) -> Answer<Self> {
        let named = match manifest.chunks() {
            ChunkList::Inline(_) => 0,
            ChunkList::Pages(pages) => pages.len(),
        };
        let sent: Vec<Vec<u8>> = complete.pages.iter().map(|page| page.to_vec()).collect();
        if !sent.is_empty() && sent.len() != named {
            return Err(Failure::new(
                Code::MalformedRecord,
                format!("manifest: {} pages for {named}", sent.len()),
            ));
        }
        Ok(Self { manifest, sent })
    }

    /// Pages beside the root.
    fn count(&self) -> usize {
        match self.manifest.chunks() {
            ChunkList::Inline(_) => 0,
            ChunkList::Pages(pages) => pages.len(),
        }
    }

    fn staged(&self) -> bool {
        self.sent.is_empty() && self.count() > 0
    }

    fn staged_cids(&self) -> Vec<Cid> {
        match self.manifest.chunks() {
            ChunkList::Pages(pages) if self.staged() => pages.iter().map(|page| page.cid).collect(),
            ChunkList::Pages(_) | ChunkList::Inline(_) => Vec::new(),
        }
    }

    /// Bytes of page `number` (none when the root holds all chunks) and the chunks that it selects, checked.
    async fn open(
        &self,
        app: &App,
        upload: UploadId,
        number: usize,
    ) -> Answer<(Vec<u8>, Vec<SlotChoice>)> {
        let (bytes, entries) = match self.manifest.chunks() {
            ChunkList::Inline(entries) => (Vec::new(), entries.clone()),
            ChunkList::Pages(_) => {
                let page = u32::try_from(number).unwrap_or(u32::MAX);
                let bytes = if self.staged() {
                    let staged = app.metadata.staged_page(upload, page).await?;
                    staged.ok_or(MetadataError::PageMissing { page })?.bytes
                } else {
                    self.sent.get(number).cloned().unwrap_or_default()
                };
                let entries = records::open_page(self.manifest, number, &bytes)?;
                (bytes, entries)
            }
        };
        let first = number.saturating_mul(MANIFEST_PAGE_CHUNKS);
        let choices = (u32::try_from(first).unwrap_or(u32::MAX)..)
            .zip(&entries)
            .map(|(n, entry)| SlotChoice { n, cid: entry.cid })
            .collect();
        Ok((bytes, choices))
    }
}

/// What a page's recovery record holds: the version, the page's number and bytes, and the layouts of its chunks.
async fn page_recovery(
    app: &App,
    upload: UploadId,
    version_record: &[u8],
    number: usize,
    page: Vec<u8>,
    choices: &[SlotChoice],
) -> Answer<Vec<Vec<u8>>> {
    let selected: HashSet<(u32, Cid)> = choices.iter().map(|c| (c.n, c.cid)).collect();
    let mut found: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let (mut from, last) = match (choices.first(), choices.last()) {
        (Some(first), Some(last)) => (first.n, last.n),
        // A page without chunks does not decode.
        _ => (1, 0),
    };
    while from <= last {
        let slots = app.metadata.slots(upload, from, SLOT_PAGE).await?;
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
    let number = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let mut parts = vec![version_record.to_vec(), number.to_vec(), page];
    parts.extend(found.into_values());
    Ok(parts)
}

/// The answer to a put: says whether the object is fully placed.
pub(super) async fn put_answer(
    app: &App,
    version: VersionId,
    committed: Committed,
    wait: &Wait,
) -> Answer<Response> {
    let waits = wait.wait.as_deref() == Some("placed");
    let deadline = tokio::time::Instant::now() + PLACED_DEADLINE;
    let placement = loop {
        // Before the look, so that nothing lands unnoticed in between.
        let mut landed = std::pin::pin!(app.placed.notified());
        landed.as_mut().enable();
        let placement = app.metadata.placement(version).await?;
        let now = tokio::time::Instant::now();
        if !waits || placement.pending_shards == 0 || now >= deadline {
            break placement;
        }
        app.pending_work.notify_one();
        // Another gateway may place them: look now and then all the same.
        let next_look = deadline.min(now + PLACED_LOOK);
        let _ = tokio::time::timeout_at(next_look, landed).await;
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
        fully_placed: placement.pending_shards == 0,
        durable_shards: placement
            .total_shards
            .saturating_sub(placement.pending_shards),
        total_shards: placement.total_shards,
    };
    Ok((status, Json(answer)).into_response())
}
