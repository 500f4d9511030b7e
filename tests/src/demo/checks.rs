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
}
