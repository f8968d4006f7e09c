//! A gateway in this process that keeps everything in memory and can be told to lie or fail.
//!
//! It checks request signatures and nonces as a real one does, so that these tests also show that every request is
//! signed, covers its body and is never repeated with the same nonce.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use crypto::ChunkProof;
use domain::limits::BLOCK_BYTES;
use domain::{Cid, DeploymentId, Profile, TimestampMs, UploadId, VersionId};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use sealed::{BucketRecord, Entry, Predecessor, SignedEntry, SmallRecord, VersionRecord};
use serde_json::json;
use wire::http_signature;
use wire::problem::{Code, Problem};
use wire::rest::{
    BucketInfo, CHUNK_CID_HEADER, CHUNK_PROOF_HEADER, CompleteBody, CopyBody, CreateUpload,
    ObjectAnswer, encode_chunk_proof,
};

pub const DEPLOYMENT: DeploymentId = DeploymentId([0xd0; 32]);

/// A stored version.
#[derive(Clone)]
pub struct Object {
    /// As they were when it was stored, whatever is done to the record later.
    pub version: VersionId,
    pub key_id: String,
    pub record: Vec<u8>,
    pub manifest: Vec<u8>,
    pub pages: Vec<Vec<u8>>,
    /// The ciphertext of a small object.
    pub small: Option<Vec<u8>>,
    /// CID by the manifest, and the bytes that are served.
    pub chunks: Vec<(Cid, Vec<u8>)>,
}

impl Object {
    fn new(record: Vec<u8>, manifest: Vec<u8>) -> Self {
        let decoded = VersionRecord::decode(&record).unwrap();
        Self {
            version: decoded.entry().version,
            key_id: decoded.protection().unwrap().bucket_key.to_string(),
            record,
            manifest,
            pages: Vec::new(),
            small: None,
            chunks: Vec::new(),
        }
    }

    pub fn entry(&self) -> Entry {
        (**VersionRecord::decode(&self.record).unwrap().entry()).clone()
    }
}

struct Upload {
    key: String,
    bucket: String,
    chunks: BTreeMap<usize, (Cid, Vec<u8>)>,
    pages: BTreeMap<usize, Vec<u8>>,
    completed: Option<VersionId>,
}

type Reply = Response<Full<Bytes>>;
/// Sees each request first; may answer it.
type Hook = Box<dyn FnMut(&Method, &str, &str) -> Option<Reply> + Send>;

#[derive(Default)]
pub struct Store {
    pub buckets: BTreeMap<String, BucketInfo>,
    pub keys: BTreeMap<String, Vec<u8>>,
    pub objects: BTreeMap<(String, String), Object>,
    uploads: BTreeMap<String, Upload>,
    /// Served for a chunk instead of the stored one, unless full verification is asked for.
    pub lies: BTreeMap<Cid, Vec<u8>>,
    pub hook: Option<Hook>,
    nonces: HashSet<[u8; 16]>,
    /// Method and path of every request.
    pub log: Vec<String>,
    ids: u8,
}

#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    store: Arc<Mutex<Store>>,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            store: Arc::default(),
        };
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = serving.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let fake = fake.clone();
                        async move { Ok::<_, std::convert::Infallible>(fake.serve(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        fake
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    pub fn object(&self, bucket: &str, key: &str) -> Object {
        self.store().objects[&(bucket.to_owned(), key.to_owned())].clone()
    }

    pub fn set_object(&self, bucket: &str, key: &str, object: Object) {
        let name = (bucket.to_owned(), key.to_owned());
        self.store().objects.insert(name, object);
    }

    /// The hook sees method, path and query.
    pub fn on_request(
        &self,
        hook: impl FnMut(&Method, &str, &str) -> Option<Reply> + Send + 'static,
    ) {
        self.store().hook = Some(Box::new(hook));
    }

    pub fn requests(&self, what: &str) -> usize {
        let store = self.store();
        store.log.iter().filter(|line| line.contains(what)).count()
    }

    async fn serve(&self, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        // A sender that is refused early still wants to send all of its body.
        let Ok(body) = body.collect().await else {
            return problem(Code::BadRequest);
        };
        let body = body.to_bytes();
        let mut store = self.store();
        store.log.push(format!("{} {path}?{query}", parts.method));
        if path == "/v1/deployment" {
            return deployment();
        }
        let verified = match http_signature::verify((&parts).into(), &DEPLOYMENT, now()) {
            Ok(verified) => verified,
            Err(error) => panic!("a request of the client does not verify: {error}"),
        };
        match verified.chunk_cid {
            Some(cid) => assert_eq!(Cid::of_raw(&body), cid, "the header names the chunk"),
            None => verified.check_body(&body).unwrap(),
        }
        assert!(
            store.nonces.insert(verified.nonce),
            "a nonce was used twice"
        );
        if let Some(hook) = &mut store.hook
            && let Some(reply) = hook(&parts.method, &path, &query)
        {
            return reply;
        }
        let range = parts
            .headers
            .get("range")
            .map(|value| value.to_str().unwrap().to_owned());
        let segments: Vec<&str> = path.split('/').skip(2).collect();
        store
            .route(&parts.method, &segments, &query, range, &body)
            .unwrap_or_else(problem)
    }
}

pub fn problem(code: Code) -> Reply {
    answer_problem(&Problem::new(code, "the fake gateway says no"))
}

fn answer_problem(problem: &Problem) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(problem.to_json())));
    *reply.status_mut() = problem.status_code();
    reply
}

fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    TimestampMs(u64::try_from(since.as_millis()).unwrap())
}

fn ok(json: &serde_json::Value) -> Result<Reply, Code> {
    Ok(Response::new(Full::new(Bytes::from(json.to_string()))))
}

fn raw(bytes: impl Into<Bytes>) -> Result<Reply, Code> {
    Ok(Response::new(Full::new(bytes.into())))
}

fn deployment() -> Reply {
    let info = json!({
        "deployment_id": DEPLOYMENT, "api_version": "v1", "software_version": "0", "time_ms": now().0,
        "mode": "development", "ledger": "none", "attestation": "none", "profiles": ["10+4"], "warnings": [],
    });
    Response::new(Full::new(Bytes::from(info.to_string())))
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        (found == name).then(|| {
            percent_encoding::percent_decode_str(value)
                .decode_utf8()
                .unwrap()
                .into_owned()
        })
    })
}

impl Store {
    fn route(
        &mut self,
        method: &Method,
        segments: &[&str],
        query: &str,
        range: Option<String>,
        body: &Bytes,
    ) -> Result<Reply, Code> {
        let key = || parameter(query, "key").ok_or(Code::BadName);
        match (method.as_str(), segments) {
            ("POST", ["buckets"]) => self.create_bucket(body),
            ("GET", ["buckets"]) => {
                let buckets: Vec<_> = self.buckets.values().collect();
                ok(&json!({ "buckets": buckets, "next": null }))
            }
            ("PUT", ["buckets", _]) => self.create_bucket(body),
            ("GET", ["buckets", name]) => {
                let info = self.buckets.get(*name).ok_or(Code::NotFound)?;
                ok(&serde_json::to_value(info).unwrap())
            }
            ("DELETE", ["buckets", name]) => {
                if self.objects.keys().any(|(bucket, _)| bucket == name) {
                    return Err(Code::BucketNotEmpty);
                }
                self.buckets.remove(*name).ok_or(Code::NotFound)?;
                raw("")
            }
            ("PUT", ["buckets", _, "keys", id]) => {
                self.keys.insert((*id).to_owned(), body.to_vec());
                raw("")
            }
            ("GET", ["buckets", _, "keys", id]) => {
                raw(self.keys.get(*id).ok_or(Code::NotFound)?.clone())
            }
            ("GET", ["buckets", name, "objects"]) => self.list(name, query),
            ("PUT", ["buckets", name, "object"]) => self.put_small(name, &key()?, body),
            ("GET", ["buckets", name, "object"]) => {
                self.object(name, &key()?, query.contains("bucket_key=1"))
            }
            ("POST", ["buckets", name, "uploads"]) => {
                let create: CreateUpload = serde_json::from_slice(body).unwrap();
                self.ids += 1;
                let id = UploadId([self.ids; 16]);
                let upload = Upload {
                    key: create.key.as_str().to_owned(),
                    bucket: (*name).to_owned(),
                    chunks: BTreeMap::new(),
                    pages: BTreeMap::new(),
                    completed: None,
                };
                self.uploads.insert(id.to_string(), upload);
                ok(&json!({ "upload": id, "key": create.key, "created_ms": 1, "profile": "10+4" }))
            }
            ("PUT", ["uploads", id, "chunks", n]) => {
                let upload = self.uploads.get_mut(*id).ok_or(Code::NotFound)?;
                let chunk = (Cid::of_raw(body), body.to_vec());
                upload.chunks.insert(n.parse().unwrap(), chunk);
                ok(&json!({ "durable_shards": 12, "total_shards": 14 }))
            }
            ("PUT", ["uploads", id, "pages", n]) => {
                let upload = self.uploads.get_mut(*id).ok_or(Code::NotFound)?;
                upload.pages.insert(n.parse().unwrap(), body.to_vec());
                raw("")
            }
            ("GET", ["uploads", id]) => {
                let upload = self.uploads.get(*id).ok_or(Code::NotFound)?;
                let slots: Vec<_> = upload
                    .chunks
                    .iter()
                    .map(|(n, (cid, bytes))| {
                        json!({ "n": n, "cid": cid, "size_bytes": bytes.len(), "acknowledged": true })
                    })
                    .collect();
                ok(
                    &json!({ "upload": id, "completed": upload.completed, "slots": slots, "next": null }),
                )
            }
            ("DELETE", ["uploads", id]) => {
                self.uploads.remove(*id).ok_or(Code::NotFound)?;
                raw("")
            }
            ("POST", ["uploads", id, "complete"]) => self.complete(id, body),
            ("GET", ["versions", version, "chunks", n]) => {
                self.chunk(version, n.parse().unwrap(), query, range.as_deref())
            }
            ("GET", ["versions", version, "pages", n]) => {
                let n: usize = n.parse().unwrap();
                raw(self
                    .version(version)?
                    .pages
                    .get(n)
                    .ok_or(Code::NotFound)?
                    .clone())
            }
            ("POST", ["buckets", name, "tombstones"]) => {
                let entry = SignedEntry::decode(body).unwrap();
                let name = ((*name).to_owned(), entry.name.as_str().to_owned());
                self.condition(&name, &entry)?;
                let gone = self.objects.remove(&name).ok_or(Code::NotFound)?;
                ok(&put_answer(&entry.version, Some(gone.entry().version)))
            }
            ("POST", ["buckets", name, "copies"]) => self.copy(name, body),
            _ => Err(Code::MethodNotAllowed),
        }
    }

