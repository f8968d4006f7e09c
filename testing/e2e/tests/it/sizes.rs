//! Every border of the format, large files and ranges of bytes: bit for bit.

use std::sync::Arc;

use client::{ByteRange, ErrorKind};

use crate::harness::{Platform, bytes, write_file};
use crate::support::{bucket, connect, identity, key, runtime};

/// Plaintext of a block.
const BLOCK: usize = 65_520;
/// Plaintext of a chunk.
const CHUNK: usize = 64 * BLOCK;

/// Around every border: nothing, one byte, blocks, the largest small object, chunks, and powers of two that are none.
fn sizes() -> Vec<usize> {
    let mut sizes = vec![0, 1];
    for border in [
        BLOCK,
        64 << 10,
        4 * BLOCK,
        256 << 10,
        CHUNK - BLOCK,
        CHUNK,
        4 << 20,
        2 * CHUNK,
    ] {
        sizes.extend([border - 1, border, border + 1]);
    }
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn seed(size: usize) -> u64 {
    u64::try_from(size).unwrap() + 1
}

#[test]
fn every_border_of_the_format_comes_back_bit_for_bit() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    std::fs::create_dir(platform.path("in")).unwrap();
    for size in sizes() {
        write_file(&platform.path(&format!("in/{size}")), size, seed(size));
    }
    platform.ok(&["put", "-r", "in/", "sr://files/"]);
    let listed = platform.json(&["ls", "-r", "sr://files"]);
    assert_eq!(listed.len(), sizes().len());
    for object in &listed {
        let name = object["address"]
            .as_str()
            .unwrap()
            .strip_prefix("sr://files/")
            .unwrap();
        assert_eq!(object["size_bytes"].as_u64(), name.parse().ok(), "{object}");
    }
    platform.ok(&["get", "-r", "sr://files/", "out/"]);
    for size in sizes() {
        let back = std::fs::read(platform.path(&format!("out/{size}"))).unwrap();
        assert!(
            back == bytes(size, seed(size)),
            "{size} bytes came back different"
        );
    }
}

#[test]
fn a_large_file_comes_back_bit_for_bit() {
    let soak = std::env::var_os("STRONGROOM_SOAK").is_some_and(|value| value == "1");
    let size = if soak { 1 << 30 } else { 100 << 20 };
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    let content = write_file(&platform.path("large"), size, 3);
    platform.ok(&["put", "--wait-placed", "large", "sr://files/large"]);
    let stat = platform.json(&["stat", "sr://files/large"]).remove(0);
    assert_eq!(stat["fully_placed"], true, "{stat:#}");
    assert_eq!(
        stat["size_bytes"].as_u64(),
        u64::try_from(size).ok(),
        "{stat:#}"
    );
    platform.ok(&["get", "sr://files/large", "back"]);
    assert!(
        std::fs::read(platform.path("back")).unwrap() == content,
        "it came back different"
    );
}

#[test]
fn any_range_of_bytes_is_that_part_of_the_object() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    let me = Arc::new(identity(&platform));
    runtime().block_on(async {
        let client = connect(&platform, &me, "state").await;
        let files = bucket("files");
        // One byte, a small object, one chunk with a short last block, two full chunks, three with a short one.
        for size in [1, 200_000, CHUNK - 7, 2 * CHUNK, 2 * CHUNK + 3 * BLOCK + 11] {
            let content = bytes(size, seed(size));
            let name = key(&size.to_string());
            client
                .put_bytes(&files, &name, &content, &client::PutOptions::default())
                .await
                .unwrap();
            let borders = [
                0,
                1,
                BLOCK - 1,
                BLOCK,
                BLOCK + 1,
                CHUNK - 1,
                CHUNK,
                CHUNK + 1,
                size - 1,
                size / 2,
            ];
            let mut random = seed(size);
            let mut draw = |below: usize| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(random >> 33).unwrap() % below
            };
            for n in 0..60 {
                // Half of the ends lie on borders of the format, half anywhere.
                let mut end = |n: usize| {
                    if n.is_multiple_of(2) {
                        borders[draw(borders.len())]
                    } else {
                        draw(size)
                    }
                };
                let (a, b) = (end(n).min(size - 1), end(n / 2).min(size - 1));
                let (first, last) = (a.min(b), a.max(b));
                let (from, to) = (u64::try_from(first).unwrap(), u64::try_from(last).unwrap());
                let (range, expected) = match n % 5 {
                    0 => (ByteRange::From(from), &content[first..]),
                    1 => (ByteRange::Last(from + 1), &content[size - first - 1..]),
                    // The last byte may lie beyond the end.
                    2 => (ByteRange::Span(from, u64::MAX), &content[first..]),
                    _ => (ByteRange::Span(from, to), &content[first..=last]),
                };
                let (_, part) =
                    client
                        .get_bytes(&files, &name, range)
                        .await
                        .unwrap_or_else(|error| {
                            panic!("{range:?} of {size} bytes: {error}");
                        });
                assert!(
                    part == expected,
                    "{range:?} of {size} bytes came back different"
                );
            }
            let beyond = ByteRange::Span(u64::try_from(size).unwrap(), u64::MAX);
            let refused = client.get_bytes(&files, &name, beyond).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
        }
    });
    // A range through the program, and one that makes no sense.
    let part = platform
        .run(&["cat", "--range", "65519-65521", "sr://files/200000"])
        .status(0)
        .stdout;
    assert_eq!(part, &bytes(200_000, seed(200_000))[65_519..=65_521]);
    for bad in ["9-5", "-", "200000-200001"] {
        let refused = platform
            .run(&["cat", "--range", bad, "sr://files/200000"])
            .status(2);
        assert!(
            refused.stdout.is_empty() && refused.stderr.contains("range"),
            "{refused:#?}"
        );
    }
}
