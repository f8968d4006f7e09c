//! What each process of a platform is told: its program, arguments, environment, log and how it shows that it is ready.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::child::{LogSink, Spec};
use super::deployment::Deployment;
use super::enclaves::{self, Programs, Which};
use super::health::Probe;
use super::supervisor::{Custody, Options};
use super::{DataFolder, NODES};
use crate::args::LogTo;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::{Origin, Platform as PlatformSettings};

/// Bytes of a Unix socket's path, at most, on Linux (with its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A node's process, and how the gateway finds it.
pub(super) struct NodeSpec {
    /// `SLOT/ID@unix:PATH,zone=NAME`, for the gateway.
    address: String,
    /// Its process.
    pub(super) spec: Spec,
}

/// The nodes' processes, in the order of their slots.
///
/// # Errors
/// When a port is in use, or a socket's path is too long.
pub(super) fn node_specs(options: &Options, deployment: &Deployment) -> Outcome<Vec<NodeSpec>> {
    let (folder, settings) = (&options.folder, &options.settings);
    // All free ports are taken together, so that none is given out twice.
    let mut held = Vec::new();
    let mut specs = Vec::with_capacity(NODES.into());
    for node in &deployment.nodes {
        let name = format!("node-{:02}", node.slot);
        let dir = folder.node(node.slot);
        let (listen, probe) = if settings.tls_nodes.value {
            let port = match settings.node_port.value {
                0 => 0,
                first => first.checked_add(node.slot).ok_or_else(|| {
                    Failure::usage(format!(
                        "--node-port {first} leaves no room for {NODES} nodes"
                    ))
                })?,
            };
            let (address, listener) =
                bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "--node-port")?;
            held.push(listener);
            (format!("tls:{address}"), Probe::Tcp(address))
        } else {
            let path = folder.node_socket(node.slot);
            let text = socket_text(&path)?;
            (format!("unix:{text}"), Probe::Unix(path))
        };
        let mut args = role_args("node", options, &dir);
        args.extend([
            "--listen".into(),
            OsString::from(&listen),
            "--deployment".into(),
            deployment.id.to_string().into(),
        ]);
        if let Some(capacity) = settings.node_capacity.value {
            args.extend(["--capacity".into(), capacity.to_string().into()]);
        }
        specs.push(NodeSpec {
            address: format!("{}/{}@{listen},zone={}", node.slot, node.id, node.zone),
            spec: Spec {
                name,
                program: None,
                args,
                env: malloc_env("1"),
                log: log_sink(options, &dir),
                probe,
            },
        });
    }
    Ok(specs)
}

/// A socket's path as text, short enough for the kernel.
fn socket_text(path: &Path) -> Outcome<&str> {
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{} is {bytes} bytes long, a socket's path may have {SOCKET_PATH_BYTES_MAX}",
            path.display()
        ))
        .advise("choose a shorter folder with --data"));
    }
    path.to_str().ok_or_else(|| {
        Failure::usage(format!("{} is not UTF-8", path.display()))
            .advise("choose another folder with --data")
    })
}

/// The process of the ledger's validator.
///
/// # Errors
/// When a socket's path is too long.
pub(super) fn validator_spec(options: &Options, deployment: &Deployment) -> Outcome<Spec> {
    let folder = &options.folder;
    let dir = folder.validator();
    let (socket, relay) = (folder.validator_socket(), folder.relay_socket());
    let mut args = role_args("validator", options, &dir);
    args.extend([
        "--listen".into(),
        format!("unix:{}", socket_text(&socket)?).into(),
        "--relay".into(),
        socket_text(&relay)?.into(),
        "--deployment".into(),
        deployment.id.to_string().into(),
    ]);
    Ok(Spec {
        name: "validator".to_owned(),
        program: None,
        args,
        env: malloc_env("1"),
        log: log_sink(options, &dir),
        probe: Probe::Unix(socket),
    })
}

/// The processes of custodians and workers.
pub(super) fn enclave_specs(
    options: &Options,
    deployment: &Deployment,
    custody: &Custody,
) -> Outcome<Vec<Spec>> {
    let Custody::On(provisioning) = custody else {
        return Ok(Vec::new());
    };
    let programs = Programs::find().map_err(Failure::usage)?;
    let (folder, enclaves) = (&options.folder, &provisioning.enclaves);
    Which::all()
        .map(|which| {
            let dir = which.dir(folder);
            let socket = which.socket(folder);
            socket_text(&socket)?;
            let mut args = enclaves::arguments(which, folder, &options.home, &deployment.id);
            if let Which::Worker(_) = which {
                for (other, description, address) in enclaves.addresses(folder) {
                    let option = match other {
                        Which::Custodian(_) => "--custodian",
                        Which::Worker(_) if other != which => "--worker",
                        Which::Worker(_) => continue,
                    };
                    let value = format!("{}={address}", description.principal);
                    args.extend([option.into(), value.into()]);
                }
            }
            Ok(Spec {
                name: which.name(),
                program: Some(programs.of(which).to_owned()),
                args,
                env: malloc_env("1"),
                log: log_sink(options, &dir),
                probe: Probe::Unix(socket),
            })
        })
        .collect()
}

