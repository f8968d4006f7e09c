//! Versions by id: manifest pages and ranges of chunks.

use std::ops::Range;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use domain::limits::BLOCK_BYTES;
use domain::{Permission, VersionId};
use objects::metadata::{Metadata as _, VersionKind};
use serde::Deserialize;
use wire::problem::{Code, Problem};
use wire::rest::{CHUNK_CID_HEADER, CHUNK_PROOF_HEADER, OCTET_STREAM};

use super::Answer;
use super::answer::Failure;
use super::authentication::Caller;
use super::body::Frames;
use super::buckets::cbor;
use super::objects::object_answer;
use crate::app::App;
use crate::budget::Share;
use crate::shard_io::read::ChunkBytes;
use crate::upkeep::proof_holds;

/// What comes with a version.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VersionQuery {
    /// `1`: with the bucket key's record.
    bucket_key: Option<String>,
}

/// Checks that the caller may read a version; without that right it does not exist.
async fn readable(app: &App, caller: &Caller, id: &str) -> Answer<VersionId> {
    let missing = || Failure::not_found("version");
    let id: VersionId = id.parse().map_err(|_| missing())?;
    let bucket = match app.version_buckets.get(&id) {
        Some(bucket) => bucket,
        None => {
            let row = app.metadata.version(id).await?.ok_or_else(missing)?;
            app.version_buckets.insert(id, row.version.bucket);
            row.version.bucket
        }
    };
    let bucket = app.bucket_by_id(bucket).await.map_err(|_| missing())?;
    caller
        .allow(&bucket, Permission::Read)
        .map_err(|_| missing())?;
    Ok(id)
}

/// Opens an object by version.
#[utoipa::path(get, path = "/v1/versions/{version}", tag = "versions",
    params(("version" = String, Path), VersionQuery),
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Result<Query<VersionQuery>, QueryRejection>,
) -> Answer<Response> {
    let Query(query) = query?;
    let id = readable(&app, &caller, &id).await?;
    let row = app
        .metadata
        .version(id)
        .await?
        .filter(|row| row.kind != VersionKind::Tombstone)
        .ok_or_else(|| Failure::not_found("version"))?;
    let bucket = app.bucket_by_id(row.version.bucket).await?;
    let small = match row.kind {
        VersionKind::Small => app.metadata.chunk(id, 0).await?,
        _ => None,
    };
    object_answer(
        &app,
        &caller,
        &bucket,
        row,
        small,
        query.bucket_key.as_deref() == Some("1"),
    )
    .await
}

/// A page of a version's manifest.
#[utoipa::path(get, path = "/v1/versions/{version}/pages/{page}", tag = "versions",
    params(("version" = String, Path), ("page" = u32, Path)),
    responses((status = 200, content_type = "application/cbor", body = super::openapi::ByteString), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((id, page)): Path<(String, String)>,
) -> Answer<Response> {
    let id = readable(&app, &caller, &id).await?;
    let missing = || Failure::not_found("manifest page");
    let page: u32 = page.parse().map_err(|_| missing())?;
    let bytes = app
        .metadata
        .manifest_page(id, page)
        .await?
        .ok_or_else(missing)?;
    Ok(cbor(StatusCode::OK, bytes))
}

/// How a chunk is read.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChunkQuery {
    /// `full`: the gateway checks every shard, names liars and reconstructs around them.
    verify: Option<String>,
}

