//! The evidence format, the software platform and the appraisal, from the outside.

#![allow(clippy::unwrap_used)]

mod appraisal;
mod format;
mod hardware;
mod support;
