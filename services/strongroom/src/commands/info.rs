//! Commands that need no platform: `config`, `completions`, `man`.

use std::path::Path;

use clap::CommandFactory as _;
use serde_json::{Value, json};

use super::Context;
use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::failure::{Failure, Outcome};
use crate::output::table;
use crate::settings::{Platform, Sourced};

/// Shows the settings in force.
///
/// # Errors
/// None of its own.
pub fn config(context: &Context, platform: &Platform) -> Outcome {
    let s = &context.settings;
    let path =
        |sourced: &Sourced<std::path::PathBuf>| row(&sourced.value.display().to_string(), sourced);
    let optional = |value: Option<String>| value.map_or(Value::Null, Value::String);
    let rows = [
        ("config_dir", path(&s.config_dir)),
        ("config", path(&s.config_file)),
        ("endpoint", row(&s.endpoint.value, &s.endpoint)),
        ("deployment", row(&s.deployment.value, &s.deployment)),
        (
            "passphrase_file",
            row(
                &optional(
                    s.passphrase_file
                        .value
                        .as_ref()
                        .map(|path| path.display().to_string()),
                ),
                &s.passphrase_file,
            ),
        ),
        (
            "passphrase_command",
            row(&s.passphrase_command.value, &s.passphrase_command),
        ),
        ("platform.data", path(&platform.data)),
        (
            "platform.listen",
            row(&platform.listen.value.to_string(), &platform.listen),
        ),
        (
            "platform.grpc_listen",
            row(
                &platform.grpc_listen.value.to_string(),
                &platform.grpc_listen,
            ),
        ),
        (
            "platform.database",
            // It may hold a password.
            row(
                &platform.database.value.as_deref().map(without_password),
                &platform.database,
            ),
        ),
        (
            "platform.tls_nodes",
            row(&platform.tls_nodes.value, &platform.tls_nodes),
        ),
        (
            "platform.node_port",
            row(&platform.node_port.value, &platform.node_port),
        ),
        (
            "platform.no_custody",
            row(&platform.no_custody.value, &platform.no_custody),
        ),
        (
            "platform.memory_budget",
            row(&platform.memory_budget.value, &platform.memory_budget),
        ),
        (
            "platform.principal_budget",
            row(&platform.principal_budget.value, &platform.principal_budget),
        ),
        (
            "platform.deletion_grace_ms",
            row(
                &platform.deletion_grace.value.map(|time| time.as_millis()),
                &platform.deletion_grace,
            ),
        ),
        (
            "platform.upload_lifetime_ms",
            row(
                &platform.upload_lifetime.value.map(|time| time.as_millis()),
                &platform.upload_lifetime,
            ),
        ),
        (
            "platform.node_capacity",
            row(&platform.node_capacity.value, &platform.node_capacity),
        ),
        (
            "platform.probe_interval_ms",
            row(
                &platform.probe_interval.value.map(|time| time.as_millis()),
                &platform.probe_interval,
            ),
        ),
        (
            "platform.log_format",
            row(&platform.log_format.value, &platform.log_format),
        ),
        (
            "platform.log_to",
            row(&platform.log_to.value, &platform.log_to),
        ),
        ("platform.log", row(&platform.log.value, &platform.log)),
    ];
    let report: serde_json::Map<String, Value> = rows
        .iter()
        .map(|(name, row)| ((*name).to_owned(), row.clone()))
        .collect();
    context.output.result(&report, || {
        let lines: Vec<Vec<String>> = rows
            .iter()
            .map(|(name, row)| {
                let value = match row.get("value") {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Null) | None => "-".to_owned(),
                    Some(other) => other.to_string(),
                };
                let origin = row
                    .get("origin")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                vec![(*name).to_owned(), value, origin.to_owned()]
            })
            .collect();
        table(&lines, &[])
    });
    Ok(())
}

fn row<T>(value: &impl serde::Serialize, sourced: &Sourced<T>) -> Value {
    json!({ "value": value, "origin": sourced.origin })
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}

/// Prints the completions of a shell.
///
/// # Errors
/// None of its own.
pub fn completions(args: &CompletionsArgs) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "strongroom", &mut text);
    crate::output::line(String::from_utf8_lossy(&text).trim_end());
    Ok(())
}

/// Writes the manual pages.
///
/// # Errors
/// When the folder or a page cannot be written.
pub fn man(context: &Context, args: &ManArgs) -> Outcome {
    std::fs::create_dir_all(&args.dir)
        .map_err(|error| Failure::file("make the folder", &args.dir, &error))?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut written = Vec::new();
    write_page(&args.dir, &command, &mut written)?;
    context.output.result(
        &json!({ "dir": args.dir.display().to_string(), "pages": written }),
        || {
            format!(
                "{} manual pages written to {}",
                written.len(),
                args.dir.display()
            )
        },
    );
    Ok(())
}

fn write_page(dir: &Path, command: &clap::Command, written: &mut Vec<String>) -> Outcome {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let file = format!("{name}.1");
    let path = dir.join(&file);
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .and_then(|()| std::fs::write(&path, &page))
        .map_err(|error| Failure::file("write", &path, &error))?;
    written.push(file);
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_page(dir, sub, written)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_databases_are_not_shown() {
        for (url, shown) in [
            ("postgres://me:se:cr@et@host/db", "postgres://me@host/db"),
            ("postgres://me@host/db", "postgres://me@host/db"),
            ("postgres://host/db", "postgres://host/db"),
            ("sqlite:/x", "sqlite:/x"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
