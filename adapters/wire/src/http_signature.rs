//! Signed requests: HTTP Message Signatures (RFC 9421) with Ed25519, and body digests (RFC 9530).
//!
//! A request carries one signature, labelled `sig`. It covers `@method`, `@authority`, `@path`, `@query` always, and
//! `content-digest`, `strongroom-chunk-cid`, `range`, `idempotency-key` whenever the request has that header; its
//! parameters are `created`, `expires` (at most 300 s later), `nonce` (16 random bytes, base64url), `keyid` (the
//! principal, base58), `alg` (`ed25519`) and `tag` (the deployment's id in hex), all required. A client signs the
//! components in that order; a verifier takes any order (RFC 9421, 2.5) but no other component, no component
//! parameter, no other signature parameter and no header that occurs twice.
//!
//! The body is bound by `content-digest`, or, for chunk bodies, by `strongroom-chunk-cid`: see
//! [`VerifiedRequest::check_body`]. What is not here: clocks (`now` is passed in) and the memory of used nonces.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use domain::limits::SIGNATURE_LIFETIME_MS_MAX;
use domain::{Cid, DeploymentId, Principal, TimestampMs};
use http::{HeaderMap, HeaderValue, Method, Uri};
use sfv::{BareItem, Dictionary, InnerList, Integer, KeyRef, ListEntry, Parser, StringRef};

use crate::problem::Code;
use crate::rest::{CHUNK_CID_HEADER, CLOCK_SKEW_MS_MAX};

/// The signature's label in both headers.
pub const LABEL: &str = "sig";
/// Header with covered components and parameters.
pub const SIGNATURE_INPUT_HEADER: &str = "signature-input";
/// Header with the signature itself.
pub const SIGNATURE_HEADER: &str = "signature";
/// Header with the SHA-256 of the body (RFC 9530).
pub const CONTENT_DIGEST_HEADER: &str = "content-digest";
/// Header that names a mutation across retries.
pub const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 16;
/// Bytes of a `Signature-Input`, `Signature` or `Content-Digest` value that are parsed, at most.
pub const HEADER_BYTES_MAX: usize = 2_048;

/// Covered whenever the request has them; in this order when we sign.
const CONDITIONAL: [&str; 4] = [
    CONTENT_DIGEST_HEADER,
    CHUNK_CID_HEADER,
    "range",
    IDEMPOTENCY_KEY_HEADER,
];
/// Covered always.
const DERIVED: [&str; 4] = ["@method", "@authority", "@path", "@query"];

/// Why a request is not taken as signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Neither `Signature-Input` nor `Signature`.
    #[error("the request is not signed: sign it (RFC 9421) or send a bearer token")]
    Missing,
    /// A header that occurs more than once.
    #[error("the header `{0}` occurs more than once")]
    DuplicateHeader(&'static str),
    /// A header that does not parse, or not into what we need.
    #[error("malformed {header}: {reason}")]
    Malformed {
        /// Which header.
        header: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A component that must be covered is not.
    #[error("the signature does not cover `{0}`")]
    NotCovered(&'static str),
    /// A covered component that a verifier of ours does not take, or one that is there twice.
    #[error(
        "the signature covers a component that is not allowed here, twice or absent from the request"
    )]
    Component,
    /// The request has no authority: no Host header and no authority in its target.
    #[error("the request has no Host")]
    NoAuthority,
    /// Signed for another deployment.
    #[error("the request is signed for another deployment")]
    OtherDeployment,
    /// It would live too long.
    #[error("the signature lives longer than 300 seconds")]
    Lifetime,
    /// Its time has passed.
    #[error(
        "the signature has expired; the signer's clock may be wrong: the gateway's time is {now_ms} ms"
    )]
    Expired {
        /// The verifier's clock, in milliseconds.
        now_ms: u64,
    },
    /// It was made in the future.
    #[error(
        "the signature was made in the future; the signer's clock may be wrong: the gateway's time is {now_ms} ms"
    )]
    NotYetValid {
        /// The verifier's clock, in milliseconds.
        now_ms: u64,
    },
    /// The principal's key did not make it over this request.
    #[error("the signature does not fit this request")]
    Forged,
    /// A body that nothing covers.
    #[error("the request has a body and no content-digest")]
    BodyNotCovered,
    /// A body other than the one that was signed.
    #[error("the body does not fit its content-digest")]
    BodyDigest,
}

