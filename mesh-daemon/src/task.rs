//! The one place that spawns: tasks of a worker's own thread, and the workers' threads. A task that panics ends alone and is counted.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    task::{Context, Poll},
};

use tokio::task::{JoinError, JoinHandle};

/// Tasks that panicked since the start; a number above 0 is a bug worth reporting.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Tasks that are running now.
static RUNNING: AtomicI64 = AtomicI64::new(0);

/// Tasks that are running now.
pub fn running() -> i64 {
    RUNNING.load(Ordering::Relaxed)
}

/// Tasks that panicked since the start.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Spawns onto the current thread's [`tokio::task::LocalSet`]. The name appears in the log if it panics.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tokio::task::spawn_local(async move {
        let _guard = Guard::new(name);
        Some(future.await)
    })
}

/// A task that ends when its handle goes: for work that must not outlive what it serves.
#[derive(Debug)]
pub struct Scoped<T>(JoinHandle<Option<T>>);

/// As [`spawn`], ended when the handle is dropped.
pub fn scoped<F>(name: &'static str, future: F) -> Scoped<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Scoped(spawn(name, future))
}

impl<T> Future for Scoped<T> {
    type Output = Result<Option<T>, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for Scoped<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `main` on a current-thread runtime of a new thread, and hands back the thread.
///
/// # Errors
/// If the kernel refuses the thread or the runtime's descriptors.
pub fn thread<F, Fut>(name: String, main: F) -> std::io::Result<std::thread::JoinHandle<()>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime, async move { main().await });
    })
}

/// Lets hyper spawn what it needs (HTTP/2 streams) onto the current thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        spawn("http2", future);
    }
}

/// Counts a task for as long as it runs, and sees how it ends.
struct Guard {
    name: &'static str,
}

impl Guard {
    fn new(name: &'static str) -> Self {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Self { name }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = self.name, "a task panicked; it ended alone");
        }
    }
}
