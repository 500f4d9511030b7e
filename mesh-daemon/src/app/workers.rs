//! The workers: one thread with a current-thread runtime and transparent listeners of its own each; nothing is shared but the tables.

use std::{num::NonZeroU32, os::fd::AsRawFd as _, sync::Arc};

use anyhow::Context as _;

use crate::{bpf::ListenerFds, drain, proxy, task};

/// Running workers.
pub(super) struct Workers {
    listeners: Vec<ListenerFds>,
}

impl Workers {
    /// Binds all listeners, then starts the threads.
    pub(super) fn start(
        count: NonZeroU32,
        options: &proxy::Options,
        shared: &Arc<proxy::Shared>,
        drain: &drain::Watch,
    ) -> anyhow::Result<Self> {
        let bound = (0..count.get())
            .map(|_| proxy::Listeners::bind(options))
            .collect::<std::io::Result<Vec<_>>>()
            .context("cannot open transparent listeners: the daemon needs CAP_NET_ADMIN")?;
        let mut workers = Self {
            listeners: Vec::with_capacity(bound.len()),
        };
        for (index, listeners) in bound.into_iter().enumerate() {
            let (v4, v6) = listeners.as_fds();
            workers.listeners.push(ListenerFds {
                v4: v4.as_raw_fd(),
                v6: v6.map(|v6| v6.as_raw_fd()),
            });
            let (shared, drain) = (Arc::clone(shared), drain.clone());
            task::thread(format!("worker-{index}"), move || {
                proxy::serve(shared, listeners, drain)
            })
            .context("cannot start a worker's thread")?;
        }
        Ok(workers)
    }

    /// Every worker's listeners, for the kernel half.
    pub(super) fn listeners(&self) -> Vec<ListenerFds> {
        self.listeners.clone()
    }
}
