//! Which package may depend on which: dependencies point downward only.
//!
//! ```text
//! domain <- crypto <- records <- {erasure, ...} <- sealed <- ledger <- custody <- {objects, ...}     crates/, pure
//! adapters  -> crates/, and the wire contract
//! clients   -> sealed and what lies below it, wire, transport
//! services  -> all of these; only the program depends on the other services
//! testing   -> anything, and so does fuzz/; nothing depends on testing, fuzz or xtask
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Violation;

/// Pure crates by height. A crate may depend only on crates of a lower one.
const PURE_HEIGHTS: &[&[&str]] = &[
    &["domain"],
    &["crypto"],
    &["records"],
    &["erasure", "threshold", "attestation"],
    &["sealed"],
    &["ledger"],
    &["custody"],
    &["wallet", "jobs", "objects", "buckets"],
];

/// The highest pure crate that runs on a user's machine.
const CLIENT_HIGHEST: &str = "custody";
/// The adapters that are a contract or a connection, not a service's state.
const CLIENT_ADAPTERS: &[&str] = &["wire", "transport"];
/// The adapters that other adapters may build on: the wire contracts, and the sessions that enclaves speak theirs over.
const SHARED_ADAPTERS: &[&str] = &["wire", "enclave_wire", "attested"];
/// The program that starts every role.
const PROGRAM: &str = "strongroom";

/// Not even at second hand in a pure crate: the presence of one of these is IO or a runtime.
const NEVER_UNDER_PURE: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "mio",
    "hyper",
    "axum",
    "tonic",
    "reqwest",
    "rustls",
    "sqlx",
    "sqlx-core",
    "rusqlite",
    "socket2",
    "rustix",
    "nix",
];
/// Not directly in a pure crate: sources of randomness and time. (At second hand `aws-lc-rs` and `hpke` bring some.)
const NEVER_IN_PURE: &[&str] = &[
    "getrandom",
    "rand",
    "time",
    "chrono",
    "tempfile",
    "tracing-subscriber",
];

/// Workspace members and the graph below them.
pub struct Graph {
    members: Vec<Member>,
    /// Package id to (name, ids of its normal and build dependencies).
    nodes: BTreeMap<String, (String, Vec<String>)>,
}

struct Member {
    id: String,
    name: String,
    /// Folder from the root of the tree, such as `crates/domain`.
    folder: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    /// Only for tests, examples and benches of the crate.
    dev: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Pure,
    Adapter,
    Client,
    Service,
    Testing,
    Tool,
}

impl Layer {
    fn of(folder: &str) -> Option<Self> {
        match folder.split('/').next()? {
            "crates" => Some(Self::Pure),
            "adapters" => Some(Self::Adapter),
            "clients" => Some(Self::Client),
            "services" => Some(Self::Service),
            "testing" | "fuzz" => Some(Self::Testing),
            "xtask" => Some(Self::Tool),
            _ => None,
        }
    }
}

impl Graph {
    /// Reads the answer of `cargo metadata --format-version 1`.
    ///
    /// # Errors
    /// A sentence naming the field that is missing or of another type.
    pub fn from_metadata(json: &str) -> Result<Self, String> {
        let metadata: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let root = text(&metadata, "workspace_root")?;
        let member_ids: BTreeSet<&str> = list(&metadata, "workspace_members")?
            .iter()
            .filter_map(Value::as_str)
            .collect();

        let mut members = Vec::new();
        let mut names = BTreeMap::new();
        for package in list(&metadata, "packages")? {
            let (id, name) = (text(package, "id")?, text(package, "name")?);
            names.insert(id, name);
            if !member_ids.contains(id) {
                continue;
            }
            let manifest = text(package, "manifest_path")?;
            let folder = manifest
                .strip_prefix(root)
                .and_then(|path| path.strip_suffix("/Cargo.toml"))
                .map(|path| path.trim_start_matches('/'))
                .ok_or_else(|| format!("{manifest} is not under {root}"))?;
            let dependencies = list(package, "dependencies")?
                .iter()
                .map(|dependency| {
                    Ok(Dependency {
                        name: text(dependency, "name")?.to_owned(),
                        dev: dependency.get("kind").and_then(Value::as_str) == Some("dev"),
                    })
                })
                .collect::<Result<_, String>>()?;
            members.push(Member {
                id: id.to_owned(),
                name: name.to_owned(),
                folder: folder.to_owned(),
                dependencies,
            });
        }

        let resolve = metadata.get("resolve").ok_or("no field `resolve`")?;
        let mut nodes = BTreeMap::new();
        for node in list(resolve, "nodes")? {
            let id = text(node, "id")?;
            let name = names.get(id).ok_or_else(|| format!("no package {id}"))?;
            let below = list(node, "deps")?
                .iter()
                .filter(|dep| is_shipped(dep))
                .map(|dep| text(dep, "pkg").map(str::to_owned))
                .collect::<Result<_, _>>()?;
            nodes.insert(id.to_owned(), ((*name).to_owned(), below));
        }
        Ok(Self { members, nodes })
    }

