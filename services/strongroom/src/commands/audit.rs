//! `audit log|verify`: what custodians wrote down, its chains checked.

use client::keys::AuditQuery;
use client::{KeyAddress, Keys};
use custody::{AuditHead, AuditRecord, LogCheck, Next, Whole};
use domain::{KeyId, Principal, RecordHash, ShareIndex, Slot, TimestampMs};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Context, block_on};
use crate::args::{AuditArgs, AuditCommand};
use crate::envelopes::altered;
use crate::failure::{Failure, Outcome};
use crate::output::{self, table};
use crate::platform::files::private_dir;
use crate::store::{Store, explain};
use crate::tally::Tally;
use crate::units;

/// Entries of one page.
const PAGE: u32 = 256;
/// Pages of one log that are read, at most: ten million entries, of which custodians keep half a million.
const PAGES_MAX: u32 = 40_000;

/// Runs `audit`.
///
/// # Errors
/// What the custodians say, and logs that do not hold together.
pub fn run(context: &Context, args: &AuditArgs) -> Outcome {
    block_on(async {
        let store = Store::open(context, None).await?;
        let keys = store.keys().await?;
        match &args.command {
            AuditCommand::Log {
                key,
                custodian,
                after,
                limit,
            } => log(context, &keys, key, *custodian, *after, *limit).await,
            AuditCommand::Verify { key } => verify(context, &keys, key).await,
        }
    })
}

/// The custodians to ask, and the key.
async fn places(
    keys: &Keys,
    key: &KeyAddress,
    only: Option<u8>,
) -> Outcome<(KeyId, Vec<(Slot, Principal)>)> {
    let id = keys.resolve(key).await.map_err(explain)?;
    let custodians = keys.custodians(&id).await.map_err(explain)?;
    let places: Vec<(Slot, Principal)> = custodians
        .into_iter()
        .filter(|((index, _), _)| only.is_none_or(|only| index.get() == only))
        .map(|((index, standby), principal)| (Slot { index, standby }, principal))
        .collect();
    if places.is_empty() {
        return Err(Failure::usage(format!(
            "no custodian {} holds a share of this key",
            only.unwrap_or(0)
        )));
    }
    Ok((id, places))
}

async fn log(
    context: &Context,
    keys: &Keys,
    key: &KeyAddress,
    only: Option<u8>,
    after: u64,
    limit: u64,
) -> Outcome {
    let (id, places) = places(keys, key, only).await?;
    let mut tally = Tally::default();
    for (slot, custodian) in places {
        let mut query = AuditQuery {
            slot,
            custodian,
            key: Some(id),
            after,
            before: None,
            limit: PAGE,
        };
        let mut rows = Vec::new();
        // Asking is written down too: the log is read to where it ended when the first page came.
        let mut end = after.saturating_add(limit);
        let outcome = loop {
            let left = end.saturating_sub(query.after).min(u64::from(PAGE));
            query.limit = u32::try_from(left).unwrap_or(PAGE);
            if query.limit == 0 {
                break Ok(());
            }
            let page = match keys.audit(&query).await {
                Ok(page) => page,
                Err(error) => break Err(explain(error)),
            };
            if query.before.is_none() {
                end = end.min(page.page.head.sequence);
            }
            for record in page.records.iter().flatten() {
                if record.key == Some(id) {
                    entry(context, slot.index, record, &mut rows);
                }
            }
            match page.last() {
                Some(last) if last.sequence > query.after => {
                    query.after = last.sequence;
                    query.before = Some(last);
                }
                _ => break Ok(()),
            }
        };
        if !rows.is_empty() {
            output::line(&table(&rows, &[0, 1]));
        }
        match outcome {
            Ok(()) => tally.success(0),
            Err(failure) => {
                tally.failure(
                    &context.output,
                    format!("custodian {}", slot.index),
                    failure,
                );
            }
        }
    }
    tally.finish("custodians")
}

fn entry(context: &Context, index: ShareIndex, record: &AuditRecord, rows: &mut Vec<Vec<String>>) {
    let principal = record.principal.map(|who| who.to_string());
    let operation = serde_json::to_value(record.operation).unwrap_or_default();
    if context.output.json {
        let report = json!({
            "custodian": index,
            "sequence": record.sequence,
            "time_ms": record.time.0,
            "height": record.height,
            "principal": principal,
            "verified": record.verified,
            "version": record.version,
            "operation": operation,
            "count": record.count,
            "decision": record.decision.code(),
            "request": record.request,
        });
        context.output.result(&report, String::new);
        return;
    }
    let claimed = if record.verified { "" } else { " (not proved)" };
    rows.push(vec![
        index.to_string(),
        record.sequence.to_string(),
        units::time_ms(record.time.0),
        record.decision.code().to_owned(),
        format!(
            "{} {}",
            operation.as_str().unwrap_or_default(),
            record.count
        ),
        format!("{}{claimed}", principal.unwrap_or_else(|| "-".to_owned())),
    ]);
}

