//! `put`: files, folders, globs and standard input into a bucket.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use serde::Serialize;

use super::{Context, block_on};
use crate::address::{Operand, Remote, names_contents};
use crate::args::{PutArgs, TransferArgs};
use crate::failure::{Failure, Outcome};
use crate::files::{Excludes, expand, walk};
use crate::output::printable;
use crate::progress::{Bar, Progress};
use crate::store::{PutOptions, Store, Stored};
use crate::tally::Tally;
use crate::units;

/// One object to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The file; `None` for standard input.
    pub source: Option<PathBuf>,
    /// Where it goes.
    pub target: Remote,
    /// Its size, when known.
    pub size: Option<u64>,
}

/// What is said of a stored object with `--json`.
#[derive(Serialize)]
struct Report {
    source: String,
    address: String,
    version: String,
    cid: String,
    size_bytes: u64,
    fully_placed: bool,
    replaced: Option<String>,
    resumed_bytes: u64,
    duration_ms: u128,
}

/// Runs `put`.
///
/// # Errors
/// As the sources and the store say.
pub fn run(context: &Context, args: &PutArgs) -> Outcome {
    let Some((target, sources)) = args.operands.split_last() else {
        return Err(Failure::usage("a source and an address are needed"));
    };
    let target = Operand::remote(target)?;
    let mut tally = Tally::default();
    let jobs = plan(context, sources, &target, args.recursive, &mut tally)?;
    if jobs.is_empty() {
        context.output.note("nothing to store");
        return tally.finish("sources");
    }
    let options = PutOptions {
        wait_placed: args.wait_placed,
        no_overwrite: args.no_overwrite,
    };
    block_on(async {
        let store = Arc::new(Store::open(context, args.transfer.bandwidth_limit).await?);
        put_all(context, &store, jobs, options, &args.transfer, tally).await
    })
}

/// What is to be stored where. Sources that cannot be read are counted in `tally`.
///
/// # Errors
/// A usage failure when sources and target do not fit together.
pub fn plan(
    context: &Context,
    sources: &[OsString],
    target: &Remote,
    recursive: bool,
    tally: &mut Tally,
) -> Outcome<Vec<Job>> {
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    let mut add = |job: Job| {
        if let Some(before) = jobs.get(&job.target.key) {
            let name = |job: &Job| {
                job.source
                    .as_ref()
                    .map_or("-".to_owned(), |path| path.display().to_string())
            };
            return Err(Failure::usage(format!(
                "{} and {} would both become {}",
                printable(&name(before)),
                printable(&name(&job)),
                job.target
            )));
        }
        jobs.insert(job.target.key.clone(), job);
        Ok(())
    };
    let mut expanded = Vec::new();
    for source in sources {
        match Operand::parse(source)? {
            Operand::Stdio => expanded.push((None, false)),
            Operand::Remote(remote) => {
                return Err(Failure::usage(format!("{remote} is remote already"))
                    .advise("`strongroom cp` copies between addresses, `get` fetches"));
            }
            Operand::Local(path) => {
                let contents = names_contents(source);
                expanded.extend(
                    expand(&path)?
                        .into_iter()
                        .map(|path| (Some(path), contents)),
                );
            }
        }
    }
    if expanded.len() > 1 && !target.is_folder() {
        return Err(Failure::usage(format!(
            "{target} is one object, and there are {} sources",
            expanded.len()
        ))
        .advise(format!(
            "end the address with a slash to put them below it: {target}/"
        )));
    }
    for (source, contents) in expanded {
        let Some(path) = source else {
            if target.is_folder() {
                return Err(Failure::usage(
                    "standard input has no name: the address must name an object",
                )
                .advise(format!("for example {}", target.join("NAME")?)));
            }
            add(Job {
                source: None,
                target: target.clone(),
                size: None,
            })?;
            continue;
        };
        let meta = match std::fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) => {
                tally.failure(
                    &context.output,
                    path.display(),
                    Failure::file("read", &path, &error),
                );
                continue;
            }
        };
        if meta.is_dir() {
            if !recursive {
                tally.failure(
                    &context.output,
                    path.display(),
                    Failure::usage(format!("{} is a folder", path.display()))
                        .advise("-r stores folders"),
                );
                continue;
            }
            add_folder(context, &path, contents, target, tally, &mut add)?;
        } else {
            let target = match (target.is_folder(), file_name(&path)?) {
                (true, name) => target.join(&name)?,
                (false, _) => target.clone(),
            };
            add(Job {
                source: Some(path),
                target,
                size: Some(meta.len()),
            })?;
        }
    }
    Ok(jobs.into_values().collect())
}

