//! `prove`: the platform's promise, carried out before the user's eyes. Store a file under a named key, kill 4 of 14 storage
//! nodes and 2 of 5 custodians, read it back, compare; see that whom the ledger does not permit is refused, and everybody
//! once fewer than 3 custodians are left. It uses an identity of its own below the data folder, never the user's.

mod custody;
mod material;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::ByteRange;
use domain::Profile;
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::sync::oneshot;
use wire::rest::NodeState;

use self::custody::{Custody, KILLED_CUSTODIANS};
use self::material::{HashSink, Item};
use super::Context;
use super::provision::{self, Later, Standing};
use super::up::{Stop, announce};
use crate::address::Remote;
use crate::args::ProveArgs;
use crate::failure::{Exit, Failure, Outcome};
use crate::find::each_page;
use crate::identity;
use crate::output::{line, table};
use crate::platform::files::{private_dir, replace, write_new};
use crate::platform::{
    DEVELOPMENT, DataFolder, Deployment, Home, NODES, Options, Platform, initialise,
};
use crate::progress::Progress;
use crate::settings::{Origin, Platform as PlatformSettings, Settings, Sourced};
use crate::store::{PutOptions, Store};
use crate::units;

/// Nodes that are killed: as many as the coding allows.
const KILLED: usize = 4;
/// How long full placement may take, and nodes to be back.
const PATIENCE: Duration = Duration::from_secs(300);
/// The code of a failed proof; what failed was said already.
pub const PROOF_FAILED: &str = "proof_failed";

/// What the proof measured.
#[derive(Debug, Default, Serialize)]
struct Report {
    endpoint: String,
    deployment: String,
    started_ms: u64,
    file_bytes: u64,
    files: usize,
    files_bytes: u64,
    put_file_ms: u64,
    put_files_ms: u64,
    placed_ms: u64,
    stored_bytes: u64,
    killed_nodes: Vec<u16>,
    killed_custodians: Vec<u8>,
    opened_by_owner_and_grantee: usize,
    refused_to_stranger: bool,
    refused_with_too_few_custodians: bool,
    get_file_ms: u64,
    get_files_ms: u64,
    compared: usize,
    differing: usize,
    back_ms: u64,
    proof: &'static str,
}

/// Runs `prove`.
///
/// # Errors
/// `proof_failed` after the last line said why.
pub fn run(context: &Context, args: &ProveArgs, settings: PlatformSettings) -> Outcome {
    let outcome = prove_and_serve(context, args, settings);
    match outcome {
        Err(failure) if failure.exit != Exit::Interrupted => {
            line(&format!(
                "proof: FAILED: {}",
                failure.to_string().replace('\n', " ")
            ));
            Err(Failure::new(Exit::Failure, PROOF_FAILED, failure.message))
        }
        other => other,
    }
}

fn prove_and_serve(context: &Context, args: &ProveArgs, settings: PlatformSettings) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(Exit::Failure, "runtime", format!("cannot start: {error}"))
        })?;
    let folder = DataFolder::new(&settings.data.value);
    let options = Options {
        // The demonstration keeps everything below its data folder, the software platform's keys too.
        home: Home {
            config_dir: folder.path().join("demo"),
            apart_from: folder.custodians(),
        },
        folder,
        settings,
    };
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let demo = Demo::prepare(context, &options.folder)?;
        let hosted = Hosted::start(&options)?;
        let outcome = tokio::select! {
            outcome = prove(context, args, &options, &demo, &hosted) => outcome,
            () = stop.wait() => Err(Failure::interrupted()),
        };
        if let Ok((_, standing)) = &outcome
            && !args.once
        {
            serve(context, &options, &demo, &hosted, standing);
            stop.wait().await;
            context.output.note("stopping ...");
        }
        // Stops every process and waits for that.
        drop(hosted);
        let (report, _) = outcome?;
        if context.output.json {
            context.output.result(&report, String::new);
        } else if args.once {
            line("proof: ok");
        }
        Ok(())
    })
}

/// The demonstration's identity and settings, all below the data folder.
struct Demo {
    identity: Arc<crypto::Identity>,
    settings: Settings,
    is_new: bool,
}

