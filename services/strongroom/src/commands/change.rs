//! `cp`, `mv`, `rm`, `mb` and `rb`.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use serde_json::json;

use super::{Context, block_on, get, put};
use crate::address::{Operand, Remote};
use crate::args::{CpArgs, GetArgs, MbArgs, MvArgs, PutArgs, RbArgs, RmArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::find::{Found, How, find, find_all};
use crate::store::{Store, explain};
use crate::tally::Tally;

/// Runs `cp`: between addresses here; with one side local it is `put` or `get`.
///
/// # Errors
/// As the store says.
pub fn cp(context: &Context, args: &CpArgs) -> Outcome {
    let operands = args
        .operands
        .iter()
        .map(|operand| Operand::parse(operand))
        .collect::<Outcome<Vec<_>>>()?;
    let remote = |operand: &Operand| matches!(operand, Operand::Remote(_));
    let Some((target, sources)) = operands.split_last() else {
        return Err(Failure::usage("a source and a target are needed"));
    };
    match (
        sources.iter().all(remote),
        sources.iter().any(remote),
        remote(target),
    ) {
        (true, _, true) => copy(
            context,
            &args.operands,
            args.recursive,
            args.no_glob,
            args.no_overwrite,
            false,
        ),
        (true, _, false) => get::run(
            context,
            &GetArgs {
                operands: args.operands.clone(),
                recursive: args.recursive,
                no_glob: args.no_glob,
                no_overwrite: args.no_overwrite,
                transfer: args.transfer.clone(),
            },
        ),
        (false, false, true) => put::run(
            context,
            &PutArgs {
                operands: args.operands.clone(),
                recursive: args.recursive,
                wait_placed: false,
                no_overwrite: args.no_overwrite,
                transfer: args.transfer.clone(),
            },
        ),
        (false, false, false) => Err(Failure::usage("neither side has the scheme of an address")
            .advise("write sr://BUCKET/KEY for the remote side")),
        (false, true, _) => Err(Failure::usage(
            "some sources are local and some remote: give them one kind at a time",
        )),
    }
}

/// Runs `mv`.
///
/// # Errors
/// As the store says.
pub fn mv(context: &Context, args: &MvArgs) -> Outcome {
    copy(
        context,
        &args.operands,
        args.recursive,
        args.no_glob,
        args.no_overwrite,
        true,
    )
}

fn copy(
    context: &Context,
    operands: &[OsString],
    recursive: bool,
    no_glob: bool,
    no_overwrite: bool,
    remove: bool,
) -> Outcome {
    let remotes = operands
        .iter()
        .map(|operand| Operand::remote(operand))
        .collect::<Outcome<Vec<_>>>()?;
    let Some((target, sources)) = remotes.split_last() else {
        return Err(Failure::usage("a source and a target are needed"));
    };
    block_on(async {
        let store = Arc::new(Store::open(context, None).await?);
        let mut tally = Tally::default();
        let mut pairs = Vec::new();
        for source in sources {
            match find(&store, source, How { recursive, no_glob }).await {
                Ok(matched) => {
                    let several = sources.len() > 1 || !matched.exact;
                    for found in matched.objects {
                        match destination(&found, target, several, recursive) {
                            Ok(to) => pairs.push((found, to)),
                            Err(failure) => tally.failure(&context.output, &found.address, failure),
                        }
                    }
                }
                Err(failure) => tally.failure(&context.output, source, failure),
            }
        }
        refuse_collisions(&pairs)?;
        for (found, to) in pairs {
            let from = &found.address;
            let outcome = if from == &to {
                Err(Failure::usage(format!(
                    "{from} is source and target at once"
                )))
            } else if remove {
                store.rename(from, &to, no_overwrite).await
            } else {
                store.copy(from, &to, no_overwrite).await
            };
            match outcome {
                Ok(answer) => {
                    tally.success(found.info.size_bytes);
                    let report = json!({
                        "from": from.to_string(),
                        "to": to.to_string(),
                        "version": answer.version,
                        "size_bytes": found.info.size_bytes,
                        "moved": remove,
                    });
                    if context.output.json || !context.output.quiet {
                        context.output.result(&report, || format!("{from} -> {to}"));
                    }
                }
                Err(failure) => tally.failure(&context.output, from, failure),
            }
        }
        tally.finish("objects")
    })
}

/// One object takes the target's key, or its name below a target folder; several need a folder.
fn destination(found: &Found, target: &Remote, several: bool, recursive: bool) -> Outcome<Remote> {
    if target.is_folder() || recursive {
        return target.join(&found.relative);
    }
    if several {
        return Err(Failure::usage(format!(
            "{target} is one object, and there are several sources"
        ))
        .advise(format!(
            "end the address with a slash to put them below it: {target}/"
        )));
    }
    Ok(target.clone())
}

fn refuse_collisions(pairs: &[(Found, Remote)]) -> Outcome {
    let mut taken = std::collections::HashMap::new();
    for (found, to) in pairs {
        if let Some(before) = taken.insert((&to.bucket, &to.key), &found.address) {
            return Err(Failure::usage(format!(
                "{before} and {} would both become {to}",
                found.address
            )));
        }
    }
    Ok(())
}

/// Runs `rm`.
///
/// # Errors
/// As the store says.
pub fn rm(context: &Context, args: &RmArgs) -> Outcome {
    let addresses = Operand::remotes(&args.addresses)?;
    block_on(async {
        let store = Store::open(context, None).await?;
        let mut tally = Tally::default();
        let how = How {
            recursive: args.recursive,
            no_glob: args.no_glob,
        };
        let found = find_all(&store, &addresses, how, |address, failure| {
            if !args.force || failure.exit != Exit::NotFound {
                tally.failure(&context.output, address, failure);
            }
        })
        .await;
        for found in found {
            let address = &found.address;
            let outcome = if args.dry_run {
                Ok(())
            } else {
                store.delete(address).await
            };
            match outcome {
                Ok(()) => {
                    tally.success(found.info.size_bytes);
                    let report = json!({
                        "address": address.to_string(),
                        "size_bytes": found.info.size_bytes,
                        "deleted": !args.dry_run,
                    });
                    if context.output.json || !context.output.quiet || args.dry_run {
                        context.output.result(&report, || {
                            let verb = if args.dry_run {
                                "would delete"
                            } else {
                                "deleted"
                            };
                            format!("{verb} {address}")
                        });
                    }
                }
                Err(failure) if args.force && failure.exit == Exit::NotFound => {}
                Err(failure) => tally.failure(&context.output, address, failure),
            }
        }
        tally.finish("objects")
    })
}

/// Runs `mb`.
///
/// # Errors
/// As the store says.
pub fn mb(context: &Context, args: &MbArgs) -> Outcome {
    let buckets = bucket_names(&args.addresses)?;
    block_on(async {
        let store = Store::open(context, None).await?;
        let key = match &args.key {
            Some(key) => Some(store.keys().await?.resolve(key).await.map_err(explain)?),
            None => None,
        };
        let mut tally = Tally::default();
        for address in &buckets {
            match store.make_bucket(&address.bucket, args.profile, key).await {
                Ok(bucket) => {
                    tally.success(0);
                    let report = json!({
                        "address": address.to_string(),
                        "id": bucket.id(),
                        "owner": bucket.owner(),
                        "profile": bucket.profile(),
                        "key": bucket.key(),
                    });
                    context.output.result(&report, || {
                        let to = bucket
                            .key()
                            .map(|key| format!(", opened by named key {key}"));
                        format!(
                            "{address} made, coded {}{}",
                            bucket.profile(),
                            to.unwrap_or_default()
                        )
                    });
                }
                Err(failure) => tally.failure(&context.output, address, failure),
            }
        }
        tally.finish("buckets")
    })
}

/// Runs `rb`.
///
/// # Errors
/// As the store says.
pub fn rb(context: &Context, args: &RbArgs) -> Outcome {
    let buckets = bucket_names(&args.addresses)?;
    block_on(async {
        let store = Store::open(context, None).await?;
        let mut tally = Tally::default();
        for address in &buckets {
            match store.remove_bucket(&address.bucket).await {
                Ok(()) => {
                    tally.success(0);
                    let report = json!({ "address": address.to_string(), "removed": true });
                    context
                        .output
                        .result(&report, || format!("{address} removed"));
                }
                Err(failure) => tally.failure(&context.output, address, failure),
            }
        }
        tally.finish("buckets")
    })
}

fn bucket_names(addresses: &[OsString]) -> Outcome<Vec<Remote>> {
    addresses.iter().map(|one| bucket_name(one)).collect()
}

/// An operand that must be a bucket.
///
/// # Errors
/// Usage, for an object's address.
pub fn bucket_name(address: &OsStr) -> Outcome<Remote> {
    let remote = Operand::remote(address)?;
    if remote.key.is_empty() {
        return Ok(remote);
    }
    Err(Failure::usage(format!(
        "{remote} is an object's address, a bucket is needed"
    ))
    .advise(format!("write sr://{}", remote.bucket)))
}
