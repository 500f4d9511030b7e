//! Holds a pod's namespaces: sleeps, takes up the children that others leave, and ends at SIGTERM or SIGINT.

use anyhow::Result;
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
};

fn main() -> Result<()> {
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        awaited.add(signal);
    }
    // blocked signals wait for us, also as process 1, for which the kernel drops those that nobody handles
    awaited.thread_block()?;
    loop {
        reap()?;
        if awaited.wait()? != Signal::SIGCHLD {
            return Ok(());
        }
    }
}

/// Takes up every child that has ended: several ends may have come as one signal.
fn reap() -> Result<()> {
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
