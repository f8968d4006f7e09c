//! Requests that no client of ours would send: each is refused with a documented code and a sentence, and the gateway
//! goes on as if nothing had been.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crypto::Identity;
use domain::{Cid, DeploymentId};
use http::Method;

use crate::harness::{Platform, write_file};
use crate::support::{Request, Response, deployment, dial, identity, now_s};

const HOUR: u64 = 3_600;

struct Hostile {
    platform: Platform,
    me: Identity,
    deployment: DeploymentId,
    gateway: u32,
}

impl Hostile {
    /// A platform with a bucket and an object of one chunk.
    fn start() -> Self {
        let platform = Platform::start();
        platform.ok(&["mb", "sr://files"]);
        write_file(&platform.path("large"), 1 << 20, 1);
        platform.ok(&["put", "large", "sr://files/large"]);
        let (me, deployment) = (identity(&platform), deployment(&platform));
        let gateway = platform.pid("gateway");
        Self {
            platform,
            me,
            deployment,
            gateway,
        }
    }

    fn request(&self, method: Method, target: &str) -> Request {
        Request::new(&self.platform, method, target)
    }

    fn send_signed(&self, request: Request) -> Response {
        request
            .signed(&self.me, self.deployment)
            .send(&self.platform)
    }

    fn post_upload(&self) -> Request {
        self.request(Method::POST, "/v1/buckets/files/uploads")
            .body(br#"{"key":"planted"}"#)
    }

    fn uploads(&self) -> u64 {
        self.platform.json(&["admin", "space"]).remove(0)["uploads"]
            .as_u64()
            .unwrap()
    }

    /// The same gateway serves, nothing was planted, and no memory stayed behind.
    fn unharmed(&self) {
        assert_eq!(
            self.platform.pid("gateway"),
            self.gateway,
            "the gateway died: {}",
            self.platform.logs()
        );
        assert_eq!(self.platform.http_get("/health").0, 200);
        assert_eq!(self.platform.json(&["ls", "-r", "sr://files"]).len(), 1);
        self.platform.ok(&["verify", "sr://files/large"]);
        let peak = self.platform.peak_bytes("gateway");
        assert!(peak < 256 << 20, "the gateway took {peak} bytes");
        let log = std::fs::read_to_string(self.platform.data().join("gateway/log")).unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn unsigned_skewed_replayed_and_altered_requests_are_refused() {
    let at = Hostile::start();
    let list = || at.request(Method::GET, "/v1/buckets");
    assert_eq!(
        at.send_signed(list()).status,
        200,
        "the requests of this test are right but for what they try"
    );

    list().send(&at.platform).problem(401, "unauthenticated");
    list()
        .header("authorization", "Bearer strongroom_AAAA.AAAA")
        .send(&at.platform)
        .problem(401, "signature_invalid");
    for skewed in [now_s() - HOUR, now_s() + HOUR] {
        let problem = list()
            .signed_at(&at.me, at.deployment, skewed)
            .send(&at.platform)
            .problem(401, "signature_expired");
        assert!(
            problem["detail"].as_str().unwrap().contains("clock"),
            "says what may be wrong: {problem:#}"
        );
        let planted = at
            .post_upload()
            .signed_at(&at.me, at.deployment, skewed)
            .send(&at.platform);
        planted.problem(401, "signature_expired");
    }
    // Within what clocks may be off.
    assert_eq!(
        list()
            .signed_at(&at.me, at.deployment, now_s() + 30)
            .send(&at.platform)
            .status,
        200
    );
    let other = DeploymentId([7; 32]);
    list()
        .signed(&at.me, other)
        .send(&at.platform)
        .problem(401, "signature_invalid");
    // Headers and bodies other than those that were signed.
    let added = list()
        .signed(&at.me, at.deployment)
        .header("range", "bytes=0-65535");
    added.send(&at.platform).problem(401, "signature_invalid");
    let altered = at
        .post_upload()
        .signed(&at.me, at.deployment)
        .bare_body(br#"{"key":"altered"}"#);
    altered.send(&at.platform).problem(401, "signature_invalid");
    let uncovered = at
        .request(Method::POST, "/v1/buckets/files/uploads")
        .bare_body(br#"{"key":"planted"}"#);
    at.send_signed(uncovered).problem(401, "signature_invalid");
    assert_eq!(at.uploads(), 0);
    // A mutation is carried out once, however often it comes.
    let once = at.post_upload().signed(&at.me, at.deployment);
    assert_eq!(once.send(&at.platform).status, 201);
    for _ in 0..2 {
        once.send(&at.platform).problem(409, "request_replayed");
    }
    assert_eq!(at.uploads(), 1);
    at.unharmed();
}

#[test]
fn malformed_and_oversized_bodies_are_refused() {
    let at = Hostile::start();
    let object = "/v1/buckets/files/object?key=planted";
    let garbage: [&[u8]; 6] = [
        b"",
        b"\xff",
        b"not cbor",
        &[0x9f; 64],
        &[0xdb; 9],
        &[0x82; 100_000],
    ];
    for body in garbage {
        at.send_signed(at.request(Method::PUT, object).body(body))
            .problem(400, "malformed_record");
        let tombstone = at
            .request(Method::POST, "/v1/buckets/files/tombstones")
            .body(body);
        at.send_signed(tombstone).problem(400, "malformed_record");
        at.send_signed(at.request(Method::POST, "/v1/buckets").body(body))
            .problem(400, "malformed_record");
    }
    let deep = "[".repeat(100_000);
    for body in [
        "",
        "{",
        "null",
        r#"{"key":7}"#,
        r#"{"key":""}"#,
        deep.as_str(),
    ] {
        let upload = at
            .request(Method::POST, "/v1/buckets/files/uploads")
            .body(body.as_bytes());
        at.send_signed(upload).problem(400, "bad_request");
    }
    let long = format!(r#"{{"key":"{}"}}"#, "k".repeat(10_000));
    at.send_signed(
        at.request(Method::POST, "/v1/buckets/files/uploads")
            .body(long.as_bytes()),
    )
    .problem(400, "bad_request");
    let long = format!("/v1/buckets/files/object?key={}", "k".repeat(10_000));
    at.send_signed(at.request(Method::GET, &long))
        .problem(400, "bad_name");
    // Too large, declared and sent.
    let three = vec![0; 3 << 20];
    for target in [
        "/v1/buckets/files/uploads",
        "/v1/buckets",
        "/v1/buckets/files/tombstones",
    ] {
        at.send_signed(at.request(Method::POST, target).body(&three))
            .problem(413, "body_too_large");
    }
    assert_eq!(at.uploads(), 0);
    // Chunks: too large, cut short, under another CID, to nowhere.
    let started = at.send_signed(at.post_upload());
    let upload: serde_json::Value = serde_json::from_slice(&started.body).unwrap();
    let target = format!(
        "/v1/uploads/{}/chunks/0",
        upload["upload"].as_str().unwrap()
    );
    let chunk = |target: &str, body: &[u8], cid: &Cid| {
        let request = at
            .request(Method::PUT, target)
            .bare_body(body)
            .header("strongroom-chunk-cid", &cid.to_string());
        at.send_signed(request)
    };
    let body = vec![7; 100_000];
    chunk(&target, &vec![7; 5 << 20], &Cid::of_raw(&body)).problem(413, "body_too_large");
    chunk(&target, &body[1..], &Cid::of_raw(&body)).problem(422, "chunk_cid_mismatch");
    chunk(&target, &[7; 15], &Cid::of_raw(&[7; 15])).problem(400, "bad_request");
    for bad in [
        "/v1/uploads/x/chunks/0",
        "/v1/uploads/00000000000000000000000000000000/chunks/0",
    ] {
        chunk(bad, &body, &Cid::of_raw(&body)).problem(404, "not_found");
    }
    for n in ["-1", "4294967296", "4294967295", "x"] {
        chunk(
            &target.replace("/chunks/0", &format!("/chunks/{n}")),
            &body,
            &Cid::of_raw(&body),
        )
        .problem(404, "not_found");
    }
    assert_eq!(
        chunk(&target, &body, &Cid::of_raw(&body)).status,
        200,
        "a right one is taken"
    );
    let complete = target.replace("/chunks/0", "/complete");
    for body in garbage {
        at.send_signed(at.request(Method::POST, &complete).body(body))
            .problem(400, "malformed_record");
    }
    // Routes and methods that are none.
    at.send_signed(at.request(Method::GET, "/v1/nothing"))
        .problem(404, "not_found");
    at.send_signed(at.request(Method::PATCH, "/v1/buckets"))
        .problem(405, "method_not_allowed");
    at.unharmed();
}

#[test]
fn only_ranges_of_whole_blocks_within_a_chunk_are_served() {
    let at = Hostile::start();
    let stat = at.platform.json(&["stat", "sr://files/large"]).remove(0);
    let target = format!(
        "/v1/versions/{}/chunks/0",
        stat["version"].as_str().unwrap()
    );
    let whole = at.send_signed(at.request(Method::GET, &target)).body;
    let range = |text: &str| at.send_signed(at.request(Method::GET, &target).header("range", text));
    for (text, expected) in [
        ("bytes=0-65535", &whole[..65_536]),
        ("bytes=131072-196607", &whole[131_072..196_608]),
    ] {
        let part = range(text);
        assert_eq!(part.status, 206);
        assert!(part.body == expected, "{text}");
        assert!(
            part.head.contains("strongroom-chunk-proof"),
            "{}",
            part.head
        );
    }
    let last = whole.len() - 1;
    for bad in [
        "bytes=-65536".to_owned(),
        "bytes=0-".to_owned(),
        "bytes=65536-0".to_owned(),
        "bytes=-1--5".to_owned(),
        "bytes=1-65535".to_owned(),
        "bytes=0-65534".to_owned(),
        format!("bytes=0-{}", last + 1),
        format!("bytes={}-{}", last + 1, last + 65_536),
        "bytes=0-65535,0-65535".to_owned(),
        "bytes=0-65535,32768-131071".to_owned(),
        "bytes=18446744073709551615-18446744073709551615".to_owned(),
        "bytes=0-99999999999999999999999999".to_owned(),
        "bytes".to_owned(),
    ] {
        range(&bad).problem(416, "bad_range");
    }
    // Twice: no signature can cover it.
    let once = at
        .request(Method::GET, &target)
        .header("range", "bytes=0-65535")
        .signed(&at.me, at.deployment);
    once.header("range", "bytes=0-65535")
        .send(&at.platform)
        .problem(401, "signature_invalid");
    at.send_signed(at.request(Method::GET, &format!("{target}?verify=maybe")))
        .problem(400, "bad_request");
    at.send_signed(at.request(Method::GET, &target.replace("chunks/0", "chunks/1")))
        .problem(404, "not_found");
    at.unharmed();
}

#[test]
fn those_who_send_slowly_are_dropped_and_hold_nobody_up() {
    let at = Hostile::start();
    let started = Instant::now();
    let upload = at.post_upload().signed(&at.me, at.deployment);
    let slow: Vec<_> = (0..40)
        .map(|n| {
            let mut stream = dial(&at.platform);
            let head = upload.head_bytes(1 << 20);
            // Half of them stop within the head, half within the body.
            let sent = if n % 2 == 0 { &head[..40] } else { &head[..] };
            stream.write_all(sent).unwrap();
            (n, stream)
        })
        .collect();
    // Others are served meanwhile.
    at.platform.ok(&["get", "sr://files/large", "back"]);
    assert!(
        started.elapsed() < Duration::from_secs(9),
        "a get took {:?} beside slow senders",
        started.elapsed()
    );
    for (n, mut stream) in slow {
        // One byte more now and then does not help.
        let _ = stream.write_all(b"x");
        let answer = Response::read(&mut stream);
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "dropped only after {:?}",
            started.elapsed()
        );
        match answer {
            Some(answer) if n % 2 == 1 => drop(answer.problem(504, "timeout")),
            Some(answer) => assert!((400..500).contains(&answer.status), "{}", answer.head),
            None => assert!(n % 2 == 0, "the sender of a slow body is told why"),
        }
    }
    assert_eq!(at.uploads(), 0);
    at.unharmed();
}
