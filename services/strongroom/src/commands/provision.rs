//! Admitting custodians and workers on the ledger: `admin provision`, and what `up` and `prove` do at their start.

use std::sync::Arc;

use ::ledger::transaction::Change;
use crypto::Identity;
use serde_json::json;

use super::{Context, block_on};
use crate::args::ProvisionArgs;
use crate::failure::{Exit, Failure, Outcome};
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
/// When the platform does not run, the identity does not govern its ledger, or nobody says yes.
pub fn run(context: &Context, args: &ProvisionArgs) -> Outcome {
    let settings = &context.settings;
    let folder = DataFolder::new(&settings.data_dir(args.data.as_deref()));
    let deployment = Deployment::read(&folder.deployment_file())?;
    let genesis = Arc::new(ledger::read_genesis(&folder.genesis_file())?);
    let provisioning = Provisioning {
        ledger: ledger::client(&folder, &deployment, &genesis)?,
        enclaves: Enclaves::read(&folder)?,
        genesis,
    };
    let plan = block_on(async {
        let mut plan = provisioning.plan().await?;
        let others = std::mem::take(&mut plan.others);
        if args.deny_others {
            plan.changes.extend(
                others
                    .into_iter()
                    .map(|(words, of)| (format!("deny {words}"), Change::DenyMeasurement(of))),
            );
        } else {
            plan.others = others;
        }
        if !plan.changes.is_empty() && !args.dry_run {
            agree(context, args, &plan)?;
            let identity = identity::open(settings)?;
            provisioning.carry_out(&identity, &plan).await?;
        }
        Ok(plan)
    })?;
    let decided: Vec<&str> = plan
        .changes
        .iter()
        .map(|(words, _)| words.as_str())
        .collect();
    let others: Vec<&str> = plan
        .others
        .iter()
        .map(|(words, _)| words.as_str())
        .collect();
    let (key, word) = match args.dry_run {
        true => ("to_decide", "to decide"),
        false => ("decided", "decided"),
    };
    let report = json!({
        key: decided,
        "refused": plan.refused,
        "others": others,
        "committee": plan.committee.map(|id| id.to_string()),
    });
    context.output.result(&report, || {
        let mut lines: Vec<String> = decided
            .iter()
            .map(|words| format!("{word}: {words}"))
            .collect();
        lines.extend(
            plan.refused
                .iter()
                .map(|words| format!("left alone: {words}")),
        );
        lines.extend(others.iter().map(|words| {
            format!("still allowed: {words}, which no program here has; --deny-others ends that")
        }));
        if decided.is_empty() {
            lines.push(
                "nothing to decide: the ledger admits these custodians and workers".to_owned(),
            );
        }
        lines.join("\n")
    });
    Ok(())
}

/// Shows what is to be signed and asks for it, on the terminal unless `--yes` says so already.
fn agree(context: &Context, args: &ProvisionArgs, plan: &Plan) -> Outcome {
    if args.yes {
        return Ok(());
    }
    let advice = "look at what it would sign with --dry-run, then say --yes";
    for (words, _) in &plan.changes {
        context.output.note(format!("to decide: {words}"));
    }
    context.output.note(
        "whoever holds these measurements may hold shares of keys: compare them with those of programs that you trust (`strongroom attest measure FILE`)",
    );
    let question = format!("Sign these {} decisions? [y/N] ", plan.changes.len());
    match passphrase::answer(&question) {
        None => Err(
            Failure::usage("somebody has to agree, and there is no terminal to ask on")
                .advise(advice),
        ),
        Some(answer) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        Some(_) => {
            Err(Failure::new(Exit::Refused, "not_agreed", "nothing was signed").advise(advice))
        }
    }
}

/// Whether programs that changed after the first start are admitted without a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// Somebody has to look at them: `admin provision`.
    Ask,
    /// They are: a demonstration's, with an operator of its own.
    Admit,
}

/// Admits what has to be admitted, if `identity` can be had; says how custody stands.
///
/// # Errors
/// When the ledger refuses, or its answers do not hold.
pub async fn at_start(
    platform: &Platform,
    later: Later,
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
    let plan = provisioning.plan().await?;
    let mut notes: Vec<String> = plan.refused.clone();
    if !plan.changes.is_empty() {
        // Whoever replaces a program must not have it admitted by a restart: after the first start somebody looks at it.
        let admit = plan.first || later == Later::Admit;
        match admit.then(identity).flatten() {
            None => {
                let what = match plan.first {
                    true => "custodians and workers wait",
                    false => "a custodian's or worker's program has changed and waits",
                };
                return Ok(Standing {
                    summary: format!("NOT ADMITTED: {what} for the operator's signature"),
                    state: "not-provisioned",
                    notes: vec!["run `strongroom admin provision` in another terminal".to_owned()],
                });
            }
            Some(identity) => provisioning.carry_out(&*identity?, &plan).await?,
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
