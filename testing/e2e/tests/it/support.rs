//! What several tests need beside the program: the client library on a platform, and requests byte by byte.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{Client, ClientConfig, DeploymentPin};
use crypto::Identity;
use crypto::seed_text::{self, SeedKind};
use domain::{BucketName, DeploymentId, ObjectKey};
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Value, json};
use wire::http_signature::{
    self, CONTENT_DIGEST_HEADER, RequestView, SignatureParams, SignedHeaders,
};

use crate::harness::Platform;

/// How long a raw request may take to be answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// The identity of a platform's configuration folder.
pub fn identity(platform: &Platform) -> Identity {
    let kit = platform.ok(&["identity", "export", "-"]);
    Identity::from_seed(seed_text::parse(SeedKind::Identity, &kit).unwrap())
}

/// A client of the library, as an identity, with the state folder of that name.
pub async fn connect(platform: &Platform, identity: &Arc<Identity>, state: &str) -> Client {
    let endpoint = platform.endpoint();
    let config = ClientConfig::new(
        endpoint,
        Arc::clone(identity),
        DeploymentPin::FirstUse,
        platform.path(state),
    );
    Client::connect(config).await.unwrap()
}

/// A runtime for the client library.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A bucket's name.
pub fn bucket(name: &str) -> BucketName {
    name.parse().unwrap()
}

/// An object's key.
pub fn key(name: &str) -> ObjectKey {
    name.parse().unwrap()
}

/// The deployment that answers.
pub fn deployment(platform: &Platform) -> DeploymentId {
    let (status, body) = platform.http_get("/v1/deployment");
    assert_eq!(status, 200);
    let info: Value = serde_json::from_str(&body).unwrap();
    info["deployment_id"].as_str().unwrap().parse().unwrap()
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    since_1970().as_secs()
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// The sums that `admin space` gives, and the shards on all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Visible objects.
    pub objects: u64,
    /// Uploads that are not completed.
    pub uploads: u64,
    /// Chunks in the index.
    pub chunks: u64,
    /// Bytes of shards in the index.
    pub shard_bytes: u64,
    /// Deletions that wait.
    pub deletions: u64,
    /// Shards that the nodes hold.
    pub shards: u64,
}

/// The harness's interval between probes, which is also what one may take.
const PROBE_MS: u64 = 250;

/// What a platform holds when nothing is on its way to a node any more: counted by every node after that was so.
pub fn held_at_rest(platform: &Platform) -> Held {
    platform.wait_for("everything to be placed", || {
        let space = platform.json(&["admin", "space"]).remove(0);
        (&space["pending_shards"], &space["pending_copies"]) == (&json!(0), &json!(0))
    });
    held(platform)
}

/// What a platform holds just now. Every node must answer: the gateway knows a node's counters by its last probe, and
/// only a probe that began after this call did counts: one takes [`PROBE_MS`] at most.
pub fn held(platform: &Platform) -> Held {
    let begun = u64::try_from(since_1970().as_millis()).unwrap();
    let mut nodes = Value::Null;
    platform.wait_for("every node's counters", || {
        nodes = platform.json(&["admin", "nodes"]).remove(0);
        let mut listed = nodes["nodes"].as_array().unwrap().iter();
        listed.all(|node| {
            node["shards"].is_u64()
                && node["last_seen_ms"]
                    .as_u64()
                    .is_some_and(|at| at > begun + PROBE_MS)
        })
    });
    let space = platform.json(&["admin", "space"]).remove(0);
    let number = |name: &str| {
        space[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {space}"))
    };
    let shards = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["shards"].as_u64().unwrap())
        .sum();
    Held {
        objects: number("objects"),
        uploads: number("uploads"),
        chunks: number("chunks"),
        shard_bytes: number("shard_bytes"),
        deletions: number("deletions"),
        shards,
    }
}

/// A signature of a request by a clock that shows `created_s`, for one minute, with a nonce that nobody has used.
pub fn signed_headers(
    view: RequestView<'_>,
    identity: &Identity,
    deployment: DeploymentId,
    created_s: u64,
) -> SignedHeaders {
    // Unique over all tests of a machine, which is what a nonce must be.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut nonce = [0; 16];
    let nanos = since_1970().as_nanos();
    for (place, byte) in nonce.iter_mut().zip(nanos.to_le_bytes()) {
        *place = byte;
    }
    for (place, byte) in nonce
        .iter_mut()
        .rev()
        .zip(NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes())
        .take(6)
    {
        *place ^= byte;
    }
    let params = SignatureParams {
        principal: identity.principal(),
        deployment,
        created_s,
        expires_s: created_s + 60,
        nonce,
    };
    http_signature::sign(view, &params, |base| identity.sign_http(base).0).unwrap()
}

/// A request, byte by byte.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub fn new(platform: &Platform, method: Method, target: &str) -> Self {
        let mut headers = HeaderMap::new();
        let host = platform.endpoint().strip_prefix("http://").unwrap();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        Self {
            method,
            target: target.to_owned(),
            headers,
            body: Vec::new(),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
        self
    }

    /// Gives it a body and its digest.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.headers
            .insert(CONTENT_DIGEST_HEADER, http_signature::content_digest(body));
        self
    }

    /// Gives it a body that no digest covers.
    pub fn bare_body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Signs it as of now.
    pub fn signed(self, identity: &Identity, deployment: DeploymentId) -> Self {
        self.signed_at(identity, deployment, now_s())
    }

    /// Signs it by a clock that shows `created_s`, for one minute.
    pub fn signed_at(
        mut self,
        identity: &Identity,
        deployment: DeploymentId,
        created_s: u64,
    ) -> Self {
        let uri: Uri = self.target.parse().unwrap();
        let view = RequestView {
            method: &self.method,
            uri: &uri,
            headers: &self.headers,
        };
        signed_headers(view, identity, deployment, created_s).insert_into(&mut self.headers);
        self
    }

    /// The head, with a Content-Length of `length`.
    pub fn head_bytes(&self, length: usize) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(
            format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(),
        );
        head
    }

    /// Sends it and reads the answer.
    pub fn send(&self, platform: &Platform) -> Response {
        let mut stream = dial(platform);
        stream.write_all(&self.head_bytes(self.body.len())).unwrap();
        // A body that is refused by its head is not taken to its end.
        let _ = stream.write_all(&self.body);
        Response::read(&mut stream).expect("an answer")
    }
}

impl Response {
    /// Reads to the end of the connection; `None` when it ends without an answer.
    pub fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        // A reset after the answer is the end as well: the rest of a refused body was not taken.
        let _ = stream.read_to_end(&mut bytes);
        let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let body = bytes.split_off(at + 4);
        let head = String::from_utf8(bytes).unwrap();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head, body })
    }

    /// The answer must be a problem document of this status and code, with a sentence.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        let problem: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}{text}", self.head));
        assert_eq!(
            (self.status, problem["code"].as_str()),
            (status, Some(code)),
            "{problem:#}"
        );
        assert!(
            self.head.contains("application/problem+json"),
            "{}",
            self.head
        );
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.len() > 10),
            "{problem:#}"
        );
        assert!(
            problem["request_id"]
                .as_str()
                .is_some_and(|id| !id.is_empty()),
            "{problem:#}"
        );
        problem
    }
}

/// A connection to the gateway.
pub fn dial(platform: &Platform) -> TcpStream {
    let stream = TcpStream::connect(platform.endpoint().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}
