//! One peer: a session that is kept open, and connected anew when it ends.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attestation::{Appraisal, Role};
use attested::Endpoint;
use domain::Principal;
use enclave_wire::v1::{self, answer::Outcome, question::Ask};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::Settings;
use crate::address::Address;
use crate::connection::Connection;
use crate::error::CallError;

/// A session that lived shorter than this counts as a failed attempt.
const BRIEF: Duration = Duration::from_secs(1);

/// One custodian or worker.
pub struct Peer {
    principal: Principal,
    role: Role,
    address: Address,
    state: watch::Receiver<State>,
    known: Arc<Mutex<Option<Known>>>,
    driver: JoinHandle<()>,
}

#[derive(Clone)]
enum State {
    Connecting,
    Open(Arc<Connection>),
    Down(Arc<str>),
}

/// What was learned of the peer last.
#[derive(Clone)]
struct Known {
    description: v1::Description,
    appraisal: Option<Appraisal>,
    at: Instant,
}

/// How a peer is doing, for whoever watches.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// Whether a session is open.
    pub connected: bool,
    /// Why there is none.
    pub reason: Option<String>,
    /// What it last said of itself.
    pub description: Option<v1::Description>,
    /// How long ago.
    pub age: Option<Duration>,
    /// What it proved in its last session.
    pub appraisal: Option<Appraisal>,
}

impl Peer {
    /// Begins to connect, and goes on until dropped.
    pub(crate) fn start(
        endpoint: Arc<Endpoint>,
        role: Role,
        principal: Principal,
        address: Address,
        settings: Settings,
    ) -> Self {
        let (publish, state) = watch::channel(State::Connecting);
        let known = Arc::new(Mutex::new(None));
        let driver = Driver {
            endpoint,
            role,
            principal,
            address: address.clone(),
            settings,
            publish,
            known: known.clone(),
        };
        Self {
            principal,
            role,
            address,
            state,
            known,
            driver: tokio::spawn(driver.run()),
        }
    }