impl Demo {
    /// Takes what an earlier run made, or makes it: identity, passphrase file, deployment.
    fn prepare(context: &Context, folder: &DataFolder) -> Outcome<Self> {
        private_dir(folder.path())?;
        let dir = folder.path().join("demo");
        private_dir(&dir)?;
        let passphrase = dir.join("passphrase");
        if !passphrase.exists() {
            let mut bytes = [0; 20];
            getrandom::fill(&mut bytes).map_err(|error| {
                Failure::new(
                    Exit::Failure,
                    "randomness",
                    format!("the system gave no randomness: {error}"),
                )
            })?;
            let text = data_encoding::BASE32_NOPAD.encode(&bytes);
            write_new(&passphrase, format!("{text}\n").as_bytes(), 0o600)?;
        }
        let here = |value| Sourced {
            value,
            origin: Origin::Default,
        };
        let settings = Settings {
            config_dir: here(dir.clone()),
            config_file: here(dir.join("config.toml")),
            endpoint: Sourced {
                value: String::new(),
                origin: Origin::Default,
            },
            deployment: Sourced {
                value: None,
                origin: Origin::Default,
            },
            passphrase_file: Sourced {
                value: Some(passphrase),
                origin: Origin::Default,
            },
            passphrase_command: Sourced {
                value: None,
                origin: Origin::Default,
            },
            file: context.settings.file.clone(),
        };
        let (principal, _) = identity::ensure(&settings)?;
        let identity = Arc::new(identity::open(&settings)?);
        let is_new = !folder.deployment_file().exists();
        if is_new {
            let made = initialise(folder, principal)?;
            let kit = dir.join("recovery-key.txt");
            let _ = std::fs::remove_file(&kit);
            write_new(&kit, made.recovery_kit.as_bytes(), 0o600)?;
        } else if Deployment::read(&folder.deployment_file())?.administrator != principal {
            return Err(Failure::usage(format!(
                "{} holds a deployment of another identity, and the demonstration keeps to its own",
                folder.path().display()
            ))
            .advise("choose another folder with --data"));
        }
        Ok(Self {
            identity,
            settings,
            is_new,
        })
    }

    /// A connection of its own as `who`, in whose memory nothing is unwrapped.
    async fn store_of(&self, who: &Arc<crypto::Identity>) -> Outcome<Arc<Store>> {
        Store::connect(&self.settings, Arc::clone(who), None)
            .await
            .map(Arc::new)
    }

    /// Connects, and leaves settings with which anybody in this folder can do the same by hand.
    async fn connect(&mut self, platform: &Platform) -> Outcome<Arc<Store>> {
        self.settings.endpoint.value = platform.endpoint.clone();
        self.settings.deployment.value = Some(platform.deployment.id.to_string());
        let passphrase = self.settings.config_dir.value.join("passphrase");
        let text = format!(
            "# Settings of the demonstration: strongroom --config-dir {} ls\nendpoint = {:?}\ndeployment = {:?}\npassphrase_file = {:?}\n",
            self.settings.config_dir.value.display(),
            platform.endpoint,
            platform.deployment.id.to_string(),
            passphrase.display().to_string(),
        );
        replace(&self.settings.config_file.value, text.as_bytes(), 0o600)?;
        Store::connect(&self.settings, self.identity.clone(), None)
            .await
            .map(Arc::new)
    }
}

