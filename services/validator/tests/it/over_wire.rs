//! The suite over the engine, over a Unix socket, and over mutual TLS; who may not ask; an orderly end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::TimestampMs;
use ledger::port::{Ledger as _, ReadError};
use solo::{Solo, SoloConfig};
use tokio::sync::oneshot;
use transport::{
    Bound, CertificateAuthority, ClientOptions, Clock, Credentials, LedgerClient, Listen,
    NodeAddress, Role, pki,
};
use validator::{Validator, ValidatorConfig, ValidatorError};

use crate::suite::conforms;
use crate::world::{DEPLOYMENT, START, VALIDATOR, genesis, person};

fn now() -> TimestampMs {
    TimestampMs(START.0 + 5_000)
}

struct Rig {
    dir: tempfile::TempDir,
    ca: CertificateAuthority,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = pki::create_ca(&dir.path().join("ca"), DEPLOYMENT, now()).unwrap();
        Self { dir, ca }
    }

    fn issue(&self, role: Role, dir: &Path) {
        self.ca
            .issue(role, dir, pki::CERTIFICATE_VALIDITY, now())
            .unwrap();
    }

    fn credentials(&self, role: Role) -> Arc<Credentials> {
        let dir = self.dir.path().join(role.to_string().replace('/', "-"));
        self.issue(role, &dir);
        let files = transport::CertificateFiles::in_dir(&dir);
        Credentials::load(files, DEPLOYMENT, Clock::new(now)).unwrap()
    }

    fn config(&self, listen: Listen) -> ValidatorConfig {
        let data = self.dir.path().join("ledger");
        self.issue(Role::Validator, &data.join("identity"));
        if !data.join("solo").exists() {
            Solo::create(&data.join("solo"), &genesis(true)).unwrap();
        }
        let signer = Arc::new(person(VALIDATOR));
        let mut config = ValidatorConfig::new(&data, DEPLOYMENT, listen, signer, Clock::new(now));
        config.solo.reserve_bytes = 0;
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
        config
    }

    fn client(&self, bound: &Bound, role: Role) -> LedgerClient {
        let address = match bound {
            Bound::Unix(path) => NodeAddress::Unix(path.clone()),
            Bound::Tls(address) => NodeAddress::Tls(address.to_string()),
        };
        LedgerClient::new(
            address,
            Arc::new(genesis(true)),
            self.credentials(role),
            ClientOptions::default(),
        )
        .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_conforms() {
    let dir = tempfile::tempdir().unwrap();
    Solo::create(dir.path(), &genesis(true)).unwrap();
    let config = SoloConfig {
        reserve_bytes: 0,
        ..SoloConfig::new(dir.path(), Arc::new(person(VALIDATOR)), Arc::new(now))
    };
    let (solo, _) = Solo::open(config).unwrap();
    conforms(&solo).await;
}

async fn over(listen: impl Fn(&Path) -> Listen) {
    let rig = Rig::new();
    let validator = Validator::start(rig.config(listen(rig.dir.path())))
        .await
        .unwrap();
    let (bound, monitor) = (validator.bound(), validator.monitor_address().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(validator.serve(async {
        let _ = stopped.await;
    }));
    let client = rig.client(&bound, Role::Gateway);
    conforms(&client).await;

    let status = client.status().await.unwrap();
    assert_eq!(status.engine, "solo: the operator is the ledger");
    assert!(status.development && status.writable.is_ok());

    // A storage node of the same deployment is told no.
    let node = rig.client(&bound, Role::Node { slot: 0 });
    assert!(matches!(
        node.finality(None).await,
        Err(ReadError::Unavailable(_))
    ));

    for (path, wanted) in [
        ("/health", "\"engine\":\"solo: the operator is the ledger\""),
        ("/health", "\"development\":true"),
        ("/metrics", "strongroom_ledger_height "),
        (
            "/metrics",
            "strongroom_ledger_requests_total{operation=\"submit\",status=\"bad-signature\"} 1",
        ),
    ] {
        let text = get(monitor, path).await;
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }

    // An orderly end; what was final is there afterwards.
    let height = client.finality(None).await.unwrap().header.height;
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(30), task)
        .await
        .unwrap()
        .unwrap();
    let again = Validator::start(rig.config(listen(rig.dir.path())))
        .await
        .unwrap();
    assert!(again.solo().status().height >= height);
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_conforms_on_a_unix_socket() {
    over(|dir| Listen::Unix(dir.join("run/validator.sock"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_conforms_over_mutual_tls() {
    over(|_| Listen::Tls("127.0.0.1:0".parse().unwrap())).await;
}

#[tokio::test]
async fn it_does_not_start_as_somebody_else_or_with_public_metrics() {
    let rig = Rig::new();
    let listen = Listen::Tls("127.0.0.1:0".parse().unwrap());
    let mut config = rig.config(listen.clone());
    config.metrics_listen = Some("0.0.0.0:0".parse().unwrap());
    let result = Validator::start(config).await;
    assert!(matches!(result, Err(ValidatorError::Config(_))));
    let mut config = rig.config(listen);
    let gateway = rig.dir.path().join("gateway-identity");
    rig.issue(Role::Node { slot: 1 }, &gateway);
    config.certificates = transport::CertificateFiles::in_dir(&gateway);
    let result = Validator::start(config).await;
    assert!(matches!(result, Err(ValidatorError::NotAValidator(_))));
}
