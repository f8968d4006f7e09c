//! `strongroom`: the command line, the supervisor `up`, and every untrusted role as a process of this one program.
//!
//! It wires and talks to people. What an object is, how it is sealed, stored and checked lies in the libraries it uses.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod allocator;
mod args;
mod clock;
mod commands;
mod envelopes;
mod failure;
mod files;
mod find;
mod identity;
mod output;
mod passphrase;
mod platform;
mod proc;
mod progress;
mod settings;
mod store;
mod sync_plan;
mod tally;
mod target;
mod units;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Cli, Command};
use crate::commands::Context;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::settings::{OriginOf, Settings, origins};

fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error.format(&mut Cli::command())),
    };
    let output = Output::new(cli.global.json, cli.global.quiet, cli.global.no_progress);
    let Some((_, given)) = matches.subcommand() else {
        return ExitCode::from(2);
    };
    match run(cli, output, &origins(given)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A failed proof has said so in its last line.
            if failure.code != commands::prove::PROOF_FAILED {
                output.failure(&failure);
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run(cli: Cli, output: Output, origin_of: OriginOf<'_>) -> Outcome {
    allocator::keep(match cli.command {
        Command::Node(_) => allocator::Keep::Shards,
        _ => allocator::Keep::Chunks,
    });
    let settings = Settings::load(&cli.global, origin_of)?;
    let context = Context { settings, output };
    match cli.command {
        Command::Init(args) => commands::init::run(&context, &args),
        Command::Up(args) => {
            let platform = context.settings.platform(&args.platform, origin_of);
            commands::up::run(&context, platform)
        }
        Command::Prove(args) => {
            let platform = context.settings.platform(&args.platform, origin_of);
            commands::prove::run(&context, &args, platform)
        }
        Command::Node(args) => commands::roles::node(&context, &args),
        Command::Gateway(args) => commands::roles::gateway(&args),
        Command::Validator(args) => commands::roles::validator(&context, &args),
        Command::Relay(args) => commands::roles::relay(&args),
        Command::Put(args) => commands::put::run(&context, &args),
        Command::Get(args) => commands::get::run(&context, &args),
        Command::Cat(args) => commands::get::cat(&context, &args),
        Command::Ls(args) => commands::list::ls(&context, &args),
        Command::Stat(args) => commands::list::stat(&context, &args),
        Command::Du(args) => commands::list::du(&context, &args),
        Command::Cp(args) => commands::change::cp(&context, &args),
        Command::Mv(args) => commands::change::mv(&context, &args),
        Command::Rm(args) => commands::change::rm(&context, &args),
        Command::Sync(args) => commands::sync::run(&context, &args),
        Command::Verify(args) => commands::admin::verify(&context, &args),
        Command::Mb(args) => commands::change::mb(&context, &args),
        Command::Rb(args) => commands::change::rb(&context, &args),
        Command::Bucket(args) => commands::bucket::run(&context, &args),
        Command::Key(args) => commands::key::run(&context, &args),
        Command::Encrypt(args) => commands::encrypt::run(&context, &args),
        Command::Decrypt(args) => commands::decrypt::run(&context, &args),
        Command::Audit(args) => commands::audit::run(&context, &args),
        Command::Identity(args) => commands::identity::run(&context, &args),
        Command::Token(args) => commands::admin::token(&context, &args),
        Command::Admin(args) => commands::admin::run(&context, &args),
        Command::Ledger(args) => commands::ledger::run(&context, &args),
        Command::Attest(args) => commands::attest::run(&context, &args),
        Command::Bench(args) => commands::bench::run(&context, &args),
        Command::Config(args) => {
            let platform = context.settings.platform(&args.platform, origin_of);
            commands::info::config(&context, &platform)
        }
        Command::Completions(args) => commands::info::completions(&args),
        Command::Man(args) => commands::info::man(&context, &args),
    }
}

/// Help and version go to standard output with status 0; a wrong command line is status 2, as JSON when that was asked
/// for (the grammar failed, so the option is looked for by itself).
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if !help && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        Output::new(true, false, true).failure(&Failure::usage(message).advise("see --help"));
        return ExitCode::from(2);
    }
    let _ = error.print();
    ExitCode::from(if help { 0 } else { 2 })
}
