//! The queue between the workers and whoever reads the lines: a thread of its own writes, so that a reader that stalls holds up no request.

use std::{
    io::{self, Write},
    time::Duration,
};

use prometheus::{IntCounter, Registry};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{task, telemetry::register};

/// Lines that wait to be written: some hundredths of a second of a busy node, and with the longest hosts and paths some 16 MiB.
const QUEUE_LINES: usize = 4096;
/// Lines written with one call.
const BATCH_LINES: usize = 256;
/// How long the daemon's end waits for what is queued: a reader that stalls must not hold it up.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// Where the data path leaves its lines. A clone leaves them in the same queue.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: mpsc::Sender<String>,
    dropped: IntCounter,
}

/// The thread that writes; it ends when this is dropped.
#[derive(Debug)]
pub struct Writer {
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl AccessLog {
    /// Starts a thread that writes lines to `out`.
    ///
    /// # Errors
    /// If the kernel refuses the thread.
    pub fn start(registry: &Registry, out: impl Write + Send + 'static) -> io::Result<(Self, Writer)> {
        let help = "Lines of the access log that were not written: its reader is too slow, or gone.";
        let dropped = register(registry, IntCounter::new("weft_access_log_dropped_total", help));
        let (lines, queue) = mpsc::channel(QUEUE_LINES);
        let (stop, stopped) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        let lost = dropped.clone();
        task::thread("access-log".to_owned(), move || async move {
            write(queue, stopped, out, &lost).await;
            // nobody waits where the daemon ended otherwise
            let _ = finished.send(());
        })?;
        Ok((Self { lines, dropped }, Writer { stop, done }))
    }

    /// Leaves a line to be written. Never waits: one that does not fit is dropped and counted.
    pub(in crate::proxy) fn leave(&self, line: Option<String>) {
        let is_left = line.is_some_and(|line| self.lines.try_send(line).is_ok());
        if !is_left {
            self.dropped.inc();
        }
    }
}

impl Writer {
    /// Has what is queued written, and takes nothing more.
    pub async fn finish(self) {
        // an error says that the thread has ended already
        let _ = self.stop.send(());
        if timeout(FINISH_MAX, self.done).await.is_err() {
            tracing::warn!("the last lines of the access log are lost: nobody reads them");
        }
    }
}

async fn write(
    mut queue: mpsc::Receiver<String>,
    mut stopped: oneshot::Receiver<()>,
    mut out: impl Write,
    dropped: &IntCounter,
) {
    let mut batch = Vec::with_capacity(BATCH_LINES);
    let mut has_failed = false;
    loop {
        tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH_LINES) => if count == 0 {
                return;
            },
            _ = &mut stopped, if !queue.is_closed() => queue.close(),
        }
        let text = batch.concat();
        // blocks this thread alone
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            dropped.inc_by(batch.len() as u64);
            if !std::mem::replace(&mut has_failed, true) {
                tracing::warn!(%error, "the access log cannot be written; lines are dropped and counted");
            }
        }
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc as blocking};

    use super::*;

    /// What was written, for all to see.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes nothing until it is let, and says when it was asked first.
    struct Stalled {
        asked: blocking::Sender<()>,
        go: blocking::Receiver<()>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            let _ = self.go.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Its reader is gone.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_are_written_in_their_order_and_none_is_lost_at_the_end() {
        let page = Page::default();
        let (log, writer) = AccessLog::start(&Registry::new(), page.clone()).unwrap();
        let lines: Vec<String> = (0..1000).map(|number| format!("{number}\n")).collect();
        for line in &lines {
            log.leave(Some(line.clone()));
        }
        writer.finish().await;
        assert_eq!(page.0.lock().unwrap().as_slice(), lines.concat().as_bytes());
        assert_eq!(log.dropped.get(), 0);
        log.leave(Some("late\n".to_owned()));
        assert_eq!(log.dropped.get(), 1, "what comes after the end is counted");
    }

    #[tokio::test]
    async fn a_reader_that_stalls_costs_lines_and_holds_up_nobody() {
        let (asked, has_asked) = blocking::channel();
        let (go, gone) = blocking::channel();
        let (log, writer) = AccessLog::start(&Registry::new(), Stalled { asked, go: gone }).unwrap();
        log.leave(Some("first\n".to_owned()));
        // the thread holds the first line now, and the queue is empty
        has_asked.recv().unwrap();
        for _ in 0..QUEUE_LINES + 7 {
            log.leave(Some("more\n".to_owned()));
        }
        assert_eq!(log.dropped.get(), 7);
        drop(go);
        writer.finish().await;
    }

    #[tokio::test]
    async fn lines_that_nobody_reads_are_counted() {
        let (log, writer) = AccessLog::start(&Registry::new(), Broken).unwrap();
        log.leave(Some("one\n".to_owned()));
        log.leave(Some("two\n".to_owned()));
        writer.finish().await;
        assert_eq!(log.dropped.get(), 2);
    }
}
