//! One deployment's processes on sockets of a temporary folder.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attestation::{
    Evidence, EvidenceSource, Measurement, Policy, ReportData, Role, SecurityVersions,
    SoftwareStatement, SoftwareVerifier, SourceError, Verifiers,
};
use attested::{Admit, Endpoint, Limits, Local, Trust};
use crypto::{Identity, Secret};
use domain::{DeploymentId, PlatformType, Principal, TimestampMs};
use enclave_client::{Address, Answering, Asker, Pool, Refusal, ServeBounds, Settings, serve};
use enclave_wire::v1::{self, answer::Outcome, question::Ask};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);
pub const CUSTODIAN: Measurement = Measurement([2; 32]);
pub const WORKER: Measurement = Measurement([3; 32]);
pub const PRINCIPAL: Principal = Principal([9; 32]);
pub const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(20);

fn root() -> Identity {
    Identity::from_seed(Secret::take(&mut [7; 32]))
}

struct Source(Measurement);

impl EvidenceSource for Source {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn measurement(&self) -> Measurement {
        self.0
    }

    fn evidence(
        &self,
        role: Role,
        report_data: &ReportData,
        now: TimestampMs,
    ) -> Result<Evidence, SourceError> {
        let statement = SoftwareStatement {
            root: root().principal(),
            measurement: self.0,
            role,
            report_data: *report_data,
            debug: false,
            security_version: 1,
            not_before: now,
            not_after: TimestampMs(now.0 + 3_600_000),
        };
        Ok(statement.danger_sign(&root(), &DEPLOYMENT))
    }
}

/// A deployment with its policy and a folder for sockets.
pub struct World {
    pub policy: watch::Sender<Arc<Policy>>,
    pub dir: tempfile::TempDir,
}

pub fn policy(version: u64) -> Policy {
    Policy {
        version,
        ..Policy::default()
    }
    .allow(Role::Custodian, CUSTODIAN)
    .allow(Role::Worker, WORKER)
    .accept(PlatformType::Software, SecurityVersions::default())
}

impl World {
    pub fn new() -> Self {
        Self {
            policy: watch::Sender::new(Arc::new(policy(1))),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn endpoint(&self, local: Local, limits: Limits) -> Arc<Endpoint> {
        let software = SoftwareVerifier::danger_new(DEPLOYMENT, root().principal(), true);
        let trust = Trust {
            deployment: DEPLOYMENT,
            verifiers: Verifiers::new().with(software.unwrap()),
            policy: self.policy.subscribe(),
            now: Arc::new(|| TimestampMs(1_800_000_000_000)),
        };
        Arc::new(Endpoint::new(local, trust, limits).unwrap())
    }

    pub fn enclave(&self, role: Role, measurement: Measurement) -> Arc<Endpoint> {
        let local = Local::Enclave {
            role,
            source: Arc::new(Source(measurement)),
        };
        self.endpoint(local, enclave_client::session_limits())
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("peer.sock")
    }

    /// A client's pool with one custodian.
    pub fn pool(&self, settings: Settings) -> Pool {
        self.pool_of(PRINCIPAL, settings)
    }

    pub fn pool_of(&self, principal: Principal, settings: Settings) -> Pool {
        let endpoint = self.endpoint(Local::Client, enclave_client::session_limits());
        let address = Address::Unix(self.socket());
        Pool::start(&endpoint, Role::Custodian, [(principal, address)], settings)
    }

    /// Serves `script` as a custodian until dropped.
    pub fn serve(&self, script: Arc<Script>, bounds: ServeBounds) -> Serving {
        self.serve_as(self.enclave(Role::Custodian, CUSTODIAN), script, bounds)
    }

    pub fn serve_as(
        &self,
        endpoint: Arc<Endpoint>,
        script: Arc<Script>,
        bounds: ServeBounds,
    ) -> Serving {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        let admit = Admit::roles(&Role::ALL);
        let work = serve(
            listener,
            endpoint,
            admit,
            script,
            bounds,
            std::future::pending(),
        );
        Serving(tokio::spawn(work))
    }
}

/// A listener that goes away with its sessions.
pub struct Serving(JoinHandle<()>);

impl Serving {
    pub async fn stop(self) {
        self.0.abort();
        while !self.0.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers `Confirm` after as many milliseconds as the header is long, with the header's length as the height; `Audit` is
/// refused; `ShowShare` shows; `Activate` panics; `HoldShare` never ends; anything else is answered wrongly.
#[derive(Default)]
pub struct Script {
    pub asked: AtomicUsize,
    pub described: AtomicUsize,
    pub now: AtomicUsize,
    pub most: AtomicUsize,
    pub roles: Mutex<Vec<Role>>,
}

impl Answering for Script {
    async fn answer(&self, asker: &Asker, ask: Ask) -> Result<Outcome, Refusal> {
        if matches!(ask, Ask::Describe(_)) {
            self.described.fetch_add(1, Ordering::SeqCst);
            return Ok(Outcome::Description(v1::Description {
                principal: PRINCIPAL.0.to_vec().into(),
                height: 7,
                ..v1::Description::default()
            }));
        }
        self.roles.lock().unwrap().push(asker.role);
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let _leave = Leave(&self.now);
        match ask {
            Ask::Confirm(confirm) => {
                let ms = u64::try_from(confirm.header.len()).unwrap();
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(Outcome::Confirmed(v1::Confirmed {
                    height: ms,
                    ..v1::Confirmed::default()
                }))
            }
            Ask::Audit(_) => Err(Refusal::new("not-granted", "no", false)),
            Ask::ShowShare(_) => Ok(Outcome::Shown(v1::Shown {
                pq_share: vec![5; 96].into(),
            })),
            Ask::Activate(_) => panic!("as the script says"),
            Ask::HoldShare(_) => std::future::pending().await,
            _ => Ok(Outcome::Held(v1::Held::default())),
        }
    }
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn confirm(ms: usize) -> v1::Confirm {
    v1::Confirm {
        header: vec![0; ms].into(),
        ..v1::Confirm::default()
    }
}

/// Waits until `done`, for at most [`LONG`].
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + LONG;
    while !done() {
        assert!(
            tokio::time::Instant::now() < end,
            "{what} did not come about"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
