use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use proptest::prelude::*;

use super::*;

const DEPLOYMENT: DeploymentId = DeploymentId([0xd1; 32]);
const NOW_S: u64 = 1_800_000_000;
const NOW: TimestampMs = TimestampMs(NOW_S * 1_000);

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn principal() -> Principal {
    Principal(pair().public_key().as_ref().try_into().unwrap())
}

fn params() -> SignatureParams {
    SignatureParams {
        principal: principal(),
        deployment: DEPLOYMENT,
        created_s: NOW_S,
        expires_s: NOW_S + 300,
        nonce: [3; 16],
    }
}

fn by_pair(base: &[u8]) -> [u8; 64] {
    pair().sign(base).as_ref().try_into().unwrap()
}

fn put(body: &[u8]) -> http::request::Parts {
    let request = http::Request::put("http://LocalHost:8080/v1/buckets/b/object?key=a%2Fb")
        .header(CONTENT_DIGEST_HEADER, content_digest(body))
        .body(())
        .unwrap();
    request.into_parts().0
}

fn signed_with(mut parts: http::request::Parts, params: &SignatureParams) -> http::request::Parts {
    let headers = sign((&parts).into(), params, by_pair).unwrap();
    headers.insert_into(&mut parts.headers);
    parts
}

fn signed() -> http::request::Parts {
    signed_with(put(b"body"), &params())
}

fn check(parts: &http::request::Parts) -> Result<VerifiedRequest, SignatureError> {
    verify(parts.into(), &DEPLOYMENT, NOW)
}

/// Signs whatever `Signature-Input` value is given, as a client that makes its own choices would.
fn sign_input(mut parts: http::request::Parts, input_value: &str) -> http::request::Parts {
    let list = match only_member(input_value, SIGNATURE_INPUT_HEADER).unwrap() {
        ListEntry::InnerList(list) => list,
        ListEntry::Item(_) => panic!("not a list"),
    };
    let mut base = String::new();
    for item in &list.items {
        let name = item.bare_item.as_string().unwrap().as_str();
        push_component(&mut base, &(&parts).into(), name).unwrap();
    }
    push_params_line(&mut base, &serialize_list(&list));
    let signature = format!("sig=:{}:", BASE64.encode(&by_pair(base.as_bytes())));
    parts
        .headers
        .insert(SIGNATURE_INPUT_HEADER, header_value(input_value));
    parts
        .headers
        .insert(SIGNATURE_HEADER, header_value(&signature));
    parts
}

fn input_value(components: &str) -> String {
    format!(
        "sig=({components});created={NOW_S};expires={};nonce=\"{}\";keyid=\"{}\";alg=\"ed25519\";tag=\"{DEPLOYMENT}\"",
        NOW_S + 60,
        BASE64URL_NOPAD.encode(&[3; 16]),
        principal(),
    )
}

const ALL: &str = r#""@method" "@authority" "@path" "@query" "content-digest""#;

/// RFC 9421, appendix B.2.6 with the key of B.1.4 and the request of B.2.
#[test]
fn the_rfc_vector_has_our_base_and_signature() {
    let parts = http::Request::post("https://example.com/foo?param=Value&Pet=dog")
        .header("host", "example.com")
        .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
        .header("content-type", "application/json")
        .header("content-length", "18")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let list = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                ;created=1618884473;keyid=\"test-key-ed25519\"";
    let ListEntry::InnerList(parsed) = only_member(&format!("sig={list}"), "x").unwrap() else {
        panic!("not a list");
    };
    assert_eq!(serialize_list(&parsed), list);
    let mut base = String::new();
    for item in &parsed.items {
        let name = item.bare_item.as_string().unwrap().as_str();
        push_component(&mut base, &(&parts).into(), name).unwrap();
    }
    push_params_line(&mut base, &serialize_list(&parsed));
    let expected = format!(
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
         \"@authority\": example.com\n\"content-type\": application/json\n\"content-length\": 18\n\
         \"@signature-params\": {list}"
    );
    assert_eq!(base, expected);

    let seed = BASE64URL_NOPAD
        .decode(b"n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU")
        .unwrap();
    let public = BASE64URL_NOPAD
        .decode(b"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs")
        .unwrap();
    let key = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).unwrap();
    let signature: [u8; 64] = key.sign(base.as_bytes()).as_ref().try_into().unwrap();
    assert_eq!(
        BASE64.encode(&signature),
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    );
    let principal = Principal(public.try_into().unwrap());
    assert!(verify_ed25519(&principal, base.as_bytes(), &signature));
}

