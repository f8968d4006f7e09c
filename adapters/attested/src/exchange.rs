//! The exchange of evidence, first thing inside a fresh TLS session.
//!
//! ```text
//! connecting -> accepting   hello: version(1) = 1, role(1), nonce(32)
//! accepting -> connecting   hello: version(1) = 1, role(1), nonce(32)
//! accepting -> connecting   evidence, or nothing
//! connecting -> accepting   verdict
//! connecting -> accepting   evidence, or nothing (a client)
//! accepting -> connecting   verdict
//! ```
//!
//! Each is a framed message. A verdict is 0 (accepted), or 1 and a word that says why not. The accepting side proves
//! itself first: whoever connects learns nothing by it that any other could not, and sends its own evidence to nobody
//! whom it refuses.

use attestation::binding::{Binding, Nonce, Side};
use attestation::evidence::EVIDENCE_BYTES_MAX;
use attestation::{Appraisal, Evidence, Expected, Role, SourceError};
use domain::PlatformType;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsStream;

use crate::endpoint::{Endpoint, Local};
use crate::error::SessionError;
use crate::frame::{self, Reader};
use crate::key::from_spki;
use crate::serve::Admit;

const VERSION: u8 = 1;
const HELLO_BYTES: usize = 34;
const VERDICT_BYTES_MAX: usize = 65;
const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;
/// `tls-exporter` of RFC 9266: the exporter of RFC 8446 with this label, an empty context and 32 bytes.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Whom the other side proved to be.
pub(crate) struct Agreed {
    pub(crate) role: Role,
    pub(crate) key: [u8; 32],
    pub(crate) appraisal: Option<Appraisal>,
}

/// The connecting side.
pub(crate) async fn connect<S>(
    endpoint: &Endpoint,
    tls: &mut TlsStream<S>,
    expected: Role,
) -> Result<Agreed, SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reader = Reader::default();
    let own = Hello::fresh(endpoint.local.role())?;
    frame::write(tls, &own.bytes(), HELLO_BYTES).await?;
    let peer = Hello::read(tls, &mut reader).await?;
    let (binding, key) = bind(endpoint, tls, Side::Connecting, &own, &peer)?;

    let bytes = read(tls, &mut reader, EVIDENCE_BYTES_MAX).await?;
    let judged = if peer.role == expected {
        judge(endpoint, &binding, peer.role, &bytes)
    } else {
        Err(SessionError::Role { role: peer.role })
    };
    let appraisal = declare(tls, judged).await?;
    let evidence = evidence(endpoint, &binding).await?;
    frame::write(tls, &evidence, EVIDENCE_BYTES_MAX).await?;
    verdict(tls, &mut reader).await?;
    finish(reader, peer.role, key, appraisal)
}

/// The accepting side.
pub(crate) async fn accept<S>(
    endpoint: &Endpoint,
    tls: &mut TlsStream<S>,
    admit: &Admit,
) -> Result<Agreed, SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reader = Reader::default();
    let peer = Hello::read(tls, &mut reader).await?;
    let own = Hello::fresh(endpoint.local.role())?;
    let (binding, key) = bind(endpoint, tls, Side::Accepting, &own, &peer)?;
    frame::write(tls, &own.bytes(), HELLO_BYTES).await?;
    let evidence = evidence(endpoint, &binding).await?;
    frame::write(tls, &evidence, EVIDENCE_BYTES_MAX).await?;
    verdict(tls, &mut reader).await?;

    let bytes = read(tls, &mut reader, EVIDENCE_BYTES_MAX).await?;
    let judged = if admit.admits(peer.role) {
        judge(endpoint, &binding, peer.role, &bytes)
    } else {
        Err(SessionError::Role { role: peer.role })
    };
    let appraisal = declare(tls, judged).await?;
    finish(reader, peer.role, key, appraisal)
}

fn finish(
    reader: Reader,
    role: Role,
    key: [u8; 32],
    appraisal: Option<Appraisal>,
) -> Result<Agreed, SessionError> {
    if reader.has_begun() {
        return Err(SessionError::Malformed("a message before its turn"));
    }
    Ok(Agreed {
        role,
        key,
        appraisal,
    })
}

/// Holds the peer's evidence against the session and the policy; a client has none.
fn judge(
    endpoint: &Endpoint,
    own: &Binding,
    role: Role,
    bytes: &[u8],
) -> Result<Option<Appraisal>, SessionError> {
    match (role, bytes.is_empty()) {
        (Role::Client, true) => return Ok(None),
        (Role::Client, false) => return Err(SessionError::Malformed("a client with evidence")),
        (role, true) => return Err(SessionError::NoEvidence { role }),
        (_, false) => {}
    }
    let trust = &endpoint.trust;
    let evidence = Evidence::decode(bytes)?;
    let expected = Expected {
        role,
        report_data: own.of_peer(role).report_data(&trust.deployment),
    };
    let policy = trust.policy.borrow().clone();
    let appraisal = attestation::appraise(
        &evidence,
        &expected,
        &trust.verifiers,
        &policy,
        (trust.now)(),
    )?;
    Ok(Some(appraisal))
}

