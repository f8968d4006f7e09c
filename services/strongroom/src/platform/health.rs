//! Whether a process that was started does its work yet.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

/// How often it is looked at before it is ready.
const EVERY: Duration = Duration::from_millis(40);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How to see that a process is ready.
#[derive(Clone, Debug)]
pub enum Probe {
    /// It accepts on a Unix socket.
    Unix(PathBuf),
    /// It accepts on a TCP port.
    Tcp(SocketAddr),
    /// It answers `GET /health` with 200.
    Health(SocketAddr),
}

impl Probe {
    /// Returns once the process is ready; cancel it by dropping.
    pub async fn ready(&self) {
        while !matches!(timeout(PATIENCE, self.once()).await, Ok(true)) {
            sleep(EVERY).await;
        }
    }

    /// Looks once.
    pub async fn once(&self) -> bool {
        match self {
            Self::Unix(path) => UnixStream::connect(path).await.is_ok(),
            Self::Tcp(address) => TcpStream::connect(address).await.is_ok(),
            Self::Health(address) => health(*address).await.unwrap_or(false),
        }
    }
}

async fn health(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    Ok(head.ends_with(b" 200"))
}
