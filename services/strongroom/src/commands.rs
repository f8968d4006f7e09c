//! One module per command, or per family of commands.

pub mod admin;
pub mod attest;
pub mod audit;
pub mod bench;
pub mod bucket;
pub mod change;
pub mod decrypt;
pub mod encrypt;
pub mod get;
pub mod identity;
pub mod info;
pub mod init;
pub mod key;
pub mod ledger;
pub mod list;
pub mod prove;
pub mod provision;
pub mod put;
pub mod roles;
pub mod sync;
pub mod up;

use std::future::Future;

use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::settings::Settings;

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The settings of every command.
    pub settings: Settings,
    /// How to print.
    pub output: Output,
}

/// Runs a command that talks to a platform, on all cores, until it ends or Ctrl-C.
///
/// # Errors
/// The command's own, or interrupted.
pub fn block_on<T>(command: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(Exit::Failure, "runtime", format!("cannot start: {error}"))
        })?;
    let outcome = runtime.block_on(async {
        let mut command = std::pin::pin!(command);
        // A passphrase is asked for before the first wait: until then Ctrl-C ends the process as it does anywhere.
        if let std::task::Poll::Ready(outcome) = futures_util::poll!(command.as_mut()) {
            return outcome;
        }
        let mut stop = up::Stop::new()?;
        tokio::select! {
            outcome = command => outcome,
            () = stop.wait() => Err(Failure::interrupted()
                .advise("the same command goes on where a put or get of a file stopped")),
        }
    });
    // A read from a terminal or pipe cannot be called back: it must not hold the process.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::Global;

    /// A context that prints nothing.
    pub(crate) fn context() -> Context {
        let global = Global {
            config_dir: Some("/nonexistent/strongroom".into()),
            ..Global::default()
        };
        Context {
            settings: Settings::load(&global, &|_| None).expect("no file is read"),
            output: Output {
                json: false,
                quiet: true,
                progress: false,
            },
        }
    }
}
