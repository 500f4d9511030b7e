//! Log lines from the packet path (aya-log), only in builds with the feature `ebpf-log` and an object of `build-ebpf --debug-log`.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use crate::task;

/// Starts to carry the kernel half's log lines into the daemon's log. An object without them is said, not fatal.
pub fn start(ebpf: &mut Ebpf) {
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => {
            tracing::warn!(%error, "the kernel half logs nothing: build it with `cargo xtask build-ebpf --debug-log`");
            return;
        }
    };
    // SAFETY: the logger owns its ring buffer's descriptor and keeps it open until it is dropped, after the AsyncFd
    let Ok(mut logger) = (unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }) else {
        tracing::warn!("the kernel half's log cannot be watched");
        return;
    };
    task::spawn("kernel log", async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
}
