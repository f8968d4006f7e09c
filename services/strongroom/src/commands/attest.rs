//! `attest show`: which code may hold keys here, by proof, and what that is worth.

use ledger::records::{
    Committee, CommitteeEntry, EnrolmentEntry, MeasurementEntry, MinimumEntry, Role,
};
use ledger::{Record as _, StateKey, StatePrefix};
use serde_json::json;

use super::ledger::warnings;
use super::list::rows_of;
use super::{Context, block_on};
use crate::args::{AttestArgs, AttestCommand};
use crate::failure::{Failure, Outcome};
use crate::output::{printable, table};
use crate::store::{Store, explain};
use crate::units;

/// Runs `attest`.
///
/// # Errors
/// When there is no ledger, or what it answers does not hold.
pub fn run(context: &Context, args: &AttestArgs) -> Outcome {
    match &args.command {
        AttestCommand::Show => block_on(async {
            let store = Store::open(context, None).await?;
            show(context, &store).await
        }),
        AttestCommand::Measure { files } => {
            for file in files {
                let measured = enclave::measure_file(file)
                    .map_err(|error| Failure::usage(error.to_string()))?;
                let hex = data_encoding::HEXLOWER.encode(&measured.0);
                let shown = printable(&file.to_string_lossy()).into_owned();
                context.output.result(
                    &json!({ "file": shown, "platform": "software", "measurement": hex }),
                    || format!("{hex}  {shown}"),
                );
            }
            Ok(())
        }
    }
}

/// Every value under a prefix of the ledger, listed without proof and then proved one by one.
async fn proved(
    ledger: &client::Ledger,
    prefix: StatePrefix,
    parse: impl Fn(&[u8], &[u8]) -> Option<StateKey>,
) -> Outcome<Vec<(StateKey, Vec<u8>)>> {
    let listed = ledger.list(prefix).await.map_err(explain)?;
    let keys: Vec<StateKey> = listed
        .iter()
        .filter_map(|(key, value)| parse(key, value))
        .collect();
    let mut out = Vec::with_capacity(keys.len());
    for some in keys.chunks(ledger::port::READ_KEYS_MAX) {
        let values = ledger.read(some).await.map_err(explain)?;
        for (key, value) in some.iter().zip(values) {
            if let Some(value) = value {
                out.push((key.clone(), value.to_vec()));
            }
        }
    }
    Ok(out)
}

