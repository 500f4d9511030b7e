//! Flags and environment → checked, typed [`Settings`]. Nothing below this room reads the environment.

mod args;
mod check;
mod help;
mod settings;
mod usage;
mod value;

pub use check::ConfigError;
pub use settings::{AttachMode, KernelSettings, LogSettings, OutputFormat, Question, Settings, Source, Subject};
pub use usage::{Command, Invocation, Stop, command_line, definition};