impl SignatureError {
    /// The code that the caller is told.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Missing => Code::Unauthenticated,
            Self::Expired { .. } | Self::NotYetValid { .. } => Code::SignatureExpired,
            Self::NoAuthority => Code::BadRequest,
            _ => Code::SignatureInvalid,
        }
    }

    /// The document that the caller is told.
    #[must_use]
    pub fn problem(&self) -> crate::problem::Problem {
        crate::problem::Problem::new(self.code(), self.to_string())
    }
}

/// The parts of a request that a signature may cover.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Method.
    pub method: &'a Method,
    /// Target: with authority (client, HTTP/2) or without it (HTTP/1.1 server; then `Host` counts).
    pub uri: &'a Uri,
    /// Header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> From<&'a http::request::Parts> for RequestView<'a> {
    fn from(parts: &'a http::request::Parts) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
        }
    }
}

/// Parameters of a signature that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureParams {
    /// Who signs.
    pub principal: Principal,
    /// For which deployment.
    pub deployment: DeploymentId,
    /// When, in seconds since 1970.
    pub created_s: u64,
    /// Until when, in seconds since 1970; at most 300 later.
    pub expires_s: u64,
    /// Random; never used twice.
    pub nonce: [u8; NONCE_BYTES],
}

/// The two header values of a signed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaders {
    /// Value of `Signature-Input`.
    pub signature_input: HeaderValue,
    /// Value of `Signature`.
    pub signature: HeaderValue,
}

impl SignedHeaders {
    /// Sets both headers.
    pub fn insert_into(self, headers: &mut HeaderMap) {
        headers.insert(SIGNATURE_INPUT_HEADER, self.signature_input);
        headers.insert(SIGNATURE_HEADER, self.signature);
    }
}

/// What a valid signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRequest {
    /// Who signed.
    pub principal: Principal,
    /// To be remembered until `expires` when the request is a mutation.
    pub nonce: [u8; NONCE_BYTES],
    /// When it was signed.
    pub created: TimestampMs,
    /// When it ends.
    pub expires: TimestampMs,
    /// SHA-256 that the body must have, from the covered `content-digest`.
    pub content_digest: Option<[u8; 32]>,
    /// CID that a chunk body must have, from the covered `strongroom-chunk-cid`.
    pub chunk_cid: Option<Cid>,
}

impl VerifiedRequest {
    /// Checks the complete body of a control request against the signed digest. Every route that reads a body, other
    /// than a chunk's, must call this (also with an empty body) before it uses a byte of it.
    ///
    /// # Errors
    /// [`SignatureError::BodyNotCovered`] for bytes without a digest, [`SignatureError::BodyDigest`] for other bytes.
    pub fn check_body(&self, body: &[u8]) -> Result<(), SignatureError> {
        match &self.content_digest {
            None if body.is_empty() => Ok(()),
            None => Err(SignatureError::BodyNotCovered),
            Some(expected) if sha256(body) == *expected => Ok(()),
            Some(_) => Err(SignatureError::BodyDigest),
        }
    }
}

/// The value of `Content-Digest` for a body (RFC 9530).
#[must_use]
pub fn content_digest(body: &[u8]) -> HeaderValue {
    let mut value = String::with_capacity(54);
    value.push_str("sha-256=:");
    BASE64.encode_append(&sha256(body), &mut value);
    value.push(':');
    header_value(&value)
}

/// Signs a request: call it last, when every header it must cover is set. `sign` is given the signature base and
/// answers with the Ed25519 signature (RFC 9421, 3.3.6).
///
/// # Errors
/// When a header that must be covered occurs twice or is not text, or the request has no authority.
pub fn sign(
    request: RequestView<'_>,
    params: &SignatureParams,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Result<SignedHeaders, SignatureError> {
    let mut base = String::with_capacity(768);
    let mut components = [""; 8];
    let mut count = 0;
    let present = CONDITIONAL
        .iter()
        .filter(|name| request.headers.contains_key(**name));
    for (slot, name) in components.iter_mut().zip(DERIVED.iter().chain(present)) {
        push_component(&mut base, &request, name)?;
        *slot = name;
        count += 1;
    }
    let covered = components.get(..count).unwrap_or_default();
    let input = serialize_params(covered, params)?;
    push_params_line(&mut base, &input);
    let signature = sign(base.as_bytes());

    let mut value = String::with_capacity(96);
    value.push_str("sig=:");
    BASE64.encode_append(&signature, &mut value);
    value.push(':');
    Ok(SignedHeaders {
        signature_input: header_value(&format!("{LABEL}={input}")),
        signature: header_value(&value),
    })
}

/// Whether the request carries a signature at all (else it may carry a token).
#[must_use]
pub fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key(SIGNATURE_INPUT_HEADER) || headers.contains_key(SIGNATURE_HEADER)
}

