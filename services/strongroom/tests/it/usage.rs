//! A wrong command line is status 2 with one sentence, in either form.

use crate::Place;

#[test]
fn nothing_and_nonsense_are_wrong_usage() {
    let place = Place::new();
    place.run(&[]).status(2).says("Usage: strongroom");
    place.run(&["frobnicate"]).status(2).says("frobnicate");
    place.run(&["put", "one"]).status(2);
    place.run(&["get"]).status(2);
    place.run(&["ls", "--no-such-option"]).status(2);
    place
        .run(&["put", "a", "b", "--bandwidth-limit", "fast"])
        .status(2)
        .says("not a size");
    place.run(&["up", "--listen", "nowhere"]).status(2);
    place
        .run(&["mb", "photos", "--profile", "0+4"])
        .status(2)
        .says("not a coding profile");
}

#[test]
fn with_json_the_sentence_is_json_on_standard_error() {
    let place = Place::new();
    let error = place.run(&["--json", "frobnicate"]).status(2).error();
    assert_eq!(error["code"], "usage");
    assert!(error["message"].as_str().unwrap().contains("frobnicate"));
    let error = place
        .run(&["rm", "--json", "sr://Photos/a"])
        .status(2)
        .error();
    assert!(error["message"].as_str().unwrap().contains("sr://Photos/a"));
}

#[test]
fn operands_that_do_not_fit_are_explained_before_anything_is_asked() {
    let place = Place::new();
    std::fs::write(place.path().join("file"), "x").unwrap();
    let check = |args: &[&str], part: &str| {
        place.run(args).status(2).says(part);
    };
    check(&["put", "file", "s3://photos/a"], "the scheme is sr://");
    check(&["put", "file", "ab/x"], "3 to 63");
    check(&["put", ".", "sr://photos"], "-r stores folders");
    check(
        &["put", "file", "-", "sr://photos/x"],
        "end the address with a slash",
    );
    check(&["put", "-", "sr://photos"], "must name an object");
    check(&["cp", "a", "b"], "sr://BUCKET/KEY");
    check(
        &["cp", "file", "sr://photos/a", "sr://photos/b/"],
        "one kind at a time",
    );
    check(&["sync", "a", "b"], "one side is a folder here");
    check(
        &["sync", "sr://photos", "sr://other"],
        "one side is a folder here",
    );
    check(&["sync", "file", "sr://photos"], "not a folder");
    check(
        &["sync", ".", "sr://photos", "--exclude", "["],
        "not a glob",
    );
    check(&["cat", "--range", "9-5", "sr://photos/a"], "not a range");
    check(&["rb", "sr://photos/a"], "a bucket is needed");
    check(&["token", "--scope", "everything"], "no such right");
    let long = format!("sr://photos/{}", "k".repeat(10_000));
    check(&["get", &long], "1,024 bytes");
    place
        .run(&["put", "missing", "sr://photos"])
        .status(3)
        .says("no such file");
    place
        .run(&["sync", "missing", "sr://photos"])
        .status(3)
        .says("no such file");
}

#[test]
fn without_an_identity_every_command_says_how_to_get_one() {
    let place = Place::new();
    std::fs::write(place.path().join("file"), "x").unwrap();
    for args in [
        &["ls"][..],
        &["put", "file", "sr://photos"],
        &["get", "sr://photos/a"],
        &["verify", "sr://photos/a"],
        &["admin", "status"],
        &["token"],
        &["identity", "show"],
    ] {
        place
            .run(args)
            .status(2)
            .says("there is no identity")
            .says("strongroom init");
    }
}

#[test]
fn nobody_at_the_endpoint_is_unavailable() {
    let place = Place::new();
    place.run(&["init", "--identity-only"]).status(0);
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let error = place
        .run(&["--json", "--endpoint", &endpoint, "ls"])
        .status(6)
        .error();
    assert_eq!(error["code"], "unavailable");
    assert!(
        error["message"].as_str().unwrap().contains(&endpoint),
        "{error}"
    );
    place
        .run(&["--endpoint", "http://10.1.2.3:80", "ls"])
        .status(2)
        .says("plain HTTP");
    place
        .run(&["--endpoint", "nonsense", "ls"])
        .status(2)
        .says("nonsense");
}
