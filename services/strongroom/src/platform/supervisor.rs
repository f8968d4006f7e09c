//! Starts the processes of a deployment, and stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::ledger::Genesis;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::DataFolder;
use super::child::{Kept, Order, Phase, State, keep};
use super::control;
use super::deployment::{Deployment, renew_certificates};
use super::enclaves::{Enclaves, Programs, Which};
use super::files::private_dir;
use super::ledger::{self, Home};
use super::lock::{FolderLock, take};
use super::processes::{Process, Processes};
use super::provision::Provisioning;
use super::specs::{enclave_specs, free_addresses, gateway_spec, node_specs, validator_spec};
use crate::clock::now;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Platform as PlatformSettings;

/// How long the whole platform may take to be ready.
pub(super) const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a start waits for custodians and workers.
const ENCLAVE_PATIENCE: Duration = Duration::from_secs(10);
/// How often certificates are looked at; they are renewed with a third of their 30 days left.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(3_600);

/// How a platform runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the deployment.
    pub folder: DataFolder,
    /// What does not lie in it.
    pub home: Home,
    /// The other settings.
    pub settings: PlatformSettings,
}

/// What became of custody at the start.
#[derive(Clone, Debug)]
pub enum Custody {
    /// Not wanted (`--no-custody`): no ledger either.
    Off,
    /// There is a ledger; custodians and workers cannot run, and why.
    Missing(String),
    /// Custodians and workers run.
    On(Box<Provisioning>),
}

/// A running platform. Its handles may be used from other threads than the one that runs it.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The deployment.
    pub deployment: Deployment,
    /// Where REST is served.
    pub endpoint: String,
    /// Where gRPC is served: `ADDRESS:PORT`.
    pub grpc: SocketAddr,
    /// The ledger's validator and what holds keys.
    pub custody: Custody,
    gateway: Kept,
    nodes: Vec<Kept>,
    validator: Option<Kept>,
    enclaves: Vec<Kept>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: DataFolder,
    _lock: FolderLock,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        Processes::remove(&self.folder);
    }
}

