//! Sessions over pipes and sockets, and everyone who must not get one.

#![allow(clippy::unwrap_used)]

mod adversary;
mod attacker;
mod life;
mod listening;
mod support;
mod tls;
mod tree;
