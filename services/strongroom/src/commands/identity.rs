//! `identity show|export|import`.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::Path;

use serde_json::json;
use zeroize::Zeroizing;

use super::Context;
use crate::args::{IdentityArgs, IdentityCommand};
use crate::clock::now;
use crate::failure::{Failure, Outcome};
use crate::platform::files::write_new;
use crate::{identity, output, passphrase};

/// Bytes of a recovery kit, at most.
const KIT_BYTES_MAX: u64 = 64 << 10;

/// Runs `identity`.
///
/// # Errors
/// When there is no identity, a passphrase is wrong, or a file is in the way.
pub fn run(context: &Context, args: &IdentityArgs) -> Outcome {
    match &args.command {
        IdentityCommand::Show => show(context),
        IdentityCommand::Export { file } => export(context, file),
        IdentityCommand::ReceiverKey { file } => receiver_key(context, file),
        IdentityCommand::Import { file, replace } => import(context, file, *replace),
    }
}

fn show(context: &Context) -> Outcome {
    let principal = identity::principal(&context.settings)?.to_string();
    let file = context.settings.identity_file().display().to_string();
    let report = json!({ "principal": principal, "identity_file": file });
    context.output.result(&report, || {
        format!("principal  {principal}\nsealed in  {file}")
    });
    Ok(())
}

fn export(context: &Context, file: &OsStr) -> Outcome {
    let identity = identity::open(&context.settings)?;
    let kit = identity::kit(&identity);
    let principal = identity.principal().to_string();
    if file == "-" {
        if context.output.json {
            context.output.result(
                &json!({ "principal": principal, "kit": kit.as_str() }),
                String::new,
            );
        } else {
            output::line(kit.trim_end());
        }
        return Ok(());
    }
    write_new(Path::new(file), kit.as_bytes(), 0o600)?;
    let file = Path::new(file).display().to_string();
    context.output.result(&json!({ "principal": principal, "kit_file": file }), || {
        format!("Recovery kit of {principal} written to {file}\nNo passphrase protects it: move it to a place offline.")
    });
    Ok(())
}

fn receiver_key(context: &Context, file: &OsStr) -> Outcome {
    let deployment = identity::deployment(&context.settings)?;
    let identity = identity::open(&context.settings)?;
    let text = identity::receiver_text(&identity.receiver_key(&deployment));
    let principal = identity.principal().to_string();
    if file == "-" {
        let report = json!({ "principal": principal, "receiver_key": text });
        context
            .output
            .result(&report, || text.trim_end().to_owned());
        return Ok(());
    }
    write_new(Path::new(file), text.as_bytes(), 0o644)?;
    let file = Path::new(file).display().to_string();
    context
        .output
        .result(&json!({ "principal": principal, "file": file }), || {
            format!("Receiver key of {principal} written to {file}")
        });
    Ok(())
}

fn import(context: &Context, file: &OsStr, replace: bool) -> Outcome {
    let settings = &context.settings;
    let path = settings.identity_file();
    if path.exists() && !replace {
        return Err(
            Failure::file("write", &path, &std::io::ErrorKind::AlreadyExists.into())
                .advise("use --replace to take the new identity; the old one is kept beside it"),
        );
    }
    let identity = identity::from_kit(&read_kit(file)?)?;
    let passphrase = passphrase::new(settings)?;
    let kept = if path.exists() {
        let aside = path.with_file_name(format!("identity.{}", now().0));
        std::fs::rename(&path, &aside).map_err(|error| Failure::file("move", &path, &error))?;
        Some(aside)
    } else {
        None
    };
    if let Err(failure) = identity::save(settings, &identity, &passphrase) {
        if let Some(aside) = &kept {
            let _ = std::fs::rename(aside, &path);
        }
        return Err(failure);
    }
    let principal = identity.principal().to_string();
    let kept = kept.map(|path| path.display().to_string());
    context.output.result(
        &json!({ "principal": principal, "old_identity_file": kept }),
        || {
            let mut text = format!("Identity {principal} imported into {}", path.display());
            if let Some(kept) = &kept {
                text.push_str(&format!("\nThe old one is kept as {kept}"));
            }
            text
        },
    );
    Ok(())
}

fn read_kit(file: &OsStr) -> Outcome<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(4 << 10));
    if file == "-" {
        std::io::stdin()
            .take(KIT_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(format!("the kit cannot be read: {error}")))?;
    } else {
        let path = Path::new(file);
        std::fs::File::open(path)
            .and_then(|file| file.take(KIT_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| Failure::file("read the recovery kit", path, &error))?;
    }
    Ok(text)
}
