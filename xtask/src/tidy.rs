//! `cargo xtask tidy`: gathers the tree and the dependency graph, and runs every rule over them.
//!
//! The rules are functions of what was gathered, so their tests plant violations in memory:
//! [`layers`] knows which package may depend on which, [`sources`] reads files, [`lexer`] keeps comments and strings
//! apart from code.

mod layers;
mod lexer;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One broken rule: where, why it is a rule, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path from the root of the tree.
    pub path: String,
    /// Line, from 1; 0 when the whole file or package is meant.
    pub line: usize,
    /// Reason and remedy, one sentence or two.
    pub message: String,
}

impl Violation {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// A text file of the tree.
#[derive(Debug)]
pub struct SourceFile {
    /// Path from the root, with `/`.
    pub path: String,
    /// The whole content.
    pub text: String,
}

/// What a run saw.
pub struct Report {
    /// Text files read.
    pub files: usize,
    /// Workspace members examined.
    pub packages: usize,
    /// Sorted by place.
    pub violations: Vec<Violation>,
}

/// Why the tree could not be examined at all.
#[derive(Debug)]
pub enum Error {
    /// A tool (git or cargo) could not be started, or failed.
    Tool { command: String, reason: String },
    /// A listed file could not be read.
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// `cargo metadata` answered with something else than its documented JSON.
    Metadata(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool { command, reason } => write!(f, "`{command}`: {reason}"),
            Self::Read { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Metadata(reason) => write!(f, "cargo metadata: {reason}"),
        }
    }
}

/// Examines the tree that this program was built from.
///
/// # Errors
/// Only when git, cargo or a file cannot be read; broken rules are in the report.
pub fn run() -> Result<Report, Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let paths = tree_paths(&root)?;
    let files = read_texts(&root, &paths)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata = output(
        &root,
        &cargo,
        &["metadata", "--locked", "--format-version", "1"],
    )?;
    let graph = layers::Graph::from_metadata(&metadata).map_err(Error::Metadata)?;

    let mut violations = sources::check_paths(&paths);
    violations.extend(files.iter().flat_map(sources::check_file));
    violations.extend(graph.check());
    violations.sort();
    violations.dedup();
    Ok(Report {
        files: files.len(),
        packages: graph.member_count(),
        violations,
    })
}

/// Everything git tracks or would track: a rule broken in a new file is told before its first commit.
fn tree_paths(root: &Path) -> Result<Vec<String>, Error> {
    let listed = output(
        root,
        "git",
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
    )?;
    Ok(listed
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Files that are not UTF-8 are fixtures or pictures, and a deleted file that is still in the index has no text.
fn read_texts(root: &Path, paths: &[String]) -> Result<Vec<SourceFile>, Error> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let full = root.join(path);
        if full.is_symlink() || !full.is_file() {
            continue;
        }
        let bytes = std::fs::read(&full).map_err(|source| Error::Read { path: full, source })?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(SourceFile {
                path: path.clone(),
                text,
            });
        }
    }
    Ok(files)
}

fn output(dir: &Path, program: &str, args: &[&str]) -> Result<String, Error> {
    let failed = |reason: String| Error::Tool {
        command: format!("{program} {}", args.join(" ")),
        reason,
    };
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    String::from_utf8(output.stdout).map_err(|error| failed(error.to_string()))
}
