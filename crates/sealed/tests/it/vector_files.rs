//! Committed vectors: files under `test-data/`, one folder for each set, made by this implementation.

use std::path::PathBuf;

use data_encoding::HEXLOWER;
use serde_json::Value;

pub fn folder(set: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../test-data")).join(set)
}

pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

pub fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    unhex(value).try_into().unwrap()
}

/// Compares with the committed file, or writes it when asked to.
pub fn golden(set: &str, name: &str, made: &[u8]) {
    let path = folder(set).join(name);
    if std::env::var_os("STRONGROOM_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(folder(set)).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let committed =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        committed == made,
        "{} is not what this implementation makes",
        path.display()
    );
}

pub fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap();
    text.push(b'\n');
    text
}

pub fn committed(set: &str, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder(set).join(name)).unwrap()).unwrap()
}
