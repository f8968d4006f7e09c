//! The routes, typed: what is asked, how long an answer may be, how long it may take.

use std::time::Duration;

use bytes::Bytes;
use crypto::ChunkProof;
use domain::limits::{CHUNK_BYTES_MAX, RECORD_BYTES_MAX};
use domain::{BucketId, BucketKeyId, BucketName, Cid, ObjectKey, UploadId, VersionId};
use http::{Method, StatusCode};
use sealed::ChunkRead;
use serde::de::DeserializeOwned;
use wire::problem::Code;
use wire::rest::{
    BucketInfo, BucketList, CHUNK_CID_HEADER, CHUNK_PROOF_HEADER, ChunkAnswer, CompleteBody,
    CopyBody, CreateUpload, DeploymentInfo, JSON_ANSWER_BYTES_MAX, ListAnswer,
    OBJECT_ANSWER_BYTES_MAX, PutAnswer, UploadInfo, UploadStatus, query_value,
};

use crate::client::{Inner, ListOptions};
use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::transport::{Answer, Body, Call, Transport};

/// Waiting for full placement is worth this long on top.
const PLACEMENT_TIMEOUT: Duration = Duration::from_secs(600);
/// The first question is answered at once or the address is wrong.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_RETRY_FOR: Duration = Duration::from_secs(2);

impl Transport {
    /// `GET /v1/deployment`, unsigned.
    pub(crate) async fn deployment_info(&self, config: &ClientConfig) -> Result<DeploymentInfo> {
        let what = "asking which deployment this is";
        let call = Call {
            what,
            method: Method::GET,
            target: "/v1/deployment".to_owned(),
            body: Body::Empty,
            range: None,
            signed: false,
            timeout: config.request_timeout.min(FIRST_TIMEOUT),
            retry_for: config.retry_for.min(FIRST_RETRY_FOR),
            answer_max: 64 << 10,
        };
        let mut answer = Vec::new();
        self.call(&call, &mut answer).await?;
        json(what, &answer)
    }
}

impl Inner {
    pub(crate) fn control(
        &self,
        what: &'static str,
        method: Method,
        target: String,
        body: Body,
    ) -> Call {
        Call {
            what,
            method,
            target,
            body,
            range: None,
            signed: true,
            timeout: self.config.request_timeout,
            retry_for: self.config.retry_for,
            answer_max: JSON_ANSWER_BYTES_MAX,
        }
    }

    pub(crate) async fn call(&self, call: &Call) -> Result<(Answer, Vec<u8>)> {
        let mut bytes = Vec::new();
        let answer = self.transport.call(call, &mut bytes).await?;
        Ok((answer, bytes))
    }

    pub(crate) async fn get_json<T: DeserializeOwned>(
        &self,
        what: &'static str,
        target: String,
    ) -> Result<T> {
        let (_, bytes) = self
            .call(&self.control(what, Method::GET, target, Body::Empty))
            .await?;
        json(what, &bytes)
    }

    pub(crate) async fn list(
        &self,
        bucket: &BucketName,
        options: &ListOptions,
    ) -> Result<ListAnswer> {
        let mut target = format!(
            "/v1/buckets/{bucket}/objects?prefix={}",
            query_value(&options.prefix)
        );
        let optional = [("delimiter", &options.delimiter), ("after", &options.after)];
        for (name, value) in optional {
            if let Some(value) = value {
                target.push_str(&format!("&{name}={}", query_value(value)));
            }
        }
        if let Some(limit) = options.limit {
            target.push_str(&format!("&limit={limit}"));
        }
        self.get_json("listing a bucket", target).await
    }

    pub(crate) async fn create_bucket(&self, record: Vec<u8>) -> Result<BucketInfo> {
        let what = "making a bucket";
        let body = Body::Cbor(record.into());
        let call = self.control(what, Method::POST, "/v1/buckets".to_owned(), body);
        json(what, &self.call(&call).await?.1)
    }

    pub(crate) async fn change_bucket(
        &self,
        name: &BucketName,
        record: Vec<u8>,
    ) -> Result<BucketInfo> {
        let what = "changing a bucket";
        let body = Body::Cbor(record.into());
        let call = self.control(what, Method::PUT, format!("/v1/buckets/{name}"), body);
        json(what, &self.call(&call).await?.1)
    }

    pub(crate) async fn bucket_info(&self, name: &BucketName) -> Result<BucketInfo> {
        self.get_json("asking for a bucket", format!("/v1/buckets/{name}"))
            .await
    }

