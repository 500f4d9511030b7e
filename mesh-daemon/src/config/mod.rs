//! Flags and environment → checked, typed [`Settings`]. Nothing below this room reads the environment.

mod settings;

pub use settings::{AttachMode, KernelSettings, Settings};
