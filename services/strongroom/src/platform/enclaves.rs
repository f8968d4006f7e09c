//! Custodians and workers: programs of their own beside this one, what they say of themselves, and how they are started.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use attestation::Measurement;
use domain::{DeploymentId, PlatformType, Principal};
use serde::{Deserialize, Serialize};

use super::DataFolder;
use super::files::{private_dir, replace};
use super::ledger::Home;
use crate::failure::{Failure, Outcome};
use crate::files::{Stamp, stamp};

/// Custodians of a deployment that `up` runs.
pub const CUSTODIANS: u8 = 5;
/// Custodians that open together.
pub const THRESHOLD: u8 = 3;
/// Workers of a deployment that `up` runs: a key is made by one and checked by another.
pub const WORKERS: u8 = 2;
/// How long a program may take to describe itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a description, at most.
const DESCRIPTION_BYTES_MAX: u64 = 4_096;

/// The programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    custodian: PathBuf,
    worker: PathBuf,
}

/// Which enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// By share index, from 1.
    Custodian(u8),
    /// By number, from 1.
    Worker(u8),
}

impl Which {
    /// All of a deployment.
    pub fn all() -> impl Iterator<Item = Self> {
        let custodians = (1..=CUSTODIANS).map(Self::Custodian);
        custodians.chain((1..=WORKERS).map(Self::Worker))
    }

    /// `custodian-1`, `worker-2`.
    pub fn name(self) -> String {
        match self {
            Self::Custodian(index) => format!("custodian-{index}"),
            Self::Worker(number) => format!("worker-{number}"),
        }
    }

    /// Its folder.
    pub fn dir(self, folder: &DataFolder) -> PathBuf {
        match self {
            Self::Custodian(index) => folder.custodians().join(index.to_string()),
            Self::Worker(number) => folder.path().join("workers").join(number.to_string()),
        }
    }

    /// Its socket.
    pub fn socket(self, folder: &DataFolder) -> PathBuf {
        folder.run().join(format!("{}.sock", self.name()))
    }
}

/// What an enclave says of itself with `--describe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The key that signs for it.
    pub principal: Principal,
    /// `custodian` or `worker`.
    pub role: String,
    /// What it runs on.
    pub platform: String,
    /// What the platform measures.
    pub measurement: Measurement,
}

impl Description {
    /// The platform's type; only software has none of the hardware.
    pub fn platform_type(&self) -> Option<PlatformType> {
        (0..=u8::MAX)
            .map_while(|code| PlatformType::try_from(code).ok())
            .find(|platform| platform.name() == self.platform)
    }
}

/// The enclaves of a deployment, as they described themselves: `ledger/enclaves.json`. Public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enclaves {
    /// Size and time of the custodians' program when it was asked.
    custodian_program: Stamp,
    /// Of the workers'.
    worker_program: Stamp,
    /// By share index, from 1.
    pub custodians: Vec<Description>,
    /// By number, from 1.
    pub workers: Vec<Description>,
}

impl Programs {
    /// Looks in STRONGROOM_LIBEXEC, or beside this program.
    ///
    /// # Errors
    /// A sentence that names what is missing.
    pub fn find() -> Result<Self, String> {
        let folder = match std::env::var_os("STRONGROOM_LIBEXEC") {
            Some(folder) => PathBuf::from(folder),
            None => std::env::current_exe()
                .ok()
                .and_then(|program| program.parent().map(Path::to_owned))
                .ok_or("this program's folder is not known")?,
        };
        let programs = Self {
            custodian: folder.join("strongroom-custodian"),
            worker: folder.join("strongroom-worker"),
        };
        for program in [&programs.custodian, &programs.worker] {
            if !program.is_file() {
                return Err(format!("{} is missing", program.display()));
            }
        }
        Ok(programs)
    }

    /// The program of an enclave.
    pub fn of(&self, which: Which) -> &Path {
        match which {
            Which::Custodian(_) => &self.custodian,
            Which::Worker(_) => &self.worker,
        }
    }

    fn stamp(program: &Path) -> Result<Stamp, String> {
        std::fs::metadata(program)
            .map(|meta| stamp(&meta))
            .map_err(|error| format!("{}: {error}", program.display()))
    }
}

/// What every enclave is told.
pub fn arguments(
    which: Which,
    folder: &DataFolder,
    home: &Home,
    deployment: &DeploymentId,
) -> Vec<OsString> {
    let with = |prefix: &str, path: PathBuf| {
        let mut text = OsString::from(prefix);
        text.push(path);
        text
    };
    vec![
        "--data".into(),
        which.dir(folder).into(),
        "--genesis".into(),
        folder.genesis_file().into(),
        "--relay".into(),
        folder.relay_socket().into(),
        "--listen".into(),
        with("unix:", which.socket(folder)),
        "--platform".into(),
        with("software:", home.software_platform(deployment)),
    ]
}

