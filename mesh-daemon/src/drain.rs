//! Draining: one side says stop, everybody who holds a [`Watch`] hears it, and the last one who lets go ends the wait.

use tokio::sync::{mpsc, watch};

/// The side that says stop and waits.
#[derive(Debug)]
pub struct Signal {
    stop: watch::Sender<bool>,
    done: mpsc::Receiver<()>,
}

/// The side that hears it. Held by whatever must end before the drain is complete; cloning is cheap.
#[derive(Clone, Debug)]
pub struct Watch {
    stop: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
}

/// Sees whether stop was said, and keeps nobody waiting: for those who report a drain and must outlive it.
#[derive(Clone, Debug)]
pub struct Observer {
    stop: watch::Receiver<bool>,
}

/// A connected pair.
pub fn channel() -> (Signal, Watch) {
    let (stop, stopped) = watch::channel(false);
    // nothing is ever sent: closing is the message
    let (alive, done) = mpsc::channel(1);
    (
        Signal { stop, done },
        Watch {
            stop: stopped,
            _alive: alive,
        },
    )
}

impl Signal {
    /// Says stop; does not wait.
    pub fn start(&self) {
        self.stop.send_replace(true);
    }

    /// Says stop and waits until every [`Watch`] is gone.
    pub async fn drain(mut self) {
        self.start();
        // a watch that the caller forgot would hang this: the caller bounds the wait
        let _ = self.done.recv().await;
    }
}

impl Observer {
    /// Whether stop was said.
    pub fn is_draining(&self) -> bool {
        *self.stop.borrow()
    }
}

impl Watch {
    /// A view of this drain that does not hold it up.
    pub fn observer(&self) -> Observer {
        Observer {
            stop: self.stop.clone(),
        }
    }

    /// Whether stop was said.
    pub fn is_draining(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until stop is said.
    pub async fn draining(&mut self) {
        // an error means that the signal is gone, which says stop as well
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_when_the_last_watch_is_gone() {
        let (signal, watch) = channel();
        let mut second = watch.clone();
        assert!(!watch.is_draining());
        signal.start();
        second.draining().await;
        assert!(watch.is_draining());
        let waiting = tokio::spawn(signal.drain());
        drop(watch);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn an_observer_sees_the_drain_and_does_not_hold_it_up() {
        let (signal, watch) = channel();
        let observer = watch.observer();
        drop(watch);
        assert!(!observer.is_draining());
        signal.drain().await;
        assert!(observer.is_draining());
    }

    #[tokio::test]
    async fn a_lost_signal_says_stop() {
        let (signal, mut watch) = channel();
        drop(signal);
        watch.draining().await;
    }
}
