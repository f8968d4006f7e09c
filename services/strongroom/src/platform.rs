//! A whole platform on one machine: its folder, its deployment record, and the processes that `up` keeps running.

mod child;
mod control;
mod deployment;
pub mod enclaves;
pub mod files;
mod health;
pub mod ledger;
mod lock;
mod log_file;
mod processes;
pub mod provision;
mod specs;
mod supervisor;

pub use deployment::{Deployment, InitReport, gateway_certificates, initialise};
pub use ledger::Home;
pub use processes::Processes;
pub use supervisor::{Custody, Options, Platform};

use std::path::{Path, PathBuf};

/// Storage nodes of a deployment that `up` runs.
pub const NODES: u16 = 14;

/// Said wherever a development deployment shows its state.
pub const DEVELOPMENT: &str =
    "development: keys and nodes are on one machine; protects nothing from this machine's owner";

/// The folder of a deployment and where things lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFolder(PathBuf);

impl DataFolder {
    /// The folder at `path`, made absolute so that children may be told about it.
    pub fn new(path: &Path) -> Self {
        Self(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The public record of the deployment.
    pub fn deployment_file(&self) -> PathBuf {
        self.0.join("deployment.toml")
    }

    /// The private certificate authority.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// The gateway's folder.
    pub fn gateway(&self) -> PathBuf {
        self.0.join("gateway")
    }

    /// A node's folder.
    pub fn node(&self, slot: u16) -> PathBuf {
        self.0.join("nodes").join(format!("{slot:02}"))
    }

    /// The validator's folder.
    pub fn validator(&self) -> PathBuf {
        self.0.join("validator")
    }

    /// The validator's socket.
    pub fn validator_socket(&self) -> PathBuf {
        self.run().join("validator.sock")
    }

    /// Where enclaves reach the ledger.
    pub fn relay_socket(&self) -> PathBuf {
        self.run().join("relay.sock")
    }

    /// What is public of the ledger.
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }

    /// What the ledger began with.
    pub fn genesis_file(&self) -> PathBuf {
        self.ledger().join("genesis.cbor")
    }

    /// The custodians and workers as they described themselves.
    pub fn enclaves_file(&self) -> PathBuf {
        self.ledger().join("enclaves.json")
    }

    /// The custodians' folders.
    pub fn custodians(&self) -> PathBuf {
        self.0.join("custodians")
    }

    /// Where a role's certificate, key and the authority's certificate lie, in its own folder.
    pub fn identity(role_dir: &Path) -> PathBuf {
        role_dir.join("identity")
    }

    /// Sockets and what is known of the running processes; mode 0700.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// A node's socket.
    pub fn node_socket(&self, slot: u16) -> PathBuf {
        self.run().join(format!("node-{slot:02}.sock"))
    }

    /// Held while a supervisor runs, or `init` writes.
    pub fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }
}
