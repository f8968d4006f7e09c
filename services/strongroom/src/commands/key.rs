//! `key`: make, show, grant, rotate and revoke named keys.

use std::ffi::OsStr;
use std::path::Path;

use client::keys::{CreateKey, Effective, GrantInfo, KeyInfo, VersionInfo, state_word};
use client::{BucketChange, KeyAddress, Keys};
use domain::{KeyVersion, Principal, TimestampMs};
use ledger::Record as _;
use ledger::records::{ContextName, ContextPolicy, KeyState, Operations};
use sealed::armor::{self, ArmorKind};
use serde_json::{Value, json};

use super::{Context, block_on};
use crate::args::{KeyArgs, KeyCommand, Permission};
use crate::failure::{Failure, Outcome};
use crate::output::{self, printable, table};
use crate::platform::files::write_new;
use crate::store::{Store, explain};
use crate::units;

mod data;

/// Said after a revocation.
const NOT_UNDONE: &str = "\
What this does not undo: what the grantee has opened before stays known to them, copies of it, data keys and bucket keys that were
released to them included. Rotate the key, and encrypt anew what they must not read.";

/// Runs `key`.
///
/// # Errors
/// What the ledger, the custodians or the gateway say.
pub fn run(context: &Context, args: &KeyArgs) -> Outcome {
    match &args.command {
        KeyCommand::Datakey {
            key,
            context: pairs,
            without_plaintext,
        } => data::datakey(context, key, pairs, *without_plaintext),
        KeyCommand::Rewrap { files, to } => data::rewrap(context, files, to.as_ref()),
        other => block_on(async {
            let store = Store::open(context, None).await?;
            let keys = store.keys().await?;
            change(context, &store, &keys, other).await
        }),
    }
}

async fn change(context: &Context, store: &Store, keys: &Keys, command: &KeyCommand) -> Outcome {
    let me = store.principal();
    match command {
        KeyCommand::Create {
            name,
            require_context,
            committee,
        } => {
            let what = CreateKey {
                name: name.clone(),
                committee: *committee,
                context: policy(require_context)?,
            };
            let (info, new) = keys.create(&what).await.map_err(explain)?;
            if !new {
                return Err(Failure::new(
                    crate::failure::Exit::Conflict,
                    "key_exists",
                    format!("you have a key `{name}` already: {}", info.id),
                )
                .advise("`strongroom key rotate` makes a new version of it"));
            }
            say(context, &info, "made");
        }
        KeyCommand::Ls { owner } => ls(context, keys, &owner.unwrap_or(me)).await?,
        KeyCommand::Show { key } => show(context, keys, key).await?,
        KeyCommand::Rotate { key } => {
            let id = keys.resolve(key).await.map_err(explain)?;
            let info = keys.rotate(&id).await.map_err(explain)?;
            say(context, &info, "rotated");
        }
        KeyCommand::Grant {
            key,
            grantee,
            can,
            expires,
        } => {
            let id = keys.resolve(key).await.map_err(explain)?;
            let until = match expires {
                Some(time) => Some(later(keys, *time).await?),
                None => None,
            };
            let applied = keys.grant(&id, *grantee, operations(can), until).await;
            let applied = applied.map_err(explain)?;
            let report = json!({
                "key": id, "grantee": grantee, "can": words(operations(can)),
                "expires_ms": until.map(|until| until.0), "height": applied.height,
            });
            context.output.result(&report, || {
                let until = until.map_or("until revoked".to_owned(), |until| {
                    format!("until {}", units::time_ms(until.0))
                });
                let can = words(operations(can)).join(", ");
                format!(
                    "{grantee} may {can} with {key}, {until} (block {})",
                    applied.height
                )
            });
        }
        KeyCommand::Revoke { key, grantee } => revoke(context, store, keys, key, grantee).await?,
        KeyCommand::Retire {
            key,
            version,
            after,
            cancel,
        } => {
            let id = keys.resolve(key).await.map_err(explain)?;
            let deadline = if *cancel {
                None
            } else {
                Some(later(keys, *after).await?)
            };
            let retired = keys.retire(&id, *version, deadline).await;
            let retired = retired.map_err(explain)?;
            let report = with_confirmations(
                json!({ "key": id, "version": version, "retires_ms": deadline.map(|at| at.0) }),
                &retired,
            );
            context.output.result(&report, || {
                let what = version.map_or(format!("{key}"), |n| format!("{key} version {n}"));
                match deadline {
                    Some(at) => format!(
                        "{what} opens nothing from {} on: {}",
                        units::time_ms(at.0),
                        confirmations(&retired)
                    ),
                    None => format!("{what} does not retire any more"),
                }
            });
        }
        KeyCommand::PublicKey {
            key,
            version,
            output,
        } => public_key(context, keys, key, *version, output).await?,
        KeyCommand::DeleteProtect { key, off } => {
            let id = keys.resolve(key).await.map_err(explain)?;
            let applied = keys.set_delete_protection(&id, !off).await;
            let applied = applied.map_err(explain)?;
            let report = json!({ "key": id, "delete_protected": !off, "height": applied.height });
            context.output.result(&report, || {
                let is = if *off { "no longer" } else { "now" };
                format!("{key} is {is} protected from being retired or destroyed")
            });
        }
        KeyCommand::SetMinVersion { key, version } => {
            let id = keys.resolve(key).await.map_err(explain)?;
            let set = keys.set_min_decrypt(&id, *version).await.map_err(explain)?;
            let report = with_confirmations(json!({ "key": id, "min_decrypt": version }), &set);
            context.output.result(&report, || {
                format!(
                    "custodians open nothing of {key} below version {version} any more: {}",
                    confirmations(&set)
                )
            });
        }
        KeyCommand::Datakey { .. } | KeyCommand::Rewrap { .. } => {}
    }
    Ok(())
}

