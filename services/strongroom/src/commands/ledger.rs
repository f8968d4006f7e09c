//! `ledger`: what the ledger holds, checked from the pinned genesis.

use std::fmt::Debug;

use data_encoding::BASE64URL_NOPAD;
use domain::{CommitteeId, KeyId, Principal, TransactionHash};
use ledger::records::{
    Account, CommitteeEntry, EnrolmentEntry, GovernanceEntry, GrantEntry, KeyStatus, Role,
    VersionEntry,
};
use ledger::state::ValidatorsEntry;
use ledger::{Genesis, Outcome as Applied, Record, StateKey};
use serde_json::{Value, json};

use super::list::rows_of;
use super::{Context, block_on};
use crate::args::{LedgerArgs, LedgerCommand, ValueKind};
use crate::failure::{Exit, Failure, Outcome};
use crate::store::{Store, explain};
use crate::units;

/// Said wherever a solo ledger is shown.
pub const SOLO: &str = "one operator is the ledger: it can leave transactions out and go back to an older copy of itself; it cannot sign for owners or custodians";
/// Said wherever software attestation is shown.
pub const SOFTWARE: &str = "software attestation protects nothing from the machine's owner";

/// Runs `ledger`.
///
/// # Errors
/// When there is no ledger, or what it answers does not hold.
pub fn run(context: &Context, args: &LedgerArgs) -> Outcome {
    // A wrong id is said before anybody is asked.
    let key = match &args.command {
        LedgerCommand::Proof { kind, id } => Some(state_key(*kind, id.as_deref())?),
        LedgerCommand::Status | LedgerCommand::Tx { .. } => None,
    };
    block_on(async {
        let store = Store::open(context, None).await?;
        let ledger = store.ledger().await?;
        match (&args.command, key) {
            (LedgerCommand::Tx { hash }, _) => transaction(context, &ledger, hash).await,
            (LedgerCommand::Proof { kind, .. }, Some(key)) => {
                proof(context, &ledger, *kind, key).await
            }
            _ => status(context, &ledger).await,
        }
    })
}

/// What is to be known of a genesis like this one.
pub fn warnings(genesis: &Genesis) -> Vec<&'static str> {
    let mut warnings = Vec::new();
    if genesis.validators.keys().len() == 1 {
        warnings.push(SOLO);
    }
    if genesis.development && genesis.software_root.is_some() {
        warnings.push(SOFTWARE);
    }
    warnings
}

async fn status(context: &Context, ledger: &client::Ledger) -> Outcome {
    let genesis = ledger.genesis();
    let answer = ledger
        .answer(&[StateKey::Governance, StateKey::Validators])
        .await
        .map_err(explain)?;
    let said = ledger.status().await.map_err(explain)?;
    let header = &answer.last.header;
    let decode = |at: usize| {
        answer
            .values
            .get(at)
            .and_then(|proved| proved.value.clone())
    };
    let governance = decode(0).and_then(|bytes| GovernanceEntry::decode(&bytes).ok());
    let validators = decode(1).and_then(|bytes| ValidatorsEntry::decode(&bytes).ok());
    let warnings = warnings(genesis);
    let governed = governance.as_ref().map(|entry| {
        let present = entry.at(header.time);
        (present.k(), present.keys().len(), entry.sequence)
    });
    let signers = validators.map(|entry| entry.validators.keys().len());
    let report = json!({
        "genesis": ledger.chain(),
        "deployment": genesis.deployment,
        "development": genesis.development,
        "engine": said.engine,
        "proved": {
            "height": header.height.0,
            "time_ms": header.time.0,
            "state_root": header.state_root.to_string(),
            "signatures": answer.last.certificate.signatures.len(),
            "validators": signers,
            "governance": governed.map(|(k, m, sequence)| json!({"k": k, "m": m, "next_decision": sequence})),
        },
        "said": said,
        "warnings": warnings,
    });
    context.output.result(&report, || {
        let mut rows = vec![
            ("ledger", said.engine.clone()),
            ("genesis", format!("{} (pinned)", ledger.chain())),
            (
                "mode",
                if genesis.development {
                    "development: nothing waits for a time lock".to_owned()
                } else {
                    "production".to_owned()
                },
            ),
            (
                "height",
                format!(
                    "{}, at {}, certified and proved",
                    units::grouped(header.height.0),
                    units::time_ms(header.time.0)
                ),
            ),
            (
                "validators",
                signers.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            ),
            (
                "governance",
                governed.map_or_else(
                    || "-".to_owned(),
                    |(k, m, sequence)| format!("{k} of {m} keys; {} decisions", sequence - 1),
                ),
            ),
            (
                "writable",
                match &said.writable_detail {
                    None if said.writable => "yes".to_owned(),
                    why => format!("NO: {}", why.as_deref().unwrap_or("no reason given")),
                },
            ),
            ("values", units::grouped(said.keys)),
            ("waiting", format!("{} transactions", said.waiting)),
        ];
        rows.extend(
            warnings
                .iter()
                .map(|warning| ("warning", (*warning).to_owned())),
        );
        rows_of(&rows)
    });
    Ok(())
}