    fn create_bucket(&mut self, body: &Bytes) -> Result<Reply, Code> {
        let record = BucketRecord::decode(body).unwrap();
        let info = BucketInfo {
            name: record.name.clone(),
            id: record.id,
            owner: record.owner,
            profile: Profile::DATACENTRE,
            created_ms: 1,
            record: body.to_vec(),
        };
        let json = serde_json::to_value(&info).unwrap();
        self.buckets.insert(record.name.to_string(), info);
        ok(&json)
    }

    fn list(&self, name: &str, query: &str) -> Result<Reply, Code> {
        // Two a page, so that paging is exercised.
        let prefix = parameter(query, "prefix").unwrap_or_default();
        let after = parameter(query, "after").unwrap_or_default();
        let mut objects: Vec<_> = self
            .objects
            .iter()
            .filter(|((bucket, key), _)| bucket == name && key.starts_with(&prefix) && *key > after)
            .map(|((_, key), object)| {
                let entry = object.entry();
                let (cid, size) = entry.object().unwrap();
                json!({
                    "key": key, "version": entry.version, "cid": cid, "size_bytes": size,
                    "modified_ms": entry.time, "writer": entry.writer, "fully_placed": true,
                })
            })
            .collect();
        let more = objects.len() > 2;
        objects.truncate(2);
        let next = more.then(|| objects[1]["key"].clone());
        ok(&json!({ "objects": objects, "prefixes": [], "next": next }))
    }

