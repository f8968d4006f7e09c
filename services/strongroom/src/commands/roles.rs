//! `node`, `gateway`, `validator`, `relay`: one role in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::{DeploymentId, NodeId};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::sync::watch;

use super::Context;
use super::up::Stop;
use crate::args::{GatewayArgs, LogFormat, NodeArgs, RelayArgs, RoleArgs, ValidatorArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::platform::{Deployment, gateway_certificates, ledger};

/// Runs a storage node until it is told to stop.
///
/// # Errors
/// Wrong configuration (status 2, which `up` does not try again), or what the node says.
pub fn node(context: &Context, args: &NodeArgs) -> Outcome {
    prepare(&args.role)?;
    let data = required(args.data.as_deref(), "--data")?;
    let listen = required(args.listen.as_deref(), "--listen")?;
    let deployment = deployment_id(context)?;
    let mut config = node::NodeConfig::new(data, deployment, listen_address(listen)?);
    config.capacity_bytes = args.capacity;
    let runtime = node::runtime().map_err(|error| {
        Failure::new(Exit::Failure, "runtime", format!("cannot start: {error}"))
    })?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        node::run(config, async move { stop.wait().await })
            .await
            .map_err(|error| Failure::new(Exit::Failure, "node", chain(&error)))
    })
}

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// Wrong configuration (status 2), or what the gateway says.
pub fn gateway(args: &GatewayArgs) -> Outcome {
    prepare(&args.role)?;
    let data = required(args.data.as_deref(), "--data")?;
    let file = required(args.deployment_file.as_deref(), "--deployment-file")?;
    let listen = args.listen.ok_or_else(|| missing("--listen"))?;
    let deployment = Deployment::read(file)?;
    let certificates = gateway_certificates(data);
    let server_certificate = match (&args.certificate, &args.key) {
        (Some(certificate), Some(key)) => Some(gateway::ServerCertificate {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        _ => None,
    };
    let mut listens = std::iter::once(listen).chain(args.grpc_listen);
    let open = listens.find(|address| !address.ip().is_loopback());
    if let (None, Some(open)) = (&server_certificate, open) {
        return Err(Failure::usage(format!(
            "{open} is not a loopback address: plain HTTP is served on loopback only"
        ))
        .advise("give --certificate and --key"));
    }
    let nodes = args
        .nodes
        .iter()
        .map(|text| node_endpoint(text))
        .collect::<Outcome<Vec<_>>>()?;
    if nodes.is_empty() {
        return Err(missing("--node"));
    }
    let bytes = |given: Option<u64>, option: &str| {
        given
            .map(usize::try_from)
            .transpose()
            .map_err(|_| Failure::usage(format!("{option} is more than this machine can address")))
    };
    let at_least =
        |given: Option<Duration>, default: Duration, least: Duration, option: &str| match given {
            Some(time) if time < least => Err(Failure::usage(format!(
                "{option} is at least {} seconds",
                least.as_secs()
            ))),
            given => Ok(given.unwrap_or(default)),
        };
    let budget_bytes = bytes(args.memory_budget, "--memory-budget")?
        .unwrap_or(gateway::GatewayConfig::BUDGET_BYTES);
    let config = gateway::GatewayConfig {
        data_dir: data.to_owned(),
        deployment: deployment.id,
        administrator: deployment.administrator,
        recovery_public: deployment.recovery_public()?,
        database_url: args.database.clone(),
        listen,
        grpc_listen: args.grpc_listen,
        server_certificate,
        peers: gateway::PeerCredentials {
            ca: certificates.ca,
            certificate: certificates.certificate,
            key: certificates.key,
        },
        nodes,
        budget_bytes,
        principal_budget_bytes: Some(
            bytes(args.principal_budget, "--principal-budget")?.unwrap_or(budget_bytes / 2),
        ),
        min_rate_bytes: gateway::GatewayConfig::MIN_RATE_BYTES,
        probe_interval: args
            .probe_interval
            .unwrap_or(gateway::GatewayConfig::PROBE_INTERVAL),
        deletion_grace: at_least(
            args.deletion_grace,
            gateway::GatewayConfig::DELETION_GRACE,
            gateway::GatewayConfig::DELETION_GRACE_MIN,
            "--deletion-grace",
        )?,
        upload_ttl: at_least(
            args.upload_lifetime,
            gateway::GatewayConfig::UPLOAD_TTL,
            gateway::GatewayConfig::UPLOAD_TTL_MIN,
            "--upload-lifetime",
        )?,
        custody: custody_config(args)?,
        connections_max: gateway::GatewayConfig::CONNECTIONS_MAX,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(Exit::Failure, "runtime", format!("cannot start: {error}"))
        })?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        gateway::run(config, async move { stop.wait().await })
            .await
            .map_err(|error| Failure::new(Exit::Failure, "gateway", chain(&error)))
    })
}