async fn transaction(context: &Context, ledger: &client::Ledger, hash: &str) -> Outcome {
    let hash: TransactionHash = hash
        .parse()
        .map_err(|error: domain::IdParseError| Failure::usage(error.to_string()))?;
    let receipt = ledger.receipt(&hash).await.map_err(explain)?;
    let receipt = receipt.ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            "not_found",
            format!("the ledger knows no recent transaction {hash}"),
        )
        .advise("receipts are kept for recent blocks; ask for what it should have changed: strongroom ledger proof")
    })?;
    let outcome = match &receipt.outcome {
        Applied::Applied => "applied".to_owned(),
        Applied::Rejected(code) => format!("rejected: {code}"),
    };
    let report = json!({
        "transaction": hash,
        "height": receipt.height.0,
        "index": receipt.index,
        "outcome": outcome,
        "proved": false,
    });
    context.output.result(&report, || {
        rows_of(&[
            ("transaction", hash.to_string()),
            ("outcome", outcome.clone()),
            (
                "block",
                format!("{}, place {}", receipt.height, receipt.index),
            ),
            (
                "note",
                "the validator's word; what it changed can be proved: strongroom ledger proof"
                    .to_owned(),
            ),
        ])
    });
    Ok(())
}

async fn proof(
    context: &Context,
    ledger: &client::Ledger,
    kind: ValueKind,
    key: StateKey,
) -> Outcome {
    let bytes = key.encode();
    let answer = ledger
        .answer(std::slice::from_ref(&key))
        .await
        .map_err(explain)?;
    let header = &answer.last.header;
    let proved = answer.values.first().ok_or_else(|| {
        Failure::new(
            Exit::Integrity,
            "ledger_answer",
            "an answer without a value",
        )
    })?;
    let shown = proved.value.as_ref().map(|value| describe(kind, value));
    let report = json!({
        "key": BASE64URL_NOPAD.encode(&bytes),
        "value": proved.value.as_ref().map(|value| BASE64URL_NOPAD.encode(value)),
        "shown": shown,
        "proof": BASE64URL_NOPAD.encode(&proved.proof.encode()),
        "header": BASE64URL_NOPAD.encode(&header.encode()),
        "certificate": BASE64URL_NOPAD.encode(&answer.last.certificate.encode()),
        "genesis": ledger.chain(),
        "height": header.height.0,
        "time_ms": header.time.0,
        "verified": true,
        "warnings": warnings(ledger.genesis()),
    });
    context.output.result(&report, || {
        let value = match &shown {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "there is none, and that is proved".to_owned(),
        };
        let mut rows = vec![
            ("value", value),
            (
                "verified",
                format!(
                    "yes: {} hashes up to the state root of block {}",
                    proved.proof.siblings.len(),
                    header.height
                ),
            ),
            ("time", units::time_ms(header.time.0)),
            (
                "signed by",
                format!(
                    "{} of {} validators of genesis {}",
                    answer.last.certificate.signatures.len(),
                    ledger.genesis().validators.keys().len(),
                    ledger.chain()
                ),
            ),
        ];
        rows.extend(
            warnings(ledger.genesis())
                .into_iter()
                .map(|warning| ("warning", warning.to_owned())),
        );
        rows_of(&rows)
    });
    Ok(())
}

