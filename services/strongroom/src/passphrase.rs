//! Where the passphrase of an identity comes from: a file, a command, or a question on the terminal.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;

/// Bytes of a passphrase, at most.
const BYTES_MAX: u64 = 4_096;
/// Bytes that a new passphrase has at least, when it is typed or given.
const NEW_BYTES_MIN: usize = 8;

/// A passphrase, wiped when dropped.
pub type Passphrase = Zeroizing<Vec<u8>>;

/// The passphrase of an identity that exists.
///
/// # Errors
/// When there is none to be had, or its source fails.
pub fn existing(settings: &Settings) -> Outcome<Passphrase> {
    match given(settings)? {
        Some(passphrase) => Ok(passphrase),
        None => ask("Passphrase: "),
    }
}

/// A passphrase for a new identity, asked for twice when a person types it.
///
/// # Errors
/// As [`existing`], and when it is shorter than 8 bytes or the two differ.
pub fn new(settings: &Settings) -> Outcome<Passphrase> {
    let passphrase = match given(settings)? {
        Some(passphrase) => passphrase,
        None => {
            let first = ask("New passphrase for your identity: ")?;
            let second = ask("The same again: ")?;
            if first != second {
                return Err(Failure::usage(
                    "the two passphrases differ; nothing was changed",
                ));
            }
            first
        }
    };
    if passphrase.len() < NEW_BYTES_MIN {
        return Err(Failure::usage(format!(
            "a passphrase has at least {NEW_BYTES_MIN} characters; nothing was changed"
        ))
        .advise("several random words make a good one"));
    }
    Ok(passphrase)
}

/// Whether a passphrase can be had without asking a person.
pub fn is_given(settings: &Settings) -> bool {
    settings.passphrase_file.value.is_some() || settings.passphrase_command.value.is_some()
}

/// The passphrase of an envelope: the first line of a file, or asked for (twice when it is a new one).
///
/// # Errors
/// When it cannot be read, or the two that were typed differ.
pub fn of_envelope(file: &std::ffi::OsStr, new: bool) -> Outcome<Passphrase> {
    if !file.is_empty() {
        return from_file(Path::new(file));
    }
    let first = ask("Passphrase of the envelope: ")?;
    if new && first != ask("The same again: ")? {
        return Err(Failure::usage(
            "the two passphrases differ; nothing was encrypted",
        ));
    }
    Ok(first)
}

fn given(settings: &Settings) -> Outcome<Option<Passphrase>> {
    match (
        &settings.passphrase_file.value,
        &settings.passphrase_command.value,
    ) {
        // The one that was said last, in the order of precedence, wins; a file at the same level beats a command.
        (Some(file), Some(command)) => {
            if rank(settings.passphrase_command.origin) < rank(settings.passphrase_file.origin) {
                from_command(command).map(Some)
            } else {
                from_file(file).map(Some)
            }
        }
        (Some(file), None) => from_file(file).map(Some),
        (None, Some(command)) => from_command(command).map(Some),
        (None, None) => Ok(None),
    }
}

fn rank(origin: crate::settings::Origin) -> u8 {
    use crate::settings::Origin;
    match origin {
        Origin::Option => 0,
        Origin::Environment => 1,
        Origin::File => 2,
        Origin::Default => 3,
    }
}

fn from_file(path: &Path) -> Outcome<Passphrase> {
    let failed = |error: std::io::Error| Failure::file("read the passphrase from", path, &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    first_line(text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))
}

fn from_command(command: &str) -> Outcome<Passphrase> {
    let failed = |why: String| {
        Failure::new(
            Exit::Refused,
            "passphrase_command",
            format!("the passphrase command failed: {why}"),
        )
    };
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| failed(error.to_string()))?;
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(format!("it ended with {status}")));
    }
    first_line(text).map_err(|why| failed(why.to_owned()))
}

fn first_line(mut text: Passphrase) -> Result<Passphrase, &'static str> {
    if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
        text.truncate(end);
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    match u64::try_from(text.len()) {
        Ok(0) => Err("the passphrase is empty"),
        Ok(n) if n <= BYTES_MAX => Ok(text),
        _ => Err("the passphrase is longer than 4,096 bytes"),
    }
}

/// Asks a question on the terminal and reads a line; `None` when there is no terminal.
pub fn answer(question: &str) -> Option<String> {
    use std::io::Write as _;
    let mut terminal = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .ok()?;
    terminal.write_all(question.as_bytes()).ok()?;
    let mut line = String::new();
    std::io::BufReader::new(terminal.take(BYTES_MAX))
        .read_line(&mut line)
        .ok()?;
    Some(line)
}

fn ask(prompt: &str) -> Outcome<Passphrase> {
    if !std::io::stdin().is_terminal() && std::fs::File::open("/dev/tty").is_err() {
        return Err(
            Failure::usage("a passphrase is needed and there is no terminal to ask on")
                .advise("set STRONGROOM_PASSPHRASE_FILE or STRONGROOM_PASSPHRASE_COMMAND"),
        );
    }
    rpassword::prompt_password(prompt)
        .map(|text| Zeroizing::new(text.into_bytes()))
        .map_err(|error| {
            Failure::usage(format!("the passphrase cannot be read: {error}"))
                .advise("set STRONGROOM_PASSPHRASE_FILE or STRONGROOM_PASSPHRASE_COMMAND")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_passphrase() {
        let check = |text: &[u8], passphrase: &[u8]| {
            assert_eq!(
                first_line(Zeroizing::new(text.to_vec()))
                    .unwrap()
                    .as_slice(),
                passphrase
            );
        };
        check(b"correct horse\n", b"correct horse");
        check(b"correct horse\r\nsecond", b"correct horse");
        check(b" spaces stay ", b" spaces stay ");
        assert!(first_line(Zeroizing::new(b"\nsecond".to_vec())).is_err());
        assert!(first_line(Zeroizing::new(vec![b'x'; 4_097])).is_err());
    }

    #[test]
    fn commands_give_a_passphrase_or_say_why_not() {
        assert_eq!(
            from_command("echo hunter22").unwrap().as_slice(),
            b"hunter22"
        );
        assert_eq!(from_command("exit 3").unwrap_err().exit, Exit::Refused);
        assert!(from_command("true").unwrap_err().message.contains("empty"));
    }
}