    pub(crate) async fn bucket_page(&self, after: Option<&BucketName>) -> Result<BucketList> {
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        self.get_json("listing buckets", format!("/v1/buckets{query}"))
            .await
    }

    pub(crate) async fn delete_bucket(&self, name: &BucketName) -> Result<()> {
        let target = format!("/v1/buckets/{name}");
        let call = self.control("removing a bucket", Method::DELETE, target, Body::Empty);
        self.call(&call).await.map(|_| ())
    }

    pub(crate) async fn put_bucket_key(
        &self,
        bucket: &BucketName,
        id: &BucketKeyId,
        record: Vec<u8>,
    ) -> Result<()> {
        let target = format!("/v1/buckets/{bucket}/keys/{id}");
        let body = Body::Cbor(record.into());
        let call = self.control("storing a bucket key", Method::PUT, target, body);
        self.call(&call).await.map(|_| ())
    }

    pub(crate) async fn bucket_key(
        &self,
        bucket: &BucketName,
        id: &BucketKeyId,
    ) -> Result<Vec<u8>> {
        let target = format!("/v1/buckets/{bucket}/keys/{id}");
        let mut call = self.control("asking for a bucket key", Method::GET, target, Body::Empty);
        call.answer_max = RECORD_BYTES_MAX;
        Ok(self.call(&call).await?.1)
    }

    /// The current version of a key: an encoded `ObjectAnswer`.
    pub(crate) async fn object(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        with_bucket_key: bool,
    ) -> Result<Vec<u8>> {
        let with = if with_bucket_key { "&bucket_key=1" } else { "" };
        let target = format!(
            "/v1/buckets/{bucket}/object?key={}{with}",
            query_value(key.as_str())
        );
        let mut call = self.control("reading an object", Method::GET, target, Body::Empty);
        call.answer_max = OBJECT_ANSWER_BYTES_MAX;
        Ok(self.call(&call).await?.1)
    }

    pub(crate) async fn put_small(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        record: Vec<u8>,
        wait_placed: bool,
    ) -> Result<PutAnswer> {
        let what = "storing an object";
        let wait = if wait_placed { "&wait=placed" } else { "" };
        let target = format!(
            "/v1/buckets/{bucket}/object?key={}{wait}",
            query_value(key.as_str())
        );
        let mut call = self.control(what, Method::PUT, target, Body::Cbor(record.into()));
        if wait_placed {
            call.timeout += PLACEMENT_TIMEOUT;
        }
        json(what, &self.call(&call).await?.1)
    }