fn policy(names: &[String]) -> Outcome<ContextPolicy> {
    let names: Result<Vec<ContextName>, _> = names.iter().map(ContextName::new).collect();
    names
        .and_then(ContextPolicy::requiring)
        .map_err(|error| Failure::usage(format!("--require-context: {error}")))
}

fn operations(can: &[Permission]) -> Operations {
    can.iter().fold(Operations::NONE, |all, one| {
        all.and(match one {
            Permission::Decrypt => Operations::DECRYPT,
            Permission::Grant => Operations::GRANT,
            Permission::Rotate => Operations::ROTATE,
        })
    })
}

fn words(operations: Operations) -> Vec<&'static str> {
    [
        (Operations::DECRYPT, "decrypt"),
        (Operations::GRANT, "grant"),
        (Operations::ROTATE, "rotate"),
    ]
    .into_iter()
    .filter(|(one, _)| operations.allow(*one))
    .map(|(_, word)| word)
    .collect()
}

/// By the ledger's time.
async fn later(keys: &Keys, after: std::time::Duration) -> Outcome<TimestampMs> {
    let now = keys.ledger().time().await.map_err(explain)?;
    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    Ok(TimestampMs(now.0.saturating_add(after)))
}

fn report(info: &KeyInfo) -> Value {
    json!({
        "id": info.id,
        "name": info.creation.name,
        "owner": info.creation.owner,
        "state": state_word(info.state()),
        "version": info.status.current,
        "pending": info.status.pending.map(|pending| pending.version),
        "min_decrypt": info.status.min_decrypt,
        "threshold": { "t": info.creation.threshold.t(), "n": info.creation.threshold.n() },
        "committee": info.creation.committee,
        "require_context": info.creation.context.required().iter().map(ContextName::as_str).collect::<Vec<_>>(),
        "delete_protected": info.status.delete_protected,
        "suspended": info.status.suspended,
        "retires_ms": info.status.retires.map(|at| at.0),
        "created_ms": info.creation.created.0,
    })
}

fn say(context: &Context, info: &KeyInfo, what: &str) {
    context.output.result(&report(info), || {
        format!(
            "key {} {what}: version {}, {} of {} custodians\nid  {}",
            printable(info.creation.name.as_str()),
            info.status.current.map_or(0, KeyVersion::get),
            info.creation.threshold.t(),
            info.creation.threshold.n(),
            info.id
        )
    });
}