/// Runs the ledger's validator until it is told to stop.
///
/// # Errors
/// Wrong configuration (status 2), or what the validator says.
pub fn validator(context: &Context, args: &ValidatorArgs) -> Outcome {
    prepare(&args.role)?;
    let data = required(args.data.as_deref(), "--data")?;
    let listen = listen_address(required(args.listen.as_deref(), "--listen")?)?;
    let deployment = deployment_id(context)?;
    let signer = Arc::new(ledger::validator_key(data)?);
    let clock = transport::Clock::system();
    let mut config = validator::ValidatorConfig::new(data, deployment, listen, signer, clock);
    config.metrics_listen = args.metrics_listen;
    let failed =
        |error: &dyn std::error::Error| Failure::new(Exit::Failure, "validator", chain(error));
    small_runtime()?.block_on(async {
        let mut stop = Stop::new()?;
        let validator = validator::Validator::start(config)
            .await
            .map_err(|error| failed(&error))?;
        let relay = match &args.relay {
            None => None,
            Some(path) => Some(bind_relay(path).await?),
        };
        let solo = Arc::new(validator.solo());
        let (ended, end) = watch::channel(false);
        let until = |mut end: watch::Receiver<bool>| async move {
            let _ = end.wait_for(|ended| *ended).await;
        };
        let carried = async {
            if let Some(listener) = relay {
                relay::serve(listener, solo, relay::Limits::default(), until(end.clone())).await;
            }
        };
        let signalled = async {
            stop.wait().await;
            ended.send_replace(true);
        };
        tokio::join!(validator.serve(until(end.clone())), carried, signalled);
        if let Some(path) = &args.relay {
            // A socket that is left behind is removed by the next start as well.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    })
}

/// Runs a relay to a validator elsewhere until it is told to stop.
///
/// # Errors
/// Wrong configuration (status 2), or a socket that cannot be made.
pub fn relay(args: &RelayArgs) -> Outcome {
    prepare(&args.role)?;
    let data = required(args.data.as_deref(), "--data")?;
    let path = required(args.listen.as_deref(), "--listen")?;
    let genesis = required(args.genesis.as_deref(), "--genesis")?;
    let genesis = Arc::new(ledger::read_genesis(genesis)?);
    let validator = required(args.validator.as_deref(), "--validator")?;
    let address = peer_address(validator).ok_or_else(|| {
        Failure::usage(format!(
            "--validator {validator}: neither a Unix socket nor TLS"
        ))
        .advise("write unix:PATH or tls:HOST:PORT")
    })?;
    let failed = |error: String| Failure::new(Exit::Failure, "relay", error);
    small_runtime()?.block_on(async {
        let mut stop = Stop::new()?;
        let credentials = transport::Credentials::load(
            gateway_certificates(data),
            genesis.deployment,
            transport::Clock::system(),
        )
        .map_err(|error| failed(chain(&error)))?;
        let client = transport::LedgerClient::new(
            address,
            genesis,
            credentials,
            transport::ClientOptions::default(),
        )
        .map_err(|error| failed(chain(&error)))?;
        let listener = bind_relay(path).await?;
        let client = Arc::new(client);
        relay::serve(listener, client, relay::Limits::default(), async move {
            stop.wait().await;
        })
        .await;
        let _ = std::fs::remove_file(path);
        Ok(())
    })
}

async fn bind_relay(path: &Path) -> Outcome<tokio::net::UnixListener> {
    transport::unix::bind(path)
        .await
        .map_err(|error| Failure::file("listen on", path, &error))
}

fn peer_address(text: &str) -> Option<transport::NodeAddress> {
    match text.split_once(':')? {
        ("unix", path) if !path.is_empty() => {
            Some(transport::NodeAddress::Unix(PathBuf::from(path)))
        }
        ("tls", address) if !address.is_empty() => {
            Some(transport::NodeAddress::Tls(address.to_owned()))
        }
        _ => None,
    }
}

/// Two threads: one waits while the other does.
fn small_runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, "runtime", format!("cannot start: {error}")))
}

fn deployment_id(context: &Context) -> Outcome<DeploymentId> {
    required(context.settings.deployment.value.as_deref(), "--deployment")?
        .parse()
        .map_err(|error: domain::IdParseError| Failure::usage(format!("--deployment: {error}")))
}