/// Checks a request's signature: shape, coverage, deployment, time, and at last the signature itself.
///
/// # Errors
/// [`SignatureError`]; its [`code`](SignatureError::code) is what the caller is told.
pub fn verify(
    request: RequestView<'_>,
    deployment: &DeploymentId,
    now: TimestampMs,
) -> Result<VerifiedRequest, SignatureError> {
    verify_with(request, deployment, now, verify_ed25519)
}

/// As [`verify`], with the signature check passed in: (principal, base, signature) -> whether it holds.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(
    request: RequestView<'_>,
    deployment: &DeploymentId,
    now: TimestampMs,
    check: impl FnOnce(&Principal, &[u8], &[u8; 64]) -> bool,
) -> Result<VerifiedRequest, SignatureError> {
    let (input, signature) = parse_headers(request.headers)?;
    let params = parse_params(&input)?;
    if params.tag != *deployment {
        return Err(SignatureError::OtherDeployment);
    }
    check_time(&params, now)?;

    let mut base = String::with_capacity(768);
    let mut seen = Seen::default();
    for item in &input.items {
        let name = match &item.bare_item {
            BareItem::String(name) if item.params.is_empty() => name.as_str(),
            _ => return Err(SignatureError::Component),
        };
        seen.add(name)?;
        push_component(&mut base, &request, name)?;
    }
    seen.check(request.headers)?;
    push_params_line(&mut base, &serialize_list(&input));
    if !check(&params.principal, base.as_bytes(), &signature) {
        return Err(SignatureError::Forged);
    }

    let content_digest = match single(request.headers, CONTENT_DIGEST_HEADER)? {
        Some(value) => Some(parse_content_digest(value)?),
        None => None,
    };
    let chunk_cid = match single(request.headers, CHUNK_CID_HEADER)? {
        Some(value) => Some(parse_chunk_cid(value)?),
        None => None,
    };
    Ok(VerifiedRequest {
        principal: params.principal,
        nonce: params.nonce,
        created: TimestampMs(params.created_ms),
        expires: TimestampMs(params.expires_ms),
        content_digest,
        chunk_cid,
    })
}

/// What the parameters of a received signature say.
struct ReceivedParams {
    created_ms: u64,
    expires_ms: u64,
    nonce: [u8; NONCE_BYTES],
    principal: Principal,
    tag: DeploymentId,
}

/// Which components are covered, as bits over [`DERIVED`] then [`CONDITIONAL`].
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn add(&mut self, name: &str) -> Result<(), SignatureError> {
        let at = DERIVED
            .iter()
            .chain(&CONDITIONAL)
            .position(|known| *known == name)
            .ok_or(SignatureError::Component)?;
        let bit = 1 << at;
        if self.0 & bit != 0 {
            return Err(SignatureError::Component);
        }
        self.0 |= bit;
        Ok(())
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), SignatureError> {
        for (at, name) in DERIVED.iter().chain(&CONDITIONAL).enumerate() {
            let needed = at < DERIVED.len() || headers.contains_key(*name);
            if needed && self.0 & (1 << at) == 0 {
                return Err(SignatureError::NotCovered(name));
            }
        }
        Ok(())
    }
}

fn check_time(params: &ReceivedParams, now: TimestampMs) -> Result<(), SignatureError> {
    let lifetime = params
        .expires_ms
        .checked_sub(params.created_ms)
        .ok_or(SignatureError::Lifetime)?;
    if lifetime > SIGNATURE_LIFETIME_MS_MAX {
        return Err(SignatureError::Lifetime);
    }
    if params.created_ms > now.0.saturating_add(CLOCK_SKEW_MS_MAX) {
        return Err(SignatureError::NotYetValid { now_ms: now.0 });
    }
    if params.expires_ms <= now.0 {
        return Err(SignatureError::Expired { now_ms: now.0 });
    }
    Ok(())
}

/// The single value of a header, as text.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(SignatureError::DuplicateHeader(name));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| malformed(name, "not ASCII text"))
}

fn bounded<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, SignatureError> {
    match single(headers, name)? {
        Some(value) if value.len() > HEADER_BYTES_MAX => Err(malformed(name, "too long")),
        value => Ok(value),
    }
}

