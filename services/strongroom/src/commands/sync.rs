//! `sync`: makes a folder and a bucket alike, in one direction.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use domain::DeploymentId;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::put::summary;
use super::{Context, block_on};
use crate::address::{Operand, Remote};
use crate::args::SyncArgs;
use crate::failure::{Failure, Outcome};
use crate::files::{Excludes, Stamp, stamp, walk};
use crate::find::each_page;
use crate::output::printable;
use crate::platform::files::{private_dir, replace};
use crate::progress::{Bar, Progress};
use crate::store::{PutOptions, Store};
use crate::sync_plan::{Direction, Plan, Remembered, RemoteEntry, Why, plan};
use crate::tally::Tally;
use crate::target::{Target, relative_path};
use crate::units;

const MEMORY_VERSION: u32 = 1;

/// What was alike at the end of the last sync of this folder with this address.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    version: u32,
    local: String,
    remote: String,
    entries: BTreeMap<String, Remembered>,
}

struct Job {
    path: String,
    bytes: u64,
    why: Why,
}

/// Runs `sync`.
///
/// # Errors
/// As the folder and the store say.
pub fn run(context: &Context, args: &SyncArgs) -> Outcome {
    let (direction, local, remote) =
        match (Operand::parse(&args.source)?, Operand::parse(&args.target)?) {
            (Operand::Local(local), Operand::Remote(remote)) => (Direction::Push, local, remote),
            (Operand::Remote(remote), Operand::Local(local)) => (Direction::Pull, local, remote),
            _ => {
                return Err(Failure::usage(
                    "one side is a folder here and the other an address with its scheme",
                )
                .advise("for example: strongroom sync ./site sr://www/"));
            }
        };
    let excludes = Excludes::new(&args.exclude)?;
    if direction == Direction::Push && !local.is_dir() {
        return Err(match std::fs::metadata(&local) {
            Err(error) => Failure::file("read", &local, &error),
            Ok(_) => Failure::usage(format!("{} is not a folder", local.display()))
                .advise("`strongroom put` stores files"),
        });
    }
    block_on(async {
        let store = Arc::new(Store::open(context, args.transfer.bandwidth_limit).await?);
        Sync {
            context,
            args,
            store,
            direction,
            local,
            remote,
            excludes,
        }
        .run()
        .await
    })
}

struct Sync<'a> {
    context: &'a Context,
    args: &'a SyncArgs,
    store: Arc<Store>,
    direction: Direction,
    local: PathBuf,
    remote: Remote,
    excludes: Excludes,
}