fn add_folder(
    context: &Context,
    path: &Path,
    contents: bool,
    target: &Remote,
    tally: &mut Tally,
    add: &mut impl FnMut(Job) -> Outcome,
) -> Outcome {
    // `.` and `..` have no name of their own: their contents are meant.
    let named = if contents || path.file_name().is_none() {
        None
    } else {
        Some(file_name(path)?)
    };
    let base = match named {
        Some(name) => Some(target.join(&name)?),
        None if target.key.is_empty() => None,
        None => Some(target.clone()),
    };
    let walked = walk(path, &Excludes::default());
    for skipped in walked.skipped {
        context.output.warn(skipped);
    }
    for failure in walked.failed {
        tally.failure(&context.output, "", failure);
    }
    for file in walked.files {
        let joined = base.as_ref().unwrap_or(target).join(&file.relative);
        match joined {
            Ok(target) => add(Job {
                source: Some(file.path),
                target,
                size: Some(file.stamp.size),
            })?,
            Err(failure) => tally.failure(&context.output, file.path.display(), failure),
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> Outcome<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!(
            "{} has no name that could be a key",
            path.display()
        ))
        .advise("give the whole address of the object")
    })
}

/// Stores every job, several at once, and says what happened.
///
/// # Errors
/// As [`Tally::finish`].
pub async fn put_all(
    context: &Context,
    store: &Arc<Store>,
    jobs: Vec<Job>,
    options: PutOptions,
    transfer: &TransferArgs,
    mut tally: Tally,
) -> Outcome {
    let started = Instant::now();
    let total = jobs.iter().map(|job| job.size).sum::<Option<u64>>();
    let single = jobs.len() == 1;
    let progress = Progress::new(&context.output, total, jobs.len());
    let mut unplaced = 0;
    let mut stored = futures_util::stream::iter(jobs)
        .map(|job| {
            let bar = progress.bar(&job.target.key, job.size);
            async move {
                let started = Instant::now();
                let stored = put_one(store, &job, options, &bar).await;
                bar.done();
                (job, stored, started.elapsed())
            }
        })
        .buffer_unordered(usize::from(transfer.jobs));
    while let Some((job, outcome, elapsed)) = stored.next().await {
        match outcome {
            Ok(Stored {
                answer,
                cid,
                size_bytes,
                resumed_bytes,
            }) => {
                tally.success(size_bytes);
                unplaced += usize::from(!answer.fully_placed);
                let report = Report {
                    source: job
                        .source
                        .as_ref()
                        .map_or("-".to_owned(), |path| path.display().to_string()),
                    address: job.target.to_string(),
                    version: answer.version.to_string(),
                    cid: cid.to_string(),
                    size_bytes,
                    fully_placed: answer.fully_placed,
                    replaced: answer.replaced.map(|version| version.to_string()),
                    resumed_bytes,
                    duration_ms: elapsed.as_millis(),
                };
                if context.output.json || !context.output.quiet {
                    context.output.result(&report, || {
                        let resumed = if resumed_bytes > 0 {
                            format!("  ({} were there already)", units::size(resumed_bytes))
                        } else {
                            String::new()
                        };
                        format!("{}  {}{resumed}", job.target, units::size(size_bytes))
                    });
                }
            }
            Err(failure) => {
                let subject = job
                    .source
                    .as_ref()
                    .map_or("-".to_owned(), |path| path.display().to_string());
                tally.failure(&context.output, printable(&subject), failure);
            }
        }
    }
    drop(stored);
    drop(progress);
    let elapsed = started.elapsed();
    if !single && tally.done > 0 {
        context
            .output
            .note(summary("stored", tally.done, tally.bytes, elapsed));
    }
    if unplaced > 0 {
        let which = if single {
            "It".to_owned()
        } else {
            format!("{unplaced} of them")
        };
        context.output.note(format!(
            "{which} survive{} the loss of 2 nodes now and of 4 once fully placed (--wait-placed waits)",
            if unplaced == 1 { "s" } else { "" }
        ));
    }
    tally.finish("sources")
}

