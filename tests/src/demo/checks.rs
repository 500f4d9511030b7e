//! What must be true of a row, wherever the story is told.

use anyhow::{Result, ensure};

use super::row::Row;
use crate::{load::Report, metrics::Metrics, shop::captured_connections};

/// Of a row that no daemon may have had a part in.
///
/// # Errors
/// Names what is not so.
pub(super) fn uncaptured(row: &Row, report: &Report, since: &Metrics) -> Result<()> {
    let step = row.step;
    all_answered(row, report)?;
    ensure!(
        row.seen == 0,
        "{step}: a daemon counted {} requests, it should have seen nothing",
        row.seen
    );
    let connections = captured_connections(since);
    ensure!(
        connections == 0.0,
        "{step}: {connections} connections were captured, none should have been"
    );
    Ok(())
}

/// Of a row that the daemons counted themselves: as many as the client sent.
///
/// # Errors
/// Names what is not so.
pub(super) fn captured(row: &Row, report: &Report) -> Result<()> {
    let step = row.step;
    all_answered(row, report)?;
    ensure!(
        row.requests == report.sent,
        "{step}: the daemon counted {} requests, the client sent {}",
        row.requests,
        report.sent
    );
    Ok(())
}

/// Of a row whose answers the daemons count by pod: as the client saw them.
///
/// # Errors
/// Names what is not so.
pub(super) fn same_spread(row: &Row, report: &Report) -> Result<()> {
    let step = row.step;
    ensure!(
        row.spread == report.by_body,
        "{step}: the daemon counted {:?}, the client saw {:?}",
        row.spread,
        report.by_body
    );
    Ok(())
}

/// Of a row in which each of these pods has its turn: the counts differ by no more than the daemon has workers, which take turns on their own.
///
/// # Errors
/// Names what is not so.
pub(super) fn even(row: &Row, workers: u64) -> Result<()> {
    let counts = row.spread.values();
    let difference = counts.clone().max().unwrap_or(&0) - counts.min().unwrap_or(&0);
    ensure!(
        difference <= workers,
        "{}: the spread is uneven: {:?}",
        row.step,
        row.spread
    );
    Ok(())
}

/// Of a row whose answers must come from these pods, all of them and no other.
///
/// # Errors
/// Names what is not so.
pub(super) fn answered_by(row: &Row, pods: &[impl AsRef<str>]) -> Result<()> {
    let mut expected: Vec<&str> = pods.iter().map(AsRef::as_ref).collect();
    expected.sort_unstable();
    ensure!(
        row.spread.keys().eq(expected.iter()),
        "{}: answers from {:?}, expected {expected:?}",
        row.step,
        row.spread.keys()
    );
    Ok(())
}

/// Of a row whose requests are drawn for backends by weight: these pods, which have `weight` of `total`, got about that much. A right draw is refused
/// about once in five million rows of 600 requests at 10 of 100: 5.5 standard deviations of the binomial distribution.
///
/// # Errors
/// Names what is not so.
pub(super) fn share(row: &Row, pods: &[String], weight: u64, total: u64) -> Result<()> {
    const DEVIATIONS: f64 = 5.5;
    let answers: u64 = pods.iter().filter_map(|pod| row.spread.get(pod)).sum();
    let [requests, answers, weight, total] = [row.requests, answers, weight, total].map(to_float);
    let expected = requests * weight / total;
    let most = DEVIATIONS * (expected * (1.0 - weight / total)).sqrt();
    ensure!(
        (answers - expected).abs() <= most,
        "{}: {answers} answers came from {pods:?}, {expected} ± {most:.1} should: {:?}",
        row.step,
        row.spread
    );
    Ok(())
}

/// Of a row in which a pod, one of `pods`, is to be avoided: it has less than half of what it would have if all had the same.
///
/// # Errors
/// Names what is not so.
pub(super) fn under_half_share(row: &Row, pod: &str, pods: u64) -> Result<()> {
    let answers = row.spread.get(pod).copied().unwrap_or_default();
    ensure!(
        answers * pods * 2 < row.requests,
        "{}: {pod} answered {answers} of {} requests, with {pods} servers",
        row.step,
        row.requests
    );
    Ok(())
}