async fn show(context: &Context, store: &Store) -> Outcome {
    let ledger = store.ledger().await?;
    let genesis = ledger.genesis().clone();
    let measurements = proved(&ledger, StatePrefix::Measurements, |key, _| {
        StateKey::parse_measurement(key)
            .map(|(role, platform, measurement)| StateKey::Measurement(role, platform, measurement))
    })
    .await?;
    let committees = proved(&ledger, StatePrefix::Committees, |_, value| {
        let entry = CommitteeEntry::decode(value).ok()?;
        let committee = Committee::decode(&entry.committee).ok()?;
        Some(StateKey::Committee(committee.id(&genesis.deployment)))
    })
    .await?;
    let workers = proved(&ledger, StatePrefix::Enrolments, |_, value| {
        let enrolment = EnrolmentEntry::decode(value).ok()?.enrolment;
        Some(StateKey::Enrolment(enrolment.role, enrolment.key))
    })
    .await?;
    let now = ledger.time().await.map_err(explain)?;
    let custody = store.custody_info().await?;

    let mut allowed = Vec::new();
    let mut platforms = Vec::new();
    for (key, value) in &measurements {
        let (StateKey::Measurement(role, platform, measurement), Ok(entry)) =
            (key, MeasurementEntry::decode(value))
        else {
            continue;
        };
        if !platforms.contains(platform) {
            platforms.push(*platform);
        }
        let state = if entry.denied {
            "DENIED"
        } else if entry.is_allowed(now) {
            "allowed"
        } else {
            "waits for the time lock"
        };
        allowed.push((
            role_name(*role),
            *platform,
            data_encoding::HEXLOWER.encode(measurement.as_bytes()),
            state,
            entry.allowed_from,
        ));
    }
    let mut minimums = Vec::new();
    for platform in &platforms {
        let entry: Option<MinimumEntry> = ledger
            .record(&StateKey::Minimum(*platform))
            .await
            .map_err(explain)?;
        if let Some(entry) = entry {
            minimums.push((*platform, entry.at(now)));
        }
    }
    let committees: Vec<Committee> = committees
        .iter()
        .filter_map(|(_, value)| CommitteeEntry::decode(value).ok())
        .filter_map(|entry| Committee::decode(&entry.committee).ok())
        .collect();
    let workers: Vec<EnrolmentEntry> = workers
        .iter()
        .filter_map(|(_, value)| EnrolmentEntry::decode(value).ok())
        .collect();
    let warnings = warnings(&genesis);
    let report = json!({
        "genesis": ledger.chain(),
        "development": genesis.development,
        "software_root": genesis.software_root,
        "measurements": allowed.iter().map(|(role, platform, measurement, state, from)| json!({
            "role": role, "platform": platform.name(), "measurement": measurement, "state": state, "allowed_from_ms": from.0,
        })).collect::<Vec<_>>(),
        "minimums": minimums.iter().map(|(platform, minimum)| json!({
            "platform": platform.name(), "tcb": minimum.tcb, "revocation_list": minimum.revocation_list,
        })).collect::<Vec<_>>(),
        "committees": committees.iter().map(|committee| json!({
            "id": committee.id(&genesis.deployment).to_string(), "t": committee.threshold.t(), "n": committee.threshold.n(),
            "members": committee.members.iter().map(|member| json!({
                "index": member.slot.index.get(), "standby": member.slot.standby, "principal": member.key, "platform": member.platform.name(),
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "workers": workers.iter().map(|entry| json!({
            "principal": entry.enrolment.key, "role": role_name(entry.enrolment.role), "platform": entry.enrolment.platform.name(),
            "measurement": data_encoding::HEXLOWER.encode(entry.enrolment.measurement.as_bytes()), "active": entry.is_active(now),
        })).collect::<Vec<_>>(),
        "running": custody,
        "warnings": warnings,
    });
    context.output.result(&report, || {
        let mut sections = Vec::new();
        let mut head = vec![
            ("genesis", format!("{} (pinned)", ledger.chain())),
            (
                "as of",
                format!("block {}, {}", ledger.height(), units::time_ms(now.0)),
            ),
        ];
        head.extend(
            warnings
                .iter()
                .map(|warning| ("warning", (*warning).to_owned())),
        );
        sections.push(rows_of(&head));
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let mut rows = vec![row(["measurement", "as a", "on", "state"])];
        rows.extend(
            allowed
                .iter()
                .map(|(role, platform, measurement, state, _)| {
                    vec![
                        measurement.clone(),
                        (*role).to_owned(),
                        platform.name().to_owned(),
                        (*state).to_owned(),
                    ]
                }),
        );
        sections.push(table(&rows, &[]));
        for committee in &committees {
            sections.push(format!(
                "committee {}: any {} of {} open",
                committee.id(&genesis.deployment),
                committee.threshold.t(),
                committee.threshold.n()
            ));
        }
        let mut rows = vec![row(["enclave", "principal", "on", "state"])];
        for enclave in custody
            .iter()
            .flat_map(|custody| custody.custodians.iter().chain(&custody.workers))
        {
            let name = enclave
                .index
                .map_or_else(|| "worker".to_owned(), |index| format!("custodian {index}"));
            let on = enclave
                .description
                .as_ref()
                .map_or("-", |said| said.platform.as_str());
            let state = match (&enclave.detail, enclave.reachable) {
                (Some(why), false) => format!("NOT REACHED: {why}"),
                (None, false) => "NOT REACHED".to_owned(),
                (_, true) => "proved itself".to_owned(),
            };
            rows.push(vec![
                name,
                enclave.principal.to_string(),
                on.to_owned(),
                state,
            ]);
        }
        if rows.len() > 1 {
            sections.push(table(&rows, &[]));
        } else {
            sections.push("no custodians or workers answer here".to_owned());
        }
        sections.join("\n\n")
    });
    Ok(())
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Custodian => "custodian",
        Role::Worker => "worker",
        Role::Gateway => "gateway",
    }
}
