//! Wiring and nothing else.

mod run;
mod apply;
mod workers;
mod signal;
mod views;
pub mod lock;
pub mod preflight;

use std::future::Future;

use anyhow::Context as _;
use tokio::task::LocalSet;

use crate::{cli, config::Command, print};

/// Does what was asked for.
///
/// # Errors
/// If it could not be done; the chain of causes makes one sentence.
pub fn main(command: Command) -> anyhow::Result<()> {
    if let Command::Ask(question) = &command {
        // it needs no rights but those on the socket
        return block_on(async { say(cli::look(question).await?.trim_end()) });
    }
    preflight::check()?;
    match command {
        Command::Ask(_) => Ok(()),
        Command::Run(settings) => {
            let _lock = lock::take(&settings.kernel.pin_dir)?;
            block_on(run::run(*settings))
        }
        Command::Detach(kernel) => {
            let _lock = lock::take(&kernel.pin_dir)?;
            block_on(async { say(&cli::detach::detach(&kernel, &run::netlink()?).await?) })
        }
    }
}

/// Runs on this thread: the control side needs no more.
fn block_on(main: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    LocalSet::new().block_on(&runtime, main)
}

fn say(answer: &str) -> anyhow::Result<()> {
    print::answer(&format!("{answer}\n")).context("cannot write the answer to stdout")
}
