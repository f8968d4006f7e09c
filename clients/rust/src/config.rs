//! What a client is told at start.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crypto::Identity;
use domain::DeploymentId;
use http::Uri;
use http::uri::{Authority, Scheme};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Which deployment must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentPin {
    /// This one (from `deployment.toml`, or told by the operator).
    Id(DeploymentId),
    /// Whichever answered at first use of this endpoint; remembered in the state folder.
    FirstUse,
}

/// Configuration of [`crate::Client::connect`].
#[derive(Clone)]
pub struct ClientConfig {
    /// `http://127.0.0.1:8080` or `https://HOST[:PORT]`. Plain HTTP is accepted on loopback only.
    pub endpoint: String,
    /// Who acts.
    pub identity: Arc<Identity>,
    /// Which deployment must answer.
    pub deployment: DeploymentPin,
    /// Folder for pins, sealed bucket keys and resumable transfers; made with mode 0700. One per user, not per run.
    pub state_dir: PathBuf,
    /// Folder of pinned genesis records (`<deployment id>.cbor`); what the gateway says at first use is kept there when there is none
    /// yet. `None`: `genesis` in the state folder.
    pub genesis_dir: Option<PathBuf>,
    /// The deployment's CA certificate (PEM), for https.
    pub ca_certificate: Option<Vec<u8>>,
    /// Wraps new bucket keys under this passphrase too, and tries it on keys that the identity does not open.
    pub passphrase: Option<Arc<Zeroizing<Vec<u8>>>>,
    /// Bytes of chunks in memory over all transfers of this client.
    pub budget_bytes: usize,
    /// Chunks of one object in flight.
    pub chunks_in_flight: usize,
    /// Bytes per second over all transfers of this client; `None` for no limit.
    pub bandwidth_limit: Option<u64>,
    /// How long a control request may take.
    pub request_timeout: Duration,
    /// How long one chunk may take.
    pub chunk_timeout: Duration,
    /// How long a request is repeated while the gateway is away or asks to wait.
    pub retry_for: Duration,
}

impl ClientConfig {
    /// Default of [`Self::budget_bytes`]: 96 MiB.
    pub const BUDGET_BYTES: usize = 96 << 20;
    /// Default of [`Self::chunks_in_flight`].
    pub const CHUNKS_IN_FLIGHT: usize = 8;
    /// Default of [`Self::request_timeout`].
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
    /// Default of [`Self::chunk_timeout`].
    pub const CHUNK_TIMEOUT: Duration = Duration::from_secs(120);
    /// Default of [`Self::retry_for`].
    pub const RETRY_FOR: Duration = Duration::from_secs(30);

    /// Defaults for everything but what must be said.
    #[must_use]
    pub fn new(
        endpoint: impl Into<String>,
        identity: Arc<Identity>,
        deployment: DeploymentPin,
        state_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            endpoint: endpoint.into(),
            identity,
            deployment,
            state_dir: state_dir.into(),
            genesis_dir: None,
            ca_certificate: None,
            passphrase: None,
            budget_bytes: Self::BUDGET_BYTES,
            chunks_in_flight: Self::CHUNKS_IN_FLIGHT,
            bandwidth_limit: None,
            request_timeout: Self::REQUEST_TIMEOUT,
            chunk_timeout: Self::CHUNK_TIMEOUT,
            retry_for: Self::RETRY_FOR,
        }
    }
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("endpoint", &self.endpoint)
            .field("identity", &self.identity)
            .field("deployment", &self.deployment)
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}

/// A checked endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

impl Endpoint {
    /// Checks that plain HTTP stays on this machine.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::Config(format!(
                "endpoint `{text}`: expected http://127.0.0.1:PORT or https://HOST[:PORT]"
            ))
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(wrong());
        };
        let path = parts
            .path_and_query
            .as_ref()
            .map_or("", |path| path.as_str());
        if authority.as_str().contains('@') || !matches!(path, "" | "/") {
            return Err(wrong());
        }
        if scheme == Scheme::HTTP {
            if !is_loopback(authority.host()) {
                return Err(Error::Config(format!(
                    "endpoint `{text}`: plain HTTP is for this machine only; use https:// elsewhere"
                )));
            }
        } else if scheme != Scheme::HTTPS {
            return Err(wrong());
        }
        Ok(Self { scheme, authority })
    }

    /// The complete target of a request.
    pub(crate) fn uri(&self, path_and_query: &str) -> Result<Uri> {
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path_and_query)
            .build()
            .map_err(|error| Error::Internal(format!("request target: {error}")))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// `localhost` counts (RFC 6761, 6.3).
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_refused_off_this_machine() {
        for good in [
            "http://127.0.0.1:8080",
            "http://127.1.2.3",
            "http://[::1]:1/",
            "http://LocalHost:8080",
            "https://gateway.example",
        ] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1:8080",
            "http://localhost.example",
            "http://[::2]",
            "http://u@127.0.0.1",
            "http://127.0.0.1/v1",
            "ftp://127.0.0.1",
            "127.0.0.1:8080",
            "",
        ] {
            assert!(
                matches!(Endpoint::parse(bad), Err(Error::Config(_))),
                "{bad}"
            );
        }
    }
}
