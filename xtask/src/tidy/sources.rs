//! Rules over the text and the names of files.

use super::lexer::{blank_non_code, blank_test_modules};
use super::{SourceFile, Violation};

/// Longer files need a reason in their first lines.
const LINES_MAX: usize = 800;
/// How many lines from the top the reason may stand.
const REASON_WITHIN_LINES: usize = 10;
const REASON: &str = "tidy: long because ";

/// What pure code may not name: `(text, reason and remedy)`. A word boundary is required on both sides of an identifier.
const FORBIDDEN_IN_PURE: &[(&str, &str)] = &[
    ("SystemTime::now", CLOCK),
    ("Instant::now", CLOCK),
    ("OffsetDateTime::now_utc", CLOCK),
    ("std::fs", IO),
    ("std::net", IO),
    ("std::process", IO),
    ("std::env", IO),
    ("std::thread", RUNTIME),
    ("tokio::", RUNTIME),
    ("async_std::", RUNTIME),
    ("smol::", RUNTIME),
    ("OsRng", RANDOM),
    ("SysRng", RANDOM),
    ("getrandom", RANDOM),
    ("thread_rng", RANDOM),
    ("ThreadRng", RANDOM),
    ("rand::rng", RANDOM),
    ("SystemRandom", RANDOM),
    ("println!", OUTPUT),
    ("eprintln!", OUTPUT),
];
const CLOCK: &str = "crates/ never reads a clock, or a simulation could not replay it: take the time as an argument";
const IO: &str =
    "crates/ does no IO: declare a port (a trait) for the action and implement it in adapters/";
const RUNTIME: &str =
    "crates/ knows no threads or async runtime: return effects and let services/ run them";
const RANDOM: &str = "crates/ draws no randomness of its own: take a `CryptoRng` as an argument and pass the system's in services/ or clients/";
const OUTPUT: &str =
    "crates/ prints nothing: return a value or an error, and let the program say it";

/// Rules over names alone, so that they hold for binary files too.
pub fn check_paths(paths: &[String]) -> Vec<Violation> {
    let mut found = Vec::new();
    for path in paths {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name == "mod.rs" {
            found.push(Violation::new(
                path,
                0,
                "a tab named mod.rs says nothing: name the file after its module, beside the module's folder",
            ));
        }
        if name == "rust-toolchain" || name == "rust-toolchain.toml" {
            found.push(Violation::new(
                path,
                0,
                "a toolchain file makes rustup fetch another compiler than the one installed: \
                 raise `rust-version` in the workspace instead",
            ));
        }
        if is_stray_test_binary(path) {
            found.push(Violation::new(
                path,
                0,
                "each file directly under tests/ is linked as a program of its own: \
                 make it a module of tests/it/main.rs",
            ));
        }
    }
    found
}

/// Rules over the text of one file.
pub fn check_file(file: &SourceFile) -> Vec<Violation> {
    let mut found = Vec::new();
    let extension = file.path.rsplit_once('.').map_or("", |(_, ext)| ext);
    if matches!(
        extension,
        "rs" | "py" | "sh" | "ts" | "js" | "svelte" | "proto"
    ) {
        check_length(file, &mut found);
    }
    if extension != "lock" {
        check_machine_paths(file, &mut found);
        check_unfinished(file, &mut found);
    }
    if extension == "rs" {
        check_rust(file, &mut found);
    }
    if file.path.ends_with("/Cargo.toml") {
        check_manifest(file, &mut found);
    }
    found
}

fn check_length(file: &SourceFile, found: &mut Vec<Violation>) {
    let lines = file.text.lines().count();
    let reasoned = file.text.lines().take(REASON_WITHIN_LINES).any(|line| {
        line.split_once(REASON)
            .is_some_and(|(_, why)| !why.trim().is_empty())
    });
    if lines > LINES_MAX && !reasoned {
        found.push(Violation::new(
            &file.path,
            0,
            format!(
                "{lines} lines are a heap (at most {LINES_MAX}): split it by subject, \
                 or say why not in its first lines: `// {REASON}...`"
            ),
        ));
    }
}

/// A path of one machine works on that machine only, and tells strangers about it.
fn check_machine_paths(file: &SourceFile, found: &mut Vec<Violation>) {
    for (number, line) in numbered(&file.text) {
        if let Some(path) = machine_path(line) {
            found.push(Violation::new(
                &file.path,
                number,
                format!(
                    "`{path}` exists on one machine only: use a path from the root of the tree, \
                     a variable or a temporary folder"
                ),
            ));
        }
    }
}