/// What the gateway is told of ledger and enclaves.
fn custody_args(folder: &DataFolder, custody: &Custody) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    if let Custody::Off = custody {
        return args;
    }
    args.extend([
        "--genesis".into(),
        folder.genesis_file().into(),
        "--validator".into(),
        format!("unix:{}", folder.validator_socket().display()).into(),
    ]);
    if let Custody::On(provisioning) = custody {
        args.extend(["--relay".into(), folder.relay_socket().into()]);
        for (which, description, address) in provisioning.enclaves.addresses(folder) {
            let principal = description.principal;
            let (option, value) = match which {
                Which::Custodian(index) => {
                    ("--custodian", format!("{index}/{principal}@{address}"))
                }
                Which::Worker(_) => ("--worker", format!("{principal}@{address}")),
            };
            args.extend([option.into(), value.into()]);
        }
    }
    args
}

/// The gateway's process.
pub(super) fn gateway_spec(
    options: &Options,
    nodes: &[NodeSpec],
    (listen, grpc_listen): (SocketAddr, SocketAddr),
    custody: &Custody,
) -> Spec {
    let (folder, settings) = (&options.folder, &options.settings);
    let dir = folder.gateway();
    let mut args = role_args("gateway", options, &dir);
    args.extend([
        "--deployment-file".into(),
        folder.deployment_file().into(),
        "--listen".into(),
        OsString::from(listen.to_string()),
        "--grpc-listen".into(),
        OsString::from(grpc_listen.to_string()),
    ]);
    for node in nodes {
        args.extend(["--node".into(), OsString::from(&node.address)]);
    }
    args.extend(custody_args(folder, custody));
    if let Some(budget) = settings.memory_budget.value {
        args.extend(["--memory-budget".into(), budget.to_string().into()]);
    }
    if let Some(budget) = settings.principal_budget.value {
        args.extend(["--principal-budget".into(), budget.to_string().into()]);
    }
    for (option, time) in [
        ("--probe-interval", settings.probe_interval.value),
        ("--deletion-grace", settings.deletion_grace.value),
        ("--upload-lifetime", settings.upload_lifetime.value),
    ] {
        if let Some(time) = time {
            args.extend([option.into(), format!("{}ms", time.as_millis()).into()]);
        }
    }
    let mut env = malloc_env("4");
    if let Some(database) = &settings.database.value {
        // Not an argument: its password would show in every process list.
        env.push(("STRONGROOM_DATABASE", database.into()));
    }
    Spec {
        name: "gateway".to_owned(),
        program: None,
        args,
        env,
        log: log_sink(options, &dir),
        probe: Probe::Health(listen),
    }
}

/// What every role is told. The settings file is named as none: its values are in the arguments already.
fn role_args(role: &str, options: &Options, dir: &Path) -> Vec<OsString> {
    let settings = &options.settings;
    vec![
        role.into(),
        "--config".into(),
        "/dev/null".into(),
        "--config-dir".into(),
        options.folder.run().into(),
        "--supervised-by".into(),
        std::process::id().to_string().into(),
        "--log-format".into(),
        settings.log_format.value.name().into(),
        "--log".into(),
        OsString::from(&settings.log.value),
        "--data".into(),
        dir.into(),
    ]
}

fn log_sink(options: &Options, dir: &Path) -> LogSink {
    match options.settings.log_to.value {
        LogTo::Files => LogSink::File(dir.join("log")),
        LogTo::Stderr => LogSink::Stderr(options.settings.log_format.value),
    }
}

/// The C library gives each thread an arena of its own, which fifteen processes pay for in idle memory.
fn malloc_env(arenas: &str) -> Vec<(&'static str, OsString)> {
    vec![("MALLOC_ARENA_MAX", arenas.into())]
}

/// Where REST and gRPC are served: the addresses themselves, or with a free port in place of 0. gRPC's port that nobody asked for
/// gives way to a free one when it is taken, so that a second platform starts without a word about it.
pub(super) fn free_addresses(settings: &PlatformSettings) -> Outcome<(SocketAddr, SocketAddr)> {
    // Held until both are known: a free port must not be given twice.
    let (rest, _held) = bind(settings.listen.value, "--listen")?;
    let wanted = &settings.grpc_listen;
    let found = bind(wanted.value, "--grpc-listen");
    let (grpc, _held_too) = match (found, wanted.origin) {
        (Err(_), Origin::Default) => bind(SocketAddr::new(wanted.value.ip(), 0), "--grpc-listen")?,
        (found, _) => found?,
    };
    Ok((rest, grpc))
}

fn bind(wanted: SocketAddr, option: &str) -> Outcome<(SocketAddr, TcpListener)> {
    let failed = |error: std::io::Error| {
        let (exit, code, why) = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                (Exit::Conflict, "port_in_use", "it is in use".to_owned())
            }
            std::io::ErrorKind::PermissionDenied => (
                Exit::Refused,
                "port_refused",
                "it may not be used by this user".to_owned(),
            ),
            _ => (Exit::Failure, "port", error.to_string()),
        };
        Failure::new(exit, code, format!("cannot serve on {wanted}: {why}")).advise(format!(
            "choose another with {option} (port 0 takes a free one)"
        ))
    };
    let listener = TcpListener::bind(wanted).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((address, listener))
}
