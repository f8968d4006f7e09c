//! `admin`, `token` and `verify`.

use std::sync::Arc;
use std::time::Instant;

use domain::{BucketName, Permissions};
use futures_util::StreamExt as _;
use serde_json::json;
use wire::rest::NodeState;
use wire::rest::custody::EnclaveInfo;
use wire::token::Scope;

use super::list::rows_of;
use super::put::summary;
use super::{Context, block_on};
use crate::address::Operand;
use crate::args::{AdminArgs, AdminCommand, TokenArgs, VerifyArgs};
use crate::failure::{Failure, Outcome};
use crate::find::{How, find_all};
use crate::output::{line, table};
use crate::progress::Progress;
use crate::store::Store;
use crate::tally::Tally;
use crate::units;

/// Runs `admin`.
///
/// # Errors
/// Refused for anybody but the deployment's administrator.
pub fn run(context: &Context, args: &AdminArgs) -> Outcome {
    if let AdminCommand::Provision(args) = &args.command {
        return super::provision::run(context, args);
    }
    block_on(async {
        let store = Store::open(context, None).await?;
        match args.command {
            AdminCommand::Nodes => nodes(context, &store).await,
            AdminCommand::Space => space(context, &store).await,
            AdminCommand::Status | AdminCommand::Provision(_) => status(context, &store).await,
        }
    })
}