    fn condition(&self, name: &(String, String), entry: &Entry) -> Result<(), Code> {
        let present = self.objects.get(name).map(|object| object.entry().version);
        match entry.predecessor {
            Some(Predecessor::Nothing) if present.is_some() => Err(Code::Conflict),
            Some(Predecessor::Version(id)) if present != Some(id) => Err(Code::Conflict),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, bucket: &str, key: &str, object: Object) -> Result<Reply, Code> {
        let name = (bucket.to_owned(), key.to_owned());
        let entry = object.entry();
        let present = self.objects.get(&name).map(|object| object.entry().version);
        if self.condition(&name, &entry).is_err() {
            let conflict = Problem::new(Code::Conflict, "changed").with(
                "present_version",
                present.map_or(json!(null), |id| json!(id)),
            );
            return Ok(answer_problem(&conflict));
        }
        self.objects.insert(name, object);
        ok(&put_answer(&entry.version, present))
    }

    fn put_small(&mut self, bucket: &str, key: &str, body: &Bytes) -> Result<Reply, Code> {
        let record = SmallRecord::decode(body).unwrap();
        let chunk = record.chunk().to_vec();
        let object = Object {
            small: Some(chunk),
            ..Object::new(record.version().encode(), record.manifest().to_vec())
        };
        self.insert(bucket, key, object)
    }

    fn object(&self, bucket: &str, key: &str, with_key: bool) -> Result<Reply, Code> {
        let name = (bucket.to_owned(), key.to_owned());
        let object = self.objects.get(&name).ok_or(Code::NotFound)?;
        let answer = ObjectAnswer {
            version_record: (&object.record[..]).into(),
            manifest: (&object.manifest[..]).into(),
            chunk: object.small.as_deref().map(Into::into),
            bucket_key: with_key.then(|| (&self.keys[&object.key_id][..]).into()),
            fully_placed: true,
        };
        raw(answer.encode())
    }

    fn complete(&mut self, id: &str, body: &Bytes) -> Result<Reply, Code> {
        let complete = CompleteBody::decode(body).unwrap();
        let upload = self.uploads.get_mut(id).ok_or(Code::NotFound)?;
        let mut pages: Vec<Vec<u8>> = complete.pages.into_iter().map(|p| p.into_vec()).collect();
        pages.extend(upload.pages.values().cloned());
        let object = Object {
            pages,
            chunks: upload.chunks.values().cloned().collect(),
            ..Object::new(complete.version_record, complete.manifest)
        };
        upload.completed = Some(object.entry().version);
        let (bucket, key) = (upload.bucket.clone(), upload.key.clone());
        self.insert(&bucket, &key, object)
    }

    fn version(&self, version: &str) -> Result<&Object, Code> {
        self.objects
            .values()
            .find(|object| object.version.to_string() == version)
            .ok_or(Code::NotFound)
    }

    fn chunk(
        &self,
        version: &str,
        n: usize,
        query: &str,
        range: Option<&str>,
    ) -> Result<Reply, Code> {
        let (cid, stored) = self.version(version)?.chunks.get(n).ok_or(Code::NotFound)?;
        let lie = self
            .lies
            .get(cid)
            .filter(|_| !query.contains("verify=full"));
        let bytes = lie.unwrap_or(stored);
        let mut reply = Response::builder().header(CHUNK_CID_HEADER, cid.to_string());
        let body = match range {
            None => bytes.clone(),
            Some(range) => {
                let (first, last) = range
                    .strip_prefix("bytes=")
                    .unwrap()
                    .split_once('-')
                    .unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                assert_eq!(first % BLOCK_BYTES, 0);
                assert!((last + 1) % BLOCK_BYTES == 0 || last + 1 == stored.len());
                let proof = ChunkProof::from_ciphertext(stored).unwrap();
                reply = reply
                    .status(StatusCode::PARTIAL_CONTENT)
                    .header(CHUNK_PROOF_HEADER, encode_chunk_proof(&proof.encode()));
                bytes.get(first..=last).unwrap_or_default().to_vec()
            }
        };
        Ok(reply.body(Full::new(Bytes::from(body))).unwrap())
    }

    fn copy(&mut self, bucket: &str, body: &Bytes) -> Result<Reply, Code> {
        let copy = CopyBody::decode(body).unwrap();
        let source = self.version(&copy.source.to_string())?.clone();
        let object = Object {
            pages: source.pages,
            small: source.small,
            chunks: source.chunks,
            ..Object::new(copy.version_record, source.manifest)
        };
        let key = object.entry().name.as_str().to_owned();
        if let Some(tombstone) = copy.tombstone {
            let entry = SignedEntry::decode(&tombstone).unwrap();
            let bucket = self
                .buckets
                .values()
                .find(|info| info.id == entry.bucket)
                .unwrap();
            let name = (bucket.name.to_string(), entry.name.as_str().to_owned());
            self.condition(&name, &entry)?;
            self.objects.remove(&name).ok_or(Code::NotFound)?;
        }
        self.insert(bucket, &key, object)
    }
}

fn put_answer(version: &VersionId, replaced: Option<VersionId>) -> serde_json::Value {
    json!({
        "version": version, "sequence": 1, "replaced": replaced, "fully_placed": true,
        "durable_shards": 14, "total_shards": 14,
    })
}
