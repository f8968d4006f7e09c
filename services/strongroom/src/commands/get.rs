//! `get` and `cat`: objects into files, or to standard output.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use client::ByteRange;
use futures_util::StreamExt as _;
use serde_json::json;

use super::put::summary;
use super::{Context, block_on};
use crate::address::{Operand, Remote};
use crate::args::{CatArgs, GetArgs, TransferArgs};
use crate::failure::{Failure, Outcome};
use crate::find::{Found, How, find};
use crate::progress::{Bar, Progress};
use crate::store::{Fetched, Store};
use crate::tally::Tally;
use crate::target::{Target, relative_path};
use crate::units;

/// One object to fetch into a file.
#[derive(Debug)]
pub struct Job {
    /// The object.
    pub found: Found,
    /// The file.
    pub path: PathBuf,
}

/// Runs `get`.
///
/// # Errors
/// As the store and the target say.
pub fn run(context: &Context, args: &GetArgs) -> Outcome {
    let (sources, target) = split_target(&args.operands)?;
    let how = How {
        recursive: args.recursive,
        no_glob: args.no_glob,
    };
    block_on(async {
        let store = Arc::new(Store::open(context, args.transfer.bandwidth_limit).await?);
        let mut tally = Tally::default();
        let mut found = Vec::new();
        let mut exact = sources.len() == 1;
        for source in &sources {
            match find(&store, source, how).await {
                Ok(matched) => {
                    exact &= matched.exact;
                    found.extend(matched.objects);
                }
                Err(failure) => tally.failure(&context.output, source, failure),
            }
        }
        if target == Operand::Stdio {
            return to_stdout(context, &store, found, tally).await;
        }
        let Operand::Local(target) = target else {
            return Err(Failure::usage("the target is not local"));
        };
        let jobs = place(
            context,
            found,
            &target,
            exact,
            args.no_overwrite,
            &mut tally,
        )?;
        get_all(context, &store, jobs, &args.transfer, tally).await
    })
}

/// The last operand is the target when it is not an address with a scheme and not the only one.
fn split_target(operands: &[OsString]) -> Outcome<(Vec<Remote>, Operand)> {
    let (last, before) = operands
        .split_last()
        .ok_or_else(|| Failure::usage("an address is needed"))?;
    let (sources, target) = match Operand::parse(last)? {
        Operand::Remote(_) => (operands, Operand::Local(PathBuf::from("."))),
        _ if before.is_empty() => (operands, Operand::Local(PathBuf::from("."))),
        target => (before, target),
    };
    let sources = sources
        .iter()
        .map(|source| Operand::remote(source))
        .collect::<Outcome<_>>()?;
    Ok((sources, target))
}

/// Maps objects to files: one object to a file that is named, all else below a folder. What cannot be placed is counted
/// in `tally`.
///
/// # Errors
/// When the target folder cannot be used.
pub fn place(
    context: &Context,
    found: Vec<Found>,
    target: &Path,
    exact: bool,
    no_overwrite: bool,
    tally: &mut Tally,
) -> Outcome<Vec<Job>> {
    let as_folder = target.is_dir() || target.as_os_str().as_encoded_bytes().ends_with(b"/");
    let mut jobs = Vec::with_capacity(found.len());
    if let (true, false, [_]) = (exact, as_folder, found.as_slice()) {
        jobs.extend(found.into_iter().map(|found| Job {
            found,
            path: target.to_owned(),
        }));
    } else {
        if found.is_empty() {
            return Ok(jobs);
        }
        let mut folder = Target::new(target)?;
        for found in found {
            let key = found.address.key.clone();
            let placed = relative_path(&found.relative)
                .map_err(|mut failure| {
                    // The part below the folder was judged; the user knows the object by its whole key.
                    failure.message = failure
                        .message
                        .replace(&format!("`{}`", found.relative), &format!("`{key}`"));
                    failure
                })
                .and_then(|relative| {
                    let remark = folder.reserve(&key, &relative)?;
                    Ok((folder.prepare(&key, &relative)?, remark))
                });
            match placed {
                Ok((path, remark)) => {
                    if let Some(remark) = remark {
                        context.output.warn(remark);
                    }
                    jobs.push(Job { found, path });
                }
                Err(failure) => tally.failure(&context.output, &found.address, failure),
            }
        }
    }
    if no_overwrite {
        jobs.retain(|job| {
            let exists = job.path.symlink_metadata().is_ok();
            if exists {
                let failure = Failure::file(
                    "write",
                    &job.path,
                    &std::io::ErrorKind::AlreadyExists.into(),
                );
                tally.failure(&context.output, job.path.display(), failure);
            }
            !exists
        });
    }
    Ok(jobs)
}