async fn ls(context: &Context, keys: &Keys, owner: &Principal) -> Outcome {
    let found = keys.list(owner).await.map_err(explain)?;
    if context.output.json {
        for info in &found {
            context.output.result(&report(info), String::new);
        }
        return Ok(());
    }
    let mut rows = Vec::with_capacity(found.len());
    for info in &found {
        rows.push(vec![
            printable(info.creation.name.as_str()).into_owned(),
            info.status
                .current
                .map_or("-".to_owned(), |version| version.to_string()),
            state_word(info.state()).to_owned(),
            format!(
                "{}/{}",
                info.creation.threshold.t(),
                info.creation.threshold.n()
            ),
            info.id.to_string(),
        ]);
    }
    if rows.is_empty() {
        context
            .output
            .note("no keys: `strongroom key create NAME` makes one");
    } else {
        output::line(&table(&rows, &[1]));
    }
    Ok(())
}

async fn show(context: &Context, keys: &Keys, key: &KeyAddress) -> Outcome {
    let id = keys.resolve(key).await.map_err(explain)?;
    let info = keys.show(&id).await.map_err(explain)?;
    let versions = keys.versions(&info).await.map_err(explain)?;
    let grants = keys.grants(&id).await.map_err(explain)?;
    let mut all = report(&info);
    if let Some(map) = all.as_object_mut() {
        map.insert(
            "versions".to_owned(),
            versions.iter().map(version_report).collect(),
        );
        let grants = grants.iter().map(|grant| grant_report(grant, info.time));
        map.insert("grants".to_owned(), grants.collect());
    }
    context
        .output
        .result(&all, || describe(&info, &versions, &grants));
    Ok(())
}

fn version_report(version: &VersionInfo) -> Value {
    json!({
        "version": version.version,
        "state": state_word(version.state),
        "height": version.entry.height,
        "retires_ms": version.entry.retires.map(|at| at.0),
    })
}

fn grant_state(grant: &GrantInfo, now: TimestampMs) -> &'static str {
    if grant.entry.revoked.is_some() {
        "revoked"
    } else if grant.grant.expires.is_some_and(|expires| now >= expires) {
        "expired"
    } else {
        "active"
    }
}

fn grant_report(grant: &GrantInfo, now: TimestampMs) -> Value {
    json!({
        "grantee": grant.grant.grantee,
        "granted_by": grant.grant.granted_by,
        "can": words(grant.grant.operations),
        "state": grant_state(grant, now),
        "expires_ms": grant.grant.expires.map(|at| at.0),
        "revoked_height": grant.entry.revoked,
    })
}