impl Sync<'_> {
    async fn run(self) -> Outcome {
        let output = &self.context.output;
        let mut tally = Tally::default();
        let local = self.local_side(&mut tally);
        let remote = self.remote_side(&mut tally).await?;
        let memory_file = self.memory_file();
        let mut memory = read_memory(&memory_file);
        let mut plan = plan(
            self.direction,
            &local,
            &remote,
            &memory.entries,
            self.args.delete,
        );
        // A side that could not be read in full must not cost the other side its data.
        if tally.failed() > 0 && !plan.deletes.is_empty() {
            output.warn("nothing is deleted, because the source could not be read completely");
            plan.deletes.clear();
        }
        if self.args.dry_run {
            self.say_plan(&plan);
            return tally.finish("files");
        }
        let started = Instant::now();
        // What is alike without having been remembered is remembered from now on.
        memory.entries.retain(|path, _| {
            self.excludes.matches(path) || (local.contains_key(path) && remote.contains_key(path))
        });
        for path in &plan.unchanged {
            if let (Some(local), Some(remote)) = (local.get(path), remote.get(path)) {
                memory.entries.insert(
                    path.clone(),
                    Remembered {
                        local: *local,
                        version: remote.version,
                    },
                );
            }
        }
        let unchanged = plan.unchanged.len();
        self.transfer(&plan, &mut memory, &mut tally).await?;
        let transferred = tally.done;
        let deleted = self.delete(&plan, &mut memory, &mut tally).await;
        memory.version = MEMORY_VERSION;
        memory.local = self.local.display().to_string();
        memory.remote = self.remote.to_string();
        if let Err(failure) = write_memory(&memory_file, &memory) {
            output.warn(format!("the next sync will compare times only: {failure}"));
        }
        output.note(format!(
            "{}; {} unchanged, {deleted} deleted",
            summary("transferred", transferred, tally.bytes, started.elapsed()),
            units::grouped(u64::try_from(unchanged).unwrap_or(u64::MAX)),
        ));
        tally.finish("files")
    }

    fn local_side(&self, tally: &mut Tally) -> BTreeMap<String, Stamp> {
        if !self.local.exists() {
            return BTreeMap::new();
        }
        let walked = walk(&self.local, &self.excludes);
        for skipped in walked.skipped {
            self.context.output.warn(skipped);
        }
        for failure in walked.failed {
            tally.failure(&self.context.output, "", failure);
        }
        walked
            .files
            .into_iter()
            .map(|file| (file.relative, file.stamp))
            .collect()
    }

    /// The objects below the remote folder, by their path below it. For a pull only those that can be files here.
    async fn remote_side(&self, tally: &mut Tally) -> Outcome<BTreeMap<String, RemoteEntry>> {
        let prefix = match self.remote.key.as_str() {
            "" => String::new(),
            key if key.ends_with('/') => key.to_owned(),
            key => format!("{key}/"),
        };
        let mut entries = BTreeMap::new();
        let mut refused = Vec::new();
        each_page(&self.store, &self.remote.bucket, &prefix, None, |page| {
            for info in page.objects {
                let Some(path) = info.key.as_str().strip_prefix(&prefix) else {
                    continue;
                };
                if path.is_empty() || self.excludes.matches(path) {
                    continue;
                }
                if self.direction == Direction::Pull
                    && let Err(failure) = relative_path(path)
                {
                    refused.push((info.key.to_string(), failure));
                    continue;
                }
                let entry = RemoteEntry {
                    size: info.size_bytes,
                    version: info.version,
                    modified_ms: info.modified_ms,
                };
                entries.insert(path.to_owned(), entry);
            }
        })
        .await?;
        for (key, failure) in refused {
            tally.failure(&self.context.output, printable(&key), failure);
        }
        Ok(entries)
    }

    async fn transfer(&self, plan: &Plan, memory: &mut Memory, tally: &mut Tally) -> Outcome {
        let output = &self.context.output;
        let mut folder = match self.direction {
            Direction::Pull if !plan.transfers.is_empty() => Some(Target::new(&self.local)?),
            _ => None,
        };
        let mut jobs = Vec::new();
        for (path, bytes, why) in &plan.transfers {
            if let Some(folder) = &mut folder {
                let reserved = folder.reserve(path, Path::new(path));
                let reserved = reserved.and_then(|remark| {
                    folder.prepare(path, Path::new(path))?;
                    Ok(remark)
                });
                match reserved {
                    Ok(Some(remark)) => output.warn(remark),
                    Ok(None) => {}
                    Err(failure) => {
                        tally.failure(output, printable(path), failure);
                        continue;
                    }
                }
            }
            jobs.push(Job {
                path: path.clone(),
                bytes: *bytes,
                why: *why,
            });
        }
        let progress = Progress::new(output, Some(plan.bytes()), jobs.len());
        let mut done = futures_util::stream::iter(jobs)
            .map(|job| {
                let bar = progress.bar(&job.path, Some(job.bytes));
                async move {
                    let outcome = match self.direction {
                        Direction::Push => self.push(&job.path, &bar).await,
                        Direction::Pull => self.pull(&job.path, &bar).await,
                    };
                    bar.done();
                    (job, outcome)
                }
            })
            .buffer_unordered(usize::from(self.args.transfer.jobs));
        while let Some((job, outcome)) = done.next().await {
            match outcome {
                Ok(remembered) => {
                    tally.success(job.bytes);
                    memory.entries.insert(job.path.clone(), remembered);
                    self.say(&job.path, job.bytes, "transferred", Some(job.why));
                }
                Err(failure) => {
                    memory.entries.remove(&job.path);
                    tally.failure(output, printable(&job.path), failure);
                }
            }
        }
        Ok(())
    }

    async fn push(&self, path: &str, bar: &Bar) -> Outcome<Remembered> {
        let file = self.local.join(path);
        let before =
            std::fs::metadata(&file).map_err(|error| Failure::file("read", &file, &error))?;
        let target = self.remote.join(path)?;
        let stored = self
            .store
            .put_file(&file, &target, PutOptions::default(), bar)
            .await?;
        Ok(Remembered {
            local: stamp(&before),
            version: stored.answer.version,
        })
    }

    async fn pull(&self, path: &str, bar: &Bar) -> Outcome<Remembered> {
        let file = self.local.join(path);
        let fetched = self
            .store
            .get_file(&self.remote.join(path)?, &file, bar)
            .await?;
        let failed = |error: std::io::Error| Failure::file("set the time of", &file, &error);
        // The writer's time, so that a later push, or another program, sees how old the file is.
        let time = UNIX_EPOCH + Duration::from_millis(fetched.modified_ms);
        std::fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|open| open.set_modified(time))
            .map_err(failed)?;
        let after = std::fs::metadata(&file).map_err(failed)?;
        Ok(Remembered {
            local: stamp(&after),
            version: fetched.version,
        })
    }

    async fn delete(&self, plan: &Plan, memory: &mut Memory, tally: &mut Tally) -> usize {
        let mut deleted = 0;
        for path in &plan.deletes {
            let outcome = match self.direction {
                Direction::Push => match self.remote.join(path) {
                    Ok(address) => self.store.delete(&address).await,
                    Err(failure) => Err(failure),
                },
                Direction::Pull => {
                    let file = self.local.join(path);
                    std::fs::remove_file(&file)
                        .map_err(|error| Failure::file("delete", &file, &error))
                }
            };
            match outcome {
                Ok(()) => {
                    deleted += 1;
                    memory.entries.remove(path);
                    self.say(path, 0, "deleted", None);
                }
                Err(failure) => tally.failure(&self.context.output, printable(path), failure),
            }
        }
        deleted
    }

    fn say_plan(&self, plan: &Plan) {
        for (path, bytes, why) in &plan.transfers {
            self.say(path, *bytes, "would transfer", Some(*why));
        }
        for path in &plan.deletes {
            self.say(path, 0, "would delete", None);
        }
        self.context.output.note(format!(
            "dry run: {} to transfer ({}), {} to delete, {} unchanged",
            plan.transfers.len(),
            units::size(plan.bytes()),
            plan.deletes.len(),
            plan.unchanged.len()
        ));
    }

    fn say(&self, path: &str, bytes: u64, what: &str, why: Option<Why>) {
        let output = &self.context.output;
        if output.quiet && !output.json && !self.args.dry_run {
            return;
        }
        let report = json!({ "path": path, "action": what, "why": why, "size_bytes": bytes });
        output.result(&report, || {
            let detail = match why {
                Some(Why::New) => format!("  {} new", units::size(bytes)),
                Some(Why::Changed) => format!("  {} changed", units::size(bytes)),
                None => String::new(),
            };
            format!("{what} {}{detail}", printable(path))
        });
    }

    /// One file per folder, address and deployment.
    fn memory_file(&self) -> PathBuf {
        let DeploymentId(deployment) = self.store.deployment().deployment_id;
        let local = std::fs::canonicalize(&self.local)
            .or_else(|_| std::path::absolute(&self.local))
            .unwrap_or_else(|_| self.local.clone());
        let mut hasher = blake3::Hasher::new();
        for part in [
            deployment.as_slice(),
            local.as_os_str().as_encoded_bytes(),
            self.remote.bucket.as_str().as_bytes(),
            self.remote.key.trim_end_matches('/').as_bytes(),
        ] {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        let name = hasher.finalize().to_hex();
        self.context
            .settings
            .state_dir()
            .join("sync")
            .join(format!("{}.json", name.get(..32).unwrap_or(&name)))
    }
}

