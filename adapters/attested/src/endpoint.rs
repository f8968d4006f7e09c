//! One process's side of all its sessions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use attestation::{EvidenceSource, Policy, Role, Verifiers};
use domain::{DeploymentId, TimestampMs};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::config;
use crate::error::SessionError;
use crate::exchange::{self, Agreed};
use crate::guard::Guard;
use crate::key::ProcessKey;
use crate::limits::{Limits, SESSION_MAX};
use crate::serve::Admit;
use crate::session::{Peer, Session};

/// Where the time comes from that evidence is held against: in an enclave the newest finalized header's.
pub type Now = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// What this process is.
pub enum Local {
    /// Nobody in particular; proves nothing.
    Client,
    /// An enclave with its evidence.
    Enclave {
        /// What it acts as.
        role: Role,
        /// Where its evidence comes from.
        source: Arc<dyn EvidenceSource>,
    },
}

impl Local {
    /// What it acts as.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Client => Role::Client,
            Self::Enclave { role, .. } => *role,
        }
    }
}

/// What this process holds others' evidence against.
pub struct Trust {
    /// The deployment.
    pub deployment: DeploymentId,
    /// One verifier per platform that counts here.
    pub verifiers: Verifiers,
    /// The policy that holds. A new version closes every session that was appraised under another; when the sender
    /// goes away, so do the sessions.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// The time.
    pub now: Now,
}

/// Connects and accepts.
pub struct Endpoint {
    pub(crate) local: Local,
    pub(crate) trust: Trust,
    pub(crate) limits: Limits,
    pub(crate) key: ProcessKey,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Endpoint {
    /// An endpoint with a key of its own, drawn now.
    ///
    /// # Errors
    /// [`SessionError::Randomness`], or [`SessionError::Tls`] when the library refuses the settings.
    pub fn new(local: Local, trust: Trust, limits: Limits) -> Result<Self, SessionError> {
        let key = ProcessKey::generate()?;
        Ok(Self {
            acceptor: TlsAcceptor::from(config::server_config(&key)?),
            connector: TlsConnector::from(config::client_config(&key)?),
            local,
            trust,
            limits,
            key,
        })
    }

    /// The process's public key in TLS.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.public()
    }

    /// The endpoint's bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Connects over `stream` to a peer that must prove to be an `expected`.
    ///
    /// # Errors
    /// [`SessionError`]; the connection is of no use then.
    pub async fn connect<S>(&self, stream: S, expected: Role) -> Result<Session<S>, SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let work = async {
            let tls = self.connector.connect(config::server_name(), stream);
            let mut tls = TlsStream::from(tls.await?);
            let agreed = exchange::connect(self, &mut tls, expected).await?;
            Ok(self.session(tls, agreed))
        };
        timed(self.limits.handshake, work).await
    }

    /// Accepts whoever is on `stream`, if `admit` admits the role and the role proves itself.
    ///
    /// # Errors
    /// [`SessionError`]; the connection is to be closed then.
    pub async fn accept<S>(&self, stream: S, admit: &Admit) -> Result<Session<S>, SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let work = async {
            let mut tls = TlsStream::from(self.acceptor.accept(stream).await?);
            let agreed = exchange::accept(self, &mut tls, admit).await?;
            Ok(self.session(tls, agreed))
        };
        timed(self.limits.handshake, work).await
    }

    fn session<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        tls: TlsStream<S>,
        agreed: Agreed,
    ) -> Session<S> {
        let now = (self.trust.now)();
        let mut lifetime = self.limits.session.min(SESSION_MAX);
        let mut valid_until = now
            .0
            .saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(0));
        let mut policy = None;
        if let Some(appraisal) = &agreed.appraisal {
            valid_until = valid_until.min(appraisal.valid_until.0);
            lifetime = Duration::from_millis(valid_until.saturating_sub(now.0));
            policy = Some((appraisal.policy_version, self.trust.policy.clone()));
        }
        let guard = Guard {
            deadline: Instant::now() + lifetime,
            valid_until: TimestampMs(valid_until),
            now: self.trust.now.clone(),
            policy,
        };
        let peer = Peer {
            role: agreed.role,
            key: agreed.key,
            appraisal: agreed.appraisal,
        };
        Session::new(tls, peer, guard, self.limits)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("role", &self.local.role())
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

async fn timed<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(SessionError::TimedOut("handshake")))
}
