//! Checks of our own that no published tool makes: `cargo xtask tidy`.
//!
//! It reads the tree and the dependency graph and writes nothing. Formatting, lints, licences and spelling belong to
//! rustfmt, clippy, cargo-deny and typos; `make check` runs those beside this.

mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy

tidy    dependency direction, forbidden calls in crates/, file lengths and a few habits of this tree;
        prints one line for each violation (place, reason, what to do) and exits 1 when there is any";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => run_tidy(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run_tidy() -> ExitCode {
    match tidy::run() {
        Ok(report) if report.violations.is_empty() => {
            println!(
                "tidy: {} files and {} packages, nothing to report",
                report.files, report.packages
            );
            ExitCode::SUCCESS
        }
        Ok(report) => {
            for violation in &report.violations {
                eprintln!("{violation}");
            }
            eprintln!("tidy: {} violations", report.violations.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy could not run: {error}");
            ExitCode::from(2)
        }
    }
}
