//! Accepting sessions, a bounded number at a time.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use attestation::Role;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::endpoint::Endpoint;
use crate::session::Session;

/// How long accepting rests when the system has no room for another connection.
const REST: Duration = Duration::from_millis(50);

/// Whom a port admits. [`Role::Client`] is admitted without evidence, any other role never is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit(Vec<Role>);

impl Admit {
    /// These roles and no other.
    #[must_use]
    pub fn roles(roles: &[Role]) -> Self {
        Self(roles.to_vec())
    }

    pub(crate) fn admits(&self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

/// Where connections come from.
pub trait Listen: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next one.
    fn next(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // Messages are short and waited for.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&mut self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Accepts sessions and runs `handle` for each, until `stop` resolves; then everything that still runs is dropped.
/// At the bounds of [`crate::Limits`], handshakes wait and finished handshakes are turned away.
pub async fn serve<L, H, F>(
    mut listener: L,
    endpoint: Arc<Endpoint>,
    admit: Admit,
    handle: H,
    stop: impl Future<Output = ()>,
) where
    L: Listen,
    H: Fn(Session<L::Stream>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let limits = *endpoint.limits();
    let handshakes = Arc::new(Semaphore::new(limits.handshakes_max));
    let places = Places {
        attested: Arc::new(Semaphore::new(limits.attested_max)),
        clients: Arc::new(Semaphore::new(limits.clients_max)),
    };
    let mut running = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let permit = handshakes.clone().acquire_owned().await;
            (permit, listener.next().await)
        };
        tokio::select! {
            biased;
            () = &mut stop => return,
            Some(ended) = running.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a session's handler panicked");
                }
            }
            (permit, stream) = next => match (permit, stream) {
                (Ok(permit), Ok(stream)) => {
                    let (endpoint, admit) = (endpoint.clone(), admit.clone());
                    let (places, handle) = (places.clone(), handle.clone());
                    running.spawn(one(stream, endpoint, admit, permit, places, handle));
                }
                (_, Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(REST).await;
                }
                (Err(_), _) => return,
            },
        }
    }
}

#[derive(Clone)]
struct Places {
    attested: Arc<Semaphore>,
    clients: Arc<Semaphore>,
}

async fn one<S, H, F>(
    stream: S,
    endpoint: Arc<Endpoint>,
    admit: Admit,
    handshake: OwnedSemaphorePermit,
    places: Places,
    handle: H,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Session<S>) -> F,
    F: Future<Output = ()>,
{
    let session = match endpoint.accept(stream, &admit).await {
        Ok(session) => session,
        Err(error) => {
            tracing::info!(code = error.code(), %error, "refused a session");
            return;
        }
    };
    drop(handshake);
    let role = session.peer().role;
    let places = match role {
        Role::Client => places.clients,
        Role::Custodian | Role::Worker => places.attested,
    };
    let Ok(_place) = places.try_acquire_owned() else {
        tracing::warn!(%role, "turned a session away: as many as allowed are open");
        return;
    };
    handle(session).await;
}
