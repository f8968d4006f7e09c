//! Identifiers and names, in text and binary.

use domain::{BucketName, Cid, Codec, NodeId, ObjectKey, Principal};

use crate::Target;

pub const CID: Target = Target {
    name: "cid",
    run: cid,
    seeds: || {
        let raw = Cid::of_raw(b"seed");
        let cbor = Cid::of(Codec::DagCbor, b"seed");
        vec![
            raw.to_bytes().to_vec(),
            cbor.to_bytes().to_vec(),
            raw.to_string().into_bytes(),
            cbor.to_string().into_bytes(),
        ]
    },
};

pub const NAMES: Target = Target {
    name: "names",
    run: names,
    seeds: || {
        [
            "photos",
            "a.b-c",
            "tree/of/names/\u{202e}\u{65e5}",
            "../../etc/passwd",
        ]
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect()
    },
};

fn cid(input: &[u8]) -> bool {
    let binary = Cid::from_bytes(input);
    if let Ok(cid) = binary {
        assert_eq!(cid.to_bytes(), input, "one binary form for one CID");
    }
    let text = std::str::from_utf8(input).ok().and_then(|text| {
        let cid: Cid = text.parse().ok()?;
        assert_eq!(cid.to_string(), text, "one text form for one CID");
        Some(cid)
    });
    if let Some(cid) = text.or(binary.ok()) {
        assert_eq!(Cid::from_bytes(&cid.to_bytes()), Ok(cid));
        assert_eq!(cid.to_string().parse(), Ok(cid));
    }
    text.is_some() || binary.is_ok()
}

fn names(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let bucket = text.parse::<BucketName>();
    if let Ok(name) = &bucket {
        assert_eq!(name.as_str(), text);
        assert!(text.parse::<Cid>().is_err(), "a bucket name that is a CID");
    }
    let key = text.parse::<ObjectKey>();
    if let Ok(key) = &key {
        assert_eq!(key.as_str(), text);
        assert!(key.as_str().len() <= 1024);
    }
    let principal = text.parse::<Principal>();
    if let Ok(principal) = &principal {
        assert_eq!(
            principal.to_string().parse::<Principal>().as_ref(),
            Ok(principal)
        );
    }
    let node = text.parse::<NodeId>();
    bucket.is_ok() || key.is_ok() || principal.is_ok() || node.is_ok()
}