/// Tells the peer how it was judged.
async fn declare<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &mut TlsStream<S>,
    judged: Result<Option<Appraisal>, SessionError>,
) -> Result<Option<Appraisal>, SessionError> {
    match judged {
        Ok(appraisal) => {
            frame::write(tls, &[ACCEPTED], VERDICT_BYTES_MAX).await?;
            Ok(appraisal)
        }
        Err(error) => {
            let mut verdict = vec![REFUSED];
            verdict.extend_from_slice(error.code().as_bytes());
            // The peer learns why if it still listens; what counts is that it is refused.
            let told = frame::write(tls, &verdict, VERDICT_BYTES_MAX).await;
            if told.is_err() {
                tracing::debug!("a refused peer did not wait for the reason");
            }
            Err(error)
        }
    }
}

async fn verdict<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &mut TlsStream<S>,
    reader: &mut Reader,
) -> Result<(), SessionError> {
    let verdict = read(tls, reader, VERDICT_BYTES_MAX).await?;
    match verdict.split_first() {
        Some((&ACCEPTED, [])) => Ok(()),
        Some((&REFUSED, word)) => {
            let plain = word
                .iter()
                .all(|byte| byte.is_ascii_lowercase() || *byte == b'-');
            let code = if plain { word } else { b"unreadable" };
            Err(SessionError::RefusedByPeer {
                code: String::from_utf8_lossy(code).into_owned(),
            })
        }
        _ => Err(SessionError::Malformed("neither accepted nor refused")),
    }
}

/// Own evidence for this session, empty for a client.
async fn evidence(endpoint: &Endpoint, binding: &Binding) -> Result<Vec<u8>, SessionError> {
    let Local::Enclave { role, source } = &endpoint.local else {
        return Ok(Vec::new());
    };
    let (role, source) = (*role, source.clone());
    let report_data = binding.report_data(&endpoint.trust.deployment);
    let now = (endpoint.trust.now)();
    // Hardware takes its time, and is asked through a blocking call.
    let made = tokio::task::spawn_blocking(move || {
        let evidence = source.evidence(role, &report_data, now);
        evidence.map_err(|error| (source.platform(), error))
    });
    let evidence = match made.await {
        Ok(Ok(evidence)) => evidence,
        Ok(Err((_, error))) => return Err(error.into()),
        Err(stopped) => {
            return Err(SessionError::Source(SourceError {
                platform: PlatformType::Software,
                action: "finish making evidence",
                source: Box::new(stopped),
            }));
        }
    };
    Ok(evidence.encode()?)
}

/// What both sides' evidence is bound to, seen from here, and the peer's key.
fn bind<S>(
    endpoint: &Endpoint,
    tls: &TlsStream<S>,
    side: Side,
    own: &Hello,
    peer: &Hello,
) -> Result<(Binding, [u8; 32]), SessionError> {
    let (_, connection) = tls.get_ref();
    let key = connection
        .peer_certificates()
        .and_then(|keys| from_spki(keys.first()?))
        .ok_or(SessionError::Malformed("no Ed25519 key"))?;
    let own_key = *endpoint.key.public();
    if key == own_key {
        return Err(SessionError::OwnKey);
    }
    let exporter = match tls {
        TlsStream::Client(tls) => {
            let (_, connection) = tls.get_ref();
            connection.export_keying_material([0; 32], EXPORTER_LABEL, None)?
        }
        TlsStream::Server(tls) => {
            let (_, connection) = tls.get_ref();
            connection.export_keying_material([0; 32], EXPORTER_LABEL, None)?
        }
    };
    let (connecting_nonce, accepting_nonce) = match side {
        Side::Connecting => (own.nonce, peer.nonce),
        Side::Accepting => (peer.nonce, own.nonce),
    };
    let binding = Binding {
        role: own.role,
        side,
        connecting_nonce,
        accepting_nonce,
        exporter,
        own_key,
        peer_key: key,
    };
    Ok((binding, key))
}

struct Hello {
    role: Role,
    nonce: Nonce,
}

impl Hello {
    fn fresh(role: Role) -> Result<Self, SessionError> {
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SessionError::Randomness)?;
        Ok(Self {
            role,
            nonce: Nonce(nonce),
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.role.code()];
        out.extend_from_slice(&self.nonce.0);
        out
    }

    async fn read<S: AsyncRead + AsyncWrite + Unpin>(
        tls: &mut TlsStream<S>,
        reader: &mut Reader,
    ) -> Result<Self, SessionError> {
        match read(tls, reader, HELLO_BYTES).await?.as_slice() {
            [VERSION, role, nonce @ ..] => Ok(Self {
                role: Role::try_from(*role).map_err(|_| SessionError::Malformed("no such role"))?,
                nonce: nonce
                    .try_into()
                    .map(Nonce)
                    .map_err(|_| SessionError::Malformed("a nonce has 32 bytes"))?,
            }),
            [_, ..] => Err(SessionError::Malformed("an unknown version")),
            [] => Err(SessionError::Malformed("an empty hello")),
        }
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &mut TlsStream<S>,
    reader: &mut Reader,
    bytes_max: usize,
) -> Result<Vec<u8>, SessionError> {
    reader.message(tls, bytes_max).await
}
