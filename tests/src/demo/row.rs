//! Rows of the demo's table: what happened, as text.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    daemon::{DURATION, REQUESTS},
    load::Report,
    metrics::Metrics,
    shop::to_count,
};

/// Width of the first column, in characters.
const STEP_WIDTH: usize = 19;

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) step: &'static str,
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// Answers by pod.
    pub(super) spread: BTreeMap<String, u64>,
    pub(super) p50: Option<Duration>,
    pub(super) p99: Option<Duration>,
    /// What the client measured.
    pub(super) client: [Option<Duration>; 2],
    /// Who says so.
    pub(super) source: &'static str,
    /// Requests that the daemons counted meanwhile.
    pub(super) seen: u64,
}

/// The table's head.
pub(super) fn head() -> String {
    let line = format!(
        "{:STEP_WIDTH$} {:>8} {:>6} {:>9} {:>9}  {:14} {:>10} {:>10} {:>10}  spread over pods (node)",
        "", "requests", "failed", "p50", "p99", "figures from", "client p50", "client p99", "daemon saw"
    );
    let rule = "─".repeat(line.chars().count() + 8);
    format!("{line}\n{rule}")
}

impl Row {
    /// What a client saw while the daemons' counts grew by `since`.
    pub(super) fn of_client(step: &'static str, report: &Report, since: &Metrics) -> Self {
        Self {
            step,
            requests: report.sent,
            failed: report.failed,
            spread: report.by_body.clone(),
            p50: report.p50_us.map(Duration::from_micros),
            p99: report.p99_us.map(Duration::from_micros),
            client: of_client(report),
            source: "client",
            seen: to_count(since.sum(REQUESTS, &[])),
        }
    }

    /// What the daemons counted, as the difference between two scrapes.
    pub(super) fn of_daemon(step: &'static str, report: &Report, since: &Metrics) -> Self {
        let filter = [
            ("reporter", "source"),
            ("destination_service", "web"),
            ("source_workload", "client"),
        ];
        let requests = to_count(since.sum(REQUESTS, &filter));
        let by_code = since.by(REQUESTS, "code", &filter);
        let failed = by_code
            .iter()
            .filter(|(code, _)| *code != "200")
            .map(|(_, count)| to_count(*count))
            .sum();
        let by_pod = since.by(REQUESTS, "destination_workload", &filter);
        let spread = by_pod
            .into_iter()
            .map(|(pod, count)| (pod, to_count(count)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let quantile = |quantile| {
            since
                .quantile(DURATION, quantile, &filter)
                .and_then(|s| Duration::try_from_secs_f64(s).ok())
        };
        let (p50, p99) = (quantile(0.5), quantile(0.99));
        Self {
            step,
            requests,
            failed,
            spread,
            p50,
            p99,
            client: of_client(report),
            source: "daemon metrics",
            seen: requests,
        }
    }

    /// The row as a line; `node_of` names a pod's node.
    pub(super) fn line(&self, node_of: impl Fn(&str) -> String) -> String {
        let Self {
            step,
            requests,
            failed,
            spread,
            p50,
            p99,
            client: [client_p50, client_p99],
            source,
            seen,
        } = self;
        let spread: Vec<String> = spread
            .iter()
            .map(|(pod, count)| format!("{pod} ({}) {count}", node_of(pod)))
            .collect();
        let seen = if *seen == 0 {
            "nothing".to_owned()
        } else {
            seen.to_string()
        };
        format!(
            "{step:STEP_WIDTH$} {requests:>8} {failed:>6} {:>9} {:>9}  {source:14} {:>10} {:>10} {seen:>10}  {}",
            milliseconds(*p50),
            milliseconds(*p99),
            milliseconds(*client_p50),
            milliseconds(*client_p99),
            spread.join(", ")
        )
    }
}

/// p50 and p99 as the client measured them.
fn of_client(report: &Report) -> [Option<Duration>; 2] {
    [report.p50_us, report.p99_us].map(|us| us.map(Duration::from_micros))
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |time| format!("{:.2} ms", time.as_secs_f64() * 1000.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_made_of_the_daemons_own_counts() {
        let labels = "reporter=\"source\",source_workload=\"client\",destination_service=\"web\"";
        let text = format!(
            "weft_requests_total{{{labels},destination_workload=\"web-1\",code=\"200\"}} 4\n\
             weft_requests_total{{{labels},destination_workload=\"web-2\",code=\"503\"}} 1\n\
             weft_requests_total{{reporter=\"source\",destination_workload=\"other\",code=\"200\"}} 9\n"
        );
        let row = Row::of_daemon("captured", &Report::default(), &Metrics::parse(&text).unwrap());
        assert_eq!((row.requests, row.failed, row.spread.len()), (5, 1, 2));
        let line = row.line(|_| "n1".to_owned());
        assert!(line.contains("web-1 (n1) 4, web-2 (n1) 1"), "{line}");
    }

    #[test]
    fn an_uncaptured_row_says_that_the_daemon_saw_nothing() {
        let report = Report {
            sent: 3,
            ..Report::default()
        };
        let row = Row::of_client("not captured", &report, &Metrics::default());
        assert!(row.line(|_| String::new()).contains("nothing"));
    }
}
