//! What clients, custodians and workers rely on.

mod answers;
mod audit;
mod requests;