fn describe(info: &KeyInfo, versions: &[VersionInfo], grants: &[GrantInfo]) -> String {
    let mut rows = vec![
        ("name", printable(info.creation.name.as_str()).into_owned()),
        ("id", info.id.to_string()),
        ("owner", info.creation.owner.to_string()),
        ("state", state_text(info)),
        (
            "custodians",
            format!(
                "{} of {} open it, committee {}",
                info.creation.threshold.t(),
                info.creation.threshold.n(),
                info.creation.committee
            ),
        ),
    ];
    let required = info.creation.context.required();
    if !required.is_empty() {
        let names: Vec<&str> = required.iter().map(ContextName::as_str).collect();
        rows.push((
            "context",
            format!("must have {}", printable(&names.join(", "))),
        ));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let mut text = table(&rows, &[]);
    text.push_str("\nversions");
    for version in versions {
        let mark = match info.status.current {
            Some(current) if current == version.version => "  current",
            _ if version.version < info.status.min_decrypt => "  below the least version",
            _ => "",
        };
        text.push_str(&format!(
            "\n  {}  {}{mark}",
            version.version,
            state_word(version.state)
        ));
    }
    if !grants.is_empty() {
        text.push_str("\ngrants");
        let rows: Vec<Vec<String>> = grants
            .iter()
            .map(|grant| {
                let expires = grant.grant.expires;
                vec![
                    format!("  {}", grant.grant.grantee),
                    grant_state(grant, info.time).to_owned(),
                    words(grant.grant.operations).join(", "),
                    expires.map_or(String::new(), |at| {
                        format!("until {}", units::time_ms(at.0))
                    }),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(&rows, &[]));
    }
    text
}

fn state_text(info: &KeyInfo) -> String {
    let mut text = state_word(info.state()).to_owned();
    if let KeyState::Retiring { deadline } = info.state() {
        text.push_str(&format!(" until {}", units::time_ms(deadline.0)));
    }
    if info.status.suspended {
        text.push_str(", suspended by governance");
    }
    if info.status.delete_protected {
        text.push_str(", protected from deletion");
    }
    if let Some(pending) = info.status.pending {
        text.push_str(&format!(", version {} is being made", pending.version));
    }
    text
}

async fn revoke(
    context: &Context,
    store: &Store,
    keys: &Keys,
    key: &KeyAddress,
    grantee: &Principal,
) -> Outcome {
    let id = keys.resolve(key).await.map_err(explain)?;
    let revoked = keys.revoke(&id, grantee).await.map_err(explain)?;
    // Bucket keys that were released to them open what comes under these keys from now on, too: so new ones are begun.
    let mut renewed = Vec::new();
    let mut failed = Vec::new();
    for bucket in store.buckets().await? {
        if bucket.key() != Some(id) {
            continue;
        }
        if bucket.owner() != store.principal() {
            failed.push(format!("sr://{}: ask its owner", bucket.name));
            continue;
        }
        match store
            .change_bucket(&bucket.name, BucketChange::NewKeys)
            .await
        {
            Ok(_) => renewed.push(format!("sr://{}", bucket.name)),
            Err(failure) => failed.push(format!("sr://{}: {failure}", bucket.name)),
        }
    }
    let report = json!({
        "buckets_with_new_keys": renewed,
        "buckets_left": failed,
        "key": id,
        "grantee": grantee,
        "not_undone": NOT_UNDONE.replace('\n', " "),
    });
    let report = with_confirmations(report, &revoked);
    context.output.result(&report, || {
        let how = confirmations(&revoked);
        let list = |what: &str, of: &[String]| match of {
            [] => String::new(),
            of => format!("\n{what}: {}", of.join(", ")),
        };
        format!(
            "{key} is revoked from {grantee} since block {}: {how}{}{}\n\n{NOT_UNDONE}",
            revoked.height,
            list("new bucket keys begin in", &renewed),
            list("NOT renewed", &failed),
        )
    });
    Ok(())
}

/// Adds what custodians have confirmed of a change.
fn with_confirmations(mut report: Value, change: &Effective) -> Value {
    let refused = change.refused.iter();
    let refused: Vec<Value> = refused
        .map(|one| json!({ "custodian": one.index, "code": one.code, "detail": one.detail }))
        .collect();
    if let Value::Object(fields) = &mut report {
        fields.insert("height".to_owned(), json!(change.height));
        fields.insert("confirmed".to_owned(), json!(change.confirmed));
        fields.insert("needed".to_owned(), json!(change.needed));
        fields.insert("refused".to_owned(), json!(refused));
        fields.insert("waited".to_owned(), json!(change.waited));
    }
    report
}

fn confirmations(change: &Effective) -> String {
    let confirmed = change.confirmed.len();
    if change.waited {
        format!(
            "{confirmed} of {} custodians confirmed; the time after which none releases on older proofs has passed",
            change.needed
        )
    } else {
        format!("{confirmed} custodians confirmed")
    }
}

async fn public_key(
    context: &Context,
    keys: &Keys,
    key: &KeyAddress,
    version: Option<KeyVersion>,
    output: &OsStr,
) -> Outcome {
    let id = keys.resolve(key).await.map_err(explain)?;
    let (exported, public) = keys.export(&id, version).await.map_err(explain)?;
    let text = armor::encode(ArmorKind::PublicKey, &exported.encode());
    let version = public.version.key.version;
    if output == "-" {
        let report = json!({ "key": id, "version": version, "public_key": text });
        context
            .output
            .result(&report, || text.trim_end().to_owned());
        return Ok(());
    }
    let path = Path::new(output);
    write_new(path, text.as_bytes(), 0o644)?;
    let file = path.display().to_string();
    let report = json!({ "key": id, "version": version, "file": file });
    context.output.result(&report, || {
        format!(
            "public keys of {key} version {version} written to {file}\nid  {id}\nWho has no genesis of this deployment compares the id with you and gives it with --expect"
        )
    });
    Ok(())
}
