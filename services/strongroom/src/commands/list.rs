//! `ls`, `stat` and `du`.

use std::collections::BTreeMap;

use client::Bucket;
use serde_json::{Value, json};
use wire::rest::{NodeState, ObjectInfo, ObjectKind, ObjectStat};

use super::{Context, block_on};
use crate::address::{Operand, Remote};
use crate::args::{DuArgs, LsArgs, StatArgs};
use crate::failure::{Exit, Outcome};
use crate::files::key_glob;
use crate::find::{How, each_page, find};
use crate::output::{line, printable, table};
use crate::store::Store;
use crate::tally::Tally;
use crate::units;

/// Runs `ls`.
///
/// # Errors
/// As the store says.
pub fn ls(context: &Context, args: &LsArgs) -> Outcome {
    let addresses = Operand::remotes(&args.addresses)?;
    block_on(async {
        let store = Store::open(context, None).await?;
        if addresses.is_empty() {
            return ls_buckets(context, &store).await;
        }
        let mut tally = Tally::default();
        for address in &addresses {
            match ls_one(context, &store, address, args).await {
                Ok(()) => tally.success(0),
                Err(failure) => tally.failure(&context.output, address, failure),
            }
        }
        tally.finish("addresses")
    })
}

async fn ls_buckets(context: &Context, store: &Store) -> Outcome {
    let buckets = store.buckets().await?;
    if context.output.json {
        for bucket in &buckets {
            context.output.result(&bucket_json(bucket), String::new);
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = buckets
        .iter()
        .map(|bucket| {
            vec![
                units::time_ms(bucket.created_ms),
                bucket.profile().to_string(),
                format!("sr://{}", bucket.name),
            ]
        })
        .collect();
    if rows.is_empty() {
        context
            .output
            .note("no buckets yet: strongroom mb sr://NAME makes one");
    } else {
        line(&table(&rows, &[]));
    }
    Ok(())
}

async fn ls_one(context: &Context, store: &Store, address: &Remote, args: &LsArgs) -> Outcome {
    let is_glob = !args.no_glob && key_glob(&address.key)?.is_some();
    if args.recursive || is_glob {
        let how = How {
            recursive: args.recursive && !is_glob,
            no_glob: args.no_glob,
        };
        for found in find(store, address, how).await?.objects {
            print_object(
                context,
                found.address.bucket.as_str(),
                &found.info,
                args.bytes,
            );
        }
        return Ok(());
    }
    if !address.is_folder() {
        // One object; or, as with files, the folder of that name.
        match store.stat(address).await {
            Ok(stat) => {
                print_object(context, address.bucket.as_str(), &stat.object, args.bytes);
                return Ok(());
            }
            Err(failure) if failure.exit == Exit::NotFound => {
                let folder = Remote {
                    bucket: address.bucket.clone(),
                    key: format!("{}/", address.key),
                };
                return match ls_folder(context, store, &folder, args).await? {
                    0 => Err(failure),
                    _ => Ok(()),
                };
            }
            Err(failure) => return Err(failure),
        }
    }
    let shown = ls_folder(context, store, address, args).await?;
    if shown == 0 && !address.key.is_empty() {
        return Err(crate::failure::Failure::new(
            Exit::NotFound,
            "not_found",
            format!("there is nothing below {address}"),
        ));
    }
    Ok(())
}

async fn ls_folder(
    context: &Context,
    store: &Store,
    folder: &Remote,
    args: &LsArgs,
) -> Outcome<usize> {
    let mut shown = 0;
    let bucket = folder.bucket.to_string();
    each_page(store, &folder.bucket, &folder.key, Some("/"), |page| {
        shown += page.prefixes.len() + page.objects.len();
        for prefix in page.prefixes {
            let address = format!("sr://{bucket}/{prefix}");
            context
                .output
                .result(&json!({ "type": "folder", "address": address }), || {
                    format!("{:19}  {:>10}  {}", "", "folder", printable(&address))
                });
        }
        for info in page.objects {
            print_object(context, &bucket, &info, args.bytes);
        }
    })
    .await?;
    Ok(shown)
}

fn print_object(context: &Context, bucket: &str, info: &ObjectInfo, exact: bool) {
    let address = format!("sr://{bucket}/{}", info.key);
    let report = json!({
        "type": "object",
        "address": address,
        "size_bytes": info.size_bytes,
        "modified_ms": info.modified_ms,
        "version": info.version,
        "cid": info.cid,
        "writer": info.writer,
        "fully_placed": info.fully_placed,
    });
    context.output.result(&report, || {
        format!(
            "{}  {:>10}  {}",
            units::time_ms(info.modified_ms),
            shown_size(info.size_bytes, exact),
            printable(&address)
        )
    });
}

fn shown_size(bytes: u64, exact: bool) -> String {
    if exact {
        bytes.to_string()
    } else {
        units::size(bytes)
    }
}

fn bucket_json(bucket: &Bucket) -> Value {
    json!({
        "type": "bucket",
        "address": format!("sr://{}", bucket.name),
        "id": bucket.id(),
        "owner": bucket.owner(),
        "profile": bucket.profile(),
        "created_ms": bucket.created_ms,
    })
}

/// Runs `stat`.
///
/// # Errors
/// As the store says.
pub fn stat(context: &Context, args: &StatArgs) -> Outcome {
    let addresses = Operand::remotes(&args.addresses)?;
    block_on(async {
        let store = Store::open(context, None).await?;
        let mut tally = Tally::default();
        for address in &addresses {
            let shown = if address.key.is_empty() {
                store.bucket(&address.bucket).await.map(|bucket| {
                    context
                        .output
                        .result(&bucket_json(&bucket), || describe_bucket(&bucket));
                })
            } else {
                store.stat(address).await.map(|stat| {
                    context
                        .output
                        .result(&stat_json(address, &stat), || describe(address, &stat));
                })
            };
            match shown {
                Ok(()) => tally.success(0),
                Err(failure) => tally.failure(&context.output, address, failure),
            }
        }
        tally.finish("addresses")
    })
}

fn stat_json(address: &Remote, stat: &ObjectStat) -> Value {
    let mut value = serde_json::to_value(stat).unwrap_or_default();
    if let Value::Object(map) = &mut value {
        map.insert(
            "address".to_owned(),
            json!(format!("sr://{}/{}", address.bucket, address.key)),
        );
    }
    value
}

fn describe_bucket(bucket: &Bucket) -> String {
    let rows = [
        ("bucket", format!("sr://{}", bucket.name)),
        ("id", bucket.id().to_string()),
        ("owner", bucket.owner().to_string()),
        ("made", units::time_ms(bucket.created_ms)),
        ("coding", bucket.profile().to_string()),
    ];
    rows_of(&rows)
}

fn describe(address: &Remote, stat: &ObjectStat) -> String {
    let object = &stat.object;
    let spare = u64::from(stat.live_shards_min)
        .saturating_sub(u64::try_from(stat.profile.data()).unwrap_or(u64::MAX));
    let kind = match stat.kind {
        ObjectKind::Small => "one small record in five copies".to_owned(),
        ObjectKind::Chunked => format!(
            "{} chunk{}",
            stat.chunks,
            if stat.chunks == 1 { "" } else { "s" }
        ),
    };
    let placed = if object.fully_placed {
        format!("fully: survives the loss of {spare} nodes")
    } else {
        format!(
            "{} shards on their way; survives the loss of {spare} nodes now",
            stat.pending_shards
        )
    };
    let overhead = if object.size_bytes == 0 {
        String::new()
    } else {
        format!(
            " ({:.2} x)",
            units::float(stat.stored_bytes) / units::float(object.size_bytes)
        )
    };
    let mut states: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in &stat.nodes {
        let state = match node.state {
            NodeState::Online => "online",
            NodeState::Warning => "not answering lately",
            NodeState::Offline => "offline",
        };
        states.entry(state).or_default().push(node.slot.to_string());
    }
    let nodes: Vec<String> = states
        .iter()
        .map(|(state, slots)| format!("{state}: {}", slots.join(" ")))
        .collect();
    rows_of(&[
        ("object", address.to_string()),
        (
            "size",
            format!(
                "{} ({} bytes)",
                units::size(object.size_bytes),
                units::grouped(object.size_bytes)
            ),
        ),
        ("modified", units::time_ms(object.modified_ms)),
        ("version", object.version.to_string()),
        ("cid", object.cid.to_string()),
        ("writer", object.writer.to_string()),
        ("held as", format!("{kind}, coded {}", stat.profile)),
        (
            "stored",
            format!("{}{overhead}", units::size(stat.stored_bytes)),
        ),
        ("placed", placed),
        (
            "opened by",
            format!(
                "{} (bucket key {})",
                stat.wraps.join(", "),
                stat.bucket_key_id
            ),
        ),
        ("nodes", nodes.join("; ")),
    ])
}

/// Name and value, aligned.
pub fn rows_of(rows: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, value)| vec![(*name).to_owned(), value.clone()])
        .collect();
    table(&rows, &[])
}