/// `3 objects stored, 12.0 MiB in 1.2 s, 10.5 MB/s`.
pub fn summary(done: &str, objects: usize, bytes: u64, elapsed: std::time::Duration) -> String {
    // The rate of a few bytes says nothing.
    let rate = match bytes {
        0..1_000_000 => String::new(),
        _ => format!(", {:.1} MB/s", units::mb_per_s(bytes, elapsed)),
    };
    format!(
        "{objects} object{} {done}, {} in {}{rate}",
        if objects == 1 { "" } else { "s" },
        units::size(bytes),
        units::duration(elapsed),
    )
}

async fn put_one(store: &Store, job: &Job, options: PutOptions, bar: &Bar) -> Outcome<Stored> {
    match &job.source {
        Some(path) => store.put_file(path, &job.target, options, bar).await,
        None => {
            store
                .put_stream(tokio::io::stdin(), &job.target, options, bar)
                .await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::context;

    fn planned(sources: &[&str], target: &str, recursive: bool) -> Outcome<Vec<String>> {
        let sources: Vec<OsString> = sources.iter().map(OsString::from).collect();
        let mut tally = Tally::default();
        let jobs = plan(
            &context(),
            &sources,
            &Remote::parse(target)?,
            recursive,
            &mut tally,
        )?;
        tally.finish("sources")?;
        Ok(jobs.into_iter().map(|job| job.target.key).collect())
    }

    #[test]
    fn sources_become_keys_as_with_rsync() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("album");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        for name in ["a.jpg", "b.jpg", "sub/c.jpg"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        let at = |name: &str| root.join(name).display().to_string();
        let folder = root.display().to_string();
        let check = |sources: &[&str], target: &str, keys: &[&str]| {
            assert_eq!(
                planned(sources, target, true).unwrap(),
                keys,
                "{sources:?} {target}"
            );
        };
        check(&[&at("a.jpg")], "sr://bucket", &["a.jpg"]);
        check(&[&at("a.jpg")], "sr://bucket/x/", &["x/a.jpg"]);
        check(&[&at("a.jpg")], "sr://bucket/x", &["x"]);
        check(
            &[&at("a.jpg"), &at("b.jpg")],
            "bucket/x/",
            &["x/a.jpg", "x/b.jpg"],
        );
        check(
            &[&folder],
            "sr://bucket",
            &["album/a.jpg", "album/b.jpg", "album/sub/c.jpg"],
        );
        check(
            &[&format!("{folder}/")],
            "sr://bucket",
            &["a.jpg", "b.jpg", "sub/c.jpg"],
        );
        check(
            &[&format!("{folder}/")],
            "sr://bucket/x",
            &["x/a.jpg", "x/b.jpg", "x/sub/c.jpg"],
        );
        check(&[&at("*.jpg")], "sr://bucket/x/", &["x/a.jpg", "x/b.jpg"]);
        check(&["-"], "sr://bucket/x", &["x"]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        let (file, folder) = (file.display().to_string(), dir.path().display().to_string());
        let check = |sources: &[&str], target: &str, recursive: bool, part: &str| {
            let failure = planned(sources, target, recursive).unwrap_err();
            assert!(failure.to_string().contains(part), "{failure}");
        };
        check(
            &[&file, "-"],
            "sr://bucket/x",
            false,
            "end the address with a slash",
        );
        check(&["-"], "sr://bucket", false, "must name an object");
        check(&[&folder], "sr://bucket", false, "-r stores folders");
        check(&["sr://bucket/x"], "sr://bucket/y", false, "strongroom cp");
        check(&["/nonexistent/file"], "sr://bucket", false, "no such file");
        check(&[&file, &file], "sr://bucket", false, "would both become");
    }
}
