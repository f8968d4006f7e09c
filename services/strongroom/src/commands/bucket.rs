//! `bucket`: who may read and write.

use client::BucketChange;
use serde_json::json;

use super::change::bucket_name;
use super::list::rows_of;
use super::{Context, block_on};
use crate::args::{BucketArgs, BucketCommand, BucketRight, BucketRightArgs};
use crate::failure::Outcome;
use crate::store::Store;
use crate::units;

/// Runs `bucket`.
///
/// # Errors
/// As the store says.
pub fn run(context: &Context, args: &BucketArgs) -> Outcome {
    match &args.command {
        BucketCommand::Show { address } => show(context, address),
        BucketCommand::Grant(args) => change(context, args, true),
        BucketCommand::Revoke(args) => change(context, args, false),
    }
}

fn show(context: &Context, address: &std::ffi::OsStr) -> Outcome {
    let address = bucket_name(address)?;
    block_on(async {
        let store = Store::open(context, None).await?;
        let bucket = store.bucket(&address.bucket).await?;
        let report = json!({
            "address": address.to_string(),
            "id": bucket.id(),
            "owner": bucket.owner(),
            "profile": bucket.profile(),
            "created_ms": bucket.created_ms,
            "writers": bucket.writers(),
            "readers": bucket.readers(),
            "key": bucket.key(),
            "key_generation": bucket.key_generation(),
        });
        context.output.result(&report, || {
            let list = |who: &[domain::Principal]| match who {
                [] => "nobody".to_owned(),
                who => who
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            let key = bucket.key().map_or_else(
                || "each writer's identity (and passphrase, if one is set)".to_owned(),
                |key| format!("named key {key}, and nothing else"),
            );
            rows_of(&[
                ("bucket", address.to_string()),
                ("id", bucket.id().to_string()),
                ("owner", bucket.owner().to_string()),
                ("made", units::time_ms(bucket.created_ms)),
                ("coded", bucket.profile().to_string()),
                ("writers", list(bucket.writers())),
                ("readers besides", list(bucket.readers())),
                ("keys opened by", key),
                ("key generation", bucket.key_generation().to_string()),
            ])
        });
        Ok(())
    })
}

fn change(context: &Context, args: &BucketRightArgs, grant: bool) -> Outcome {
    let address = bucket_name(&args.address)?;
    let who = args.principal;
    let change = match (args.right, grant) {
        (BucketRight::Write, true) => BucketChange::AddWriter(who),
        (BucketRight::Write, false) => BucketChange::RemoveWriter(who),
        (BucketRight::Read, true) => BucketChange::AddReader(who),
        (BucketRight::Read, false) => BucketChange::RemoveReader(who),
    };
    let right = match args.right {
        BucketRight::Read => "read",
        BucketRight::Write => "write",
    };
    block_on(async {
        let store = Store::open(context, None).await?;
        let changed = store.change_bucket(&address.bucket, change).await?;
        let report = json!({
            "address": address.to_string(),
            "principal": who,
            "right": right,
            "granted": grant,
            "changed": changed.is_some(),
            "key_generation": changed.as_ref().map(|bucket| bucket.key_generation()),
        });
        context.output.result(&report, || match (&changed, grant) {
            (None, true) => format!("{who} may {right} {address} already"),
            (None, false) => format!("{who} had no right to {right} {address}"),
            (Some(_), true) => format!("{who} may {right} {address}"),
            (Some(bucket), false) => format!(
                "{who} may not {right} {address} any more. New objects come under new bucket keys (generation {}). What \
                 they fetched before, they have.",
                bucket.key_generation()
            ),
        });
        Ok(())
    })
}