/// The end of a log as it was seen last.
#[derive(Serialize, Deserialize)]
struct Seen {
    sequence: u64,
    hash: RecordHash,
}

async fn verify(context: &Context, keys: &Keys, key: &KeyAddress) -> Outcome {
    let (id, places) = places(keys, key, None).await?;
    let folder = context.settings.state_dir().join("audit");
    private_dir(&folder)?;
    let mut tally = Tally::default();
    for (slot, custodian) in places {
        let path = folder.join(custodian.to_string());
        let seen: Option<Seen> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(_) => None,
        };
        let known = seen.as_ref().map(|seen| AuditHead {
            sequence: seen.sequence,
            hash: seen.hash,
        });
        match check(keys, id, slot, custodian, known).await {
            Ok((whole, anchored)) => {
                let now = Seen {
                    sequence: whole.last.sequence,
                    hash: whole.last.hash,
                };
                let bytes = serde_json::to_vec(&now).unwrap_or_default();
                crate::platform::files::replace(&path, &bytes, 0o600)?;
                tally.success(whole.entries);
                let since = (whole.entries > 0).then_some(whole.start.time.0);
                let report = json!({
                    "custodian": slot.index, "standby": slot.standby, "principal": custodian,
                    "entries": whole.entries, "first": whole.start.before.sequence.saturating_add(1), "since_ms": since,
                    "head": whole.last.sequence, "head_hash": whole.last.hash,
                    "seen_before": whole.seen, "anchored": whole.anchored, "anchored_ms": anchored.map(|at| at.0),
                });
                context
                    .output
                    .result(&report, || verified(slot, &whole, anchored));
            }
            Err(failure) => {
                tally.failure(
                    &context.output,
                    format!("custodian {}", slot.index),
                    failure,
                );
            }
        }
    }
    tally.finish("custodians")
}

fn verified(slot: Slot, whole: &Whole, anchored: Option<TimestampMs>) -> String {
    let mut text = format!(
        "custodian {}  {} entries, one chain, signed",
        slot.index,
        units::grouped(whole.entries)
    );
    if whole.start.before.sequence > 0 {
        text.push_str(&format!(
            "; from entry {} of {} on, what was before is no longer kept",
            whole.start.before.sequence.saturating_add(1),
            units::time_ms(whole.start.time.0)
        ));
    }
    if let Some(seen) = whole.seen {
        text.push_str(&format!(", continues what was seen at {seen}"));
    }
    match (whole.anchored, anchored) {
        (Some(entry), Some(time)) => text.push_str(&format!(
            ", contains entry {entry} that the ledger has held since {}",
            units::time_ms(time.0)
        )),
        (None, Some(_)) => text.push_str("; what the ledger holds of it is no longer kept"),
        _ => text.push_str("; the ledger holds nothing of it yet"),
    }
    text
}

/// Reads a whole log; its chain, its signed ends, and that what was seen before and what the ledger holds are still in it. Also when it was
/// put on the ledger last.
async fn check(
    keys: &Keys,
    key: KeyId,
    slot: Slot,
    custodian: Principal,
    seen: Option<AuditHead>,
) -> Outcome<(Whole, Option<TimestampMs>)> {
    let name = format!("the log of custodian {}", slot.index);
    // Before the log, so that it must contain it.
    let anchored = keys.anchored(&custodian).await.map_err(explain)?;
    let mut checking = LogCheck::new(seen, anchored.map(|(head, _)| head));
    let first = AuditQuery {
        slot,
        custodian,
        key: Some(key),
        after: 0,
        before: None,
        limit: PAGE,
    };
    let mut query = first;
    for _ in 0..PAGES_MAX {
        let page = keys.audit(&query).await.map_err(explain)?;
        let next = checking.page(&page.page);
        match next.map_err(|error| altered(&name, &error.to_string()))? {
            Next::Done(whole) => return Ok((whole, anchored.map(|(_, time)| time))),
            Next::Restart => query = first,
            Next::Page(last) => {
                query.after = last.sequence;
                query.before = Some(last);
            }
        }
    }
    Err(Failure::usage(format!(
        "{name} has more than {PAGES_MAX} pages"
    )))
}
