//! The report that the suite writes (`ConformanceReport`, gateway.networking.k8s.io/v1): of its profiles, what the table says of them. Pure.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::results::{Ended, Outcome};

/// A report, as far as it is read.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Report {
    /// In the order of their names: the suite writes them in any.
    pub(super) profiles: Vec<Profile>,
}

/// What a profile came to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) name: String,
    /// A sentence of the suite's.
    pub(super) summary: String,
    pub(super) core: Level,
    /// Missing if no test of such features ran.
    pub(super) extended: Option<Level>,
}

/// The tests of one level of support.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Level {
    pub(super) statistics: Statistics,
    #[serde(default)]
    pub(super) failed_tests: Vec<String>,
}

/// Tests, counted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statistics {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
}

impl Report {
    /// Reads the YAML.
    ///
    /// # Errors
    /// If it is no report, or one without profiles.
    pub(super) fn parse(yaml: &str) -> Result<Self> {
        let mut report: Self = serde_yaml_ng::from_str(yaml).context("the suite's report")?;
        ensure!(!report.profiles.is_empty(), "the suite's report has no profile");
        report.profiles.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(report)
    }

    /// Checks that it says of its tests what was read from the suite's output: two ways to the same results that differ are both doubtful.
    ///
    /// # Errors
    /// Names the test on which they differ.
    pub(super) fn agrees_with(&self, ended: &[Ended]) -> Result<()> {
        for profile in &self.profiles {
            for name in profile.levels().flat_map(|(_, level)| &level.failed_tests) {
                let outcome = ended.iter().find(|test| test.name == *name).map(|test| test.outcome);
                ensure!(
                    outcome == Some(Outcome::Fail),
                    "the report of {} says that {name} failed, the suite's output says {outcome:?}",
                    profile.name
                );
            }
        }
        Ok(())
    }
}

impl Profile {
    /// Its levels, by name.
    pub(super) fn levels(&self) -> impl Iterator<Item = (&'static str, &Level)> {
        [("core", Some(&self.core)), ("extended", self.extended.as_ref())]
            .into_iter()
            .filter_map(|(name, level)| Some((name, level?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: ConformanceReport
profiles:
- name: MESH-HTTP
  summary: Core tests failed with 1 test failures. Extended tests succeeded.
  core:
    failedTests: [MeshPorts]
    result: failure
    statistics: {Failed: 1, Passed: 6, Skipped: 0}
  extended:
    result: success
    statistics: {Failed: 0, Passed: 9, Skipped: 0}
    supportedFeatures: [MeshConsumerRoute]
- name: MESH-GRPC
  summary: Core tests succeeded.
  core:
    result: success
    statistics: {Failed: 0, Passed: 2, Skipped: 0}
";

    fn ended(outcome: Outcome) -> Ended {
        Ended {
            name: "MeshPorts".into(),
            outcome,
        }
    }

    #[test]
    fn profiles_are_read_and_sorted() {
        let report = Report::parse(REPORT).unwrap();
        let [grpc, http] = &report.profiles[..] else {
            panic!("{report:?}");
        };
        assert_eq!((grpc.name.as_str(), grpc.levels().count()), ("MESH-GRPC", 1));
        assert_eq!(grpc.summary, "Core tests succeeded.");
        let passed: Vec<_> = http
            .levels()
            .map(|(name, level)| (name, level.statistics.passed, level.statistics.failed))
            .collect();
        assert_eq!(passed, [("core", 6, 1), ("extended", 9, 0)]);
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        for yaml in ["", "profiles: []", "profiles: [{name: MESH-HTTP}]", "kind: Pod"] {
            assert!(Report::parse(yaml).is_err(), "{yaml}");
        }
    }

    #[test]
    fn a_report_that_says_otherwise_than_the_output_is_told() {
        let report = Report::parse(REPORT).unwrap();
        assert!(report.agrees_with(&[ended(Outcome::Fail)]).is_ok());
        for other in [vec![], vec![ended(Outcome::Pass)]] {
            let said = report.agrees_with(&other).unwrap_err().to_string();
            assert!(said.contains("MeshPorts"), "{said}");
        }
    }
}
