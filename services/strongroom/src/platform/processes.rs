//! What is known of a platform's processes, for `bench`, tests and people: `run/processes.json` in the data folder.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use serde::{Deserialize, Serialize};

use super::DataFolder;
use crate::failure::{Exit, Failure, Outcome};

/// The processes of a running platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// Process id of the supervisor.
    pub supervisor: u32,
    /// Where REST is served.
    pub endpoint: String,
    /// The deployment.
    pub deployment: String,
    /// The gateway and the nodes.
    pub children: Vec<Process>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// `gateway`, or `node-00` and so on.
    pub name: String,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// `starting`, `ready`, `waiting` (to be started again), `held` (down on purpose), `failed`, `stopped`.
    pub state: String,
    /// How often it was started again after it had died by itself.
    pub restarts: u32,
}

impl Processes {
    /// Reads what a running platform says of itself.
    ///
    /// # Errors
    /// Unavailable when no platform runs from the folder.
    pub fn read(folder: &DataFolder) -> Outcome<Self> {
        let not_running = || {
            Failure::new(
                Exit::Unavailable,
                "not_running",
                format!("no platform runs from {}", folder.path().display()),
            )
            .advise("start it with `strongroom up`, or name its folder with --data")
        };
        let text = std::fs::read_to_string(Self::path(folder)).map_err(|_| not_running())?;
        let processes: Self = serde_json::from_str(&text).map_err(|_| not_running())?;
        if !std::path::Path::new(&format!("/proc/{}", processes.supervisor)).exists() {
            return Err(not_running());
        }
        Ok(processes)
    }

    /// Replaces the file as a whole.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &DataFolder) -> std::io::Result<()> {
        let path = Self::path(folder);
        let temporary = path.with_extension("json.new");
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(temporary, path)
    }

    /// Removes the file; the platform has stopped.
    pub fn remove(folder: &DataFolder) {
        let _ = std::fs::remove_file(Self::path(folder));
    }

    fn path(folder: &DataFolder) -> std::path::PathBuf {
        folder.run().join("processes.json")
    }
}