/// A memory that is missing or damaged is none: times are compared instead.
fn read_memory(path: &Path) -> Memory {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok())
        .filter(|memory| memory.version == MEMORY_VERSION)
        .unwrap_or_default()
}

fn write_memory(path: &Path, memory: &Memory) -> Outcome {
    if let Some(dir) = path.parent() {
        private_dir(dir)?;
    }
    let bytes = serde_json::to_vec(memory).map_err(|error| {
        Failure::new(crate::failure::Exit::Failure, "internal", error.to_string())
    })?;
    replace(path, &bytes, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;
    use domain::VersionId;

    #[test]
    fn memory_survives_and_a_damaged_one_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sync/x.json");
        let remembered = Remembered {
            local: Stamp {
                size: 5,
                modified_ns: now().0,
            },
            version: VersionId([3; 16]),
        };
        let mut memory = Memory {
            version: MEMORY_VERSION,
            ..Memory::default()
        };
        memory.entries.insert("a/b".to_owned(), remembered);
        write_memory(&path, &memory).unwrap();
        write_memory(&path, &memory).unwrap();
        assert_eq!(read_memory(&path).entries.get("a/b"), Some(&remembered));
        for damaged in [
            "",
            "{",
            "{\"version\":9,\"local\":\"\",\"remote\":\"\",\"entries\":{}}",
        ] {
            std::fs::write(&path, damaged).unwrap();
            assert!(read_memory(&path).entries.is_empty());
        }
        assert!(read_memory(&dir.path().join("none")).entries.is_empty());
    }
}
