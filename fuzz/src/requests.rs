//! What arrives over HTTP: signed headers, bearer tokens, bodies.

use std::sync::LazyLock;

use crypto::Identity;
use domain::{BucketName, Permission, Permissions, TimestampMs};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::http_signature::{self, RequestView, SignatureParams};
use wire::problem::{Code, Problem};
use wire::rest;
use wire::token::{self, Claims, Scope};

use crate::{Target, fixed};

pub const HTTP_SIGNATURE: Target = Target {
    name: "http_signature",
    run: http_signature,
    seeds: || {
        vec![
            signed(&[]),
            signed(&[("range", "bytes=0-65535"), ("idempotency-key", "\"1\"")]),
            signed(&[(
                "content-digest",
                "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
            )]),
        ]
    },
};

pub const TOKEN: Target = Target {
    name: "token",
    run: token,
    seeds: || vec![bearer(Some("photos")), bearer(None)],
};

pub const REST_BODY: Target = Target {
    name: "rest_body",
    run: rest_body,
    seeds: rest_bodies,
};

static IDENTITY: LazyLock<Identity> = LazyLock::new(fixed::identity);

const NOW_S: u64 = 1_800_000_000;
const NOW: TimestampMs = TimestampMs(NOW_S * 1_000);

/// `METHOD target`, then a line for each header, as in HTTP/1.1 but with bare newlines.
fn signed(extra: &[(&str, &str)]) -> Vec<u8> {
    let target = "/v1/buckets/photos/objects?after=a%20b";
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
    for (name, value) in extra {
        let name: HeaderName = name.parse().expect("a header's name");
        headers.insert(name, value.parse().expect("a header's value"));
    }
    let params = SignatureParams {
        principal: IDENTITY.principal(),
        deployment: fixed::deployment(),
        created_s: NOW_S,
        expires_s: NOW_S + 60,
        nonce: [0x0c; http_signature::NONCE_BYTES],
    };
    let view = RequestView {
        method: &Method::GET,
        uri: &target.parse().expect("a target"),
        headers: &headers,
    };
    http_signature::sign(view, &params, |base| IDENTITY.sign_http(base).0)
        .expect("a request that can be signed")
        .insert_into(&mut headers);
    let mut out = format!("GET {target}").into_bytes();
    for (name, value) in &headers {
        out.push(b'\n');
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    out
}

fn http_signature(input: &[u8]) -> bool {
    let Some((method, uri, headers)) = request(input) else {
        return false;
    };
    let view = RequestView {
        method: &method,
        uri: &uri,
        headers: &headers,
    };
    // First with a check that takes everything, to reach what lies behind it.
    let parsed = http_signature::verify_with(view, &fixed::deployment(), NOW, |_, _, _| true);
    let verified = http_signature::verify(view, &fixed::deployment(), NOW);
    match (&parsed, &verified) {
        (Ok(parsed), Ok(verified)) => assert_eq!(parsed, verified),
        (Err(_), Ok(_)) => panic!("the real check accepts what the parser refuses"),
        (_, Err(error)) => assert!(!error.problem().detail.is_empty()),
    }
    if let Ok(parsed) = &parsed {
        assert!(http_signature::is_signed(&headers));
        assert!(parsed.expires.0 - parsed.created.0 <= domain::limits::SIGNATURE_LIFETIME_MS_MAX);
        assert!(parsed.check_body(b"bytes that no digest names").is_err());
    }
    verified.is_ok()
}

fn request(input: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = input.split(|&byte| byte == b'\n');
    let mut first = lines.next()?.splitn(2, |&byte| byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name).ok()?;
        let value = value.get(1..).unwrap_or_default();
        let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
        headers.append(name, value);
    }
    Some((method, uri, headers))
}

