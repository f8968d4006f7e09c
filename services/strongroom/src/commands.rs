//! One module per command, or per family of commands.

pub mod identity;
pub mod init;
pub mod info;
pub mod up;

use crate::output::Output;
use crate::settings::Settings;

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The settings of every command.
    pub settings: Settings,
    /// How to print.
    pub output: Output,
}
