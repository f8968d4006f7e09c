//! The program itself: flags, describing, starting, stopping.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use enclave::software;
use ledger::header::ValidatorSet;
use ledger::{Genesis, Governance, Limits, Record as _};

use crate::support::{DEPLOYMENT, now, person};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(development: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (config, data) = (dir.path().join("config"), dir.path().join("data"));
        std::fs::create_dir_all(&data).unwrap();
        let root = software::danger_create(&config, &data).unwrap();
        let genesis = Genesis {
            deployment: DEPLOYMENT,
            development,
            software_root: Some(root),
            governance: Governance::new(1, vec![person(1).principal()]).unwrap(),
            validators: ValidatorSet::new(vec![person(2).principal()]).unwrap(),
            limits: Limits::DEFAULT,
            time: now(),
            continues: None,
        };
        std::fs::write(dir.path().join("genesis.cbor"), genesis.encode()).unwrap();
        Self(dir)
    }

    fn command(&self) -> Command {
        let dir = self.0.path();
        let text = |name: &str| dir.join(name).display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom-custodian"));
        command
            .args(["--data", &text("data"), "--genesis", &text("genesis.cbor")])
            .args(["--relay", &text("relay.sock")])
            .args(["--listen", &format!("unix:{}", text("custodian.sock"))])
            .args(["--platform", &format!("software:{}", text("config"))]);
        command
    }

    fn describe(&self) -> serde_json::Value {
        let output = self.command().arg("--describe").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn it_describes_itself_the_same_every_time() {
    let folder = Folder::new(true);
    let about = folder.describe();
    assert_eq!(about, folder.describe());
    let measured = enclave::measure_file(env!("CARGO_BIN_EXE_strongroom-custodian").as_ref());
    let hex: String = measured
        .unwrap()
        .0
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(about["measurement"], hex);
    assert_eq!(about["platform"], "software");
    assert_ne!(
        about["principal"],
        Folder::new(true).describe()["principal"]
    );
}

#[test]
fn it_says_when_it_is_ready_and_ends_when_it_is_told() {
    let folder = Folder::new(true);
    let mut child = folder.command().stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert!(folder.0.path().join("custodian.sock").exists());
    // One store, one process.
    let second = folder.command().output().unwrap();
    assert!(!second.status.success());
    let errors = String::from_utf8_lossy(&second.stderr);
    assert!(errors.contains("in use by another process"), "{errors}");
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    for _ in 0..100 {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    panic!("it did not end");
}

#[test]
fn the_software_platform_is_refused_where_it_would_pass_for_protection() {
    let output = Folder::new(false).command().output().unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("development deployments only"), "{errors}");
}
