//! Admitting custodians and workers on the ledger: `admin provision`, and what `up` and `prove` do at their start.

use std::sync::Arc;

use crypto::Identity;
use serde_json::json;

use super::{Context, block_on};
use crate::failure::Outcome;
use crate::identity;
use crate::passphrase;
use crate::platform::enclaves::{CUSTODIANS, Enclaves, THRESHOLD, WORKERS};
use crate::platform::provision::{Plan, Provisioning};
use crate::platform::{Custody, DataFolder, Deployment, Platform, ledger};

/// What is said of custody once the platform runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// One line.
    pub summary: String,
    /// `off`, `missing`, `not-provisioned`, `degraded`, `ready`.
    pub state: &'static str,
    /// What to do about it, and whatever else is to be known.
    pub notes: Vec<String>,
}

/// Runs `admin provision`.
///
/// # Errors
/// When the platform does not run, or the identity does not govern its ledger.
pub fn run(context: &Context, data: Option<&std::path::Path>) -> Outcome {
    let settings = &context.settings;
    let folder = DataFolder::new(&settings.data_dir(data));
    let deployment = Deployment::read(&folder.deployment_file())?;
    let genesis = Arc::new(ledger::read_genesis(&folder.genesis_file())?);
    let provisioning = Provisioning {
        ledger: ledger::client(&folder, &deployment, &genesis)?,
        enclaves: Enclaves::read(&folder)?,
        genesis,
    };
    let plan = block_on(async {
        provisioning
            .run(|| identity::open(settings).map(Arc::new))
            .await
    })?;
    let decided: Vec<&str> = plan
        .changes
        .iter()
        .map(|(words, _)| words.as_str())
        .collect();
    let report = json!({
        "decided": decided,
        "refused": plan.refused,
        "committee": plan.committee.map(|id| id.to_string()),
    });
    context.output.result(&report, || {
        let mut lines: Vec<String> = decided
            .iter()
            .map(|words| format!("decided: {words}"))
            .collect();
        lines.extend(
            plan.refused
                .iter()
                .map(|words| format!("left alone: {words}")),
        );
        if decided.is_empty() {
            lines.push(
                "nothing to decide: the ledger admits these custodians and workers".to_owned(),
            );
        }
        lines.join("\n")
    });
    Ok(())
}

/// Admits what has to be admitted, if `identity` can be had; says how custody stands.
///
/// # Errors
/// When the ledger refuses, or its answers do not hold.
pub async fn at_start(
    platform: &Platform,
    identity: impl FnOnce() -> Option<Outcome<Arc<Identity>>>,
) -> Outcome<Standing> {
    let provisioning = match &platform.custody {
        Custody::Off => {
            return Ok(Standing {
                summary: "off (--no-custody): no ledger, no named keys".to_owned(),
                state: "off",
                notes: Vec::new(),
            });
        }
        Custody::Missing(why) => {
            return Ok(Standing {
                summary: format!("a ledger, but NO custodians and workers: {why}"),
                state: "missing",
                notes: vec![
                    "named keys need the programs strongroom-custodian and strongroom-worker beside this one, or in STRONGROOM_LIBEXEC"
                        .to_owned(),
                ],
            });
        }
        Custody::On(provisioning) => provisioning,
    };
    let plan = crate::platform::provision::plan(
        &provisioning.ledger,
        &provisioning.genesis,
        &provisioning.enclaves,
    );
    let Plan {
        changes, refused, ..
    } = plan.await?;
    let mut notes: Vec<String> = refused;
    if !changes.is_empty() {
        match identity() {
            None => {
                return Ok(Standing {
                    summary:
                        "NOT ADMITTED: custodians and workers wait for the operator's signature"
                            .to_owned(),
                    state: "not-provisioned",
                    notes: vec!["run `strongroom admin provision` in another terminal".to_owned()],
                });
            }
            Some(identity) => {
                let identity = identity?;
                provisioning.run(|| Ok(identity)).await?;
            }
        }
    }
    let late = platform.enclaves_not_ready().await;
    let state = if late.is_empty() && notes.is_empty() {
        "ready"
    } else {
        "degraded"
    };
    notes.extend(late);
    Ok(Standing {
        summary: format!(
            "{CUSTODIANS} custodians, any {THRESHOLD} of whom open; {WORKERS} workers"
        ),
        state,
        notes,
    })
}

/// The operator's identity, if it can be opened without asking a person: `up` may be a service.
pub fn without_asking(context: &Context) -> Option<Outcome<Arc<Identity>>> {
    passphrase::is_given(&context.settings).then(|| identity::open(&context.settings).map(Arc::new))
}
