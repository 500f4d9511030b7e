//! The last good objects in the state directory, versioned and checksummed: what a daemon serves that starts while the API server is away.

mod format;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};

use self::format::Stamp;
use super::objects::Objects;
use crate::{ids::NodeName, task};

/// The file's name, the same for every version of the format, so that a daemon finds and replaces what another one wrote.
const FILE: &str = "objects.json";
/// Where it is written before it takes the file's place.
const TEMPORARY: &str = "objects.json.new";
/// Largest file that is read: a hundred times what ten thousand pods take. A larger one is no state.
const BYTES_MAX: u64 = 256 << 20;
/// How far in the future a state may be dated: a clock that was set back by a day at most is a wrong time zone or a late NTP, and what the
/// state says is hardly older than it seems; beyond that its age is anybody's guess.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Jobs that wait for the thread: its one user asks for the state once, and for one write at a time.
const JOBS_MAX: usize = 2;
/// The file holds names and addresses of the whole cluster, which are root's to see.
const FILE_MODE: u32 = 0o600;
/// As the file.
const DIRECTORY_MODE: u32 = 0o700;

/// Why a state that is there is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It cannot be read.
    #[error("it cannot be read ({0}); make it readable or remove it")]
    Unreadable(#[from] io::Error),
    /// A byte is not as it was written.
    #[error("it is damaged: {0}; it is replaced when the API server has answered")]
    Damaged(String),
    /// Another daemon wrote it, older or newer.
    #[error("it has version {found} and this daemon knows {known}; it is replaced when the API server has answered")]
    Version {
        /// What it has.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// The directory came from another node.
    #[error("it is the state of node {found} and this is {own}; give each node a state directory of its own")]
    Node {
        /// Whose it is.
        found: NodeName,
        /// This node.
        own: NodeName,
    },
    /// Too little of it may still be true.
    #[error("it is {} old, more than --state-age-max {}", time(*.age), time(*.max))]
    Old {
        /// Its age.
        age: Duration,
        /// The setting.
        max: Duration,
    },
    /// The clock was set back, or was wrong when it was written.
    #[error("it is dated {} in the future; set the node's clock", time(*.0))]
    Future(Duration),
}

/// A state that may be used.
#[derive(Debug)]
pub(super) struct Loaded {
    /// What it says.
    pub(super) objects: Objects,
    /// Whose it is, when it was saved and how old it is, as words to go on with: `of 2026-01-01T00:00:00Z, 5m old`.
    pub(super) when: String,
}

/// What becomes of a question for the state; none if there is no state.
pub(super) type Answer = Result<Option<Loaded>, Refused>;

/// The thread that alone touches the directory, so that a slow disk holds up nobody.
#[derive(Debug)]
pub(super) struct Keeper {
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
enum Job {
    Load(oneshot::Sender<Answer>),
    Save(Stamp, Box<Objects>, oneshot::Sender<io::Result<u64>>),
}

/// Where states are, and which may be used.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The directory.
    pub(super) directory: PathBuf,
    /// This node.
    pub(super) node: NodeName,
    /// A state older than this is refused.
    pub(super) age_max: Duration,
}

impl Keeper {
    /// Starts the thread. It ends with its handle.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub(super) fn start(place: Place) -> io::Result<Self> {
        let (jobs, mut next) = mpsc::channel(JOBS_MAX);
        task::thread("weft-state".to_owned(), move || async move {
            while let Some(job) = next.recv().await {
                // whoever asked may have gone, and what was saved is saved
                match job {
                    Job::Load(answer) => drop(answer.send(place.load(now()))),
                    Job::Save(stamp, objects, answer) => drop(answer.send(place.save(&stamp, &objects))),
                }
            }
        })?;
        Ok(Self { jobs })
    }

    /// Asks for the state. The answer never comes if the thread has died.
    pub(super) fn load(&self) -> oneshot::Receiver<Answer> {
        let (answer, loaded) = oneshot::channel();
        // a full queue drops the question, and the receiver says so
        drop(self.jobs.try_send(Job::Load(answer)));
        loaded
    }

    /// Saves a copy of the objects as the state of this moment. The answer is the body's length in bytes.
    pub(super) fn save(&self, node: &NodeName, objects: &Objects) -> oneshot::Receiver<io::Result<u64>> {
        let (answer, saved) = oneshot::channel();
        let stamp = Stamp {
            node: node.clone(),
            saved_at: now(),
        };
        drop(self.jobs.try_send(Job::Save(stamp, Box::new(objects.clone()), answer)));
        saved
    }
}

impl Place {
    /// The state, if there is one that may be used at `now`, in seconds since the epoch.
    fn load(&self, now: u64) -> Answer {
        let path = self.directory.join(FILE);
        let length = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?.len(),
        };
        if length > BYTES_MAX {
            return Err(Refused::Damaged(format!("it has {length} bytes")));
        }
        let (stamp, objects) = format::read(&fs::read(&path)?)?;
        let when = self.judge(&stamp, now)?;
        Ok(Some(Loaded { objects, when }))
    }

    /// Whether a state with this stamp may be used, and how to speak of it.
    fn judge(&self, stamp: &Stamp, now: u64) -> Result<String, Refused> {
        let Stamp { node, saved_at } = stamp;
        if *node != self.node {
            return Err(Refused::Node {
                found: node.clone(),
                own: self.node.clone(),
            });
        }
        let of = date(*saved_at);
        let ahead = Duration::from_secs(saved_at.saturating_sub(now));
        if ahead > AHEAD_MAX {
            return Err(Refused::Future(ahead));
        }
        if !ahead.is_zero() {
            return Ok(format!("of {of}, {} in the future by this node's clock", time(ahead)));
        }
        let age = Duration::from_secs(now.saturating_sub(*saved_at));
        if age > self.age_max {
            return Err(Refused::Old { age, max: self.age_max });
        }
        Ok(format!("of {of}, {} old", time(age)))
    }

    /// Replaces the state as a whole: whoever loses power in between finds the old one or the new one.
    fn save(&self, stamp: &Stamp, objects: &Objects) -> io::Result<u64> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.directory)?;
        let temporary = self.directory.join(TEMPORARY);
        let written = write(&temporary, stamp, objects);
        let saved = written.and_then(|length| {
            fs::rename(&temporary, self.directory.join(FILE))?;
            File::open(&self.directory)?.sync_all()?;
            Ok(length)
        });
        if saved.is_err() {
            // a full disk wants its room back
            let _ = fs::remove_file(&temporary);
        }
        saved
    }

    /// The file, for messages.
    pub(super) fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }
}

fn write(path: &Path, stamp: &Stamp, objects: &Objects) -> io::Result<u64> {
    // left by a daemon that was killed, perhaps with another mode
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    let mut out = BufWriter::new(file);
    let length = format::write(&mut out, stamp, objects)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(length)
}

/// Seconds since the epoch; a clock before it counts as standing there.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// RFC 3339.
fn date(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().map(Timestamp::from_second);
    match timestamp {
        Some(Ok(timestamp)) => timestamp.to_string(),
        _ => format!("{seconds} s after 1970"),
    }
}

/// `1h 2m 3s`.
fn time(duration: Duration) -> String {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_secs(seconds))
}
