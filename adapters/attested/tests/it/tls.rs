//! What TLS itself refuses, before any evidence.

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{HandshakeKind, NamedGroup};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsStream;

use crate::attacker::Attacker;
use crate::support::{World, code, everyone};
use attestation::Role;

/// The attacker connects to a custodian; whether TLS was made, and what the custodian says.
async fn connects(attacker: &Attacker) -> (bool, String) {
    let world = World::new();
    let custodian = world.custodian();
    let (left, right) = tokio::io::duplex(1 << 16);
    let admit = everyone();
    let attempt = async {
        let Ok(mut tls) = attacker.connect(left).await else {
            return false;
        };
        let _ = tls.shutdown().await;
        true
    };
    let (made, accepted) = tokio::join!(attempt, custodian.accept(right, &admit));
    (made, code(accepted))
}

/// A client connects to the attacker; what it says.
async fn is_connected_to(attacker: &Attacker) -> String {
    let world = World::new();
    let client = world.client();
    let (left, right) = tokio::io::duplex(1 << 16);
    let attempt = async {
        if let Ok(mut tls) = attacker.accept(right).await {
            let _ = tls.shutdown().await;
        }
    };
    let (made, ()) = tokio::join!(client.connect(left, Role::Custodian), attempt);
    code(made)
}

fn groups(groups: &[NamedGroup]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = aws_lc_rs::ALL_KX_GROUPS
        .iter()
        .copied()
        .filter(|group| groups.contains(&group.name()))
        .collect();
    assert_eq!(provider.kx_groups.len(), groups.len());
    provider
}

#[tokio::test]
async fn only_the_hybrid_key_agreement_is_spoken() {
    let hybrid = Attacker::with(
        groups(&[NamedGroup::X25519MLKEM768]),
        &[&rustls::version::TLS13],
    );
    // TLS is made; the attacker then closes instead of saying hello.
    assert_eq!(connects(&hybrid).await, (true, "protocol".to_owned()));
    assert_eq!(is_connected_to(&hybrid).await, "protocol");
    for other in [
        NamedGroup::X25519,
        NamedGroup::secp256r1,
        NamedGroup::MLKEM768,
    ] {
        let attacker = Attacker::with(groups(&[other]), &[&rustls::version::TLS13]);
        assert_eq!(
            connects(&attacker).await,
            (false, "connection".to_owned()),
            "{other:?}"
        );
        assert_eq!(is_connected_to(&attacker).await, "connection", "{other:?}");
    }
}

#[tokio::test]
async fn tls_12_is_refused() {
    let attacker = Attacker::with(aws_lc_rs::default_provider(), &[&rustls::version::TLS12]);
    assert_eq!(connects(&attacker).await, (false, "connection".to_owned()));
    assert_eq!(is_connected_to(&attacker).await, "connection");
}

#[tokio::test]
async fn another_protocol_on_top_is_refused() {
    let mut attacker = Attacker::new();
    attacker.client.alpn_protocols = vec![b"h2".to_vec()];
    attacker.server.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(connects(&attacker).await.1, "connection");
    assert_eq!(is_connected_to(&attacker).await, "connection");
}

/// A peer without a key of its own, or with a certificate in its place.
#[tokio::test]
async fn a_raw_key_is_required() {
    let mut attacker = Attacker::new();
    attacker.client.client_auth_cert_resolver = std::sync::Arc::new(NoKey);
    assert_eq!(connects(&attacker).await.1, "connection");
}

#[derive(Debug)]
struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[rustls::SignatureScheme],
    ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A peer that would resume, and send early data, finds no ticket to do it with: every handshake is a full one.
#[tokio::test]
async fn nothing_is_resumed_and_no_early_data_is_taken() {
    let mut attacker = Attacker::new();
    attacker.client.resumption = Resumption::in_memory_sessions(8);
    attacker.client.enable_early_data = true;
    let world = World::new();
    let custodian = world.custodian();
    let admit = everyone();
    for _ in 0..3 {
        let (left, right) = tokio::io::duplex(1 << 16);
        let attempt = async {
            let mut tls = attacker.connect(left).await.unwrap();
            // Reads whatever comes after the handshake, tickets included.
            let mut hello = vec![0, 0, 0, 34, 1, 0];
            hello.extend([5; 32]);
            tls.write_all(&hello).await.unwrap();
            tls.flush().await.unwrap();
            let mut byte = [0];
            tokio::io::AsyncReadExt::read(&mut tls, &mut byte)
                .await
                .unwrap();
            let TlsStream::Client(tls) = tls else {
                panic!("a client's stream");
            };
            let (_, connection) = tls.get_ref();
            assert_ne!(connection.handshake_kind(), Some(HandshakeKind::Resumed));
            assert_eq!(connection.tls13_tickets_received(), 0);
            assert!(!connection.is_early_data_accepted());
        };
        let (accepted, ()) = tokio::join!(custodian.accept(right, &admit), attempt);
        assert!(accepted.is_err());
    }
}
