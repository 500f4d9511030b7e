//! The chapter on routes and policies, told alike in network namespaces and on a real cluster: the same files, rows and checks.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{REQUESTS_PER_ROW, checks, row::Row};
use crate::{bench::wait_for, load::Report, metrics::Metrics, shop::to_count};

/// Requests of rows in which a breaker opens: so few that they are over before its second is, on most machines, and the row shows the threshold alone.
const BREAKER_REQUESTS: u64 = 100;
/// Requests by which it is seen whether a change has arrived.
const LOOK: u64 = 20;
/// What the slow server takes for each answer, in milliseconds: many times what the others take, also on a busy machine.
const SLOW_MS: u64 = 300;

/// A file of `tests/demo`.
#[derive(Debug)]
pub(super) struct File {
    /// From the checkout's root, as people type it.
    pub(super) path: &'static str,
    /// What it says.
    pub(super) yaml: &'static str,
}

const SPLIT: File = File {
    path: "tests/demo/split.yaml",
    yaml: include_str!("../../demo/split.yaml"),
};
const HEADER: File = File {
    path: "tests/demo/header.yaml",
    yaml: include_str!("../../demo/header.yaml"),
};
const PEAK_EWMA: File = File {
    path: "tests/demo/peak-ewma.yaml",
    yaml: include_str!("../../demo/peak-ewma.yaml"),
};
const BREAKER: File = File {
    path: "tests/demo/breaker.yaml",
    yaml: include_str!("../../demo/breaker.yaml"),
};
const RETRY: File = File {
    path: "tests/demo/retry.yaml",
    yaml: include_str!("../../demo/retry.yaml"),
};

/// A shop with Services `web` and `web-v2`, a captured client, and daemons.
pub(super) trait World {
    /// A guard of waits for what takes a moment.
    const GUARD: Duration;

    /// Applies a file as people do, and says so.
    fn apply(&self, file: &File) -> Result<()>;

    /// Takes an object of the shop away, and says so; `kind` as in its file.
    fn delete(&self, kind: &str, name: &str) -> Result<()>;

    /// Has a server answer otherwise, as `PUT /behaviour` of it takes it, and says so.
    fn behave(&self, pod: &str, behaviour: &Value) -> Result<()>;

    /// Sends requests to the Service `web`, one after the other, each on a connection of its own.
    fn send(&self, header: Option<(&str, &str)>, requests: u64) -> Result<Report>;

    /// What each daemon's metrics say.
    fn daemons(&self) -> Result<Vec<Metrics>>;

    /// Metrics of all daemons since an earlier moment, once so many requests are counted.
    fn counted(&self, before: &Metrics, requests: u64) -> Result<Metrics>;

    /// The pods behind a Service.
    fn pods(&self, service: &str) -> Result<Vec<String>>;

    /// Workers of each daemon.
    fn workers(&self) -> Result<u64>;

    /// Prints a row.
    fn print(&self, row: &Row) -> Result<()>;
}

/// Tells the chapter; at its end no route, no policy and no ill server is left.
///
/// # Errors
/// If something is not as it should be: the text says what.
pub(super) fn tell(world: &impl World) -> Result<()> {
    split(world)?;
    header(world)?;
    gone(world, "HTTPRoute")?;
    slow(world)?;
    opened(world)?;
    closed(world)?;
    retried(world)?;
    gone(world, "TrafficPolicy")
}

fn split<W: World>(world: &W) -> Result<()> {
    put(world, &SPLIT)?;
    let new = world.pods("web-v2")?;
    wait_for("answers of both versions", W::GUARD, || {
        let report = world.send(None, LOOK)?;
        let met = new.iter().all(|pod| report.by_body.contains_key(pod));
        Ok((report.failed == 0 && met).then_some(()))
    })?;
    let told = row(world, "90/10 split", None, REQUESTS_PER_ROW)?;
    checks::captured(&told.row, &told.report)?;
    let weight = |index| SPLIT.number(&format!("/spec/rules/0/backendRefs/{index}/weight"));
    checks::share(&told.row, &new, weight(1)?, weight(0)? + weight(1)?)
}

fn header<W: World>(world: &W) -> Result<()> {
    put(world, &HEADER)?;
    let text = |field| HEADER.text(&format!("/spec/rules/0/matches/0/headers/0/{field}"));
    let (name, value) = (text("name")?, text("value")?);
    let header = Some((&*name, &*value));
    let new = world.pods("web-v2")?;
    wait_for("the header's route", W::GUARD, || {
        let (with, without) = (world.send(header, LOOK)?, world.send(None, LOOK)?);
        let only = with.by_body.keys().eq(&new);
        let none = new.iter().all(|pod| !without.by_body.contains_key(pod));
        Ok((only && none).then_some(()))
    })?;
    let told = row(world, "header to v2", header, REQUESTS_PER_ROW)?;
    checks::captured(&told.row, &told.report)?;
    checks::answered_by(&told.row, &new)
}

fn slow(world: &impl World) -> Result<()> {
    let (slow, pods) = last(world)?;
    world.behave(&slow, &json!({"delay_ms": SLOW_MS}))?;
    put(world, &PEAK_EWMA)?;
    let told = row(world, "slow server avoided", None, REQUESTS_PER_ROW)?;
    checks::captured(&told.row, &told.report)?;
    checks::under_half_share(&told.row, &slow, pods)?;
    world.behave(&slow, &json!({}))
}

/// The policy is there before the server is ill: so each of its failures is one that the breaker counts.
fn opened(world: &impl World) -> Result<()> {
    put(world, &BREAKER)?;
    let (ill, _) = last(world)?;
    world.behave(&ill, &json!({"status": 500}))?;
    let told = row(world, "breaker opened", None, BREAKER_REQUESTS)?;
    checks::counted_alike(&told.row, &told.report)?;
    checks::opened(
        told.row.step,
        told.report.failed,
        threshold(&BREAKER)?,
        ejections(&told.since),
    )
}

