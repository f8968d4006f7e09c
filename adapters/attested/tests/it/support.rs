//! Processes of one deployment, joined by pipes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attestation::{
    Evidence, EvidenceSource, Measurement, Policy, ReportData, Role, SecurityVersions,
    SoftwareStatement, SoftwareVerifier, SourceError, Verifiers,
};
use attested::endpoint::Now;
use attested::{Admit, Endpoint, Limits, Local, Session, SessionError, Trust};
use crypto::{Identity, Secret};
use domain::{DeploymentId, PlatformType, TimestampMs};
use tokio::io::DuplexStream;
use tokio::sync::watch;

pub const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);
pub const CUSTODIAN: Measurement = Measurement([2; 32]);
pub const WORKER: Measurement = Measurement([3; 32]);
pub const START: u64 = 1_800_000_000_000;

pub fn root(byte: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [byte; 32]))
}

/// The ledger's time, moved by tests.
#[derive(Clone)]
pub struct Time(Arc<AtomicU64>);

impl Time {
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START)))
    }

    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn port(&self) -> Now {
        let time = self.0.clone();
        Arc::new(move || TimestampMs(time.load(Ordering::SeqCst)))
    }
}

/// A source whose every part a test may falsify.
pub struct Source {
    pub root: u8,
    pub deployment: DeploymentId,
    pub measurement: Measurement,
    pub debug: bool,
    pub lifetime_ms: u64,
    /// Evidence for this role whatever is asked for.
    pub role: Option<Role>,
    /// This record again, whatever is asked for.
    pub replay: Option<Evidence>,
    /// What was made.
    pub made: Mutex<Vec<Evidence>>,
}

impl Source {
    pub fn of(measurement: Measurement) -> Self {
        Self {
            root: 7,
            deployment: DEPLOYMENT,
            measurement,
            debug: false,
            lifetime_ms: 3_600_000,
            role: None,
            replay: None,
            made: Mutex::new(Vec::new()),
        }
    }
}

impl EvidenceSource for Source {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn measurement(&self) -> Measurement {
        self.measurement
    }

    fn evidence(
        &self,
        role: Role,
        report_data: &ReportData,
        now: TimestampMs,
    ) -> Result<Evidence, SourceError> {
        if let Some(evidence) = &self.replay {
            return Ok(evidence.clone());
        }
        let root = root(self.root);
        let evidence = SoftwareStatement {
            root: root.principal(),
            measurement: self.measurement,
            role: self.role.unwrap_or(role),
            report_data: *report_data,
            debug: self.debug,
            security_version: 1,
            not_before: now,
            not_after: TimestampMs(now.0 + self.lifetime_ms),
        }
        .danger_sign(&root, &self.deployment);
        self.made.lock().unwrap().push(evidence.clone());
        Ok(evidence)
    }
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

/// One deployment's world.
pub struct World {
    pub time: Time,
    pub policy: watch::Sender<Arc<Policy>>,
    pub limits: Limits,
}

impl World {
    pub fn new() -> Self {
        Self {
            time: Time::new(),
            policy: watch::Sender::new(Arc::new(policy(1))),
            limits: Limits {
                handshake: Duration::from_secs(20),
                ..Limits::default()
            },
        }
    }

    pub fn trust(&self) -> Trust {
        let software = SoftwareVerifier::danger_new(DEPLOYMENT, root(7).principal(), true);
        Trust {
            deployment: DEPLOYMENT,
            verifiers: Verifiers::new().with(software.unwrap()),
            policy: self.policy.subscribe(),
            now: self.time.port(),
        }
    }

    pub fn endpoint(&self, local: Local) -> Endpoint {
        Endpoint::new(local, self.trust(), self.limits).unwrap()
    }

    pub fn with_source(&self, role: Role, source: Source) -> Endpoint {
        self.endpoint(Local::Enclave {
            role,
            source: Arc::new(source),
        })
    }

    pub fn custodian(&self) -> Endpoint {
        self.with_source(Role::Custodian, Source::of(CUSTODIAN))
    }

    pub fn worker(&self) -> Endpoint {
        self.with_source(Role::Worker, Source::of(WORKER))
    }

    pub fn client(&self) -> Endpoint {
        self.endpoint(Local::Client)
    }
}

pub type Made = Result<Session<DuplexStream>, SessionError>;

pub fn enclaves() -> Admit {
    Admit::roles(&[Role::Custodian, Role::Worker])
}

pub fn everyone() -> Admit {
    Admit::roles(&Role::ALL)
}

/// Joins two endpoints; what each side got.
pub async fn join(
    connecting: &Endpoint,
    expected: Role,
    accepting: &Endpoint,
    admit: &Admit,
) -> (Made, Made) {
    let (left, right) = tokio::io::duplex(1 << 16);
    tokio::join!(
        connecting.connect(left, expected),
        accepting.accept(right, admit)
    )
}

/// A session of a worker with a custodian: (worker's, custodian's).
pub async fn session(world: &World) -> (Session<DuplexStream>, Session<DuplexStream>) {
    let (worker, custodian) = (world.worker(), world.custodian());
    let (a, b) = join(&worker, Role::Custodian, &custodian, &enclaves()).await;
    (a.unwrap(), b.unwrap())
}

/// The word that says why.
pub fn code(made: Made) -> String {
    match made {
        Ok(_) => "accepted".to_owned(),
        Err(SessionError::RefusedByPeer { code }) => format!("peer: {code}"),
        Err(error) => error.code().to_owned(),
    }
}
