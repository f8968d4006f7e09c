//! Who may not: a wrong passphrase, and an identity to which nothing belongs.

use http::Method;

use crate::harness::{Platform, Ran, write_file};
use crate::support::{Request, deployment, identity};

#[test]
fn a_wrong_passphrase_is_refused() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    std::fs::write(platform.path("wrong"), "correct horse batterx\n").unwrap();
    let config = std::fs::read(platform.path("config/identity")).unwrap();
    for args in [
        &["ls"][..],
        &["mb", "sr://more"],
        &["identity", "export", "kit"],
        &["admin", "status"],
    ] {
        let mut all = args.to_vec();
        all.extend(["--passphrase-file", "wrong"]);
        platform.run(&all).status(4).says("wrong passphrase");
    }
    assert!(!platform.path("kit").exists());
    assert_eq!(
        std::fs::read(platform.path("config/identity")).unwrap(),
        config
    );
    platform.run(&["stat", "sr://more"]).status(3);
}

#[test]
fn to_another_identity_a_bucket_does_not_exist() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    for (name, size) in [("small", 1_000), ("large", 1 << 20)] {
        write_file(&platform.path(name), size, 1);
    }
    platform.ok(&["put", "small", "large", "sr://files/"]);
    let as_other = |args: &[&str]| -> Ran {
        let mut all = args.to_vec();
        all.extend(["--config-dir", "other"]);
        platform.run(&all)
    };
    as_other(&["init", "--identity-only"]).status(0);
    let kit = as_other(&["identity", "export", "-"]).status(0);
    assert_eq!(
        as_other(&["ls"]).status(0).stdout,
        b"",
        "no bucket is listed"
    );
    let hidden = [
        "sr://files",
        "sr://files/small",
        "sr://files/large",
        "sr://nothing",
        "sr://nothing/small",
    ];
    for address in hidden {
        as_other(&["stat", address])
            .status(3)
            .says("no right to see it");
    }
    for args in [
        &["ls", "sr://files"][..],
        &["get", "sr://files/small", "stolen"],
        &["cat", "sr://files/large"],
        &["put", "small", "sr://files/planted"],
        &["put", "large", "sr://files/planted"],
        &["rm", "sr://files/small"],
        &["mv", "sr://files/small", "sr://files/moved"],
        &["rb", "sr://files"],
    ] {
        let refused = as_other(args).status(3);
        assert!(refused.stdout.is_empty(), "{refused:#?}");
    }
    assert!(!platform.path("stolen").exists());
    as_other(&["mb", "sr://mine"]).status(4);
    for what in ["nodes", "status", "space"] {
        as_other(&["admin", what]).status(4).says("administrator");
    }
    // Knowing a version's id is no right to it either.
    let other = crypto::Identity::from_seed(
        crypto::seed_text::parse(
            crypto::seed_text::SeedKind::Identity,
            &String::from_utf8(kit.stdout).unwrap(),
        )
        .unwrap(),
    );
    let (me, deployment) = (identity(&platform), deployment(&platform));
    let stat = platform.json(&["stat", "sr://files/large"]).remove(0);
    let version = stat["version"].as_str().unwrap();
    for target in [
        format!("/v1/versions/{version}"),
        format!("/v1/versions/{version}/chunks/0"),
    ] {
        let request = Request::new(&platform, Method::GET, &target);
        assert_eq!(
            request
                .clone()
                .signed(&me, deployment)
                .send(&platform)
                .status,
            200,
            "{target}"
        );
        request
            .signed(&other, deployment)
            .send(&platform)
            .problem(404, "not_found");
    }
    // Nothing happened to what is there.
    assert_eq!(platform.json(&["ls", "-r", "sr://files"]).len(), 2);
}