    pub(crate) async fn create_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        size_bytes: Option<u64>,
    ) -> Result<UploadInfo> {
        let what = "starting an upload";
        let body = CreateUpload {
            key: key.clone(),
            size_bytes,
        };
        let body = serde_json::to_vec(&body).map_err(|error| Error::Internal(error.to_string()))?;
        let target = format!("/v1/buckets/{bucket}/uploads");
        let call = self.control(what, Method::POST, target, Body::Json(body.into()));
        json(what, &self.call(&call).await?.1)
    }

    pub(crate) async fn put_chunk(
        &self,
        upload: &UploadId,
        n: usize,
        cid: Cid,
        ciphertext: Bytes,
    ) -> Result<ChunkAnswer> {
        let what = "storing a chunk";
        self.pace.pass(ciphertext.len()).await;
        let target = format!("/v1/uploads/{upload}/chunks/{n}");
        let mut call = self.control(what, Method::PUT, target, Body::Chunk(ciphertext, cid));
        call.timeout = self.config.chunk_timeout;
        json(what, &self.call(&call).await?.1)
    }

    pub(crate) async fn put_page(
        &self,
        upload: &UploadId,
        page: usize,
        bytes: Vec<u8>,
    ) -> Result<()> {
        let target = format!("/v1/uploads/{upload}/pages/{page}");
        let what = "storing a page of the manifest";
        let call = self.control(what, Method::PUT, target, Body::Cbor(bytes.into()));
        self.call(&call).await.map(|_| ())
    }

    pub(crate) async fn upload_status(&self, upload: &UploadId, from: u32) -> Result<UploadStatus> {
        self.get_json(
            "asking for an upload",
            format!("/v1/uploads/{upload}?from={from}"),
        )
        .await
    }

    pub(crate) async fn complete(
        &self,
        upload: &UploadId,
        body: &CompleteBody,
        wait_placed: bool,
    ) -> Result<PutAnswer> {
        let what = "completing an upload";
        let wait = if wait_placed { "?wait=placed" } else { "" };
        let target = format!("/v1/uploads/{upload}/complete{wait}");
        let mut call = self.control(what, Method::POST, target, Body::Cbor(body.encode().into()));
        if wait_placed {
            call.timeout += PLACEMENT_TIMEOUT;
        }
        json(what, &self.call(&call).await?.1)
    }

    pub(crate) async fn abort_upload(&self, upload: &UploadId) -> Result<()> {
        let target = format!("/v1/uploads/{upload}");
        let call = self.control("ending an upload", Method::DELETE, target, Body::Empty);
        self.call(&call).await.map(|_| ())
    }

    pub(crate) async fn manifest_page(&self, version: &VersionId, page: usize) -> Result<Vec<u8>> {
        let target = format!("/v1/versions/{version}/pages/{page}");
        let mut call = self.control("reading a manifest", Method::GET, target, Body::Empty);
        call.answer_max = RECORD_BYTES_MAX;
        self.call(&call)
            .await
            .map(|(_, bytes)| bytes)
            .map_err(replaced)
    }

    /// The ciphertext that `read` needs, into `out`; the proof is empty for a whole chunk. Nothing is checked here.
    pub(crate) async fn chunk(
        &self,
        version: &VersionId,
        read: &ChunkRead,
        verify_full: bool,
        out: &mut Vec<u8>,
    ) -> Result<ChunkProof> {
        let what = "reading a chunk";
        self.pace.pass(read.ciphertext.len()).await;
        let query = if verify_full { "?verify=full" } else { "" };
        let target = format!("/v1/versions/{version}/chunks/{}{query}", read.index);
        let mut call = self.control(what, Method::GET, target, Body::Empty);
        call.timeout = self.config.chunk_timeout;
        call.answer_max = CHUNK_BYTES_MAX;
        if !read.is_whole() {
            let last = read.ciphertext.end.saturating_sub(1);
            call.range = Some((offset(read.ciphertext.start)?, offset(last)?));
        }
        let answer = self.transport.call(&call, out).await.map_err(replaced)?;
        let header = |name| {
            answer
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        if header(CHUNK_CID_HEADER) != Some(read.chunk.cid.to_string().as_str()) {
            return Err(Error::integrity(
                format!("chunk {}", read.index),
                "the gateway sent another chunk than the manifest names",
            ));
        }
        if answer.status != StatusCode::PARTIAL_CONTENT {
            return Ok(ChunkProof::default());
        }
        let wrong = |reason: &str| Error::Protocol {
            what,
            reason: reason.to_owned(),
        };
        let proof = header(CHUNK_PROOF_HEADER).ok_or_else(|| wrong("no chunk proof"))?;
        let proof = wire::rest::decode_chunk_proof(proof)
            .ok_or_else(|| wrong("the chunk proof is not base64"))?;
        ChunkProof::decode(&proof).map_err(|error| wrong(&error.to_string()))
    }

    pub(crate) async fn put_tombstone(
        &self,
        bucket: &BucketName,
        entry: Vec<u8>,
    ) -> Result<PutAnswer> {
        let what = "deleting an object";
        let target = format!("/v1/buckets/{bucket}/tombstones");
        let call = self.control(what, Method::POST, target, Body::Cbor(entry.into()));
        json(what, &self.call(&call).await?.1)
    }

    pub(crate) async fn copy(&self, bucket: &BucketName, body: &CopyBody) -> Result<PutAnswer> {
        let what = "copying an object";
        let target = format!("/v1/buckets/{bucket}/copies");
        let call = self.control(what, Method::POST, target, Body::Cbor(body.encode().into()));
        json(what, &self.call(&call).await?.1)
    }

    /// Path of a bucket's local state, by id.
    pub(crate) fn key_path(&self, bucket: &BucketId) -> std::path::PathBuf {
        self.state.bucket_key(&bucket.to_string())
    }
}

/// A version that was there when its head was read is gone: somebody replaced it.
fn replaced(error: Error) -> Error {
    match error.code() {
        Some(Code::NotFound) => Error::Replaced,
        _ => error,
    }
}

pub(crate) fn json<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Protocol {
        what,
        reason: error.to_string(),
    })
}

fn offset(at: usize) -> Result<u64> {
    u64::try_from(at).map_err(|_| Error::Internal("an offset beyond 64 bits".to_owned()))
}