/// Of a row in which the breaker of one pod opened `ejections` times, the pod failing all the time: it took `threshold` failures to open it first, and one
/// more, which is the only trial there is, each time again. Without this, how long the machine takes for the row would matter.
///
/// # Errors
/// Names what is not so.
pub(super) fn opened(step: &str, failures: u64, threshold: u64, ejections: u64) -> Result<()> {
    ensure!(
        ejections > 0,
        "{step}: the breaker did not open, after {failures} failures"
    );
    equal(step, "failures", failures, threshold + ejections - 1)
}

/// Of two counts that are one.
///
/// # Errors
/// Names what is not so.
pub(super) fn equal(step: &str, what: &str, count: u64, expected: u64) -> Result<()> {
    ensure!(count == expected, "{step}: {count} {what}, there should be {expected}");
    Ok(())
}

/// Of a row with failures: the daemons count as many as the client.
///
/// # Errors
/// Names what is not so.
pub(super) fn counted_alike(row: &Row, report: &Report) -> Result<()> {
    equal(row.step, "requests", row.requests, report.sent)?;
    equal(row.step, "failed requests", row.failed, report.failed)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few hundred requests")]
fn to_float(count: u64) -> f64 {
    count as f64
}

fn all_answered(row: &Row, report: &Report) -> Result<()> {
    let step = row.step;
    ensure!(
        report.failed == 0,
        "{step}: {} of {} requests failed: {:?}",
        report.failed,
        report.sent,
        report.errors
    );
    ensure!(
        row.failed == 0,
        "{step}: the daemon counted {} failed requests, the client none",
        row.failed
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn report() -> Report {
        Report {
            sent: 4,
            by_body: [("web-1".to_owned(), 1), ("web-2".to_owned(), 3)].into(),
            ..Report::default()
        }
    }

    fn row() -> Row {
        Row::of_client("captured", &report(), &Metrics::default())
    }

    #[test]
    fn each_check_refuses_what_it_is_for() {
        let nothing = Metrics::default();
        assert!(uncaptured(&row(), &report(), &nothing).is_ok());
        assert!(captured(&row(), &report()).is_ok());
        let failed = Report { failed: 1, ..report() };
        assert!(uncaptured(&row(), &failed, &nothing).is_err());
        assert!(captured(&row(), &failed).is_err());
        let seen = Row { seen: 1, ..row() };
        assert!(uncaptured(&seen, &report(), &nothing).is_err());
        let connections = Metrics::parse("weft_capture_decisions_total{decision=\"captured\"} 1\n").unwrap();
        assert!(uncaptured(&row(), &report(), &connections).is_err());
        let fewer = Row { requests: 3, ..row() };
        assert!(captured(&fewer, &report()).is_err());
        let elsewhere = Report {
            by_body: [("web-1".to_owned(), 4)].into(),
            ..report()
        };
        assert!(same_spread(&row(), &report()).is_ok() && same_spread(&row(), &elsewhere).is_err());
        for (workers, good) in [(1, false), (2, true)] {
            assert_eq!(even(&row(), workers).is_ok(), good);
        }
        for (pods, good) in [
            (&["web-2", "web-1"][..], true),
            (&["web-1"], false),
            (&["web-1", "web-2", "web-3"], false),
        ] {
            assert_eq!(answered_by(&row(), pods).is_ok(), good, "{pods:?}");
        }
    }
    #[test]
    fn shares_and_breakers_are_held_to_what_was_asked_for() {
        let split = |new| Row {
            requests: 600,
            spread: [("web-1".to_owned(), 600 - new), ("new".to_owned(), new)].into(),
            ..row()
        };
        for (new, good) in [
            (0, false),
            (19, false),
            (20, true),
            (60, true),
            (100, true),
            (101, false),
        ] {
            assert_eq!(share(&split(new), &["new".to_owned()], 10, 100).is_ok(), good, "{new}");
        }
        for (slow, good) in [(0, true), (59, true), (60, false), (120, false)] {
            assert_eq!(under_half_share(&split(slow), "new", 5).is_ok(), good, "{slow}");
        }
        for (failures, ejections, good) in [(5, 1, true), (7, 3, true), (4, 0, false), (4, 1, false), (6, 1, false)] {
            assert_eq!(
                opened("opened", failures, 5, ejections).is_ok(),
                good,
                "{failures} {ejections}"
            );
        }
        let failed = Row { failed: 1, ..row() };
        assert!(counted_alike(&row(), &report()).is_ok() && counted_alike(&failed, &report()).is_err());
    }
}
