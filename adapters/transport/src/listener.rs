//! The one listener of a process: a Unix socket, or TLS over TCP.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::credentials::Credentials;
use crate::handshake::{self, HandshakeError};
use crate::identity::{IdentityError, Peer, Side};
use crate::stream::{Stream, TLS_WRITE_BYTES, buffered};
use crate::{tls, unix};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket; its folder has mode 0700.
    Unix(PathBuf),
    /// TLS on a TCP address; port 0 picks a free one.
    Tls(SocketAddr),
}

/// Where a listener really listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address with the port that was picked.
    Tls(SocketAddr),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls(address) => write!(f, "tls:{address}"),
        }
    }
}

enum Kind {
    Unix {
        listener: UnixListener,
        path: PathBuf,
    },
    Tls {
        listener: TcpListener,
        acceptor: TlsAcceptor,
        address: SocketAddr,
    },
}

/// An accepted connection whose peer is not known yet.
#[derive(Debug)]
pub enum Unauthenticated {
    /// On the Unix socket.
    Unix(UnixStream),
    /// On TCP.
    Tcp(TcpStream),
}

/// A listening socket and the credentials that its connections are checked with.
pub struct Listener {
    kind: Kind,
    credentials: Arc<Credentials>,
}

impl Listener {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`io::Error`] when the address is taken, the folder of the socket is open to others, and the like.
    pub async fn bind(listen: &Listen, credentials: Arc<Credentials>) -> io::Result<Self> {
        let kind = match listen {
            Listen::Unix(path) => Kind::Unix {
                listener: unix::bind(path).await?,
                path: path.clone(),
            },
            Listen::Tls(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = listener.local_addr()?;
                let config = tls::server_config(&credentials).map_err(io::Error::other)?;
                Kind::Tls {
                    listener,
                    acceptor: TlsAcceptor::from(config),
                    address,
                }
            }
        };
        Ok(Self { kind, credentials })
    }

    /// Where it listens.
    #[must_use]
    pub fn bound(&self) -> Bound {
        match &self.kind {
            Kind::Unix { path, .. } => Bound::Unix(path.clone()),
            Kind::Tls { address, .. } => Bound::Tls(*address),
        }
    }

    /// The next connection, not yet authenticated. Dropping the future loses none.
    ///
    /// # Errors
    /// [`io::Error`] of the accept.
    pub async fn accept(&self) -> io::Result<Unauthenticated> {
        match &self.kind {
            Kind::Unix { listener, .. } => Ok(Unauthenticated::Unix(listener.accept().await?.0)),
            Kind::Tls { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Unauthenticated::Tcp(stream))
            }
        }
    }

    /// Makes the peer prove who it is. The caller bounds the time.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is closed then.
    pub async fn authenticate(
        &self,
        connection: Unauthenticated,
    ) -> Result<(Stream, Peer), HandshakeError> {
        match (connection, &self.kind) {
            (Unauthenticated::Unix(mut stream), _) => {
                let peer = handshake::accept(&mut stream, &self.credentials).await?;
                Ok((Stream::Unix(stream), peer))
            }
            (Unauthenticated::Tcp(stream), Kind::Tls { acceptor, .. }) => {
                let mut stream = acceptor.accept(buffered(stream)).await?;
                stream.get_mut().1.set_buffer_limit(Some(TLS_WRITE_BYTES));
                // The handshake verified it; this reads out what it says.
                let certificate = stream
                    .get_ref()
                    .1
                    .peer_certificates()
                    .and_then(<[_]>::first)
                    .ok_or(IdentityError::Signature)?;
                let now = self.credentials.clock().unix();
                let peer = self
                    .credentials
                    .trust()
                    .verify(certificate, Side::Client, now)?;
                Ok((Stream::Tls(Box::new(stream.into())), peer))
            }
            (Unauthenticated::Tcp(_), Kind::Unix { .. }) => Err(HandshakeError::Malformed(
                "a TCP connection on a Unix socket",
            )),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix { path, .. } = &self.kind {
            // A socket that is left behind is removed by the next start as well.
            let _ = std::fs::remove_file(path);
        }
    }
}
