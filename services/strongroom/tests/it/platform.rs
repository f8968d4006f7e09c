//! `init`, and what `up` refuses before it starts anything.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::Place;

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found
}

#[test]
fn init_makes_a_deployment_and_keeps_no_secret_of_its_own() {
    let place = Place::new();
    let report = place.run(&["init", "--json"]).status(0).json();
    assert_eq!(report["deployment"].as_str().unwrap().len(), 64);
    assert_eq!(report["nodes"], 14);
    assert_eq!(report["mode"], "development");
    let kit = report["recovery_key"].as_str().unwrap();
    let seed = kit
        .lines()
        .find_map(|line| line.strip_prefix("seed: "))
        .unwrap();
    // The recovery key is nowhere on the disk, and the identity is not in the data folder.
    let principal = report["principal"].as_str().unwrap();
    for path in files(place.path()) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            !bytes
                .windows(seed.len())
                .any(|window| window == seed.as_bytes()),
            "{}",
            path.display()
        );
        if path.starts_with(place.path().join("data")) {
            assert_ne!(path.file_name().unwrap(), "identity", "{}", path.display());
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert!(
                !path.to_string_lossy().ends_with(".key") || mode & 0o077 == 0,
                "{}",
                path.display()
            );
        }
    }
    let record = std::fs::read_to_string(place.path().join("data/deployment.toml")).unwrap();
    assert!(record.contains(principal));
    // Never twice.
    let error = place.run(&["init", "--json"]).status(7).error();
    assert_eq!(error["code"], "already_initialised");
    assert_eq!(
        std::fs::read_to_string(place.path().join("data/deployment.toml")).unwrap(),
        record
    );
}

#[test]
fn the_recovery_key_goes_to_a_file_that_is_never_overwritten() {
    let place = Place::new();
    let ran = place.run(&["init", "--recovery-key-file", "key"]).status(0);
    assert!(!ran.stdout.contains("seed:"), "{ran:#?}");
    let key = place.path().join("key");
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(std::fs::read_to_string(&key).unwrap().contains("seed:"));
    // Another deployment's key must not take its place, nor be lost.
    let ran = place
        .run(&["init", "--data", "other", "--recovery-key-file", "key"])
        .status(7);
    assert!(ran.stdout.contains("seed:"), "{ran:#?}");
}

#[test]
fn up_says_what_is_missing_or_in_the_way() {
    let place = Place::new();
    let error = place.run(&["up", "--json"]).status(2).error();
    assert_eq!(error["code"], "not_initialised");
    assert!(
        error["advice"]
            .as_str()
            .unwrap()
            .contains("strongroom init")
    );
    place.run(&["init"]).status(0);
    // Its port is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place
        .run(&["up", "--listen", &address])
        .status(7)
        .says("in use")
        .says("--listen");
    place
        .run(&["up", "--listen", "127.0.0.1:0", "--grpc-listen", &address])
        .status(7)
        .says("in use")
        .says("--grpc-listen");
    // Another supervisor has the folder.
    let lock = std::fs::File::options()
        .write(true)
        .open(place.path().join("data/lock"))
        .unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    place
        .run(&["up", "--listen", "127.0.0.1:0"])
        .status(7)
        .says("is in use by");
    drop(lock);
    // A socket's path has a bound.
    let deep = format!("{}/data", "d".repeat(120));
    place.run(&["init", "--data", &deep]).status(0);
    place
        .run(&["up", "--data", &deep, "--listen", "127.0.0.1:0"])
        .status(2)
        .says("shorter folder");
    // A damaged record.
    std::fs::write(place.path().join("data/deployment.toml"), "nonsense").unwrap();
    place.run(&["up"]).status(2).says("damaged");
}

#[test]
fn roles_refuse_wrong_configuration_with_status_2() {
    let place = Place::new();
    place.run(&["node"]).status(2).says("--data is needed");
    place
        .run(&[
            "node",
            "--data",
            "x",
            "--listen",
            "unix:relative",
            "--deployment",
            &"0".repeat(64),
        ])
        .status(2)
        .says("absolute");
    place
        .run(&[
            "node",
            "--data",
            "x",
            "--listen",
            "tls:127.0.0.1:0",
            "--deployment",
            "1",
        ])
        .status(2)
        .says("--deployment");
    place
        .run(&["gateway", "--data", "x", "--listen", "127.0.0.1:0"])
        .status(2)
        .says("--deployment-file");
    place.run(&["init"]).status(0);
    let gateway = |listen: &str, grpc: &str, node: &str| {
        place.run(&[
            "gateway",
            "--data",
            "data/gateway",
            "--deployment-file",
            "data/deployment.toml",
            "--listen",
            listen,
            "--grpc-listen",
            grpc,
            "--node",
            node,
        ])
    };
    let here = "127.0.0.1:0";
    for (listen, grpc) in [("0.0.0.0:0", here), (here, "0.0.0.0:0")] {
        gateway(listen, grpc, "x").status(2).says("loopback only");
    }
    gateway(here, here, "nonsense")
        .status(2)
        .says("the node's id is missing");
}
