//! What this may link: it is an enclave, or part of every one.

#[path = "../../../../testing/tree.rs"]
mod rule;

#[test]
fn no_http_stack_database_or_consensus_is_linked() {
    rule::check("attested", &["rustls", "tokio", "attestation"]);
}
