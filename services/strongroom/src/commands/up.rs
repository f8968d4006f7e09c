//! `up`: the whole platform in the foreground.

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use super::provision::{self, Later, Standing};
use crate::failure::{Exit, Failure, Outcome};
use crate::platform::{DEVELOPMENT, DataFolder, Home, Options, Platform};
use crate::settings::{Origin, Platform as PlatformSettings};

/// Runs the platform until Ctrl-C or SIGTERM.
///
/// # Errors
/// When it cannot be started, or a process is given up.
pub fn run(context: &Context, settings: PlatformSettings) -> Outcome {
    let folder = DataFolder::new(&settings.data.value);
    let options = Options {
        home: Home {
            config_dir: context.settings.config_dir.value.clone(),
            apart_from: folder.path().to_owned(),
        },
        folder,
        settings,
    };
    // One thread: it only waits, and children end with the thread that started them.
    runtime()?.block_on(async {
        let mut stop = Stop::new()?;
        let platform = Platform::start(&options)?;
        context.output.note(format!(
            "starting a gateway and {} storage nodes ...",
            crate::platform::NODES
        ));
        let outcome = tokio::select! {
            outcome = serve(context, &options, &platform) => outcome,
            () = stop.wait() => Ok(()),
        };
        context.output.note("stopping ...");
        tokio::select! {
            () = platform.stop() => context.output.note("stopped"),
            () = stop.wait() => {
                platform.kill();
                context.output.note("killed");
            }
        }
        outcome
    })
}

async fn serve(context: &Context, options: &Options, platform: &Platform) -> Outcome {
    platform.ready().await?;
    let standing =
        provision::at_start(platform, Later::Ask, || provision::without_asking(context)).await?;
    announce(
        context,
        options,
        platform,
        &standing,
        "strongroom mb sr://my-bucket && strongroom put FILE sr://my-bucket",
    );
    let why = platform.failed().await;
    Err(
        Failure::new(Exit::Unavailable, "platform_failed", why).advise(format!(
            "see the logs in {}",
            options.folder.path().display()
        )),
    )
}

/// Says where and how to talk to the platform, with an example of a command.
pub fn announce(
    context: &Context,
    options: &Options,
    platform: &Platform,
    custody: &Standing,
    example: &str,
) {
    let deployment = platform.deployment.id.to_string();
    let data = options.folder.path().display().to_string();
    let nodes = platform.deployment.nodes.len();
    let links = if options.settings.tls_nodes.value {
        "mutual TLS"
    } else {
        "Unix sockets"
    };
    let report = json!({
        "status": "ready",
        "endpoint": platform.endpoint,
        "grpc": platform.grpc.to_string(),
        "deployment": deployment,
        "data": data,
        "nodes": nodes,
        "links": links,
        "mode": "development",
        "ledger": match custody.state {
            "off" => "none",
            _ => solo::ENGINE,
        },
        "custody": custody.state,
        "custody_notes": custody.notes,
    });
    context.output.result(&report, || {
        // An example with a configuration folder of its own finds the endpoint there.
        let elsewhere = platform.endpoint != crate::settings::DEFAULT_ENDPOINT
            && !example.contains("--config-dir");
        let set = if elsewhere {
            format!("\n  use it       export STRONGROOM_ENDPOINT={}", platform.endpoint)
        } else {
            String::new()
        };
        let logs = match options.settings.log_to.value {
            crate::args::LogTo::Files => format!("\n  logs         `log` in each process's folder: {data}/gateway, {data}/nodes/*, ..."),
            crate::args::LogTo::Stderr => String::new(),
        };
        let ledger = match custody.state {
            "off" => String::new(),
            _ => format!("\n  ledger       {}", solo::ENGINE),
        };
        let mut keys = format!("\n  custody      {}", custody.summary);
        for note in &custody.notes {
            keys.push_str(&format!("\n               {note}"));
        }
        format!(
            "Strongroom is ready.\n  endpoint     {}\n  gRPC         {}\n  deployment   {deployment}\n  data         {data}\n  processes    1 gateway, {nodes} storage nodes over {links}{ledger}{keys}\n  mode         {DEVELOPMENT}{logs}{set}\nTry: {example}\nCtrl-C stops it.",
            platform.endpoint, platform.grpc
        )
    });
    if options.settings.data.origin == Origin::Default && !context.output.json {
        context
            .output
            .note("(data folder: ./data, by default; --data names another)");
    }
}

/// Ctrl-C or SIGTERM.
#[derive(Debug)]
pub struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> Outcome<Self> {
        let failed = |error: std::io::Error| {
            Failure::new(
                Exit::Failure,
                "signals",
                format!("cannot listen for signals: {error}"),
            )
        };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Returns at the next signal.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A runtime of one thread.
///
/// # Errors
/// When the system refuses.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, "runtime", format!("cannot start: {error}")))
}