/// RFC 9530, appendix B: the digest of a known body.
#[test]
fn content_digests_are_those_of_rfc_9530() {
    assert_eq!(
        content_digest(b"{\"hello\": \"world\"}\n"),
        "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    );
    let both = "sha-512=:AAAA:, sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    assert_eq!(
        parse_content_digest(both),
        Ok(sha256(b"{\"hello\": \"world\"}\n"))
    );
    for bad in [
        "",
        "sha-512=:AAAA:",
        "sha-256=:AAAA:",
        "sha-256=1",
        "sha-256",
        "((((",
    ] {
        assert!(parse_content_digest(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_signed_request_verifies_and_says_who_and_when() {
    let parts = signed();
    assert_eq!(
        parts.headers[SIGNATURE_INPUT_HEADER].to_str().unwrap(),
        input_value(ALL).replace(
            &format!("expires={}", NOW_S + 60),
            &format!("expires={}", NOW_S + 300)
        )
    );
    let verified = check(&parts).unwrap();
    assert_eq!(verified.principal, principal());
    assert_eq!(verified.nonce, [3; 16]);
    assert_eq!(verified.created, NOW);
    assert_eq!(verified.expires, TimestampMs(NOW.0 + 300_000));
    assert_eq!(verified.check_body(b"body"), Ok(()));
    assert_eq!(
        verified.check_body(b"bodY"),
        Err(SignatureError::BodyDigest)
    );
    assert_eq!(verified.check_body(b""), Err(SignatureError::BodyDigest));
}

#[test]
fn a_server_sees_the_same_request_in_origin_form() {
    let mut parts = signed();
    parts.uri = Uri::from_static("/v1/buckets/b/object?key=a%2Fb");
    assert_eq!(check(&parts), Err(SignatureError::NoAuthority));
    parts
        .headers
        .insert("host", HeaderValue::from_static("localhost:8080"));
    assert!(check(&parts).is_ok());
    parts
        .headers
        .append("host", HeaderValue::from_static("localhost:8080"));
    assert_eq!(check(&parts), Err(SignatureError::DuplicateHeader("host")));
}

#[test]
fn default_ports_do_not_count() {
    for (signed_as, received_as) in [
        ("http://a.example:80/x", "http://a.example/x"),
        ("https://A.example/x", "https://a.example:443/x"),
    ] {
        let parts = http::Request::get(signed_as)
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let mut parts = signed_with(parts, &params());
        parts.uri = received_as.parse().unwrap();
        assert!(check(&parts).is_ok(), "{signed_as}");
    }
}

#[test]
fn altered_parts_do_not_verify() {
    type Alter = fn(&mut http::request::Parts);
    let alterations: [(&str, Alter); 6] = [
        ("method", |parts| parts.method = Method::POST),
        ("path", |parts| {
            parts.uri = Uri::from_static("http://localhost:8080/v1/buckets/c/object?key=a%2Fb");
        }),
        ("query", |parts| {
            parts.uri = Uri::from_static("http://localhost:8080/v1/buckets/b/object?key=a/b");
        }),
        ("authority", |parts| {
            parts.uri = Uri::from_static("http://localhost:8081/v1/buckets/b/object?key=a%2Fb");
        }),
        ("digest", |parts| {
            parts
                .headers
                .insert(CONTENT_DIGEST_HEADER, content_digest(b"other"));
        }),
        ("nonce", |parts| {
            let value = parts.headers[SIGNATURE_INPUT_HEADER].to_str().unwrap();
            let nonce = BASE64URL_NOPAD.encode(&[4; 16]);
            let value = value.replace(&BASE64URL_NOPAD.encode(&[3; 16]), &nonce);
            parts
                .headers
                .insert(SIGNATURE_INPUT_HEADER, header_value(&value));
        }),
    ];
    for (what, alter) in alterations {
        let mut parts = signed();
        alter(&mut parts);
        assert_eq!(check(&parts), Err(SignatureError::Forged), "{what}");
    }
}

#[test]
fn headers_that_bind_a_request_cannot_be_added_or_removed() {
    for name in [CHUNK_CID_HEADER, "range", IDEMPOTENCY_KEY_HEADER] {
        let mut parts = signed();
        parts.headers.insert(name, HeaderValue::from_static("x"));
        assert_eq!(check(&parts), Err(SignatureError::NotCovered(name)));
    }
    let mut parts = signed();
    parts.headers.remove(CONTENT_DIGEST_HEADER);
    assert_eq!(check(&parts), Err(SignatureError::Component));
    let mut parts = signed();
    parts
        .headers
        .append(CONTENT_DIGEST_HEADER, content_digest(b"other"));
    assert_eq!(
        check(&parts),
        Err(SignatureError::DuplicateHeader(CONTENT_DIGEST_HEADER))
    );
}

#[test]
fn every_conditional_header_is_covered_when_present() {
    let cid = Cid::of_raw(b"chunk");
    let parts = http::Request::put("http://localhost/v1/uploads/u/chunks/0")
        .header(CHUNK_CID_HEADER, cid.to_string())
        .header("range", "bytes=0-65535")
        .header(IDEMPOTENCY_KEY_HEADER, "k")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let parts = signed_with(parts, &params());
    let verified = check(&parts).unwrap();
    assert_eq!(verified.chunk_cid, Some(cid));
    assert_eq!(verified.content_digest, None);
    // The chunk's CID covers chunk bodies only: a control route refuses such a request's body.
    assert_eq!(
        verified.check_body(b"x"),
        Err(SignatureError::BodyNotCovered)
    );
    assert_eq!(verified.check_body(b""), Ok(()));
    for name in [CHUNK_CID_HEADER, "range", IDEMPOTENCY_KEY_HEADER] {
        let mut altered = parts.clone();
        altered
            .headers
            .insert(name, HeaderValue::from_static("other"));
        assert_eq!(check(&altered), Err(SignatureError::Forged), "{name}");
    }
}

#[test]
fn a_verifier_takes_any_order_of_components_and_parameters() {
    let shuffled = r#""content-digest" "@query" "@path" "@authority" "@method""#;
    assert!(check(&sign_input(put(b"body"), &input_value(shuffled))).is_ok());
    let value = input_value(ALL);
    let (list, rest) = value.split_once(';').unwrap();
    let mut parameters: Vec<_> = rest.split(';').collect();
    parameters.reverse();
    let reversed = format!("{list};{}", parameters.join(";"));
    assert!(check(&sign_input(put(b"body"), &reversed)).is_ok());
    // Optional white space is not part of the canonical form.
    let spaced = value.replace("\" \"", "\"   \"");
    assert!(check(&sign_input(put(b"body"), &spaced)).is_ok());
}

#[test]
fn coverage_outside_the_rules_is_refused() {
    let with_type = |parts: http::request::Parts| {
        let mut parts = parts;
        parts
            .headers
            .insert("content-type", HeaderValue::from_static("application/cbor"));
        parts
    };
    for (components, expected) in [
        (
            r#""@method" "@path" "@query" "content-digest""#,
            SignatureError::NotCovered("@authority"),
        ),
        (
            r#""@method" "@authority" "@path" "content-digest""#,
            SignatureError::NotCovered("@query"),
        ),
        (
            r#""@method" "@authority" "@path" "@query""#,
            SignatureError::NotCovered("content-digest"),
        ),
        (
            r#""@method" "@method" "@authority" "@path" "@query" "content-digest""#,
            SignatureError::Component,
        ),
        (
            r#""@method" "@authority" "@path" "@query" "content-digest" "content-type""#,
            SignatureError::Component,
        ),
        (
            r#""@method" "@authority" "@path" "@query" "content-digest";sf"#,
            SignatureError::Component,
        ),
    ] {
        let parts = sign_input(with_type(put(b"body")), &input_value(components));
        assert_eq!(check(&parts), Err(expected), "{components}");
    }
}

#[test]
fn times_are_checked_at_their_bounds() {
    let at = |created_s, expires_s, now_ms| {
        let params = SignatureParams {
            created_s,
            expires_s,
            ..params()
        };
        let parts = signed_with(put(b"body"), &params);
        verify((&parts).into(), &DEPLOYMENT, TimestampMs(now_ms)).map(|_| ())
    };
    let expired = |now_ms| Err(SignatureError::Expired { now_ms });
    let early = |now_ms| Err(SignatureError::NotYetValid { now_ms });
    assert_eq!(at(NOW_S, NOW_S + 300, NOW.0 + 299_999), Ok(()));
    assert_eq!(
        at(NOW_S, NOW_S + 300, NOW.0 + 300_000),
        expired(NOW.0 + 300_000)
    );
    assert_eq!(at(NOW_S, NOW_S + 300, NOW.0 - 60_000), Ok(()));
    assert_eq!(
        at(NOW_S, NOW_S + 300, NOW.0 - 60_001),
        early(NOW.0 - 60_001)
    );
    assert_eq!(at(NOW_S, NOW_S + 301, NOW.0), Err(SignatureError::Lifetime));
    assert_eq!(at(NOW_S, NOW_S - 1, NOW.0), Err(SignatureError::Lifetime));
    assert_eq!(at(NOW_S, NOW_S, NOW.0), expired(NOW.0));
    let params = SignatureParams {
        created_s: u64::MAX,
        ..params()
    };
    assert_eq!(
        sign((&put(b"body")).into(), &params, by_pair),
        Err(SignatureError::Lifetime)
    );
}

#[test]
fn other_deployments_and_other_keys_are_refused() {
    let parts = signed();
    let other = DeploymentId([0xd2; 32]);
    assert_eq!(
        verify((&parts).into(), &other, NOW),
        Err(SignatureError::OtherDeployment)
    );
    let params = SignatureParams {
        principal: Principal([1; 32]),
        ..params()
    };
    assert_eq!(
        check(&signed_with(put(b"body"), &params)),
        Err(SignatureError::Forged)
    );
}

#[test]
fn parameters_outside_the_rules_are_refused() {
    let good = input_value(ALL);
    assert!(check(&sign_input(put(b"body"), &good)).is_ok());
    let nonce = BASE64URL_NOPAD.encode(&[3; 16]);
    for (from, to) in [
        (";alg=\"ed25519\"", ""),
        ("alg=\"ed25519\"", "alg=\"hmac-sha256\""),
        ("alg=\"ed25519\"", "alg=ed25519"),
        (nonce.as_str(), "AAAA"),
        ("created=", "created=-"),
        ("created=", "x="),
        (";created=", ";foo;created="),
        ("keyid=\"", "keyid=\"0"),
        ("tag=\"", "tag=\"D"),
    ] {
        let value = good.replacen(from, to, 1);
        assert_ne!(value, good);
        let error = check(&sign_input(put(b"body"), &value)).unwrap_err();
        assert!(
            matches!(error, SignatureError::Malformed { .. }),
            "{to}: {error:?}"
        );
        assert_eq!(error.code(), Code::SignatureInvalid);
    }
}

#[test]
fn unsigned_doubly_signed_and_garbled_headers_are_refused() {
    let bare = put(b"body");
    assert_eq!(check(&bare), Err(SignatureError::Missing));
    assert_eq!(SignatureError::Missing.code(), Code::Unauthenticated);
    let good = signed();
    for name in [SIGNATURE_INPUT_HEADER, SIGNATURE_HEADER] {
        let mut half = good.clone();
        half.headers.remove(name);
        assert!(matches!(
            check(&half),
            Err(SignatureError::Malformed { .. })
        ));
        let mut twice = good.clone();
        twice.headers.append(name, good.headers[name].clone());
        assert_eq!(check(&twice), Err(SignatureError::DuplicateHeader(name)));
        for garbage in [
            "",
            "sig",
            "sig=1",
            "other=:AA==:",
            "sig=:AA==:, b=:AA==:",
            "sig=()",
            "(((",
        ] {
            let mut parts = good.clone();
            parts
                .headers
                .insert(name, HeaderValue::from_static(garbage));
            assert!(check(&parts).is_err(), "{name}: {garbage}");
        }
        let mut long = good.clone();
        let padded = format!(
            "{}{}",
            good.headers[name].to_str().unwrap(),
            " ".repeat(HEADER_BYTES_MAX)
        );
        long.headers.insert(name, header_value(&padded));
        assert!(matches!(
            check(&long),
            Err(SignatureError::Malformed {
                reason: "too long",
                ..
            })
        ));
    }
}

proptest! {
    #[test]
    fn verify_never_panics(input in "[ -~]{0,120}", signature in "[ -~]{0,120}") {
        let mut parts = put(b"body");
        parts.headers.insert(SIGNATURE_INPUT_HEADER, header_value(&input));
        parts.headers.insert(SIGNATURE_HEADER, header_value(&signature));
        prop_assert!(check(&parts).is_err());
    }

    #[test]
    fn one_altered_byte_of_the_headers_is_refused(at in 0usize..400, to in 0x20u8..0x7f) {
        for name in [SIGNATURE_INPUT_HEADER, SIGNATURE_HEADER] {
            let mut parts = signed();
            let mut value = parts.headers[name].as_bytes().to_vec();
            let at = at % value.len();
            if value[at] != to {
                value[at] = to;
                let canonical = serialize(name, &value);
                let unchanged = canonical == serialize(name, parts.headers[name].as_bytes());
                parts.headers.insert(name, HeaderValue::from_bytes(&value).unwrap());
                // White space and the like may vary without a change of meaning.
                prop_assert_eq!(check(&parts).is_ok(), unchanged);
            }
        }
    }
}

fn serialize(name: &'static str, value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    match only_member(text, name).ok()? {
        ListEntry::InnerList(list) => Some(serialize_list(&list)),
        ListEntry::Item(item) if item.params.is_empty() => match item.bare_item {
            BareItem::ByteSequence(bytes) => Some(BASE64.encode(&bytes)),
            _ => None,
        },
        ListEntry::Item(_) => None,
    }
}
