//! `strongroom-custodian`: one custodian as a process of its own.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use custodian::config::{Bounds, Config, Platform};
use enclave::Hardened;
use enclave_client::Address;
use tokio::signal::unix::{SignalKind, signal};

/// Holds shares of named keys and releases what the ledger allows. Started by `strongroom up`, or by hand on a machine of its own.
#[derive(Parser)]
#[command(name = "strongroom-custodian", version)]
struct Flags {
    /// The data folder; made when it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The genesis record of the ledger.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The socket of the ledger's relay.
    #[arg(long, value_name = "SOCKET")]
    relay: PathBuf,
    /// Where to listen: unix:PATH or tcp:HOST:PORT.
    #[arg(long, value_name = "ADDRESS")]
    listen: Address,
    /// What protects this process: software:DIR, which protects nothing and works in development deployments only.
    #[arg(long, value_name = "PLATFORM")]
    platform: Platform,
    /// Make the sealed keys, print who this is as JSON, and exit.
    #[arg(long)]
    describe: bool,
}

fn main() -> ExitCode {
    // First of all: before any secret is read and any thread started.
    let hardened = enclave::harden();
    let flags = Flags::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("STRONGROOM_LOG")
        .unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let result = hardened
        .map_err(Into::into)
        .and_then(|hardened| run(flags, &hardened));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags, hardened: &Hardened) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config {
        data: flags.data,
        genesis: flags.genesis,
        relay: flags.relay,
        listen: flags.listen,
        platform: flags.platform,
    };
    if flags.describe {
        let about = custodian::describe(&config, Some(hardened))?;
        writeln!(std::io::stdout(), "{about}")?;
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let running = custodian::start(&config, Bounds::default(), Some(hardened)).await?;
            let mut stdout = std::io::stdout();
            writeln!(stdout, "ready")?;
            stdout.flush()?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            running.stop().await;
            Ok(())
        })
}