/// A record for people; what is not understood as hexadecimal digits.
fn describe(kind: ValueKind, value: &[u8]) -> Value {
    fn debug<T: Record + Debug>(value: &[u8]) -> Option<String> {
        T::decode(value).ok().map(|record| format!("{record:?}"))
    }
    let text = match kind {
        ValueKind::Genesis => debug::<Genesis>(value),
        ValueKind::Validators => debug::<ValidatorsEntry>(value),
        ValueKind::Governance => debug::<GovernanceEntry>(value),
        ValueKind::Account => debug::<Account>(value),
        ValueKind::KeyStatus => debug::<KeyStatus>(value),
        ValueKind::Committee => CommitteeEntry::decode(value)
            .and_then(|entry| ledger::records::Committee::decode(&entry.committee))
            .ok()
            .map(|committee| format!("{committee:?}")),
        ValueKind::Worker => debug::<EnrolmentEntry>(value),
        ValueKind::KeyVersion => VersionEntry::decode(value).ok().map(|entry| {
            format!(
                "epoch {}, committee {}, activated at height {}, {} acknowledgements, {} bytes of commitments{}",
                entry.epoch,
                entry.committee,
                entry.height,
                entry.acknowledgements.len(),
                entry.commitments.len(),
                if entry.destroyed { ", DESTROYED" } else { "" }
            )
        }),
        ValueKind::KeyGrant => debug::<GrantEntry>(value),
        ValueKind::KeyCreation => None,
    };
    let text = text.unwrap_or_else(|| data_encoding::HEXLOWER.encode(value));
    Value::String(text)
}

fn state_key(kind: ValueKind, id: Option<&str>) -> Outcome<StateKey> {
    let wrong =
        |error: String| Failure::usage(error).advise("see `strongroom ledger proof --help`");
    let id_of = || id.ok_or_else(|| wrong("the ID is missing".to_owned()));
    let two = || -> Outcome<(KeyId, &str)> {
        let (key, rest) = id_of()?
            .split_once('/')
            .ok_or_else(|| wrong("the ID has two parts with a / between".to_owned()))?;
        let key = key
            .parse()
            .map_err(|error: domain::IdParseError| wrong(error.to_string()))?;
        Ok((key, rest))
    };
    let principal = |text: &str| -> Outcome<Principal> {
        text.parse()
            .map_err(|error: domain::IdParseError| wrong(error.to_string()))
    };
    let key = || -> Outcome<KeyId> {
        id_of()?
            .parse()
            .map_err(|error: domain::IdParseError| wrong(error.to_string()))
    };
    Ok(match kind {
        ValueKind::Genesis => StateKey::Genesis,
        ValueKind::Validators => StateKey::Validators,
        ValueKind::Governance => StateKey::Governance,
        ValueKind::Account => StateKey::Account(principal(id_of()?)?),
        ValueKind::KeyCreation => StateKey::KeyCreation(key()?),
        ValueKind::KeyStatus => StateKey::KeyStatus(key()?),
        ValueKind::KeyVersion => {
            let (key, version) = two()?;
            let version = version
                .parse()
                .map_err(|error: domain::NumberError| wrong(error.to_string()))?;
            StateKey::KeyVersion(key, version)
        }
        ValueKind::KeyGrant => {
            let (key, grantee) = two()?;
            StateKey::KeyGrant(key, principal(grantee)?)
        }
        ValueKind::Committee => {
            let committee: CommitteeId = id_of()?
                .parse()
                .map_err(|error: domain::IdParseError| wrong(error.to_string()))?;
            StateKey::Committee(committee)
        }
        ValueKind::Worker => StateKey::Enrolment(Role::Worker, principal(id_of()?)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_named_by_kind_and_id() {
        let (key, who) = (KeyId([1; 32]), Principal([2; 32]));
        let check = |kind, id: &str, wanted: StateKey| {
            assert_eq!(state_key(kind, Some(id)).unwrap(), wanted);
        };
        assert_eq!(
            state_key(ValueKind::Genesis, None).unwrap(),
            StateKey::Genesis
        );
        check(ValueKind::Account, &who.to_string(), StateKey::Account(who));
        check(
            ValueKind::KeyVersion,
            &format!("{key}/1"),
            StateKey::KeyVersion(key, domain::KeyVersion::FIRST),
        );
        check(
            ValueKind::KeyGrant,
            &format!("{key}/{who}"),
            StateKey::KeyGrant(key, who),
        );
        for (kind, id) in [
            (ValueKind::Account, None),
            (ValueKind::KeyVersion, Some(key.to_string())),
            (ValueKind::KeyVersion, Some(format!("{key}/0"))),
            (ValueKind::KeyGrant, Some(format!("{key}/x"))),
            (ValueKind::Committee, Some("ab".to_owned())),
        ] {
            let failure = state_key(kind, id.as_deref()).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{id:?}");
        }
    }
}