impl Enclaves {
    /// What was written down last.
    ///
    /// # Errors
    /// When nothing was, or it is damaged.
    pub fn read(folder: &DataFolder) -> Outcome<Self> {
        let path = folder.enclaves_file();
        let text =
            std::fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::usage(format!("{} is damaged: {error}", path.display())))
    }

    /// Asks every enclave to describe itself, which makes its sealed keys; what was written down counts as long as the programs are the
    /// same files.
    ///
    /// # Errors
    /// A sentence that says which one failed and what it said.
    pub fn describe(
        programs: &Programs,
        folder: &DataFolder,
        home: &Home,
        deployment: &DeploymentId,
    ) -> Result<Self, String> {
        let custodian_program = Programs::stamp(&programs.custodian)?;
        let worker_program = Programs::stamp(&programs.worker)?;
        if let Ok(known) = Self::read(folder)
            && known.custodian_program == custodian_program
            && known.worker_program == worker_program
            && Which::all().all(|which| which.dir(folder).exists())
        {
            return Ok(known);
        }
        let mut asked = Vec::new();
        for which in Which::all() {
            let dir = which.dir(folder);
            private_dir(&dir).map_err(|failure| failure.message)?;
            let child = Command::new(programs.of(which))
                .args(arguments(which, folder, home, deployment))
                .arg("--describe")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| format!("{}: {error}", programs.of(which).display()))?;
            asked.push((which, child));
        }
        let deadline = Instant::now() + PATIENCE;
        let (mut custodians, mut workers) = (Vec::new(), Vec::new());
        // All are waited for, so that none is left behind.
        let answers: Vec<_> = asked
            .into_iter()
            .map(|(which, child)| (which, answer(child, deadline)))
            .collect();
        for (which, answer) in answers {
            let description = answer.map_err(|why| format!("{}: {why}", which.name()))?;
            let role = match which {
                Which::Custodian(_) => "custodian",
                Which::Worker(_) => "worker",
            };
            if description.role != role || description.platform_type().is_none() {
                return Err(format!(
                    "{} says that it is a {} on {}",
                    which.name(),
                    description.role,
                    description.platform
                ));
            }
            match which {
                Which::Custodian(_) => custodians.push(description),
                Which::Worker(_) => workers.push(description),
            }
        }
        let enclaves = Self {
            custodian_program,
            worker_program,
            custodians,
            workers,
        };
        let text = serde_json::to_vec_pretty(&enclaves).map_err(|error| error.to_string())?;
        replace(&folder.enclaves_file(), &text, 0o644).map_err(|failure| failure.message)?;
        Ok(enclaves)
    }

    /// With which addresses, as command lines write them.
    pub fn addresses<'a>(
        &'a self,
        folder: &'a DataFolder,
    ) -> impl Iterator<Item = (Which, &'a Description, String)> + 'a {
        let custodians = (1..).map(Which::Custodian).zip(&self.custodians);
        let workers = (1..).map(Which::Worker).zip(&self.workers);
        custodians.chain(workers).map(|(which, description)| {
            let address = format!("unix:{}", which.socket(folder).display());
            (which, description, address)
        })
    }
}

/// Waits for one description.
fn answer(mut child: Child, deadline: Instant) -> Result<Description, String> {
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no description within {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    let text = |from: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        if let Some(from) = from {
            let _ = from.take(DESCRIPTION_BYTES_MAX).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    };
    let said = text(
        child
            .stdout
            .as_mut()
            .map(|out| out as &mut dyn std::io::Read),
    );
    let complained = text(
        child
            .stderr
            .as_mut()
            .map(|out| out as &mut dyn std::io::Read),
    );
    if !status.success() {
        return Err(format!("it ended with {status}: {complained}"));
    }
    // What it logs must not stand before its answer.
    let line = said.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("its description cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn script(path: &Path, text: &str) {
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn enclaves_describe_themselves_once_per_program() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(&dir.path().join("data"));
        private_dir(&folder.ledger()).unwrap();
        let home = Home {
            config_dir: dir.path().join("config"),
            apart_from: folder.path().to_owned(),
        };
        let programs = Programs {
            custodian: dir.path().join("custodian"),
            worker: dir.path().join("worker"),
        };
        let says = |role: &str| {
            format!(
                "echo asked >> {}/asked\necho '{{\"principal\":\"{}\",\"role\":\"{role}\",\"platform\":\"software\",\"measurement\":\"{}\"}}'",
                dir.path().display(),
                Principal([1; 32]),
                "ab".repeat(32)
            )
        };
        script(&programs.custodian, &says("custodian"));
        script(&programs.worker, &says("worker"));
        let deployment = DeploymentId([9; 32]);
        let describe = || Enclaves::describe(&programs, &folder, &home, &deployment);
        let first = describe().unwrap();
        assert_eq!((first.custodians.len(), first.workers.len()), (5, 2));
        assert_eq!(describe().unwrap(), first);
        let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap();
        assert_eq!(asked().lines().count(), 7);
        assert_eq!(first.addresses(&folder).count(), 7);
        // Another program is asked again, and must be what it should be.
        script(&programs.worker, &says("custodian"));
        assert!(describe().unwrap_err().contains("worker-1"));
        script(&programs.worker, "echo no memory to lock >&2; exit 3");
        assert!(describe().unwrap_err().contains("no memory to lock"));
        script(&programs.worker, "echo nonsense");
        assert!(describe().unwrap_err().contains("cannot be read"));
    }
}