    /// How many workspace members there are.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Every dependency that points upward, sideways or out of the pure part.
    pub fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for member in &self.members {
            let path = format!("{}/Cargo.toml", member.folder);
            let Some(layer) = Layer::of(&member.folder) else {
                found.push(Violation::new(
                    &path,
                    0,
                    "this folder is no layer of the tree: use crates/, adapters/, services/, clients/ or testing/",
                ));
                continue;
            };
            if layer == Layer::Pure {
                self.check_pure(member, &path, &mut found);
            }
            for dependency in &member.dependencies {
                let Some(target) = self.member(&dependency.name) else {
                    continue;
                };
                if let Some(reason) = refused(layer, member, target) {
                    found.push(Violation::new(
                        &path,
                        0,
                        format!("depends on `{}`: {reason}", target.name),
                    ));
                }
            }
        }
        found
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    fn check_pure(&self, member: &Member, path: &str, found: &mut Vec<Violation>) {
        if height(&member.name).is_none() {
            found.push(Violation::new(
                path,
                0,
                "this pure crate has no height yet: add it to PURE_HEIGHTS in xtask/src/tidy/layers.rs",
            ));
        }
        for dependency in member.dependencies.iter().filter(|d| !d.dev) {
            if NEVER_IN_PURE.contains(&dependency.name.as_str()) {
                found.push(Violation::new(
                    path,
                    0,
                    format!(
                        "depends on `{}`: crates/ is given time and randomness, never takes them; pass them in as arguments",
                        dependency.name
                    ),
                ));
            }
        }
        for name in NEVER_UNDER_PURE {
            if let Some(chain) = self.chain(&member.id, name) {
                found.push(Violation::new(
                    path,
                    0,
                    format!(
                        "reaches `{name}` ({}): crates/ does no IO and knows no runtime; move that part to adapters/ behind a port",
                        chain.join(" -> ")
                    ),
                ));
            }
        }
    }