fn machine_path(line: &str) -> Option<&str> {
    for top in [
        concat!("/", "work/"),
        concat!("/", "root/"),
        concat!("/", "home/"),
    ] {
        for (at, _) in line.match_indices(top) {
            // `https://host/home/` and `a/root/b` are not paths from the root of a file system.
            let starts = line[..at]
                .chars()
                .next_back()
                .is_none_or(|before| !before.is_alphanumeric() && !"._-~}/)>*".contains(before));
            let rest = &line[at + top.len()..];
            let name = rest
                .find(|c: char| !c.is_alphanumeric() && !"._-".contains(c))
                .unwrap_or(rest.len());
            // A bare `/home/` names no one.
            let names_someone = name > 0 || !top.ends_with("home/");
            if starts && names_someone {
                return Some(&line[at..at + top.len() + name]);
            }
        }
    }
    None
}

fn check_unfinished(file: &SourceFile, found: &mut Vec<Violation>) {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    for (number, line) in numbered(&file.text) {
        for word in words {
            if contains_word(line, word) {
                found.push(Violation::new(
                    &file.path,
                    number,
                    format!("a {word} is a promise that no one keeps: do it now, or take it out and open an issue"),
                ));
            }
        }
    }
}

fn check_rust(file: &SourceFile, found: &mut Vec<Violation>) {
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    if is_root && !file.text.starts_with("//!") {
        found.push(Violation::new(
            &file.path,
            1,
            "a stranger starts here: open the crate with `//!` that says what it does and does not do",
        ));
    }

    let code = blank_non_code(&file.text);
    for (number, line) in numbered(&code) {
        for call in [concat!("to", "do!("), concat!("unimple", "mented!(")] {
            if line.contains(call) {
                found.push(Violation::new(
                    &file.path,
                    number,
                    format!("`{call})` panics on a user: write the code, or leave the item out"),
                ));
            }
        }
    }

    if is_pure_source(&file.path) {
        let shipped = blank_test_modules(&code);
        for (number, line) in numbered(&shipped) {
            for (call, why) in FORBIDDEN_IN_PURE {
                if contains_word(line, call) {
                    found.push(Violation::new(
                        &file.path,
                        number,
                        format!("`{call}`: {why}"),
                    ));
                }
            }
        }
    }
}

fn check_manifest(file: &SourceFile, found: &mut Vec<Violation>) {
    let mut lines = file.text.lines().map(str::trim);
    let is_workspace_member =
        file.text.contains("[package]") && !lines.clone().any(|line| line == "[workspace]");
    let inherits = lines
        .by_ref()
        .skip_while(|line| *line != "[lints]")
        .nth(1)
        .is_some_and(|line| line.replace(' ', "") == "workspace=true");
    if is_workspace_member && !inherits {
        found.push(Violation::new(
            &file.path,
            0,
            "a crate outside the workspace's lints is checked by nobody: add `[lints]` with `workspace = true`",
        ));
    }
}

/// Code of a pure crate that is shipped: its `src/`, without files that hold only tests.
fn is_pure_source(path: &str) -> bool {
    path.starts_with("crates/")
        && path.contains("/src/")
        && !path.ends_with("/tests.rs")
        && !path.contains("/src/tests/")
}

fn is_stray_test_binary(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (name, folder) = (parts.next(), parts.next());
    folder == Some("tests")
        && name.is_some_and(|name| name.ends_with(".rs"))
        && !path.contains("/src/")
}