/// Fetches every job, several at once, and says what happened.
///
/// # Errors
/// As [`Tally::finish`].
pub async fn get_all(
    context: &Context,
    store: &Arc<Store>,
    jobs: Vec<Job>,
    transfer: &TransferArgs,
    mut tally: Tally,
) -> Outcome {
    let started = Instant::now();
    let total: u64 = jobs.iter().map(|job| job.found.info.size_bytes).sum();
    let single = jobs.len() == 1;
    let progress = Progress::new(&context.output, Some(total), jobs.len());
    let mut fetched = futures_util::stream::iter(jobs)
        .map(|job| {
            let bar = progress.bar(&job.found.address.key, Some(job.found.info.size_bytes));
            async move {
                let started = Instant::now();
                let fetched = store.get_file(&job.found.address, &job.path, &bar).await;
                bar.done();
                (job, fetched, started.elapsed())
            }
        })
        .buffer_unordered(usize::from(transfer.jobs));
    while let Some((job, outcome, elapsed)) = fetched.next().await {
        let path = job
            .path
            .strip_prefix(".")
            .unwrap_or(&job.path)
            .display()
            .to_string();
        match outcome {
            Ok(Fetched {
                version,
                size_bytes,
                resumed_bytes,
                ..
            }) => {
                tally.success(size_bytes);
                let report = json!({
                    "address": job.found.address.to_string(),
                    "file": path,
                    "version": version.to_string(),
                    "size_bytes": size_bytes,
                    "resumed_bytes": resumed_bytes,
                    "duration_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                });
                if context.output.json || !context.output.quiet {
                    context.output.result(&report, || {
                        let resumed = if resumed_bytes > 0 {
                            format!("  ({} were there already)", units::size(resumed_bytes))
                        } else {
                            String::new()
                        };
                        format!("{path}  {}{resumed}", units::size(size_bytes))
                    });
                }
            }
            Err(failure) => tally.failure(&context.output, &job.found.address, failure),
        }
    }
    drop(fetched);
    drop(progress);
    if !single && tally.done > 0 {
        context.output.note(summary(
            "fetched",
            tally.done,
            tally.bytes,
            started.elapsed(),
        ));
    }
    tally.finish("objects")
}

async fn to_stdout(
    context: &Context,
    store: &Store,
    found: Vec<Found>,
    mut tally: Tally,
) -> Outcome {
    let total = found.iter().map(|found| found.info.size_bytes).sum();
    let progress = Progress::new(&context.output, Some(total), found.len());
    for found in found {
        let bar = progress.bar(&found.address.key, Some(found.info.size_bytes));
        match store
            .get_stream(&found.address, ByteRange::All, tokio::io::stdout(), &bar)
            .await
        {
            Ok(fetched) => tally.success(fetched.size_bytes),
            Err(failure) => tally.failure(&context.output, &found.address, failure),
        }
        bar.done();
    }
    tally.finish("objects")
}

/// Runs `cat`.
///
/// # Errors
/// As the store says.
pub fn cat(context: &Context, args: &CatArgs) -> Outcome {
    let range = args
        .range
        .as_deref()
        .map_or(Ok(ByteRange::All), parse_range)?;
    let addresses = Operand::remotes(&args.addresses)?;
    block_on(async {
        let store = Store::open(context, None).await?;
        let mut tally = Tally::default();
        let bar = Bar::default();
        for address in &addresses {
            let fetched = async {
                address.object()?;
                store
                    .get_stream(address, range, tokio::io::stdout(), &bar)
                    .await
            };
            match fetched.await {
                Ok(fetched) => tally.success(fetched.size_bytes),
                Err(failure) => tally.failure(&context.output, address, failure),
            }
        }
        tally.finish("objects")
    })
}

fn parse_range(text: &str) -> Outcome<ByteRange> {
    let wrong = || {
        Failure::usage(format!("`{text}` is not a range"))
            .advise("write FIRST-LAST (both included), FIRST- or -COUNT, in bytes")
    };
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| wrong());
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    match (first, last) {
        ("", count) => Ok(ByteRange::Last(number(count)?)),
        (first, "") => Ok(ByteRange::From(number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                Err(wrong())
            } else {
                Ok(ByteRange::Span(first, last))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_operand_is_the_target_unless_it_has_a_scheme() {
        let split = |operands: &[&str]| {
            let operands: Vec<OsString> = operands.iter().map(OsString::from).collect();
            split_target(&operands).map(|(sources, target)| (sources.len(), target))
        };
        let local = |path: &str| Operand::Local(PathBuf::from(path));
        assert_eq!(split(&["bucket/a"]).unwrap(), (1, local(".")));
        assert_eq!(split(&["bucket/a", "x"]).unwrap(), (1, local("x")));
        assert_eq!(
            split(&["sr://bucket/a", "sr://bucket/b"]).unwrap(),
            (2, local("."))
        );
        assert_eq!(
            split(&["bucket/a", "bucket/b", "-"]).unwrap(),
            (2, Operand::Stdio)
        );
        assert!(split(&["./a", "x"]).is_err());
    }

    #[test]
    fn ranges_are_first_to_last_from_or_last() {
        let check = |text: &str, range| assert_eq!(parse_range(text), Ok(range), "{text}");
        check("0-9", ByteRange::Span(0, 9));
        check("5-5", ByteRange::Span(5, 5));
        check("90-", ByteRange::From(90));
        check("-10", ByteRange::Last(10));
        check("0-18446744073709551615", ByteRange::Span(0, u64::MAX));
        for bad in [
            "",
            "-",
            "5",
            "9-5",
            "a-b",
            "-1-5",
            "1.5-2",
            "0x1-2",
            "99999999999999999999-",
        ] {
            assert!(parse_range(bad).is_err(), "{bad}");
        }
    }
}