/// What the gateway is told of the ledger, custodians and workers.
fn custody_config(args: &GatewayArgs) -> Outcome<Option<gateway::CustodyConfig>> {
    let (Some(genesis), Some(validator)) = (&args.genesis, &args.validator) else {
        return Ok(None);
    };
    let mut custodians = args
        .custodians
        .iter()
        .map(|text| custodian_endpoint(text))
        .collect::<Outcome<Vec<_>>>()?;
    custodians.sort_by_key(|custodian| custodian.slot);
    Ok(Some(gateway::CustodyConfig {
        genesis: Arc::new(ledger::read_genesis(genesis)?),
        validator: validator.clone(),
        relay: args.relay.clone().unwrap_or_default(),
        custodians,
        workers: args
            .workers
            .iter()
            .map(|text| worker_endpoint(text))
            .collect::<Outcome<_>>()?,
    }))
}

/// `INDEX/PRINCIPAL@ADDRESS`, `INDEXs/...` for a standby.
fn custodian_endpoint(text: &str) -> Outcome<gateway::CustodianEndpoint> {
    let wrong = |why: &str| {
        Failure::usage(format!("--custodian {text}: {why}"))
            .advise("write INDEX/PRINCIPAL@unix:PATH, INDEXs/... for a standby")
    };
    let (slot, rest) = text
        .split_once('/')
        .ok_or_else(|| wrong("the share index is missing"))?;
    let (index, standby) = match slot.strip_suffix('s') {
        Some(index) => (index, true),
        None => (slot, false),
    };
    let index = index
        .parse()
        .map_err(|error: domain::NumberError| wrong(&error.to_string()))?;
    let (principal, address) = enclave_address(rest).map_err(|why| wrong(&why))?;
    Ok(gateway::CustodianEndpoint {
        principal,
        slot: domain::Slot { index, standby },
        address,
    })
}

/// `PRINCIPAL@ADDRESS`.
fn worker_endpoint(text: &str) -> Outcome<gateway::WorkerEndpoint> {
    let (principal, address) = enclave_address(text).map_err(|why| {
        Failure::usage(format!("--worker {text}: {why}")).advise("write PRINCIPAL@unix:PATH")
    })?;
    Ok(gateway::WorkerEndpoint { principal, address })
}

fn enclave_address(text: &str) -> Result<(domain::Principal, String), String> {
    let (principal, address) = text.split_once('@').ok_or("the address is missing")?;
    let principal = principal
        .parse()
        .map_err(|error: domain::IdParseError| error.to_string())?;
    let known = address
        .strip_prefix("unix:")
        .or_else(|| address.strip_prefix("tcp:"));
    if known.is_none_or(str::is_empty) {
        return Err("neither a Unix socket nor TCP".to_owned());
    }
    Ok((principal, address.to_owned()))
}

/// What every role does first: tie their life to the supervisor's, and log.
fn prepare(args: &RoleArgs) -> Outcome {
    if let Some(supervisor) = args.supervised_by {
        let failed = |errno: rustix::io::Errno| {
            Failure::new(
                Exit::Failure,
                "supervisor",
                format!("cannot follow the supervisor: {errno}"),
            )
        };
        // SIGKILL, for a process that was stopped or hangs ends by it too; the stores survive it at any point.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
        // It may have died before that call.
        if getppid()
            .map(Pid::as_raw_nonzero)
            .map(std::num::NonZeroI32::get)
            != Some(supervisor)
        {
            return Err(Failure::new(
                Exit::Failure,
                "supervisor",
                "the supervisor is gone",
            ));
        }
    }
    log_to_stderr(args)
}

