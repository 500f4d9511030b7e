//! A proxy before the API server that does what networks and servers do on bad days, as rules say that tests set and clear while it runs.
//! Plain HTTP towards the daemon; towards the API server whatever the client's configuration says, TLS and credentials included.

mod body;
mod log;
mod rules;
mod serve;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use anyhow::{Context, Result, anyhow};
use tokio::sync::{broadcast, watch};

pub use log::{Log, Request};
pub use rules::{Effect, Rule, Rules};

use crate::bench::Netns;
use serve::Shared;

/// Strikes that an open connection may have to catch up with: tests strike a handful of times.
const STRIKES_MAX: usize = 16;

/// What happens once, to everything that is open now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    /// Watches end in order, as the API server ends them after some minutes.
    CloseWatches,
    /// Watches get the ERROR event 410 Gone and end.
    ExpireWatches,
    /// Connections are reset.
    Reset,
}

/// The running proxy. Dropping it ends it, and resets what is open.
#[derive(Debug)]
pub struct Chaos {
    addr: SocketAddr,
    rules: watch::Sender<Arc<Rules>>,
    strikes: broadcast::Sender<Strike>,
    log: Log,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Chaos {
    /// Starts it in a namespace (in the caller's if none), on this address, port 0 for any.
    ///
    /// # Errors
    /// If the namespace does not exist, the address cannot be bound, or the configuration makes no client.
    pub fn start(netns: Option<&Netns>, listen: SocketAddr, upstream: kube::Config) -> Result<Self> {
        let (rules, rules_seen) = watch::channel(Arc::new(Rules::default()));
        let (strikes, _) = broadcast::channel(STRIKES_MAX);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (bound, starts) = mpsc::channel();
        let log = Log::default();
        let shared = Shared {
            rules: rules_seen,
            strikes: strikes.clone(),
            log: log.clone(),
        };
        let netns = netns.cloned();
        let work = move || {
            let run = || serve::run(listen, upstream, shared, stopped, &bound);
            match &netns {
                Some(netns) => netns.inside(run)?,
                None => run(),
            }
        };
        let thread = std::thread::Builder::new().name("chaos".into()).spawn(work)?;
        // a thread that fails before it is bound drops its end of the channel
        let Ok(addr) = starts.recv() else {
            let ended = thread.join().map_err(|_| anyhow!("the proxy's thread panicked"))?;
            return Err(ended
                .err()
                .unwrap_or_else(|| anyhow!("it ended by itself"))
                .context("the proxy does not start"));
        };
        Ok(Self {
            addr,
            rules,
            strikes,
            log,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a kubeconfig's `server` says to come through it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A kubeconfig file's text that comes through it. It needs no credentials: the proxy has them.
    ///
    /// # Errors
    /// If the text cannot be made.
    pub fn kubeconfig(&self) -> Result<String> {
        kubeconfig(&self.url())
    }

    /// From now on these rules hold; all others end. Bodies that are under way follow them too.
    pub fn set(&self, rules: impl IntoIterator<Item = Rule>) {
        self.rules.send_replace(Arc::new(Rules {
            rules: rules.into_iter().collect(),
            refuse: false,
        }));
    }

    /// Everything passes again.
    pub fn clear(&self) {
        self.set([]);
    }

    /// Nothing listens any more, and what is open is reset, as if the server's process were killed; until [`Self::clear`].
    pub fn refuse(&self) {
        self.rules.send_replace(Arc::new(Rules {
            rules: Vec::new(),
            refuse: true,
        }));
        self.reset_connections();
    }

    /// Resets every open connection.
    pub fn reset_connections(&self) {
        self.strike(Strike::Reset);
    }

    /// Ends every open watch in order.
    pub fn close_watches(&self) {
        self.strike(Strike::CloseWatches);
    }

    /// Says 410 Gone into every open watch, as the server does when the history that a watch wants is compacted.
    pub fn expire_watches(&self) {
        self.strike(Strike::ExpireWatches);
    }

    /// What was asked so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    fn strike(&self, strike: Strike) {
        // nobody who listens is nobody to strike
        let _ = self.strikes.send(strike);
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("the chaos proxy ended with: {error:#}"),
                Err(_) => eprintln!("the chaos proxy's thread panicked"),
            }
        }
    }
}

/// A kubeconfig file's text for a server that asks for no credentials.
///
/// # Errors
/// If the text cannot be made.
pub fn kubeconfig(server: &str) -> Result<String> {
    let value = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "chaos", "cluster": {"server": server}}],
        "users": [{"name": "chaos", "user": {}}],
        "contexts": [{"name": "chaos", "context": {"cluster": "chaos", "user": "chaos"}}],
        "current-context": "chaos",
    });
    serde_json::to_string_pretty(&value).context("a kubeconfig")
}
