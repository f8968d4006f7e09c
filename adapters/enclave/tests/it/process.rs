//! This very program, started again as somebody unprivileged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// A copy of the test program that anybody can start, and a folder that anybody can write to. (A program that its user
/// cannot read is undumpable from the start, and the attacks would fail for that reason.)
pub struct Unprivileged {
    pub dir: tempfile::TempDir,
    program: PathBuf,
}

impl Unprivileged {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let program = dir.path().join("program");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, program }
    }

    /// Runs the ignored test `name` alone.
    pub fn run(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args([
                name,
                "--exact",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .current_dir(self.dir.path());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

/// The lines that a child prints for its parent.
pub fn said(output: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(output)
        .lines()
        .filter_map(|line| line.split_once("said: ").map(|(_, said)| said.to_owned()))
        .collect()
}

pub fn say(what: &str) {
    println!("\nsaid: {what}");
}