async fn nodes(context: &Context, store: &Store) -> Outcome {
    let list = store.admin_nodes().await?;
    context.output.result(&list, || {
        let unknown = || "-".to_owned();
        let mut rows = vec![
            [
                "slot",
                "state",
                "shards",
                "used",
                "free",
                "answers in",
                "id",
                "zone",
                "remark",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        rows.extend(list.nodes.iter().map(|node| {
            let state = match node.state {
                NodeState::Online => "online",
                NodeState::Warning => "warning",
                NodeState::Offline => "OFFLINE",
            };
            vec![
                node.slot.to_string(),
                state.to_owned(),
                node.shards.map_or_else(unknown, units::grouped),
                node.used_bytes.map_or_else(unknown, units::size),
                node.free_bytes.map_or_else(unknown, units::size),
                node.probe_us
                    .map_or_else(unknown, |us| format!("{:.1} ms", units::float(us) / 1e3)),
                node.id.to_string().chars().take(8).collect(),
                node.zone.clone(),
                node.reason.clone().unwrap_or_default(),
            ]
        }));
        table(&rows, &[0, 2, 3, 4, 5])
    });
    Ok(())
}

async fn status(context: &Context, store: &Store) -> Outcome {
    let status = store.admin_status().await?;
    // What does not answer is part of the status.
    let ledger = store.ledger_status().await;
    let custody = store.custody_info().await;
    let mut report = serde_json::to_value(&status).unwrap_or_default();
    if let Some(report) = report.as_object_mut() {
        let value = |outcome: Result<serde_json::Value, &Failure>| match outcome {
            Ok(value) => value,
            Err(failure) => json!({ "failed": failure.message }),
        };
        report.insert(
            "ledger_status".to_owned(),
            value(ledger.as_ref().map(|status| json!(status))),
        );
        report.insert(
            "custody".to_owned(),
            value(custody.as_ref().map(|info| json!(info))),
        );
    }
    context.output.result(&report, || {
        let placed = match status.unplaced_versions {
            0 => "everything: any 4 of 14 nodes may be lost".to_owned(),
            count => format!(
                "{count} objects not fully placed yet ({} shards on their way): of those only 2 nodes may be lost",
                status.pending_shards
            ),
        };
        let mut rows = vec![
            ("deployment", status.deployment.deployment_id.to_string()),
            ("version", status.deployment.software_version.clone()),
            ("mode", status.deployment.mode.clone()),
            ("ledger", status.deployment.ledger.clone()),
            ("attestation", status.deployment.attestation.clone()),
            ("up for", units::duration(std::time::Duration::from_millis(status.uptime_ms))),
            ("nodes", format!("{} of {} online", status.nodes_online, status.nodes)),
            ("writable", if status.writable { "yes" } else { "NO: too few nodes online" }.to_owned()),
            ("placed", placed),
            ("uploads", format!("{} in progress", units::grouped(status.uploads))),
            ("deletions", format!("{} waiting", units::grouped(status.deletions))),
        ];
        let validator = match &ledger {
            Ok(None) => "none".to_owned(),
            Ok(Some(ledger)) => format!(
                "height {}, {}",
                units::grouped(ledger.height),
                match &ledger.writable_detail {
                    None if ledger.writable => "takes transactions".to_owned(),
                    why => format!(
                        "takes NO transactions: {}",
                        why.as_deref().unwrap_or("no reason given")
                    ),
                }
            ),
            Err(failure) => format!("DOWN: {}", failure.message),
        };
        rows.push(("validator", validator));
        match &custody {
            Ok(None) => rows.push(("custodians", "none".to_owned())),
            Ok(Some(custody)) => {
                rows.push(("custodians", reachable(&custody.custodians)));
                rows.push(("workers", reachable(&custody.workers)));
            }
            Err(failure) => rows.push(("custodians", format!("UNKNOWN: {}", failure.message))),
        }
        rows.extend(status.deployment.warnings.iter().map(|warning| ("warning", warning.clone())));
        rows_of(&rows)
    });
    Ok(())
}

/// How many of them answer and know the ledger, and what is wrong with the others.
fn reachable(enclaves: &[EnclaveInfo]) -> String {
    let good = |enclave: &&EnclaveInfo| {
        enclave.reachable && enclave.description.as_ref().is_some_and(|said| said.fresh)
    };
    let mut text = format!(
        "{} of {} ready",
        enclaves.iter().filter(good).count(),
        enclaves.len()
    );
    for enclave in enclaves.iter().filter(|enclave| !good(enclave)) {
        let name = match enclave.index {
            Some(index) => format!("custodian {index}"),
            None => {
                let id: String = enclave.principal.to_string().chars().take(8).collect();
                format!("worker {id}")
            }
        };
        let why = enclave.detail.clone().unwrap_or_else(|| {
            if enclave.reachable {
                "has no recent answer of the ledger".to_owned()
            } else {
                "does not answer".to_owned()
            }
        });
        text.push_str(&format!("; {name}: {why}"));
    }
    text
}

async fn space(context: &Context, store: &Store) -> Outcome {
    let space = store.admin_space().await?;
    context.output.result(&space, || {
        let unknown = || "unknown: no node answers".to_owned();
        let overhead = if space.plain_bytes == 0 {
            String::new()
        } else {
            format!(
                " ({:.2} x)",
                units::float(space.shard_bytes) / units::float(space.plain_bytes)
            )
        };
        rows_of(&[
            ("buckets", units::grouped(space.buckets)),
            ("objects", units::grouped(space.objects)),
            ("plaintext", units::size(space.plain_bytes)),
            (
                "as shards",
                format!("{}{overhead}", units::size(space.shard_bytes)),
            ),
            (
                "recovery",
                format!(
                    "{} of sealed recovery records{}",
                    units::size(space.recovery_bytes),
                    match space.pending_copies {
                        0 => String::new(),
                        pending => format!(", {} copies on their way", units::grouped(pending)),
                    }
                ),
            ),
            (
                "on nodes",
                space.node_used_bytes.map_or_else(unknown, units::size),
            ),
            (
                "free",
                space.node_free_bytes.map_or_else(unknown, units::size),
            ),
        ])
    });
    Ok(())
}

/// Runs `token`.
///
/// # Errors
/// For a scope that is none, or a lifetime over one hour.
pub fn token(context: &Context, args: &TokenArgs) -> Outcome {
    let scopes = args
        .scopes
        .iter()
        .map(|text| scope(text))
        .collect::<Outcome<Vec<_>>>()?;
    block_on(async {
        let store = Store::open(context, None).await?;
        let token = store.token(scopes, args.expires)?;
        let report = json!({ "token": token, "expires_in_s": args.expires.as_secs() });
        context.output.result(&report, || token.clone());
        Ok(())
    })
}

fn scope(text: &str) -> Outcome<Scope> {
    let wrong = |why: &str| {
        Failure::usage(format!("--scope {text}: {why}"))
            .advise("write read, write, read:BUCKET or write:BUCKET")
    };
    let (what, bucket) = match text.split_once(':') {
        Some((what, bucket)) => (what, Some(bucket)),
        None => (text, None),
    };
    let permissions = match what {
        "read" => Permissions::READ,
        "write" => Permissions::WRITER,
        _ => return Err(wrong("no such right")),
    };
    let bucket = bucket
        .map(|name| {
            name.parse::<BucketName>()
                .map_err(|error| wrong(&error.to_string()))
        })
        .transpose()?;
    Ok(Scope {
        bucket,
        permissions,
    })
}

/// Runs `verify`.
///
/// # Errors
/// Integrity when anything does not hold.
pub fn verify(context: &Context, args: &VerifyArgs) -> Outcome {
    let addresses = Operand::remotes(&args.addresses)?;
    block_on(async {
        let store = Arc::new(Store::open(context, args.transfer.bandwidth_limit).await?);
        let mut tally = Tally::default();
        let how = How {
            recursive: args.recursive,
            no_glob: args.no_glob,
        };
        let found = find_all(&store, &addresses, how, |address, failure| {
            tally.failure(&context.output, address, failure);
        })
        .await;
        let started = Instant::now();
        let total = found.iter().map(|found| found.info.size_bytes).sum();
        let progress = Progress::new(&context.output, Some(total), found.len());
        let store = &store;
        let mut verified = futures_util::stream::iter(found)
            .map(|found| {
                let bar = progress.bar(&found.address.key, Some(found.info.size_bytes));
                async move {
                    let report = store.verify(&found.address, true, &bar).await;
                    bar.done();
                    (found, report)
                }
            })
            .buffer_unordered(usize::from(args.transfer.jobs));
        while let Some((found, outcome)) = verified.next().await {
            match outcome {
                Ok(report) => {
                    tally.success(report.bytes);
                    let json = json!({
                        "address": found.address.to_string(),
                        "version": report.head.version,
                        "cid": report.head.cid,
                        "writer": report.head.writer,
                        "chunks": report.chunks,
                        "size_bytes": report.bytes,
                        "intact": true,
                    });
                    if context.output.json || !context.output.quiet {
                        context.output.result(&json, || {
                            format!(
                                "{}  intact: {} chunk{}, {}",
                                found.address,
                                report.chunks,
                                if report.chunks == 1 { "" } else { "s" },
                                units::size(report.bytes)
                            )
                        });
                    }
                }
                Err(failure) => tally.failure(&context.output, &found.address, failure),
            }
        }
        drop(verified);
        drop(progress);
        if tally.done > 1 {
            context.output.note(summary(
                "intact",
                tally.done,
                tally.bytes,
                started.elapsed(),
            ));
        }
        if tally.done == 0 && tally.failed() == 0 && !context.output.json {
            line("nothing to verify");
        }
        tally.finish("objects")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_right_and_perhaps_a_bucket() {
        assert_eq!(
            scope("read").unwrap(),
            Scope {
                bucket: None,
                permissions: Permissions::READ
            }
        );
        let one = scope("write:photos").unwrap();
        assert_eq!(one.bucket.unwrap().as_str(), "photos");
        assert_eq!(one.permissions, Permissions::WRITER);
        for bad in ["", "all", "read:", "read:X", "READ"] {
            assert!(scope(bad).is_err(), "{bad}");
        }
    }
}
