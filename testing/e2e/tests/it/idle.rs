//! A platform that does nothing: small, healthy, and it says so.

use crate::harness::{NODES, Platform, node_name};

/// Bytes that the whole idle platform may take (proportional set size).
const ALL_BYTES_MAX: u64 = 250 << 20;
/// Bytes that an idle node may take.
const NODE_BYTES_MAX: u64 = 14 << 20;
/// Bytes that the gateway may ever have taken.
const GATEWAY_BYTES_MAX: u64 = 256 << 20;

#[test]
fn an_idle_platform_is_small_and_healthy() {
    let platform = Platform::start();
    platform.wait_for_nodes_online(NODES);
    for node in 0..NODES {
        let bytes = platform.pss_bytes(&node_name(node));
        assert!(bytes <= NODE_BYTES_MAX, "node {node}: {bytes}");
    }
    let all = platform.pss_bytes_total();
    assert!(all <= ALL_BYTES_MAX, "{all}");
    assert!(platform.peak_bytes("gateway") <= GATEWAY_BYTES_MAX);
    assert_eq!(platform.http_get("/health").0, 200);
    let before = platform.metric("strongroom_requests_total");
    platform.ok(&["ls"]);
    assert!(platform.metric("strongroom_requests_total") > before);
    assert!(platform.endpoint().starts_with("http://127.0.0.1:"));
}

#[test]
fn a_gateway_that_is_down_is_said_and_comes_back() {
    let platform = Platform::start();
    platform.hold_gateway();
    platform
        .run(&["ls"])
        .status(6)
        .says("cannot reach the gateway");
    platform.release_gateway();
    platform.ok(&["ls"]);
}