/// `needle` in `line`, not as a part of a longer identifier.
fn contains_word(line: &str, needle: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        let open_ended = !needle.ends_with(is_word);
        !before.is_some_and(is_word) && (open_ended || !after.is_some_and(is_word))
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The lines that are reported, and that each message holds `why`.
    fn check(path: &str, text: &str, why: &str, expect: &[usize]) {
        let found = check_file(&file(path, text));
        let lines: Vec<usize> = found.iter().map(|v| v.line).collect();
        assert_eq!(lines, expect, "{path}: {found:?}");
        for violation in &found {
            assert!(violation.message.contains(why), "{violation}");
        }
    }

    #[test]
    fn pure_code_names_no_clock_io_runtime_or_randomness() {
        for (call, why) in [
            ("let t = SystemTime::now();", "clock"),
            ("let t = std::time::Instant::now();", "clock"),
            ("use std::fs;", "port"),
            ("let f = std::fs::read(p)?;", "port"),
            ("use std::net::TcpStream;", "port"),
            ("tokio::spawn(f);", "runtime"),
            ("let r = OsRng;", "CryptoRng"),
            ("getrandom::fill(&mut b)?;", "CryptoRng"),
            ("let mut r = rand::thread_rng();", "CryptoRng"),
            ("let mut r = rand::rng();", "CryptoRng"),
            ("println!(\"x\");", "prints"),
        ] {
            check(
                "crates/sealed/src/chunk.rs",
                &format!("//! x\n{call}\n"),
                why,
                &[2],
            );
            // The same line is an adapter's daily work.
            check(
                "adapters/shards/src/store.rs",
                &format!("//! x\n{call}\n"),
                why,
                &[],
            );
            // And a test may read a fixture.
            check(
                "crates/sealed/tests/it/main.rs",
                &format!("{call}\n"),
                why,
                &[],
            );
            check(
                "crates/sealed/src/chunk.rs",
                &format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{call}\n}}\n"),
                why,
                &[],
            );
        }
    }

    #[test]
    fn words_in_comments_strings_and_longer_names_are_no_calls() {
        for line in [
            "// std::fs is not used here",
            "/* SystemTime::now */",
            "let s = \"tokio::spawn\";",
            "let s = r#\"getrandom\"#;",
            "struct MyOsRngLike;",
            "fn no_getrandom_here() {}",
            "use my_tokio::x;",
        ] {
            check("crates/domain/src/x.rs", line, "", &[]);
        }
    }

    #[test]
    fn code_after_a_test_module_is_read_again() {
        check(
            "crates/domain/src/x.rs",
            "#[cfg(test)]\nmod tests {\n  fn f() { let x = \"}\"; }\n}\nuse std::fs;\n",
            "port",
            &[5],
        );
    }

    #[test]
    fn long_files_need_a_reason() {
        let long = "x\n".repeat(LINES_MAX + 1);
        check("adapters/wire/src/a.rs", &"x\n".repeat(LINES_MAX), "", &[]);
        check("adapters/wire/src/a.rs", &long, "split it", &[0]);
        check("testing/reader/a.py", &long, "split it", &[0]);
        check("docs/a.md", &long, "", &[]);
        check("a.rs", &format!("// {REASON}one table\n{long}"), "", &[]);
        check("a.rs", &format!("// {REASON}\n{long}"), "split it", &[0]);
        check(
            "a.rs",
            &format!("{long}// {REASON}too late\n"),
            "split it",
            &[0],
        );
    }

    #[test]
    fn machine_paths_are_found_in_any_text() {
        for line in [
            concat!("see /", "work/main"),
            concat!("`/", "root/.cargo`"),
            concat!("x = \"/", "home/me/data\""),
            concat!("path:/", "home/me"),
        ] {
            check("docs/a.md", line, "one machine", &[1]);
        }
        for line in [
            concat!("https://example.org/", "home/me"),
            concat!("manifest/", "root/x"),
            concat!("$HOME/", "work/x"),
            concat!("~/", "work/x"),
            concat!("nobody under /", "home/ is touched"),
        ] {
            check("docs/a.md", line, "", &[]);
        }
        check("Cargo.lock", concat!("/", "root/x"), "", &[]);
    }

    #[test]
    fn promises_and_holes_are_refused() {
        check("a.sh", concat!("# TO", "DO later"), "promise", &[1]);
        check("docs/a.md", concat!("FIX", "ME: x"), "promise", &[1]);
        check("docs/a.md", concat!("MASTO", "DON"), "", &[]);
        check("a.rs", concat!("fn f() { to", "do!() }"), "panics", &[1]);
        check(
            "a.rs",
            concat!("fn f() { unimple", "mented!(\"x\") }"),
            "panics",
            &[1],
        );
        check("a.rs", concat!("// never to", "do!()"), "", &[]);
    }

    #[test]
    fn a_crate_opens_with_its_purpose() {
        check("crates/domain/src/lib.rs", "//! Ids.\n", "", &[]);
        check("crates/domain/src/lib.rs", "\n//! Ids.\n", "stranger", &[1]);
        check(
            "services/strongroom/src/main.rs",
            "fn main() {}\n",
            "stranger",
            &[1],
        );
        check("crates/domain/src/cid.rs", "fn f() {}\n", "", &[]);
    }

    #[test]
    fn members_inherit_the_lints() {
        check(
            "crates/a/Cargo.toml",
            "[package]\nname = \"a\"\n[lints]\nworkspace = true\n",
            "",
            &[],
        );
        check(
            "crates/a/Cargo.toml",
            "[package]\nname = \"a\"\n",
            "lints",
            &[0],
        );
        check(
            "crates/a/Cargo.toml",
            "[package]\n[lints]\nrust = {}\n",
            "lints",
            &[0],
        );
        check(
            "fuzz/Cargo.toml",
            "[workspace]\n[package]\nname = \"f\"\n",
            "",
            &[],
        );
    }

    #[test]
    fn names_are_checked() {
        let check = |path: &str, count: usize| {
            assert_eq!(check_paths(&[path.to_owned()]).len(), count, "{path}");
        };
        check("crates/a/src/b/mod.rs", 1);
        check("rust-toolchain.toml", 1);
        check("fuzz/rust-toolchain", 1);
        check("crates/a/tests/listing.rs", 1);
        check("crates/a/tests/it/main.rs", 0);
        check("crates/a/tests/it/listing.rs", 0);
        check("crates/a/src/b.rs", 0);
        check("crates/a/src/tests/b.rs", 0);
    }
}