fn claims(bucket: Option<&str>) -> Claims {
    let scope = Scope {
        bucket: bucket.map(|name| name.parse().expect("a bucket name")),
        permissions: Permissions::READ,
    };
    Claims::new(
        IDENTITY.principal(),
        fixed::deployment(),
        vec![scope],
        NOW,
        60_000,
        [1; 16],
    )
}

fn bearer(bucket: Option<&str>) -> Vec<u8> {
    let token = claims(bucket).encode(&IDENTITY);
    token.expect("a minute for one scope").into_bytes()
}

fn token(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let Ok(verified) = token::verify(text, &fixed::deployment(), NOW) else {
        return false;
    };
    // The seeds are all that this principal ever signed, and nobody has another's key.
    assert!(
        verified.principal != IDENTITY.principal()
            || [Some("photos"), None]
                .into_iter()
                .any(|bucket| verified == claims(bucket)),
        "a token that its principal never signed"
    );
    let photos: BucketName = "photos".parse().expect("a bucket name");
    let everywhere = verified.allow_everywhere(Permission::Read);
    assert!(!everywhere || verified.allow(&photos, Permission::Read));
    true
}

fn rest_bodies() -> Vec<Vec<u8>> {
    let complete = rest::CompleteBody {
        version_record: vec![1],
        manifest: vec![2; 300],
        pages: vec![vec![3].into(), vec![4].into()],
    };
    let copy = rest::CopyBody {
        source: fixed::version(),
        version_record: vec![1],
        tombstone: Some(vec![2]),
    };
    let answer = rest::ObjectAnswer {
        version_record: vec![1].into(),
        manifest: vec![2].into(),
        chunk: Some(vec![3; 40].into()),
        bucket_key: None,
        fully_placed: true,
    };
    let create = rest::CreateUpload {
        key: "2026/a.jpg".parse().expect("an object key"),
        size_bytes: Some(1 << 40),
    };
    let problem = Problem::new(Code::BadRequest, "what happened")
        .with("present", "none")
        .to_json();
    [
        (0, complete.encode()),
        (1, copy.encode()),
        (2, answer.encode()),
        (3, serde_json::to_vec(&create).expect("JSON")),
        (4, problem),
    ]
    .into_iter()
    .map(|(kind, body)| [vec![kind], body].concat())
    .collect()
}

/// `which body (1) its bytes`.
fn rest_body(input: &[u8]) -> bool {
    let Some((&kind, body)) = input.split_first() else {
        return false;
    };
    match kind {
        0 => cbor(rest::CompleteBody::decode(body), |value| {
            assert_eq!(
                rest::CompleteBody::decode(&value.encode()).as_ref(),
                Ok(value)
            );
        }),
        1 => cbor(rest::CopyBody::decode(body), |value| {
            assert_eq!(rest::CopyBody::decode(&value.encode()).as_ref(), Ok(value));
        }),
        2 => cbor(rest::ObjectAnswer::decode(body), |value| {
            assert_eq!(
                rest::ObjectAnswer::decode(&value.encode()).as_ref(),
                Ok(value)
            );
        }),
        3 => json::<rest::CreateUpload>(body),
        4 => Problem::from_json(body).is_some_and(|problem| {
            assert!(problem.status_code().as_u16() >= 100);
            Problem::from_json(&problem.to_json()).is_some()
        }),
        5 => json::<rest::UploadStatus>(body),
        6 => json::<rest::ListAnswer>(body),
        7 => json::<rest::BucketList>(body),
        8 => json::<rest::DeploymentInfo>(body),
        9 => json::<rest::ObjectStat>(body),
        10 => json::<rest::NodeList>(body),
        _ => false,
    }
}

fn cbor<T>(decoded: Result<T, rest::BodyError>, check: impl FnOnce(&T)) -> bool {
    decoded.inspect(check).is_ok()
}

fn json<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(body: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(body) else {
        return false;
    };
    let bytes = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&bytes).expect("what was written can be read");
    assert_eq!(again, value);
    true
}
