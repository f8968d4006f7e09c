//! Rules of buckets that need no storage: how a listing folds keys into common prefixes.
//!
//! This crate reads no database; it tells the database which keys to fetch ([`listing::Folder::seek`]) and is fed
//! what came ([`listing::Folder::offer`]).

pub mod listing;