/// The platform on a thread of its own: children end with the thread that started them.
struct Hosted {
    platform: Platform,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Hosted {
    fn start(options: &Options) -> Outcome<Self> {
        let (stop, stopped) = oneshot::channel();
        let (started, result) = std::sync::mpsc::channel();
        let options = options.clone();
        let thread = std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                let runtime = match super::up::runtime() {
                    Ok(runtime) => runtime,
                    Err(failure) => return drop(started.send(Err(failure))),
                };
                runtime.block_on(async {
                    match Platform::start(&options) {
                        Ok(platform) => {
                            let _ = started.send(Ok(platform.clone()));
                            let _ = stopped.await;
                            platform.stop().await;
                        }
                        Err(failure) => drop(started.send(Err(failure))),
                    }
                });
            })
            .map_err(|error| {
                Failure::new(Exit::Failure, "runtime", format!("cannot start: {error}"))
            })?;
        let platform = result.recv().unwrap_or_else(|_| {
            Err(Failure::new(
                Exit::Failure,
                "internal",
                "the supervisor ended before it began",
            ))
        })?;
        Ok(Self {
            platform,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn prove(
    context: &Context,
    args: &ProveArgs,
    options: &Options,
    demo: &Demo,
    hosted: &Hosted,
) -> Outcome<(Report, Standing)> {
    let output = &context.output;
    let say = |text: String| {
        if !output.json {
            line(&text);
        }
    };
    let platform = &hosted.platform;
    say(format!(
        "Strongroom: a file goes in, {KILLED} of {NODES} storage nodes and {} of 5 custodians are killed, the file comes back bit for bit\n\
         to those whom the ledger permits, and to nobody else.\n",
        KILLED_CUSTODIANS.len()
    ));
    let mut report = Report {
        endpoint: platform.endpoint.clone(),
        deployment: platform.deployment.id.to_string(),
        proof: "ok",
        ..Report::default()
    };

    let started = Instant::now();
    platform.ready().await?;
    let mut demo = Demo {
        identity: demo.identity.clone(),
        settings: demo.settings.clone(),
        is_new: demo.is_new,
    };
    let store = demo.connect(platform).await?;
    let operator = demo.identity.clone();
    let standing = provision::at_start(platform, Later::Admit, || Some(Ok(operator))).await?;
    wait_for_nodes(&store).await?;
    report.started_ms = ms(started);
    step(
        &say,
        "platform",
        format!(
            "a gateway, a ledger, {NODES} storage nodes, 5 custodians and 2 workers, each a process, ready in {}{}",
            units::duration(started.elapsed()),
            if demo.is_new {
                "; deployment and identity are new"
            } else {
                ""
            }
        ),
    );

    let bucket = Remote::parse("sr://proof")?;
    let custody = Custody::prepare(&store).await?;
    let make = || store.make_bucket(&bucket.bucket, Profile::DATACENTRE, Some(custody.key));
    match make().await {
        Ok(_) => {}
        Err(failure) if failure.exit == Exit::Conflict => {
            clear(&store, &bucket).await?;
            store.remove_bucket(&bucket.bucket).await?;
            make().await?;
        }
        Err(failure) => return Err(failure),
    }
    step(
        &say,
        "named key",
        "made by 5 custodians of whom no 2 can open anything; the bucket is wrapped to it alone"
            .to_owned(),
    );

    let made = options.folder.path().join("demo/file.bin");
    let file = material::make_file(&made, args.size)?;
    let others = material::collect(&args.files, &options.folder)?;
    report.file_bytes = file.bytes;
    report.files = others.len();
    report.files_bytes = others.iter().map(|item| item.bytes).sum();
    step(
        &say,
        "material",
        format!(
            "a file of {} random bytes, and {} files of {} ({})",
            units::size(report.file_bytes),
            units::grouped(u64::try_from(report.files).unwrap_or(0)),
            shown_folder(&args.files),
            units::size(report.files_bytes)
        ),
    );

    let started = Instant::now();
    put_items(context, &store, &bucket, std::slice::from_ref(&file)).await?;
    report.put_file_ms = ms(started);
    let started = Instant::now();
    put_items(context, &store, &bucket, &others).await?;
    report.put_files_ms = ms(started);
    step(
        &say,
        "stored",
        "encrypted here, cut into 10+4 shards, acknowledged after fsync on 12 nodes".to_owned(),
    );

    let started = Instant::now();
    wait_until_placed(&store).await?;
    report.placed_ms = ms(started);
    report.stored_bytes = store.admin_space().await?.shard_bytes;
    step(
        &say,
        "placed",
        format!(
            "every shard is on its node, {} later",
            units::duration(started.elapsed())
        ),
    );

    custody.grant(&store, &bucket).await?;
    report.killed_nodes = choose_nodes()?;
    report.killed_custodians = KILLED_CUSTODIANS.to_vec();
    platform.hold_nodes(&report.killed_nodes).await;
    platform.hold_custodians(&KILLED_CUSTODIANS).await;
    // Nothing that was unwrapped before is in this connection's memory.
    let store = demo.store_of(&demo.identity).await?;
    let names: Vec<String> = report
        .killed_nodes
        .iter()
        .map(|slot| format!("{slot:02}"))
        .collect();
    step(
        &say,
        "killed",
        format!(
            "nodes {} and custodians {} with SIGKILL; they stay down",
            names.join(", "),
            KILLED_CUSTODIANS.map(|index| index.to_string()).join(", ")
        ),
    );

    let started = Instant::now();
    let mut differing = read_back(context, &store, &bucket, std::slice::from_ref(&file)).await?;
    report.get_file_ms = ms(started);
    let started = Instant::now();
    differing.extend(read_back(context, &store, &bucket, &others).await?);
    report.get_files_ms = ms(started);
    report.compared = 1 + others.len();
    report.differing = differing.len();
    let _ = std::fs::remove_file(&made);
    step(
        &say,
        "read back",
        format!(
            "{} of {} equal, compared by BLAKE3",
            units::grouped(u64::try_from(report.compared - report.differing).unwrap_or(0)),
            units::grouped(u64::try_from(report.compared).unwrap_or(0)),
        ),
    );

    report.opened_by_owner_and_grantee = custody
        .with_some_down(context, &demo, &bucket, &others)
        .await?;
    report.refused_to_stranger = true;
    step(
        &say,
        "permitted",
        format!(
            "{} objects opened by the owner and by a second identity that the ledger grants the key; refused to a third",
            report.opened_by_owner_and_grantee
        ),
    );
    custody
        .with_too_many_down(context, &demo, platform, &bucket, &others)
        .await?;
    report.refused_with_too_few_custodians = true;
    step(
        &say,
        "too few",
        "with a third custodian down nobody opens anything; with it back, again".to_owned(),
    );

    let started = Instant::now();
    platform.release_nodes(&report.killed_nodes).await;
    platform.release_custodians(&KILLED_CUSTODIANS).await;
    wait_for_nodes(&store).await?;
    report.back_ms = ms(started);
    step(
        &say,
        "restarted",
        format!(
            "all {NODES} nodes are online again after {}",
            units::duration(started.elapsed())
        ),
    );

    if let Some(first) = differing.first() {
        return Err(Failure::new(
            Exit::Integrity,
            "integrity",
            format!(
                "{} of {} came back different, first {first}",
                differing.len(),
                report.compared
            ),
        ));
    }
    say(format!("\n{}\n", render(&report)));
    say(format!(
        "Not protected yet: keys and nodes are on one machine, so its owner can read and delete everything, and its\n\
         disk is one disk; one gateway holds the only index; one validator is the ledger, and software attestation\n\
         protects nothing from the machine's owner.\n\
         Mode: {DEVELOPMENT}."
    ));
    Ok((report, standing))
}

fn step(say: &impl Fn(String), name: &str, text: String) {
    say(format!("  {name:<10}  {text}"));
}

fn render(report: &Report) -> String {
    let rate = |bytes: u64, ms: u64| {
        format!(
            "{:.0} MB/s",
            units::mb_per_s(bytes, Duration::from_millis(ms))
        )
    };
    let time = |ms: u64| units::duration(Duration::from_millis(ms));
    let per_s = |count: usize, ms: u64| {
        let count = float(count);
        format!(
            "{:.0} objects/s",
            count / (units::float(ms) / 1e3).max(1e-3)
        )
    };
    let files = units::grouped(u64::try_from(report.files).unwrap_or(0));
    let plain = report.file_bytes + report.files_bytes;
    let rows = [
        ["", "objects", "size", "time", "rate"].map(str::to_owned),
        [
            "put".to_owned(),
            "1".to_owned(),
            units::size(report.file_bytes),
            time(report.put_file_ms),
            rate(report.file_bytes, report.put_file_ms),
        ],
        [
            "put".to_owned(),
            files.clone(),
            units::size(report.files_bytes),
            time(report.put_files_ms),
            per_s(report.files, report.put_files_ms),
        ],
        [
            "on the nodes".to_owned(),
            String::new(),
            units::size(report.stored_bytes),
            String::new(),
            format!(
                "{:.2} x",
                units::float(report.stored_bytes) / units::float(plain).max(1.0)
            ),
        ],
        [
            format!("get, {} nodes down", report.killed_nodes.len()),
            "1".to_owned(),
            units::size(report.file_bytes),
            time(report.get_file_ms),
            rate(report.file_bytes, report.get_file_ms),
        ],
        [
            format!("get, {} nodes down", report.killed_nodes.len()),
            files,
            units::size(report.files_bytes),
            time(report.get_files_ms),
            per_s(report.files, report.get_files_ms),
        ],
    ];
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| std::iter::once(String::new()).chain(row).collect())
        .collect();
    format!(
        "{}\n  (the large file is coded 10+4, 1.4 x; an object of at most 256 KiB is five copies)",
        table(&rows, &[2, 3, 4, 5])
    )
}

fn serve(context: &Context, options: &Options, demo: &Demo, hosted: &Hosted, standing: &Standing) {
    line("proof: ok\n");
    // With the demonstration's identity and settings: the user's own are left alone.
    let dir = demo.settings.config_dir.value.display();
    let example = format!("strongroom --config-dir {dir} ls -r sr://proof");
    announce(context, options, &hosted.platform, standing, &example);
}

async fn put_items(
    context: &Context,
    store: &Arc<Store>,
    bucket: &Remote,
    items: &[Item],
) -> Outcome {
    let total = items.iter().map(|item| item.bytes).sum();
    let progress = Progress::new(&context.output, Some(total), items.len());
    let mut puts = futures_util::stream::iter(items)
        .map(|item| {
            let bar = progress.bar(&item.key, Some(item.bytes));
            async move {
                let to = bucket.join(&item.key)?;
                let stored = store
                    .put_file(&item.path, &to, PutOptions::default(), &bar)
                    .await;
                bar.done();
                let stored = stored?;
                if stored.size_bytes == item.bytes {
                    Ok(())
                } else {
                    Err(Failure::new(
                        Exit::Conflict,
                        "changed",
                        format!("{} changed while it was stored", item.key),
                    ))
                }
            }
        })
        .buffer_unordered(16);
    while let Some(outcome) = puts.next().await {
        outcome?;
    }
    Ok(())
}

/// The keys whose bytes are not those that went in.
async fn read_back(
    context: &Context,
    store: &Arc<Store>,
    bucket: &Remote,
    items: &[Item],
) -> Outcome<Vec<String>> {
    let total = items.iter().map(|item| item.bytes).sum();
    let progress = Progress::new(&context.output, Some(total), items.len());
    let mut gets = futures_util::stream::iter(items)
        .map(|item| {
            let bar = progress.bar(&item.key, Some(item.bytes));
            async move {
                let from = bucket.join(&item.key)?;
                let mut sink = HashSink::default();
                let fetched = store
                    .get_stream(&from, ByteRange::All, &mut sink, &bar)
                    .await;
                bar.done();
                fetched.map_err(|failure| failure.about(&from))?;
                Ok::<_, Failure>((sink.digest() != item.digest).then(|| item.key.clone()))
            }
        })
        .buffer_unordered(16);
    let mut differing = Vec::new();
    while let Some(outcome) = gets.next().await {
        differing.extend(outcome?);
    }
    Ok(differing)
}

async fn clear(store: &Arc<Store>, bucket: &Remote) -> Outcome {
    let mut old = Vec::new();
    each_page(store, &bucket.bucket, "", None, |page| {
        old.extend(page.objects.into_iter().map(|info| Remote {
            bucket: bucket.bucket.clone(),
            key: info.key.to_string(),
        }));
    })
    .await?;
    let mut deletes = futures_util::stream::iter(old)
        .map(|address| async move { store.delete(&address).await })
        .buffer_unordered(16);
    while let Some(outcome) = deletes.next().await {
        outcome?;
    }
    Ok(())
}

async fn wait_for_nodes(store: &Store) -> Outcome {
    until("every node to be online", || async {
        let list = store.admin_nodes().await?;
        let down = list
            .nodes
            .iter()
            .filter(|node| node.state != NodeState::Online)
            .count();
        Ok(if down == 0 {
            None
        } else {
            Some(format!("{down} are not"))
        })
    })
    .await
}

async fn wait_until_placed(store: &Store) -> Outcome {
    until("every object to be fully placed", || async {
        let status = store.admin_status().await?;
        Ok(match (status.unplaced_versions, status.pending_shards) {
            (0, 0) => None,
            (versions, shards) => Some(format!("{versions} objects and {shards} shards are not")),
        })
    })
    .await
}

/// Asks until the answer is `None`, or patience ends.
async fn until<F, R>(what: &str, ask: F) -> Outcome
where
    F: Fn() -> R,
    R: Future<Output = Outcome<Option<String>>>,
{
    let started = Instant::now();
    loop {
        let Some(left) = ask().await? else {
            return Ok(());
        };
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(
                Exit::Unavailable,
                "timeout",
                format!("waited {} for {what}: {left}", units::duration(PATIENCE)),
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Four different nodes, by chance.
fn choose_nodes() -> Outcome<Vec<u16>> {
    let mut slots: Vec<u16> = (0..NODES).collect();
    let mut chosen = Vec::with_capacity(KILLED);
    for _ in 0..KILLED {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(|error| {
            Failure::new(
                Exit::Failure,
                "randomness",
                format!("the system gave no randomness: {error}"),
            )
        })?;
        let index = usize::from(u16::from_le_bytes(random)) % slots.len();
        chosen.push(slots.swap_remove(index));
    }
    chosen.sort_unstable();
    Ok(chosen)
}

fn shown_folder(path: &Path) -> String {
    if path == Path::new(".") {
        "this folder".to_owned()
    } else {
        path.display().to_string()
    }
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn float(count: usize) -> f64 {
    units::float(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_different_nodes_are_chosen() {
        for _ in 0..200 {
            let chosen = choose_nodes().unwrap();
            assert_eq!(chosen.len(), KILLED);
            assert!(
                chosen.windows(2).all(|pair| pair[0] < pair[1]),
                "{chosen:?}"
            );
            assert!(chosen.iter().all(|slot| *slot < NODES));
        }
    }
}