fn log_to_stderr(args: &RoleArgs) -> Outcome {
    let text = args.log.as_deref().unwrap_or("info");
    let filter = tracing_subscriber::EnvFilter::try_new(text)
        .map_err(|error| Failure::usage(format!("--log `{text}` is not a filter: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = match args.log_format.unwrap_or_default() {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| Failure::new(Exit::Failure, "log", format!("cannot log: {error}")))
}

fn required<'a, T: ?Sized>(value: Option<&'a T>, option: &str) -> Outcome<&'a T> {
    value.ok_or_else(|| missing(option))
}

fn missing(option: &str) -> Failure {
    Failure::usage(format!("{option} is needed")).advise("see --help")
}

fn listen_address(text: &str) -> Outcome<transport::Listen> {
    let wrong = |why: &str| {
        Failure::usage(format!("--listen {text}: {why}"))
            .advise("write unix:PATH or tls:ADDRESS:PORT")
    };
    match text.split_once(':') {
        Some(("unix", path)) if Path::new(path).is_absolute() => {
            Ok(transport::Listen::Unix(PathBuf::from(path)))
        }
        Some(("unix", _)) => Err(wrong("the socket's path must be absolute")),
        Some(("tls", address)) => address
            .parse()
            .map(transport::Listen::Tls)
            .map_err(|_| wrong("not an ADDRESS:PORT")),
        _ => Err(wrong("neither a Unix socket nor TLS")),
    }
}

/// `SLOT/ID@unix:PATH` or `SLOT/ID@tls:HOST:PORT`, then `,zone=NAME` and `,weight=N`.
fn node_endpoint(text: &str) -> Outcome<gateway::NodeEndpoint> {
    let wrong = |why: &str| {
        Failure::usage(format!("--node {text}: {why}"))
            .advise("write SLOT/ID@unix:PATH or SLOT/ID@tls:HOST:PORT, then ,zone=NAME and ,weight=N if wanted")
    };
    let mut rest = text;
    let (mut zone, mut weight) = (None, 1);
    // From the end: a socket's path may hold commas.
    while let Some((before, last)) = rest.rsplit_once(',') {
        match last.split_once('=') {
            Some(("zone", name)) if !name.is_empty() => zone = Some(name.to_owned()),
            Some(("weight", number)) => {
                weight = number
                    .parse()
                    .ok()
                    .filter(|weight| *weight >= 1)
                    .ok_or_else(|| wrong("the weight is a number of 1 or more"))?;
            }
            _ => break,
        }
        rest = before;
    }
    let (id, address) = rest
        .split_once('@')
        .ok_or_else(|| wrong("the node's id is missing"))?;
    let (slot, id) = id
        .split_once('/')
        .ok_or_else(|| wrong("the node's slot is missing"))?;
    let slot = slot
        .parse()
        .map_err(|_| wrong("the slot is a number from 0 to 65535"))?;
    let id: NodeId = id
        .parse()
        .map_err(|error: domain::IdParseError| wrong(&error.to_string()))?;
    let known = address
        .strip_prefix("unix:")
        .or_else(|| address.strip_prefix("tls:"));
    if known.is_none_or(str::is_empty) {
        return Err(wrong("neither a Unix socket nor TLS"));
    }
    Ok(gateway::NodeEndpoint {
        slot,
        id,
        zone: zone.unwrap_or_else(|| id.to_string()),
        address: address.to_owned(),
        weight,
    })
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_with_zone_and_weight() {
        let id = "ab".repeat(32);
        let node = node_endpoint(&format!("3/{id}@unix:/a,b/c.sock,zone=z1,weight=3")).unwrap();
        assert_eq!(
            (node.address.as_str(), node.zone.as_str(), node.weight),
            ("unix:/a,b/c.sock", "z1", 3)
        );
        let node = node_endpoint(&format!("3/{id}@tls:host:7400")).unwrap();
        assert_eq!((node.zone.clone(), node.weight), (id.clone(), 1));
        assert_eq!(node.slot, 3);
        for bad in [
            format!("{id}@tls:h:1"),
            format!("x/{id}@tls:h:1"),
            String::new(),
            "tls:host:1".to_owned(),
            format!("3/{id}@udp:host:1"),
            format!("3/{id}@unix:"),
            format!("3/{id}@tls:h:1,weight=0"),
            format!("3/{id}@tls:h:1,weight=x"),
            "3/xyz@tls:h:1".to_owned(),
        ] {
            assert_eq!(node_endpoint(&bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn enclaves_are_read_with_slot_and_address() {
        let principal = domain::Principal([7; 32]);
        let custodian = custodian_endpoint(&format!("3s/{principal}@unix:/a@b.sock")).unwrap();
        assert_eq!(custodian.principal, principal);
        assert_eq!(
            (custodian.slot.index.get(), custodian.slot.standby),
            (3, true)
        );
        assert_eq!(custodian.address, "unix:/a@b.sock");
        assert_eq!(
            worker_endpoint(&format!("{principal}@tcp:h:1"))
                .unwrap()
                .address,
            "tcp:h:1"
        );
        for bad in [
            format!("{principal}@unix:/a"),
            format!("0/{principal}@unix:/a"),
            format!("1/{principal}"),
            format!("1/{principal}@tls:h:1"),
            format!("1/{principal}@unix:"),
            "1/xyz@unix:/a".to_owned(),
        ] {
            assert_eq!(
                custodian_endpoint(&bad).unwrap_err().exit,
                Exit::Usage,
                "{bad}"
            );
        }
    }

    #[test]
    fn listen_addresses_are_absolute_paths_or_ports() {
        assert_eq!(
            listen_address("unix:/run/x").unwrap(),
            transport::Listen::Unix("/run/x".into())
        );
        assert!(matches!(
            listen_address("tls:127.0.0.1:0").unwrap(),
            transport::Listen::Tls(_)
        ));
        for bad in [
            "",
            "unix:x",
            "unix:",
            "tls:host",
            "tls:127.0.0.1",
            "127.0.0.1:80",
        ] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }
}
