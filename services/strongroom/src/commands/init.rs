//! `init`: an identity, and a deployment with its keys and certificates.

use serde::Serialize;

use super::Context;
use crate::args::InitArgs;
use crate::failure::Outcome;
use crate::identity;
use crate::platform::files::write_new;
use crate::platform::{DEVELOPMENT, DataFolder, Home, InitReport, initialise, ledger};

#[derive(Serialize)]
struct Report {
    principal: String,
    identity_file: String,
    identity_is_new: bool,
    #[serde(flatten)]
    deployment: Option<DeploymentReport>,
}

#[derive(Serialize)]
struct DeploymentReport {
    deployment: String,
    data: String,
    mode: &'static str,
    nodes: usize,
    /// Hash of the ledger's genesis, pinned in the configuration folder.
    genesis: String,
    /// Only when it was not written to a file.
    recovery_key: Option<String>,
    recovery_key_file: Option<String>,
}

/// Runs `init`.
///
/// # Errors
/// When something is there already or cannot be written.
pub fn run(context: &Context, args: &InitArgs) -> Outcome {
    let settings = &context.settings;
    let (principal, identity_is_new) = identity::ensure(settings)?;
    let mut report = Report {
        principal: principal.to_string(),
        identity_file: settings.identity_file().display().to_string(),
        identity_is_new,
        deployment: None,
    };
    let mut text = format!(
        "Identity    {}{}\n            sealed in {}",
        report.principal,
        if identity_is_new {
            " (new)"
        } else {
            " (the one that was there)"
        },
        report.identity_file
    );
    if !args.identity_only {
        let folder = DataFolder::new(&settings.data_dir(args.data.as_deref()));
        let InitReport {
            deployment,
            recovery_kit,
        } = initialise(&folder, principal)?;
        if let Some(file) = &args.recovery_key_file
            && let Err(failure) = write_new(file, recovery_kit.as_bytes(), 0o600)
        {
            // The key must not be lost: the deployment exists already, and this is the only copy of it.
            crate::output::line(&recovery_kit);
            return Err(failure.advise("the recovery key was printed instead: keep that"));
        }
        let home = Home {
            config_dir: settings.config_dir.value.clone(),
            apart_from: folder.path().to_owned(),
        };
        let genesis = ledger::ensure(&folder, &deployment, &home)?
            .hash()
            .to_string();
        let shown = args.recovery_key_file.is_none();
        let data = folder.path().display().to_string();
        text.push_str(&format!(
            "\nDeployment  {}\n            in {data}, for a gateway and {} storage nodes\nLedger      genesis {genesis}\n            {}; you govern it\nMode        {DEVELOPMENT}",
            deployment.id,
            deployment.nodes.len(),
            solo::ENGINE,
        ));
        match &args.recovery_key_file {
            Some(file) => text.push_str(&format!(
                "\nRecovery    key written to {}: move it to a place offline",
                file.display()
            )),
            None => text.push_str(&format!(
                "\n\nThis recovery key is shown once and stored nowhere. Print it or write it down:\n\n{}",
                indent(&recovery_kit)
            )),
        }
        text.push_str(&format!(
            "\n\nNext: strongroom up{}\nThen, in another terminal: strongroom mb sr://my-bucket",
            if args.data.is_some() {
                format!(" --data {data}")
            } else {
                String::new()
            }
        ));
        report.deployment = Some(DeploymentReport {
            deployment: deployment.id.to_string(),
            data,
            mode: "development",
            nodes: deployment.nodes.len(),
            genesis,
            recovery_key: shown.then(|| recovery_kit.to_string()),
            recovery_key_file: args
                .recovery_key_file
                .as_ref()
                .map(|file| file.display().to_string()),
        });
    }
    if identity_is_new {
        text.push_str("\nKeep a way back to your data: strongroom identity export KIT-FILE");
    }
    context.output.result(&report, || text);
    Ok(())
}

fn indent(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            if line.is_empty() {
                String::new()
            } else {
                format!("    {line}")
            }
        })
        .collect();
    lines.join("\n")
}
