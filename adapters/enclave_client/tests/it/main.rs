//! Asking and answering over real sockets, and peers that do not play along.

#![allow(clippy::unwrap_used)]

mod asking;
mod reconnecting;
mod serving;
mod support;
mod tree;