    /// The key that signs for it.
    #[must_use]
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// What it must prove to be.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether a session is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(&*self.state.borrow(), State::Open(connection) if connection.is_open())
    }

    /// Waits until a session is open, for what is worth waiting for: a peer that was started a moment ago is asked for within the
    /// second. Whether one is.
    pub async fn connected(&self, within: Duration) -> bool {
        let mut state = self.state.clone();
        let open = |state: &State| matches!(state, State::Open(connection) if connection.is_open());
        let waiting = timeout(within, state.wait_for(open));
        waiting.await.is_ok_and(|open| open.is_ok())
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> PeerState {
        let (connected, reason) = match &*self.state.borrow() {
            State::Open(connection) => (connection.is_open(), None),
            State::Connecting => (false, Some("connecting".to_owned())),
            State::Down(reason) => (false, Some(reason.to_string())),
        };
        let known = lock(&self.known).clone();
        PeerState {
            connected,
            reason,
            age: known.as_ref().map(|known| known.at.elapsed()),
            appraisal: known.as_ref().and_then(|known| known.appraisal.clone()),
            description: known.map(|known| known.description),
        }
    }

    /// Asks once. A first attempt to connect is waited for; afterwards a peer that is not there fails at once.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, ask: Ask, within: Duration) -> Result<Outcome, CallError> {
        let work = async {
            let outcome = self.connection().await?.call(ask).await?;
            match outcome {
                Outcome::Refusal(refusal) => Err(CallError::Refused(refusal.into())),
                outcome => Ok(outcome),
            }
        };
        timeout(within, work)
            .await
            .unwrap_or(Err(CallError::TimedOut(within)))
    }

    async fn connection(&self) -> Result<Arc<Connection>, CallError> {
        let mut state = self.state.clone();
        let tried = state.wait_for(|state| !matches!(state, State::Connecting));
        match tried.await.map(|state| state.clone()) {
            Ok(State::Open(connection)) => Ok(connection),
            Ok(State::Down(reason)) => Err(CallError::Unreachable(reason.to_string())),
            Ok(State::Connecting) | Err(_) => Err(CallError::Unreachable("stopping".to_owned())),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Peer({} {} at {})",
            self.role, self.principal, self.address
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps one peer's session open.
struct Driver {
    endpoint: Arc<Endpoint>,
    role: Role,
    principal: Principal,
    address: Address,
    settings: Settings,
    publish: watch::Sender<State>,
    known: Arc<Mutex<Option<Known>>>,
}

impl Driver {
    async fn run(self) {
        let mut failures: u32 = 0;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    self.publish.send_replace(State::Open(connection.clone()));
                    let since = Instant::now();
                    if self.watch(&connection).await {
                        // Old but alive: it answers what it was asked while a new one is made.
                        failures = 0;
                        continue;
                    }
                    failures = if since.elapsed() < BRIEF {
                        failures.saturating_add(1)
                    } else {
                        0
                    };
                    let reason = connection.closed().await;
                    tracing::info!(peer = %self.principal, role = %self.role, %reason, "a session ended");
                    // The next attempt is made at once unless the last ones were brief, so callers wait for it.
                    self.publish.send_replace(match failures {
                        0 => State::Connecting,
                        _ => State::Down(reason),
                    });
                    if failures == 0 {
                        continue;
                    }
                }
                Err(reason) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(peer = %self.principal, role = %self.role, address = %self.address, %reason, "cannot connect");
                    }
                    self.publish.send_if_modified(|state| {
                        // A session that was to be replaced goes on while it lasts.
                        let stays =
                            matches!(state, State::Open(connection) if connection.is_open());
                        if !stays {
                            *state = State::Down(reason.into());
                        }
                        !stays
                    });
                }
            }
            sleep(self.pause(failures)).await;
        }
    }

    /// Stays with a session until it ends (false) or has to be replaced (true).
    async fn watch(&self, connection: &Connection) -> bool {
        let replace = Instant::now() + self.settings.replace_after;
        loop {
            let ask = Instant::now() + self.settings.ask_after;
            tokio::select! {
                _ = connection.closed() => return false,
                () = tokio::time::sleep_until(ask.min(replace)) => {}
            }
            if Instant::now() >= replace {
                return true;
            }
            if let Err(error) = self.describe(connection).await
                && connection.is_open()
            {
                tracing::warn!(peer = %self.principal, role = %self.role, %error, "no longer answers");
                connection.give_up(&format!("no longer answers: {error}"));
            }
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let bytes_max = self.endpoint.limits().message_bytes_max;
        let in_flight = self.settings.in_flight_max;
        let work = async {
            let connection = match &self.address {
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(|e| e.to_string())?;
                    let session = self.endpoint.connect(stream, self.role).await;
                    Connection::start(session.map_err(|e| e.to_string())?, in_flight, bytes_max)
                }
                Address::Tcp(host) => {
                    let stream = TcpStream::connect(host).await.map_err(|e| e.to_string())?;
                    stream.set_nodelay(true).map_err(|e| e.to_string())?;
                    let session = self.endpoint.connect(stream, self.role).await;
                    Connection::start(session.map_err(|e| e.to_string())?, in_flight, bytes_max)
                }
            };
            let described = self.describe(&connection).await;
            described.map_err(|error| error.to_string())?;
            Ok(connection)
        };
        timeout(self.settings.patience, work)
            .await
            .unwrap_or_else(|_| Err("connecting took too long".to_owned()))
    }

    /// Asks the peer what it is. Its evidence shows that its code tells the truth about its key, so a host that sends us to
    /// another enclave than the one that was meant is found out here.
    async fn describe(&self, connection: &Connection) -> Result<(), CallError> {
        let ask = connection.call(Ask::Describe(v1::Describe {}));
        let outcome = timeout(self.settings.patience, ask)
            .await
            .unwrap_or(Err(CallError::TimedOut(self.settings.patience)))?;
        let description = match outcome {
            Outcome::Description(description) => description,
            Outcome::Refusal(refusal) => return Err(CallError::Refused(refusal.into())),
            _ => return Err(CallError::Protocol("another answer than the question's")),
        };
        if description.principal[..] != self.principal.0 {
            return Err(CallError::Protocol(
                "another enclave than the one that was meant",
            ));
        }
        *lock(&self.known) = Some(Known {
            description,
            appraisal: connection.proved().appraisal.clone(),
            at: Instant::now(),
        });
        Ok(())
    }

    fn pause(&self, failures: u32) -> Duration {
        let (first, most) = self.settings.backoff;
        let doublings = failures.saturating_sub(1).min(16);
        let whole = first.saturating_mul(1 << doublings).min(most);
        let random = getrandom::u32().unwrap_or(0) % 512;
        whole.saturating_mul(512 + random) / 1_024
    }
}
