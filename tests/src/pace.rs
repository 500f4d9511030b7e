//! Load at a fixed rate, whatever becomes of it: requests are sent when they are due, also while earlier ones hang, and each is timed from when it
//! was due. A client that waits for each answer would send less just while something is wrong, and measure little of it.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use tokio::task::LocalSet;

use crate::{
    bench::Netns,
    client::{self, Load},
};

/// The windows that quantiles are taken of.
pub const WINDOW: Duration = Duration::from_millis(500);

/// What to send, and how often.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The request; its connections are kept, as far as it says so.
    pub load: Load,
    /// Time from one request to the next.
    pub every: Duration,
    /// How long the client waits for an answer.
    pub patience: Duration,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was due, from the beginning.
    pub due: Duration,
    /// How long it took from there; none while it is under way.
    pub took: Option<Duration>,
    /// Nothing if it was answered with 200; else the status and `x-weft-reason`, or why there was no answer.
    pub error: Option<String>,
}

/// All requests so far, in the order in which they were due.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub Vec<Sample>);

/// A load that goes on until it is stopped.
#[derive(Debug)]
pub struct Running {
    began: Instant,
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Samples>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// If the thread cannot be had.
    pub fn start(netns: &Netns, pace: Pace) -> Result<Self> {
        let (stop, samples) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, shared, netns) = (Arc::clone(&stop), Arc::clone(&samples), netns.clone());
        let began = Instant::now();
        let work = move || netns.inside(|| run(&pace, began, &stopped, &shared))?;
        let thread = std::thread::Builder::new().name("pace".into()).spawn(work)?;
        Ok(Self {
            began,
            stop,
            samples,
            thread: Some(thread),
        })
    }

    /// Time since it began, as in [`Sample::due`].
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What came of it so far.
    pub fn samples(&self) -> Samples {
        lock(&self.samples).clone()
    }

    /// Sends no more, waits for what is under way, and hands back what came of it.
    ///
    /// # Errors
    /// If its thread panicked.
    pub fn stop(mut self) -> Result<Samples> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the load's thread panicked"))??;
        }
        Ok(self.samples())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Samples {
    /// Those that were due in this time.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> Self {
        let within = self.0.iter().filter(|sample| sample.due >= from && sample.due < to);
        Self(within.cloned().collect())
    }

    /// Texts of the errors, each as often as it came.
    pub fn errors(&self) -> Vec<&str> {
        self.0.iter().filter_map(|sample| sample.error.as_deref()).collect()
    }

    /// The time that all but one in a hundred took at most; none without any, and while one is under way.
    pub fn p99(&self) -> Option<Duration> {
        let mut took: Vec<_> = self.0.iter().map(|sample| sample.took).collect::<Option<_>>()?;
        took.sort_unstable();
        took.get((took.len() * 99).div_ceil(100).checked_sub(1)?).copied()
    }

    /// The p99 of each whole window from `from` on that is over by `now`, as long as all of its requests have ended.
    pub fn windows(&self, from: Duration, now: Duration) -> Vec<Duration> {
        let starts = std::iter::successors(Some(from), |start| Some(*start + WINDOW));
        let whole = starts.take_while(|start| *start + WINDOW <= now);
        whole
            .map_while(|start| self.between(start, start + WINDOW).p99())
            .collect()
    }
}

fn run(pace: &Pace, began: Instant, stop: &AtomicBool, samples: &Arc<Mutex<Samples>>) -> Result<()> {
    let idle = Idle::default();
    client::runtime()?.block_on(LocalSet::new().run_until(async {
        let mut under_way = Vec::new();
        let mut due = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep_until((began + due).into()).await;
            let number = begin(samples, due);
            under_way.push(tokio::task::spawn_local(finish(
                pace.clone(),
                Rc::clone(&idle),
                Arc::clone(samples),
                (number, began + due),
            )));
            due += pace.every;
        }
        for request in under_way {
            request.await?;
        }
        Ok(())
    }))
}

/// Connections that wait for a request.
type Idle = Rc<RefCell<Vec<client::Connection>>>;

/// Notes that a request is due, and gives its number.
fn begin(samples: &Mutex<Samples>, due: Duration) -> usize {
    let mut samples = lock(samples);
    samples.0.push(Sample {
        due,
        took: None,
        error: None,
    });
    samples.0.len() - 1
}

/// Sends one, and notes what came of it.
async fn finish(pace: Pace, idle: Idle, samples: Arc<Mutex<Samples>>, (number, due): (usize, Instant)) {
    let error = one(&pace, &idle).await;
    if let Some(sample) = lock(&samples).0.get_mut(number) {
        sample.took = Some(due.elapsed());
        sample.error = error;
    }
}

async fn one(pace: &Pace, idle: &Idle) -> Option<String> {
    let mut connection = idle.borrow_mut().pop();
    let answered = tokio::time::timeout(pace.patience, client::answer(&mut connection, &pace.load)).await;
    let Ok(answered) = answered else {
        return Some(format!("no answer within {:?}", pace.patience));
    };
    idle.borrow_mut().extend(connection);
    match answered {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => Some(
            format!("{} {}", answer.status, answer.header("x-weft-reason"))
                .trim()
                .to_owned(),
        ),
        Err(error) => Some(format!("{error:#}")),
    }
}

fn lock(samples: &Mutex<Samples>) -> MutexGuard<'_, Samples> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn sample(due: u64, took: Option<u64>) -> Sample {
        Sample {
            due: MS(due),
            took: took.map(MS),
            error: None,
        }
    }

    #[test]
    fn a_window_counts_when_it_is_over_and_everything_in_it_has_ended() {
        let mut samples = Samples((0..300).map(|number| sample(number * 5, Some(2))).collect());
        samples.0[0].took = Some(MS(9));
        samples.0[150].took = Some(MS(7));
        samples.0[151].took = Some(MS(8));
        for (from, now, expected) in [
            (0, 1500, vec![2, 7, 2]),
            (0, 1499, vec![2, 7]),
            (500, 1499, vec![7]),
            (1500, 2500, vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(MS).collect();
            assert_eq!(samples.windows(MS(from), MS(now)), expected, "from {from} to {now}");
        }
        samples.0[120].took = None;
        assert_eq!(
            samples.windows(MS(0), MS(1500)),
            [MS(2)],
            "what is under way may take long"
        );
        assert_eq!(Samples::default().p99(), None);
    }
}