fn closed<W: World>(world: &W) -> Result<()> {
    let (well, _) = last(world)?;
    world.behave(&well, &json!({}))?;
    wait_for("the breaker to close", W::GUARD, || {
        let report = world.send(None, LOOK)?;
        Ok((report.failed == 0 && report.by_body.contains_key(&well)).then_some(()))
    })?;
    let told = row(world, "breaker closed", None, REQUESTS_PER_ROW)?;
    checks::captured(&told.row, &told.report)?;
    checks::answered_by(&told.row, &world.pods("web")?)?;
    checks::even(&told.row, world.workers()?)
}

/// Ill once more, now with a retry: the breaker opens as before, and no client hears of it.
fn retried(world: &impl World) -> Result<()> {
    put(world, &RETRY)?;
    let (ill, _) = last(world)?;
    world.behave(&ill, &json!({"status": 500}))?;
    let told = row(world, "opened, with retry", None, BREAKER_REQUESTS)?;
    checks::captured(&told.row, &told.report)?;
    let failures = count(&told.since, "weft_upstream_requests_total", &[("result", "5xx")]);
    checks::opened(told.row.step, failures, threshold(&RETRY)?, ejections(&told.since))?;
    let sent = count(&told.since, "weft_retries_total", &[("result", "sent")]);
    checks::equal(told.row.step, "retries", sent, failures)?;
    world.behave(&ill, &json!({}))
}

/// What a row is made of.
struct Told {
    row: Row,
    report: Report,
    since: Metrics,
}

/// Sends, and prints the row of what came of it. Daemons count by Deployment where there is one; who answered is what the client saw.
fn row(world: &impl World, step: &'static str, header: Option<(&str, &str)>, requests: u64) -> Result<Told> {
    let before = sum(world)?;
    let report = world.send(header, requests)?;
    let since = world.counted(&before, report.sent)?;
    let mut row = Row::of_daemon(step, &report, &since);
    row.spread.clone_from(&report.by_body);
    world.print(&row)?;
    Ok(Told { row, report, since })
}

/// Applies a file, and waits until every daemon acts on it.
fn put(world: &impl World, file: &File) -> Result<()> {
    followed(world, || world.apply(file))
}

/// Takes away what the files have made, and waits until no daemon acts on it any more.
fn gone(world: &impl World, kind: &str) -> Result<()> {
    followed(world, || world.delete(kind, "web"))
}

/// A change, which is the only one at its time, and its generation in every daemon.
fn followed<W: World>(world: &W, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = generations(world)?;
    change()?;
    wait_for("the daemons to act on it", W::GUARD, || {
        let mut both = generations(world)?.into_iter().zip(&before);
        Ok(both.all(|(now, before)| now > *before).then_some(()))
    })
}

fn generations(world: &impl World) -> Result<Vec<u64>> {
    let applied = |metrics: &Metrics| to_count(metrics.sum("weft_snapshot_applied_generation", &[]));
    Ok(world.daemons()?.iter().map(applied).collect())
}

fn sum(world: &impl World) -> Result<Metrics> {
    let daemons = world.daemons()?;
    Ok(daemons.iter().fold(Metrics::default(), Metrics::plus))
}

/// The pod that has to be ill, always the same, and how many there are.
fn last(world: &impl World) -> Result<(String, u64)> {
    let mut pods = world.pods("web")?;
    pods.sort();
    let count = pods.len() as u64;
    Ok((pods.pop().context("no server is left")?, count))
}

fn threshold(file: &File) -> Result<u64> {
    file.number("/spec/circuitBreaker/failureThreshold")
}

fn ejections(since: &Metrics) -> u64 {
    count(since, "weft_ejections_total", &[])
}

fn count(since: &Metrics, name: &str, filter: &[(&str, &str)]) -> u64 {
    to_count(since.sum(name, &[&[("upstream_service", "web")], filter].concat()))
}

impl File {
    /// Of the object in it.
    pub(super) fn kind(&self) -> Result<String> {
        self.text("/kind")
    }

    fn field(&self, pointer: &str) -> Result<Value> {
        let object = Value::deserialize(serde_yaml_ng::Deserializer::from_str(self.yaml))?;
        let field = object.pointer(pointer).cloned();
        field.with_context(|| format!("{} has no {pointer}", self.path))
    }

    fn number(&self, pointer: &str) -> Result<u64> {
        self.field(pointer)?
            .as_u64()
            .with_context(|| format!("{}: {pointer}", self.path))
    }

    fn text(&self, pointer: &str) -> Result<String> {
        let field = self.field(pointer)?;
        Ok(field
            .as_str()
            .with_context(|| format!("{}: {pointer}", self.path))?
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rows_are_held_to_is_what_the_files_say() {
        assert_eq!(SPLIT.number("/spec/rules/0/backendRefs/1/weight").unwrap(), 10);
        assert_eq!(HEADER.text("/spec/rules/0/matches/0/headers/0/value").unwrap(), "v2");
        for file in [BREAKER, RETRY] {
            assert_eq!(threshold(&file).unwrap(), 5);
        }
        assert!(PEAK_EWMA.number("/spec/loadBalancer/type").is_err());
        assert!(PEAK_EWMA.number("/spec/retry").is_err());
    }

    #[test]
    fn the_readme_shows_the_files_as_they_are() {
        let readme = include_str!("../../../README.md");
        for file in [SPLIT, RETRY] {
            let object = file.yaml.split_once('\n').map(|(_, object)| object);
            assert!(
                readme.contains(object.unwrap()),
                "README.md does not show {}",
                file.path
            );
        }
    }
}
