//! `audit log|verify`: what custodians wrote down, its chains checked.

use client::keys::AuditQuery;
use client::{KeyAddress, Keys};
use custody::{AuditHead, AuditRecord};
use domain::{KeyId, Principal, RecordHash, ShareIndex, Slot};
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
/// Entries of one log that are checked, at most.
const CHECKED_MAX: u64 = 10_000_000;

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
                end = end.min(page.head.sequence);
            }
            for record in page
                .entries
                .iter()
                .filter_map(|(_, record)| record.as_ref())
            {
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
        match check(keys, id, slot, custodian, seen.as_ref()).await {
            Ok((head, entries)) => {
                let now = Seen {
                    sequence: head.sequence,
                    hash: head.hash,
                };
                let bytes = serde_json::to_vec(&now).unwrap_or_default();
                crate::platform::files::replace(&path, &bytes, 0o600)?;
                tally.success(entries);
                let since = seen.map(|seen| seen.sequence);
                let report = json!({
                    "custodian": slot.index, "standby": slot.standby, "principal": custodian,
                    "entries": entries, "head": head.sequence, "head_hash": head.hash, "seen_before": since,
                });
                context.output.result(&report, || {
                    let before = since.map_or(String::new(), |since| {
                        format!(", continues what was seen at {since}")
                    });
                    format!(
                        "custodian {}  {} entries, one chain, signed at its end{before}",
                        slot.index,
                        units::grouped(entries)
                    )
                });
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

/// Reads a whole log; its chain, its signed end, and that what was seen before is still in it.
async fn check(
    keys: &Keys,
    key: KeyId,
    slot: Slot,
    custodian: Principal,
    seen: Option<&Seen>,
) -> Outcome<(AuditHead, u64)> {
    let name = format!("the log of custodian {}", slot.index);
    let mut query = AuditQuery {
        slot,
        custodian,
        key: Some(key),
        after: 0,
        before: Some(AuditHead::EMPTY),
        limit: PAGE,
    };
    let (mut entries, mut found) = (0_u64, seen.is_none_or(|seen| seen.sequence == 0));
    // Asking is written down too: the log is checked to where it ended when the first page came.
    let mut end = None;
    loop {
        let page = keys.audit(&query).await.map_err(explain)?;
        let end = *end.get_or_insert(page.head);
        for (entry, _) in &page.entries {
            entries += 1;
            if entry.sequence == end.sequence && entry.hash != end.hash {
                let reason = format!(
                    "entry {} is not the one that it was signed with",
                    end.sequence
                );
                return Err(altered(&name, &reason));
            }
            if let Some(seen) = seen
                && seen.sequence == entry.sequence
            {
                if seen.hash != entry.hash {
                    return Err(altered(
                        &name,
                        &format!(
                            "entry {} is not the one that was seen before",
                            entry.sequence
                        ),
                    ));
                }
                found = true;
            }
        }
        match page.last() {
            Some(last) if last.sequence > query.after && last.sequence < end.sequence => {
                query.after = last.sequence;
                query.before = Some(last);
            }
            _ if !found => {
                return Err(altered(&name, "it ends before what was seen of it before"));
            }
            Some(last) => return Ok((last, entries)),
            None if page.head.sequence > query.after => {
                return Err(altered(&name, "nothing was shown although it goes on"));
            }
            None => return Ok((page.head, entries)),
        }
        if entries >= CHECKED_MAX {
            return Err(Failure::usage(format!(
                "the log has more than {} entries",
                units::grouped(CHECKED_MAX)
            )));
        }
    }
}