fn parse_headers(headers: &HeaderMap) -> Result<(InnerList, [u8; 64]), SignatureError> {
    let (input, signature) = match (
        bounded(headers, SIGNATURE_INPUT_HEADER)?,
        bounded(headers, SIGNATURE_HEADER)?,
    ) {
        (None, None) => return Err(SignatureError::Missing),
        (Some(input), Some(signature)) => (input, signature),
        (None, _) => return Err(malformed(SIGNATURE_INPUT_HEADER, "absent")),
        (_, None) => return Err(malformed(SIGNATURE_HEADER, "absent")),
    };
    let ListEntry::InnerList(list) = only_member(input, SIGNATURE_INPUT_HEADER)? else {
        return Err(malformed(
            SIGNATURE_INPUT_HEADER,
            "not a list of components",
        ));
    };
    let ListEntry::Item(item) = only_member(signature, SIGNATURE_HEADER)? else {
        return Err(malformed(SIGNATURE_HEADER, "not a byte sequence"));
    };
    let signature = match &item.bare_item {
        BareItem::ByteSequence(bytes) => <[u8; 64]>::try_from(bytes.as_slice())
            .map_err(|_| malformed(SIGNATURE_HEADER, "an Ed25519 signature has 64 bytes"))?,
        _ => return Err(malformed(SIGNATURE_HEADER, "not a byte sequence")),
    };
    Ok((list, signature))
}

/// The member `sig` of a dictionary that has no other.
fn only_member(value: &str, header: &'static str) -> Result<ListEntry, SignatureError> {
    let mut members = Parser::new(value)
        .parse::<Dictionary>()
        .map_err(|_| malformed(header, "not a structured dictionary (RFC 9651)"))?
        .into_iter();
    match (members.next(), members.next()) {
        (Some((key, member)), None) if key.as_str() == LABEL => Ok(member),
        _ => Err(malformed(header, "expected one member, labelled `sig`")),
    }
}

fn parse_params(list: &InnerList) -> Result<ReceivedParams, SignatureError> {
    let (mut created, mut expires) = (None, None);
    let (mut nonce, mut principal, mut tag, mut alg) = (None, None, None, None);
    for (name, value) in &list.params {
        match (name.as_str(), value) {
            ("created", BareItem::Integer(at)) => created = Some(*at),
            ("expires", BareItem::Integer(at)) => expires = Some(*at),
            ("nonce", BareItem::String(text)) => nonce = Some(text.as_str()),
            ("keyid", BareItem::String(text)) => principal = Some(text.as_str()),
            ("tag", BareItem::String(text)) => tag = Some(text.as_str()),
            ("alg", BareItem::String(text)) => alg = Some(text.as_str()),
            _ => return Err(input("a parameter that is unknown or of the wrong type")),
        }
    }
    if alg != Some("ed25519") {
        return Err(input("alg must be \"ed25519\""));
    }
    let seconds = |value: Option<Integer>, missing| {
        value
            .and_then(|at| u64::try_from(i64::from(at)).ok())
            .and_then(|at| at.checked_mul(1_000))
            .ok_or(input(missing))
    };
    Ok(ReceivedParams {
        created_ms: seconds(created, "created must be seconds since 1970")?,
        expires_ms: seconds(expires, "expires must be seconds since 1970")?,
        nonce: nonce
            .and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok())
            .and_then(|bytes| <[u8; NONCE_BYTES]>::try_from(bytes).ok())
            .ok_or(input("nonce must be 16 bytes in base64url"))?,
        principal: principal
            .and_then(|text| text.parse().ok())
            .ok_or(input("keyid must be a principal in base58"))?,
        tag: tag
            .and_then(|text| text.parse().ok())
            .ok_or(input("tag must be a deployment id in hexadecimal"))?,
    })
}

fn parse_content_digest(value: &str) -> Result<[u8; 32], SignatureError> {
    if value.len() > HEADER_BYTES_MAX {
        return Err(malformed(CONTENT_DIGEST_HEADER, "too long"));
    }
    let members = Parser::new(value)
        .parse::<Dictionary>()
        .map_err(|_| malformed(CONTENT_DIGEST_HEADER, "not a structured dictionary"))?;
    match members.get(KeyRef::constant("sha-256")) {
        Some(ListEntry::Item(item)) => match &item.bare_item {
            BareItem::ByteSequence(bytes) => <[u8; 32]>::try_from(bytes.as_slice())
                .map_err(|_| malformed(CONTENT_DIGEST_HEADER, "a SHA-256 has 32 bytes")),
            _ => Err(malformed(CONTENT_DIGEST_HEADER, "not a byte sequence")),
        },
        _ => Err(malformed(CONTENT_DIGEST_HEADER, "expected sha-256")),
    }
}

fn parse_chunk_cid(value: &str) -> Result<Cid, SignatureError> {
    value
        .parse::<Cid>()
        .ok()
        .filter(|cid| cid.codec() == domain::Codec::Raw)
        .ok_or(malformed(CHUNK_CID_HEADER, "expected the CID of a chunk"))
}