/// Ciphertext of chunk `n`, or of whole blocks of it.
#[utoipa::path(get, path = "/v1/versions/{version}/chunks/{n}", tag = "versions",
    params(("version" = String, Path), ("n" = u32, Path), ChunkQuery,
        ("range" = Option<String>, Header, description = "bytes=FIRST-LAST on borders of 64 KiB blocks")),
    responses(
        (status = 200, content_type = "application/octet-stream", body = super::openapi::ByteString),
        (status = 206, content_type = "application/octet-stream", body = super::openapi::ByteString,
            headers(("strongroom-chunk-proof" = String, description = "base64 of the blocks' chaining values"))),
        (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn chunk(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((id, n)): Path<(String, String)>,
    query: Result<Query<ChunkQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Answer<Response> {
    let Query(query) = query?;
    let id = readable(&app, &caller, &id).await?;
    let missing = || Failure::not_found("chunk");
    let n: u32 = n.parse().map_err(|_| missing())?;
    let row = app.metadata.chunk(id, n).await?.ok_or_else(missing)?;
    let length = usize::try_from(row.layout.chunk_bytes).unwrap_or(usize::MAX);
    let wanted = block_range(&headers, length)?;
    let full_check = match query.verify.as_deref() {
        None => false,
        Some("full") => true,
        Some(_) => {
            return Err(Failure::new(
                Code::BadRequest,
                "verify takes the value full",
            ));
        }
    };
    let range = wanted.clone().unwrap_or(0..length);
    let held = if full_check { length * 2 } else { range.len() };
    let guard = app.budget.take(caller.principal, Share::Get, held).await?;
    let plain = if full_check {
        None
    } else {
        let read = match app
            .reader
            .range(&row, range.clone(), wanted.is_some())
            .await
        {
            Ok(read) => read,
            Err(error) => return Err(app.read_failed(n, &row, false, error).await),
        };
        if !read.lost.is_empty() {
            app.report_lost(&row, &read.lost, false).await;
        }
        // The proof is whatever a node had: one that is not the chunk's is made anew from a full check.
        let proof = read.proof.as_deref().unwrap_or_default();
        (wanted.is_none() || proof_holds(&row.cid, length, proof)).then_some(read)
    };
    let read = if let Some(read) = plain {
        read
    } else {
        let read = match app.reader.verified_chunk(&row).await {
            Ok(read) => read,
            Err(error) => return Err(app.read_failed(n, &row, true, error).await),
        };
        app.report_lost(&row, &read.lost, true).await;
        let whole = objects::peer::ShardBytes {
            proof: None,
            body: read.body,
        }
        .contiguous();
        let proof = crypto::chunk_proof::ChunkProof::from_ciphertext(&whole)
            .map_err(Failure::internal)?
            .encode();
        ChunkBytes {
            body: vec![whole.slice(range.clone())],
            proof: Some(proof.into()),
            lost: vec![],
        }
    };
    app.metrics
        .downloaded_bytes
        .inc_by(u64::try_from(range.len()).unwrap_or(0));
    let mut response = Response::new(Frames::body(read.body, Some(guard), &caller.flows));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTET_STREAM));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CHUNK_CID_HEADER, header(&row.cid.to_string())?);
    if wanted.is_some() {
        let content = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        headers.insert(CONTENT_RANGE, header(&content)?);
        let proof = data_encoding::BASE64.encode(&read.proof.unwrap_or_default());
        headers.insert(CHUNK_PROOF_HEADER, header(&proof)?);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn header(text: &str) -> Answer<HeaderValue> {
    HeaderValue::from_str(text).map_err(Failure::internal)
}

/// The one range of whole blocks that the request asks for, if it does.
fn block_range(headers: &HeaderMap, length: usize) -> Answer<Option<Range<usize>>> {
    let mut values = headers.get_all(RANGE).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = |detail: &str| {
        Failure::from(Problem::new(Code::BadRange, detail).with("size_bytes", length))
    };
    if values.next().is_some() {
        return Err(bad("one range at a time"));
    }
    let (first, last) = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|text| text.split_once('-'))
        .and_then(|(first, last)| Some((digits(first)?, digits(last)?)))
        .ok_or_else(|| bad("a range is bytes=FIRST-LAST, one range, both ends given"))?;
    let end = last
        .checked_add(1)
        .ok_or_else(|| bad("the range ends beyond the chunk"))?;
    if first >= end || end > length {
        return Err(bad(
            "the range lies outside the chunk or ends before it begins",
        ));
    }
    if first % BLOCK_BYTES != 0 || (end % BLOCK_BYTES != 0 && end != length) {
        return Err(bad(
            "a range begins and ends on a border of 64 KiB blocks, or at the chunk's end",
        ));
    }
    Ok(Some(first..end))
}

fn digits(text: &str) -> Option<usize> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_of_whole_blocks_are_served() {
        let check = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_str(text).unwrap());
            block_range(&headers, 150_000).map_err(|failure| failure.0.code)
        };
        assert_eq!(check("bytes=0-65535"), Ok(Some(0..65_536)));
        assert_eq!(check("bytes=65536-149999"), Ok(Some(65_536..150_000)));
        assert_eq!(check("bytes=0-149999"), Ok(Some(0..150_000)));
        for bad in [
            "bytes=0-100",
            "bytes=1-65535",
            "bytes=-100",
            "bytes=0-",
            "bytes=65536-0",
            "bytes=0-150000",
            "bytes=+0-65535",
            "bytes=0-65535,65536-131071",
            "bytes=18446744073709551615-18446744073709551615",
            "bytes=99999999999999999999-0",
            "blocks=0-1",
            "",
        ] {
            assert_eq!(check(bad), Err(Code::BadRange), "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(RANGE, HeaderValue::from_static("bytes=0-65535"));
        twice.append(RANGE, HeaderValue::from_static("bytes=65536-131071"));
        assert!(block_range(&twice, 150_000).is_err());
        assert_eq!(block_range(&HeaderMap::new(), 10).unwrap(), None);
    }
}