    /// The shortest way from package `from` to a package called `name`.
    fn chain(&self, from: &str, name: &str) -> Option<Vec<&str>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([from]);
        while let Some(id) = queue.pop_front() {
            let Some((own_name, below)) = self.nodes.get(id) else {
                continue;
            };
            if own_name == name {
                let mut chain = vec![own_name.as_str()];
                let mut at = id;
                while let Some(above) = came_from.get(at) {
                    at = above;
                    chain.extend(self.nodes.get(at).map(|(name, _)| name.as_str()));
                }
                chain.reverse();
                return Some(chain);
            }
            for next in below {
                if next != from && !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, id);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

/// Why `member` may not depend on `target`, if it may not.
fn refused(layer: Layer, member: &Member, target: &Member) -> Option<&'static str> {
    let target_layer = Layer::of(&target.folder)?;
    let target_name = target.name.as_str();
    match (layer, target_layer) {
        (_, Layer::Testing | Layer::Tool) if layer != Layer::Testing => {
            Some("nothing that ships depends on tests or tools")
        }
        (Layer::Pure, Layer::Pure) => (height(target_name) >= height(&member.name))
            .then_some("dependencies point downward: domain <- crypto <- records <- erasure <- sealed <- ledger <- custody <- {objects, buckets}"),
        (Layer::Pure, _) => {
            Some("a pure crate depends on pure crates only: declare a port here and implement it there")
        }
        (Layer::Adapter, Layer::Adapter) => (!SHARED_ADAPTERS.contains(&target_name))
            .then_some("adapters do not know each other (only the wire contracts and attested sessions): join them in services/"),
        (Layer::Adapter, Layer::Client | Layer::Service) => {
            Some("an adapter implements ports of crates/ and knows nothing above itself")
        }
        (Layer::Client, Layer::Pure) => (height(target_name) > height(CLIENT_HIGHEST))
            .then_some("a client makes and opens sealed things; what the gateway decides is not its concern"),
        (Layer::Client, Layer::Adapter) => (!CLIENT_ADAPTERS.contains(&target_name))
            .then_some("a client holds no service's state: only wire and transport"),
        (Layer::Client, Layer::Service) => Some("clients speak to services over the wire only"),
        (Layer::Service, Layer::Service | Layer::Client) => (member.name != PROGRAM)
            .then_some("services meet on the wire; only the program joins them"),
        (Layer::Tool, _) => Some("xtask must build when nothing else does"),
        _ => None,
    }
}

fn height(name: &str) -> Option<usize> {
    PURE_HEIGHTS.iter().position(|names| names.contains(&name))
}

/// A dependency that is there in the shipped crate or its build script, not only in its tests.
fn is_shipped(dep: &Value) -> bool {
    dep.get("dep_kinds")
        .and_then(Value::as_array)
        .is_none_or(|kinds| {
            kinds
                .iter()
                .any(|kind| kind.get("kind").and_then(Value::as_str) != Some("dev"))
        })
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, String> {
    value
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("no text in field `{field}`"))
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], String> {
    value
        .get(field)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .ok_or_else(|| format!("no list in field `{field}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace of `(folder, dependencies)`, where `dev:` marks a test-only one; other names are packages of crates.io,
    /// and `a>b` among them says that `a` depends on `b`.
    fn graph(members: &[(&str, &[&str])], outside: &[&str]) -> Graph {
        let name = |folder: &str| folder.rsplit('/').next().unwrap_or(folder).to_owned();
        let kind = |dep: &str| {
            if dep.starts_with("dev:") {
                json!("dev")
            } else {
                json!(null)
            }
        };
        let bare = |dep: &str| dep.trim_start_matches("dev:").to_owned();
        let mut packages = Vec::new();
        let mut nodes = Vec::new();
        for (folder, deps) in members {
            packages.push(json!({
                "id": name(folder), "name": name(folder), "manifest_path": format!("/t/{folder}/Cargo.toml"),
                "dependencies": deps.iter().map(|d| json!({"name": bare(d), "kind": kind(d)})).collect::<Vec<_>>(),
            }));
            nodes.push(json!({"id": name(folder), "deps": deps.iter()
                .map(|d| json!({"pkg": bare(d), "dep_kinds": [{"kind": kind(d)}]})).collect::<Vec<_>>()}));
        }
        for outside in outside {
            let (name, below) = outside
                .split_once('>')
                .map_or((*outside, vec![]), |(n, b)| (n, vec![b]));
            packages.push(json!({"id": name, "name": name, "manifest_path": "/r/Cargo.toml", "dependencies": []}));
            nodes.push(json!({"id": name, "deps": below.iter()
                .map(|b| json!({"pkg": b, "dep_kinds": [{"kind": null}]})).collect::<Vec<_>>()}));
        }
        let metadata = json!({
            "workspace_root": "/t",
            "workspace_members": members.iter().map(|(folder, _)| name(folder)).collect::<Vec<_>>(),
            "packages": packages, "resolve": {"nodes": nodes},
        });
        Graph::from_metadata(&metadata.to_string()).expect("well-formed metadata")
    }

    fn check(members: &[(&str, &[&str])], outside: &[&str], expect: &[&str]) {
        let found = graph(members, outside).check();
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (violation, expect) in found.iter().zip(expect) {
            assert!(
                violation.to_string().contains(expect),
                "{violation} / {expect}"
            );
        }
    }

    #[test]
    fn the_tree_as_drawn_passes() {
        check(
            &[
                ("crates/domain", &[]),
                ("crates/crypto", &["domain"]),
                ("crates/sealed", &["crypto", "dev:tempfile"]),
                ("crates/objects", &["sealed", "domain"]),
                ("adapters/wire", &["sealed", "tokio"]),
                ("adapters/transport", &["wire"]),
                ("adapters/database", &["objects", "tokio"]),
                ("services/gateway", &["database", "transport", "objects"]),
                ("clients/rust", &["sealed", "wire", "transport"]),
                ("services/strongroom", &["gateway", "rust"]),
                ("testing/e2e", &["strongroom", "rust"]),
                ("xtask", &[]),
            ],
            &["tokio", "tempfile"],
            &[],
        );
    }

    #[test]
    fn a_dependency_that_points_upward_or_sideways_is_refused() {
        for (member, target) in [
            ("crates/domain", "crates/crypto"),
            ("crates/objects", "crates/buckets"),
            ("crates/sealed", "adapters/wire"),
            ("adapters/shards", "adapters/database"),
            ("adapters/shards", "services/node"),
            ("clients/rust", "services/gateway"),
            ("clients/rust", "crates/objects"),
            ("clients/rust", "adapters/database"),
            ("services/gateway", "services/node"),
            ("services/gateway", "testing/e2e"),
            ("xtask", "crates/domain"),
        ] {
            let name = target.rsplit('/').next().unwrap_or(target);
            check(&[(member, &[name]), (target, &[])], &[], &["depends on"]);
            // A test of the crate may not look upward either.
            check(
                &[(member, &[&format!("dev:{name}")]), (target, &[])],
                &[],
                &["depends on"],
            );
        }
    }

    #[test]
    fn a_pure_crate_reaches_no_runtime_at_any_depth() {
        check(
            &[("crates/sealed", &["tokio"])],
            &["tokio"],
            &["sealed -> tokio"],
        );
        check(
            &[("crates/sealed", &["helper"])],
            &["helper>hyper", "hyper"],
            &["sealed -> helper -> hyper"],
        );
        check(&[("crates/sealed", &["dev:tokio"])], &["tokio"], &[]);
        check(
            &[("crates/sealed", &["getrandom"])],
            &["getrandom"],
            &["randomness"],
        );
        check(
            &[("crates/sealed", &["helper"])],
            &["helper>getrandom", "getrandom"],
            &[],
        );
    }

    #[test]
    fn a_new_folder_or_pure_crate_has_to_be_placed() {
        check(&[("misc/thing", &[])], &[], &["no layer"]);
        check(&[("crates/novel", &[])], &[], &["no height"]);
    }

    #[test]
    fn another_answer_than_the_documented_one_is_an_error() {
        for json in ["", "{}", "[]", r#"{"workspace_root": 1}"#] {
            assert!(Graph::from_metadata(json).is_err(), "{json}");
        }
    }
}
