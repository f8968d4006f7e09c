//! The sealed store on real files: what it keeps, what it notices, what a killed process leaves.

#![allow(clippy::unwrap_used)]

mod kill;
mod life;
mod rollback;
mod size;
mod support;