/// Appends `"name": value\n` (RFC 9421, 2.5).
fn push_component(
    base: &mut String,
    request: &RequestView<'_>,
    name: &str,
) -> Result<(), SignatureError> {
    base.push('"');
    base.push_str(name);
    base.push_str("\": ");
    match name {
        "@method" => base.push_str(request.method.as_str()),
        "@authority" => push_authority(base, request)?,
        "@path" => base.push_str(match request.uri.path() {
            "" => "/",
            path => path,
        }),
        "@query" => {
            base.push('?');
            base.push_str(request.uri.query().unwrap_or_default());
        }
        _ if name.starts_with('@') => return Err(SignatureError::Component),
        field => {
            let mut values = request.headers.get_all(field).iter();
            let value = values.next().ok_or(SignatureError::Component)?;
            if values.next().is_some() {
                let known = CONDITIONAL.iter().find(|known| **known == field);
                return Err(known.map_or(SignatureError::Component, |known| {
                    SignatureError::DuplicateHeader(known)
                }));
            }
            let text = value.to_str().map_err(|_| SignatureError::Component)?;
            base.push_str(text.trim());
        }
    }
    base.push('\n');
    Ok(())
}

/// Host and port in lower case, without the default port of either scheme (RFC 9421, 2.2.3): the verifier behind a
/// TLS terminator does not know which of the two schemes the client used.
fn push_authority(base: &mut String, request: &RequestView<'_>) -> Result<(), SignatureError> {
    let authority = match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => single(request.headers, "host")?.ok_or(SignatureError::NoAuthority)?,
    };
    let authority = authority.trim();
    if authority.is_empty() {
        return Err(SignatureError::NoAuthority);
    }
    let bare = authority
        .strip_suffix(":80")
        .or_else(|| authority.strip_suffix(":443"))
        .unwrap_or(authority);
    base.extend(bare.chars().map(|c| c.to_ascii_lowercase()));
    Ok(())
}

fn push_params_line(base: &mut String, input: &str) {
    // Writing into a String cannot fail. The last line has no line end.
    let _ = write!(base, "\"@signature-params\": {input}");
}

/// The inner list of a signature that we make.
fn serialize_params(covered: &[&str], params: &SignatureParams) -> Result<String, SignatureError> {
    let mut out = String::with_capacity(384);
    let mut serializer = sfv::ListSerializer::with_buffer(&mut out);
    let mut list = serializer.inner_list();
    for name in covered {
        let name = StringRef::from_str(name).map_err(|_| SignatureError::Component)?;
        let _ = list.bare_item(name);
    }
    let text = |text: &str| -> Result<sfv::String, SignatureError> {
        sfv::String::from_string(text.to_owned()).map_err(|_| input("not ASCII text"))
    };
    let seconds = |at: u64| {
        i64::try_from(at)
            .ok()
            .and_then(|at| Integer::try_from(at).ok())
            .ok_or(SignatureError::Lifetime)
    };
    let nonce = text(&BASE64URL_NOPAD.encode(&params.nonce))?;
    let principal = text(&params.principal.to_string())?;
    let tag = text(&params.deployment.to_string())?;
    let _ = list
        .finish()
        .parameter(KeyRef::constant("created"), seconds(params.created_s)?)
        .parameter(KeyRef::constant("expires"), seconds(params.expires_s)?)
        .parameter(KeyRef::constant("nonce"), &nonce)
        .parameter(KeyRef::constant("keyid"), &principal)
        .parameter(KeyRef::constant("alg"), StringRef::constant("ed25519"))
        .parameter(KeyRef::constant("tag"), &tag);
    Ok(out)
}

/// The inner list as received, in RFC 9651's canonical form.
fn serialize_list(list: &InnerList) -> String {
    let mut out = String::with_capacity(384);
    let mut serializer = sfv::ListSerializer::with_buffer(&mut out);
    let mut inner = serializer.inner_list();
    inner.items(&list.items);
    let _ = inner.finish().parameters(&list.params);
    out
}

fn verify_ed25519(principal: &Principal, base: &[u8], signature: &[u8; 64]) -> bool {
    crypto::identity::verify_http(principal, base, &crypto::Signature(*signature)).is_ok()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Our own values are base64, base58, hex and fixed names: always visible ASCII.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn malformed(header: &'static str, reason: &'static str) -> SignatureError {
    SignatureError::Malformed { header, reason }
}

fn input(reason: &'static str) -> SignatureError {
    malformed(SIGNATURE_INPUT_HEADER, reason)
}

#[cfg(test)]
mod tests;
