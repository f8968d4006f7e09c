//! The handshake on a Unix socket: both sides prove by signature who they are, then speak plain HTTP/2.
//!
//! The socket lies in a folder that only its owner can enter, and shards are ciphertext that is checked by CID, so
//! nothing is encrypted here; TLS on this path costs a third of the throughput. Each message is a length (u16, big
//! endian, at most [`MESSAGE_BYTES_MAX`]) and:
//!
//! ```text
//! client -> server  version (1 byte, = 1)  nonce (32)  certificate (DER)
//! server -> client  version (1 byte, = 1)  nonce (32)  signature (64)  certificate (DER)
//! client -> server  signature (64)
//! server -> client  0 accepted, 1 refused (1 byte)
//! ```
//!
//! Both sign `label || 0 || deployment id || client nonce || server nonce || SHA-256(client certificate) ||
//! SHA-256(server certificate)`, each under its own label, so that a signature can neither be replayed, nor reflected,
//! nor moved to another deployment or another pair of certificates.

use std::io;

use aws_lc_rs::digest;
use domain::DeploymentId;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::credentials::Credentials;
use crate::identity::{CERTIFICATE_BYTES_MAX, IdentityError, Peer, Role, Side, verify_signature};

/// Version of this handshake.
pub const VERSION: u8 = 1;
/// Bytes of one message, at most.
pub const MESSAGE_BYTES_MAX: usize = 1 + NONCE_BYTES + SIGNATURE_BYTES + CERTIFICATE_BYTES_MAX;

const NONCE_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
const CLIENT_LABEL: &[u8] = b"strongroom/v1/socket-handshake/client";
const SERVER_LABEL: &[u8] = b"strongroom/v1/socket-handshake/server";
const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;

/// Why a handshake ended without a connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection broke or was closed.
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
    /// The peer sent something that is not this handshake.
    #[error("not a Strongroom handshake: {0}")]
    Malformed(&'static str),
    /// The peer is not who it should be.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The peer refused our certificate.
    #[error("the peer refused our certificate")]
    Refused,
    /// Our own key does not work.
    #[error("cannot sign: {0}")]
    Own(#[from] rustls::Error),
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
}

/// The connecting side. The caller bounds the time.
///
/// # Errors
/// [`HandshakeError`]; the connection is of no use then.
pub async fn connect<S>(
    stream: &mut S,
    credentials: &Credentials,
    expected: Role,
) -> Result<Peer, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (own, signer) = credentials.certificate_and_signer()?;
    let client_nonce = nonce()?;
    send(stream, &[&[VERSION], &client_nonce, &own]).await?;

    let hello = receive(stream).await?;
    let (server_nonce, rest) = split_hello(&hello)?;
    let (signature, certificate) = rest
        .split_first_chunk::<SIGNATURE_BYTES>()
        .ok_or(HandshakeError::Malformed("no signature"))?;
    let certificate = CertificateDer::from(certificate);
    let transcript = Transcript {
        deployment: credentials.trust().deployment(),
        client_nonce: &client_nonce,
        server_nonce,
        client: &own,
        server: &certificate,
    };
    let peer = credentials.trust().verify_role(
        &certificate,
        Side::Server,
        credentials.clock().unix(),
        expected,
    )?;
    verify_signature(&certificate, &transcript.bytes(SERVER_LABEL), signature)?;

    send(stream, &[&signer.sign(&transcript.bytes(CLIENT_LABEL))?]).await?;
    match receive(stream).await?.as_slice() {
        [ACCEPTED] => Ok(peer),
        [REFUSED] => Err(HandshakeError::Refused),
        _ => Err(HandshakeError::Malformed("neither accepted nor refused")),
    }
}

/// The accepting side. The caller bounds the time.
///
/// # Errors
/// [`HandshakeError`]; the connection is to be closed then.
pub async fn accept<S>(stream: &mut S, credentials: &Credentials) -> Result<Peer, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = receive(stream).await?;
    let (client_nonce, certificate) = split_hello(&hello)?;
    let certificate = CertificateDer::from(certificate);
    let (own, signer) = credentials.certificate_and_signer()?;
    let server_nonce = nonce()?;
    let transcript = Transcript {
        deployment: credentials.trust().deployment(),
        client_nonce,
        server_nonce: &server_nonce,
        client: &certificate,
        server: &own,
    };
    let signature = signer.sign(&transcript.bytes(SERVER_LABEL))?;
    send(stream, &[&[VERSION], &server_nonce, &signature, &own]).await?;

    let proof = receive(stream).await?;
    let checked = credentials
        .trust()
        .verify(&certificate, Side::Client, credentials.clock().unix())
        .and_then(|peer| {
            verify_signature(&certificate, &transcript.bytes(CLIENT_LABEL), &proof)?;
            Ok(peer)
        });
    match checked {
        Ok(peer) => {
            send(stream, &[&[ACCEPTED]]).await?;
            Ok(peer)
        }
        Err(error) => {
            send(stream, &[&[REFUSED]]).await?;
            Err(error.into())
        }
    }
}

struct Transcript<'a> {
    deployment: &'a DeploymentId,
    client_nonce: &'a [u8; NONCE_BYTES],
    server_nonce: &'a [u8; NONCE_BYTES],
    client: &'a CertificateDer<'a>,
    server: &'a CertificateDer<'a>,
}

impl Transcript<'_> {
    fn bytes(&self, label: &[u8]) -> Vec<u8> {
        let client = digest::digest(&digest::SHA256, self.client);
        let server = digest::digest(&digest::SHA256, self.server);
        [
            label,
            &[0],
            self.deployment.as_bytes(),
            self.client_nonce,
            self.server_nonce,
            client.as_ref(),
            server.as_ref(),
        ]
        .concat()
    }
}

fn split_hello(hello: &[u8]) -> Result<(&[u8; NONCE_BYTES], &[u8]), HandshakeError> {
    let (version, rest) = hello
        .split_first()
        .ok_or(HandshakeError::Malformed("empty message"))?;
    if *version != VERSION {
        return Err(HandshakeError::Malformed("an unknown version"));
    }
    rest.split_first_chunk()
        .ok_or(HandshakeError::Malformed("no nonce"))
}

fn nonce() -> Result<[u8; NONCE_BYTES], HandshakeError> {
    let mut nonce = [0; NONCE_BYTES];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| HandshakeError::Randomness)?;
    Ok(nonce)
}

async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    parts: &[&[u8]],
) -> Result<(), HandshakeError> {
    let body = parts.concat();
    let length = u16::try_from(body.len()).map_err(|_| HandshakeError::Malformed("too large"))?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(&body);
    stream.write_all(&message).await?;
    stream.flush().await?;
    Ok(())
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, HandshakeError> {
    let length = usize::from(stream.read_u16().await?);
    if length > MESSAGE_BYTES_MAX {
        return Err(HandshakeError::Malformed("a message beyond the bound"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
