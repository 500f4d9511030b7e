//! Wiring and nothing else.

pub mod lock;
pub mod preflight;

use crate::config::Command;

/// Does what was asked for.
///
/// # Errors
/// If it could not be done; the chain of causes makes one sentence.
pub fn main(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(settings) => {
            preflight::check()?;
            let _lock = lock::take(&settings.kernel.pin_dir)?;
            anyhow::bail!("`run` is not wired yet")
        }
        Command::Detach(kernel) => {
            preflight::check()?;
            let _lock = lock::take(&kernel.pin_dir)?;
            anyhow::bail!("`detach` is not wired yet")
        }
    }
}
