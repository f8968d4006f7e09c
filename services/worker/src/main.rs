//! `strongroom-worker`: the program.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use worker::program::{self, Args};

fn main() -> ExitCode {
    // Before any secret is read and before any thread is started.
    let hardened = enclave::harden();
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("STRONGROOM_LOG")
        .unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match program::run(&args, hardened) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