impl Platform {
    /// Starts every process, on the present runtime. It must be a runtime whose thread lives as long as the platform:
    /// children end with the thread that started them.
    ///
    /// # Errors
    /// When there is no deployment, the folder or the port is in use, or certificates cannot be renewed.
    pub fn start(options: &Options) -> Outcome<Self> {
        let folder = &options.folder;
        let deployment = Deployment::read(&folder.deployment_file())?;
        let lock = take(folder)?;
        private_dir(&folder.run())?;
        let genesis = match options.settings.no_custody.value {
            true => None,
            false => Some(ledger::ensure(folder, &deployment, &options.home)?),
        };
        renew_certificates(folder, &deployment, now())?;
        let custody = custody(options, &deployment, genesis.as_ref())?;
        let (listen, grpc_listen) = free_addresses(&options.settings)?;
        let endpoint = format!("http://{listen}");
        let specs = node_specs(options, &deployment)?;
        let gateway = gateway_spec(options, &specs, (listen, grpc_listen), &custody);

        let changed = Arc::new(Notify::new());
        let validator = match &genesis {
            None => None,
            Some(_) => Some(keep(validator_spec(options, &deployment)?, changed.clone())),
        };
        let nodes: Vec<Kept> = specs
            .into_iter()
            .map(|node| keep(node.spec, changed.clone()))
            .collect();
        let gateway = keep(gateway, changed.clone());
        let enclaves: Vec<Kept> = enclave_specs(options, &deployment, &custody)?
            .into_iter()
            .map(|spec| keep(spec, changed.clone()))
            .collect();
        let children: Vec<Kept> = std::iter::once(&gateway)
            .chain(&nodes)
            .chain(&validator)
            .chain(&enclaves)
            .cloned()
            .collect();
        let report = {
            let (folder, children) = (folder.clone(), children.clone());
            let (endpoint, deployment) = (endpoint.clone(), deployment.id.to_string());
            tokio::spawn(async move {
                loop {
                    let processes = Processes {
                        supervisor: std::process::id(),
                        endpoint: endpoint.clone(),
                        deployment: deployment.clone(),
                        children: children.iter().map(describe).collect(),
                    };
                    if let Err(error) = processes.write(&folder) {
                        tracing::warn!(%error, "cannot write run/processes.json");
                    }
                    changed.notified().await;
                    // Many processes start at once: one write for many changes.
                    sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let renewal = {
            let (folder, deployment) = (folder.clone(), deployment.clone());
            tokio::spawn(async move {
                loop {
                    sleep(CERTIFICATES_EVERY).await;
                    match renew_certificates(&folder, &deployment, now()) {
                        Ok(0) => {}
                        Ok(count) => tracing::info!(count, "certificates renewed"),
                        Err(error) => tracing::error!(%error, "certificates cannot be renewed"),
                    }
                }
            })
        };
        let control = {
            let path = folder.run().join("control.sock");
            let listener = control::listen(&path)
                .map_err(|error| Failure::file("listen on", &path, &error))?;
            tokio::spawn(control::serve(listener, children))
        };
        let inner = Inner {
            folder: folder.clone(),
            _lock: lock,
            tasks: vec![report, renewal, control],
        };
        Ok(Self {
            deployment,
            endpoint,
            grpc: grpc_listen,
            custody,
            gateway,
            nodes,
            validator,
            enclaves,
            inner: Arc::new(inner),
        })
    }

    /// Waits until gateway, nodes and validator are ready.
    ///
    /// # Errors
    /// Unavailable, with what the process said last, when one gave up or the platform takes longer than a minute.
    pub async fn ready(&self) -> Outcome {
        let all = async {
            for kept in self.essential() {
                let state = kept
                    .wait_for(|state| {
                        matches!(
                            state.phase,
                            Phase::Ready | Phase::Failed(_) | Phase::Stopped
                        )
                    })
                    .await;
                if let Phase::Failed(why) = state.phase {
                    return Err(
                        Failure::new(Exit::Unavailable, "platform_failed", why).advise(format!(
                            "see the logs in {}",
                            self.inner.folder.path().display()
                        )),
                    );
                }
            }
            Ok(())
        };
        timeout(READY_PATIENCE, all).await.unwrap_or_else(|_| {
            let late: Vec<&str> = self
                .essential()
                .filter(|kept| kept.state().phase != Phase::Ready)
                .map(|kept| kept.name.as_str())
                .collect();
            Err(Failure::new(
                Exit::Unavailable,
                "platform_slow",
                format!("not ready after a minute: {}", late.join(", ")),
            )
            .advise(format!(
                "see the logs in {}",
                self.inner.folder.path().display()
            )))
        })
    }

    /// Waits a moment for custodians and workers; the names of those that are not ready, with why where it is known. What is stored does
    /// not depend on them.
    pub async fn enclaves_not_ready(&self) -> Vec<String> {
        let all = async {
            for kept in &self.enclaves {
                kept.wait_for(|state| matches!(state.phase, Phase::Ready | Phase::Failed(_)))
                    .await;
            }
        };
        let _ = timeout(ENCLAVE_PATIENCE, all).await;
        self.enclaves
            .iter()
            .filter_map(|kept| match kept.state().phase {
                Phase::Ready => None,
                Phase::Failed(why) => Some(why),
                _ => Some(format!("{} is not ready", kept.name)),
            })
            .collect()
    }

    /// Returns with the reason once a process is given up that the platform cannot do without.
    pub async fn failed(&self) -> String {
        loop {
            for kept in self.essential() {
                if let Phase::Failed(why) = kept.state().phase {
                    return why;
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Kills nodes with SIGKILL and keeps them down.
    pub async fn hold_nodes(&self, slots: &[u16]) {
        for kept in self.select(slots) {
            kept.order(Order::Hold);
        }
        for kept in self.select(slots) {
            kept.wait_for(|state| state.phase == Phase::Held).await;
        }
    }

    /// Starts nodes again that were held, and waits until they are ready.
    pub async fn release_nodes(&self, slots: &[u16]) {
        for kept in self.select(slots) {
            kept.order(Order::Run);
        }
        for kept in self.select(slots) {
            kept.wait_for(|state| matches!(state.phase, Phase::Ready | Phase::Failed(_)))
                .await;
        }
    }

    /// Kills custodians, by share index, with SIGKILL and keeps them down.
    pub async fn hold_custodians(&self, indices: &[u8]) {
        for kept in self.custodians(indices) {
            kept.order(Order::Hold);
        }
        for kept in self.custodians(indices) {
            kept.wait_for(|state| state.phase == Phase::Held).await;
        }
    }

    /// Starts custodians again that were held, and waits until they are ready.
    pub async fn release_custodians(&self, indices: &[u8]) {
        for kept in self.custodians(indices) {
            kept.order(Order::Run);
        }
        for kept in self.custodians(indices) {
            kept.wait_for(|state| matches!(state.phase, Phase::Ready | Phase::Failed(_)))
                .await;
        }
    }

    fn custodians(&self, indices: &[u8]) -> impl Iterator<Item = &Kept> {
        let wanted = indices.iter().map(|index| Which::Custodian(*index).name());
        wanted.filter_map(|name| self.enclaves.iter().find(|kept| kept.name == name))
    }

    /// Stops the gateway, then custodians and workers, then nodes and validator.
    pub async fn stop(&self) {
        stop_all([&self.gateway]).await;
        stop_all(&self.enclaves).await;
        stop_all(self.nodes.iter().chain(&self.validator)).await;
        Processes::remove(&self.inner.folder);
    }

    /// Ends everything at once, by SIGKILL.
    pub fn kill(&self) {
        for kept in self.children() {
            kept.order(Order::Hold);
        }
    }

    fn essential(&self) -> impl Iterator<Item = &Kept> {
        std::iter::once(&self.gateway)
            .chain(&self.nodes)
            .chain(&self.validator)
    }

    fn children(&self) -> impl Iterator<Item = &Kept> {
        self.essential().chain(&self.enclaves)
    }

    fn select(&self, slots: &[u16]) -> impl Iterator<Item = &Kept> {
        slots
            .iter()
            .filter_map(|slot| self.nodes.get(usize::from(*slot)))
    }
}

async fn stop_all<'a>(children: impl IntoIterator<Item = &'a Kept>) {
    let children: Vec<_> = children.into_iter().collect();
    for kept in &children {
        kept.order(Order::Stop);
    }
    for kept in children {
        kept.wait_for(|state| state.phase == Phase::Stopped).await;
    }
}

fn describe(kept: &Kept) -> Process {
    let State {
        phase,
        pid,
        restarts,
    } = kept.state();
    Process {
        name: kept.name.clone(),
        pid,
        state: phase.name().to_owned(),
        restarts,
    }
}

/// What there is of custody: the enclaves as they describe themselves, or why there are none.
fn custody(
    options: &Options,
    deployment: &Deployment,
    genesis: Option<&Arc<Genesis>>,
) -> Outcome<Custody> {
    let Some(genesis) = genesis else {
        return Ok(Custody::Off);
    };
    let found = Programs::find().and_then(|programs| {
        ledger::check_platform(genesis, &options.home)?;
        Enclaves::describe(&programs, &options.folder, &options.home, &deployment.id)
    });
    match found {
        Err(why) => Ok(Custody::Missing(why)),
        Ok(enclaves) => Ok(Custody::On(Box::new(Provisioning {
            ledger: ledger::client(&options.folder, deployment, genesis)?,
            genesis: genesis.clone(),
            enclaves,
        }))),
    }
}
