//! The shard store as a node uses it: through its public handle, on a real disk.

mod kill;
mod life;
mod model;
mod support;
