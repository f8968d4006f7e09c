//! The program itself.

use std::process::Command;

use ledger::Record as _;

use crate::ledger_world::genesis;

fn worker(dir: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom-worker"));
    command
        .arg("--data")
        .arg(dir.join("data"))
        .arg("--genesis")
        .arg(dir.join("genesis.cbor"))
        .arg("--platform")
        .arg(format!("software:{}", dir.join("config").display()))
        .arg("--describe");
    command
}

#[test]
fn it_describes_itself_the_same_each_time_and_refuses_what_is_not_its() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (dir.path().join("config"), dir.path().join("data"));
    std::fs::create_dir_all(&config).unwrap();
    let root = enclave::software::danger_create(&config, &data).unwrap();
    let write = |development: bool, software_root| {
        let mut genesis = genesis(development);
        genesis.software_root = software_root;
        std::fs::write(dir.path().join("genesis.cbor"), genesis.encode()).unwrap();
    };
    write(true, Some(root));
    let first = worker(dir.path()).output().unwrap();
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    let text = String::from_utf8(first.stdout.clone()).unwrap();
    assert!(
        text.starts_with("{\"principal\":\"") && text.contains("\"role\":\"worker\""),
        "{text}"
    );
    assert!(
        text.contains("\"platform\":\"software\"") && text.contains("\"measurement\":\""),
        "{text}"
    );
    let again = worker(dir.path()).output().unwrap();
    assert_eq!(again.stdout, first.stdout, "the key is kept");
    let refused = |what: &str| {
        let output = worker(dir.path()).output().unwrap();
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{what}"
        );
        String::from_utf8(output.stderr).unwrap()
    };
    write(false, Some(root));
    assert!(refused("production").contains("development"));
    write(true, Some(domain::Principal([1; 32])));
    assert!(refused("another root").contains("another software platform"));
    std::fs::write(dir.path().join("genesis.cbor"), vec![0; 20_000]).unwrap();
    assert!(refused("no genesis").contains("not a genesis record"));
    std::fs::remove_file(dir.path().join("genesis.cbor")).unwrap();
    assert!(refused("missing").contains("genesis.cbor"));
}
