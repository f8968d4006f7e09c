//! Keys may hold anything: each comes back under exactly its name, and none leads out of a folder.

use crate::harness::Platform;

/// Keys that an HTTP library, a file system or a terminal might mangle.
const KEYS: [&str; 20] = [
    "..",
    "../up",
    "a/../b",
    "./dot",
    "//two",
    "/absolute",
    "a//b",
    "%2e%2e/%2F",
    "a+b c&d=e?f#g;h",
    "*?[x]{y}",
    "\\back\\slash",
    "'\"`$(x)",
    "\u{e9}t\u{e9}",
    "e\u{301}te\u{301}",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd}/\u{202e}right-to-left",
    "\u{1f469}\u{200d}\u{1f680}\u{1f3f3}\u{fe0f}\u{200d}\u{1f308}.png",
    "\u{65e5}\u{672c}\u{8a9e}",
    "Case",
    "case",
    "\u{212b}ngstr\u{f6}m",
];

#[test]
fn every_key_comes_back_under_exactly_its_name() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://names"]);
    let longest = "k".repeat(1_024);
    let keys: Vec<&str> = KEYS.into_iter().chain([longest.as_str()]).collect();
    for (i, key) in keys.iter().enumerate() {
        // Each has a content of its own: two that became one would show.
        let content = format!("{i}: {key}");
        platform
            .run_with_input(
                &["put", "-", &format!("sr://names/{key}")],
                content.as_bytes(),
            )
            .status(0);
    }
    let mut listed: Vec<String> = platform
        .json(&["ls", "-r", "sr://names"])
        .iter()
        .map(|object| {
            object["address"]
                .as_str()
                .unwrap()
                .strip_prefix("sr://names/")
                .unwrap()
                .to_owned()
        })
        .collect();
    listed.sort_unstable();
    let mut expected: Vec<&str> = keys.clone();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for (i, key) in keys.iter().enumerate() {
        let got = platform
            .run(&["cat", &format!("sr://names/{key}")])
            .status(0);
        assert_eq!(
            String::from_utf8(got.stdout).unwrap(),
            format!("{i}: {key}")
        );
    }
}

#[test]
fn a_key_that_is_too_long_is_refused_with_a_sentence() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://names"]);
    for length in [1_025, 10_000] {
        let address = format!("sr://names/{}", "k".repeat(length));
        let refused = platform.run_with_input(&["put", "-", &address], b"x");
        assert_eq!(refused.status, 2, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("1024") || refused.stderr.contains("1,024"),
            "{}",
            refused.stderr
        );
    }
    assert!(platform.json(&["ls", "-r", "sr://names"]).is_empty());
}

#[test]
fn no_key_leads_out_of_the_folder_that_receives_it() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://names"]);
    let hostile = [
        "../escaped",
        "a/../../escaped",
        "/tmp/strongroom-escaped",
        "link/escaped",
        "b//c",
        ".",
    ];
    for key in hostile {
        platform
            .run_with_input(&["put", "-", &format!("sr://names/{key}")], b"hostile")
            .status(0);
    }
    platform
        .run_with_input(&["put", "-", "sr://names/good/file"], b"good")
        .status(0);
    let outside = platform.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(platform.path("target")).unwrap();
    std::os::unix::fs::symlink(&outside, platform.path("target/link")).unwrap();
    let ran = platform
        .run(&["get", "-r", "sr://names/", "target"])
        .status(8);
    for key in hostile {
        assert!(
            ran.stderr.contains(&format!("`{key}`")),
            "names `{key}`: {}",
            ran.stderr
        );
    }
    assert_eq!(
        std::fs::read(platform.path("target/good/file")).unwrap(),
        b"good"
    );
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "a symbolic link was followed"
    );
    assert!(
        !platform.path("escaped").exists()
            && !std::path::Path::new("/tmp/strongroom-escaped").exists()
    );
    let mut there: Vec<String> = std::fs::read_dir(platform.path("target"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort_unstable();
    assert_eq!(there, ["good", "link"]);
    // By itself, under a name of one's choice, each can be had.
    platform.ok(&["get", "sr://names/../escaped", "chosen"]);
    assert_eq!(std::fs::read(platform.path("chosen")).unwrap(), b"hostile");
}