/// Runs `du`.
///
/// # Errors
/// As the store says.
pub fn du(context: &Context, args: &DuArgs) -> Outcome {
    let mut addresses = args
        .addresses
        .iter()
        .map(|address| Operand::remote(address))
        .collect::<Outcome<Vec<_>>>()?;
    block_on(async {
        let store = Store::open(context, None).await?;
        if addresses.is_empty() {
            addresses = store
                .buckets()
                .await?
                .into_iter()
                .map(|bucket| Remote {
                    bucket: bucket.name,
                    key: String::new(),
                })
                .collect();
        }
        let mut tally = Tally::default();
        let mut rows = Vec::new();
        for address in &addresses {
            match find(
                &store,
                address,
                How {
                    recursive: true,
                    no_glob: true,
                },
            )
            .await
            {
                Ok(matched) => {
                    let bytes = matched
                        .objects
                        .iter()
                        .map(|found| found.info.size_bytes)
                        .sum();
                    let objects = matched.objects.len();
                    tally.success(bytes);
                    if context.output.json {
                        let report = json!({ "address": address.to_string(), "objects": objects, "size_bytes": bytes });
                        context.output.result(&report, String::new);
                    }
                    rows.push((bytes, objects, address.to_string()));
                }
                Err(failure) => tally.failure(&context.output, address, failure),
            }
        }
        if !context.output.json {
            if rows.len() > 1 {
                rows.push((
                    tally.bytes,
                    rows.iter().map(|row| row.1).sum(),
                    "total".to_owned(),
                ));
            }
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|(bytes, objects, name)| {
                    let objects = units::grouped(u64::try_from(objects).unwrap_or(u64::MAX));
                    vec![
                        shown_size(bytes, args.bytes),
                        format!("{objects} objects"),
                        name,
                    ]
                })
                .collect();
            if !rows.is_empty() {
                line(&table(&rows, &[0, 1]));
            }
        }
        tally.finish("addresses")
    })
}
