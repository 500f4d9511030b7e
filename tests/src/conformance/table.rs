//! The two columns as text: a row for each test, the totals, and what the suite says of each profile. Pure.

use super::{
    Column,
    report::Profile,
    results::{Ended, Outcome},
    run::Run,
};

/// How the names of the suite's tests for meshes begin; all others need a Gateway, and are skipped.
const MESH: &str = "Mesh";
/// What stands in a column that has no result of a test.
const NOTHING: &str = "-";
/// Spaces between two columns of the table.
const GAP: usize = 3;
/// What the reader must know to judge it.
const LEGEND: &str =
    "What passes without capture passes without a mesh: what Weft does is the difference between the columns.\n";

/// The whole table, ending with a line break.
pub(super) fn table(runs: &[(Column, Run)]) -> String {
    let names = names(runs);
    let mut rows = vec![row("", runs, |column, _| column.to_string())];
    rows.extend(
        names
            .iter()
            .map(|name| row(name, runs, |_, run| word_of(run, name).into())),
    );
    for outcome in [Outcome::Pass, Outcome::Fail, Outcome::Skipped] {
        let name = format!("all: {}", outcome.word());
        rows.push(row(&name, runs, |_, run| count(run, &names, outcome).to_string()));
    }
    rows.push(row("connections through Weft", runs, |_, run| {
        run.connections.to_string()
    }));
    let profiles = runs
        .iter()
        .flat_map(|(column, run)| run.report.profiles.iter().map(|profile| of_profile(*column, profile)));
    format!("{}\n{LEGEND}\n{}", aligned(&rows), profiles.collect::<String>())
}

/// Tests for meshes, and whatever else ran, in the order in which they ended.
fn names(runs: &[(Column, Run)]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for test in runs.iter().flat_map(|(_, run)| &run.ended) {
        let wanted = test.name.starts_with(MESH) || test.outcome != Outcome::Skipped;
        if wanted && !names.contains(&test.name.as_str()) {
            names.push(&test.name);
        }
    }
    names
}

fn row(name: &str, runs: &[(Column, Run)], cell: impl Fn(Column, &Run) -> String) -> Vec<String> {
    let cells = runs.iter().map(|(column, run)| cell(*column, run));
    [name.to_owned()].into_iter().chain(cells).collect()
}

fn find<'a>(run: &'a Run, name: &str) -> Option<&'a Ended> {
    run.ended.iter().find(|test| test.name == name)
}

fn word_of(run: &Run, name: &str) -> &'static str {
    find(run, name).map_or(NOTHING, |test| test.outcome.word())
}

fn count(run: &Run, names: &[&str], outcome: Outcome) -> usize {
    let ended = names.iter().filter_map(|name| find(run, name));
    ended.filter(|test| test.outcome == outcome).count()
}

/// The suite's own sentence on a profile, and its counts.
fn of_profile(column: Column, profile: &Profile) -> String {
    let counts = profile.levels().map(|(name, level)| {
        let counts = level.statistics;
        format!(
            "  {name}: {} passed, {} failed, {} skipped\n",
            counts.passed, counts.failed, counts.skipped
        )
    });
    format!(
        "{}, {column}: {}\n{}",
        profile.name,
        profile.summary,
        counts.collect::<String>()
    )
}

/// Lines of cells, each column as wide as its widest cell.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row: &Vec<String>| Some(row.get(column)?.len()))
            .max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0) + GAP).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::report::{Level, Report, Statistics},
        *,
    };

    fn run(ended: &[(&str, Outcome)], connections: u64) -> Run {
        let statistics = |passed| Statistics {
            passed,
            failed: 1,
            skipped: 0,
        };
        let level = |passed| Level {
            statistics: statistics(passed),
            failed_tests: Vec::new(),
        };
        Run {
            ended: ended
                .iter()
                .map(|(name, outcome)| Ended {
                    name: (*name).to_owned(),
                    outcome: *outcome,
                })
                .collect(),
            report: Report {
                profiles: vec![Profile {
                    name: "MESH-HTTP".into(),
                    summary: "Core tests failed.".into(),
                    core: level(3),
                    extended: Some(level(4)),
                }],
            },
            connections,
        }
    }

    #[test]
    fn both_columns_stand_beside_the_names() {
        let runs = [
            (
                Column::NotCaptured,
                run(
                    &[
                        ("MeshBasic", Outcome::Pass),
                        ("MeshPorts", Outcome::Fail),
                        ("GatewayInfrastructure", Outcome::Skipped),
                    ],
                    0,
                ),
            ),
            (
                Column::Captured,
                run(
                    &[
                        ("MeshBasic", Outcome::Pass),
                        ("MeshPorts", Outcome::Pass),
                        ("MeshFrontend", Outcome::Skipped),
                        ("HTTPRouteNew", Outcome::Fail),
                    ],
                    71,
                ),
            ),
        ];
        let text = table(&runs);
        let expected = "
                           not captured   captured
MeshBasic                  pass           pass
MeshPorts                  fail           pass
MeshFrontend               -              skipped
HTTPRouteNew               -              fail
all: pass                  1              2
all: fail                  1              1
all: skipped               0              1
connections through Weft   0              71
";
        assert!(text.starts_with(&expected[1..]), "{text}");
        let profile = "\
MESH-HTTP, captured: Core tests failed.
  core: 3 passed, 1 failed, 0 skipped
  extended: 4 passed, 1 failed, 0 skipped
";
        assert!(text.ends_with(profile), "{text}");
    }

    #[test]
    fn one_column_alone_is_a_table_too() {
        let text = table(&[(Column::Captured, run(&[("MeshBasic", Outcome::Pass)], 3))]);
        assert!(text.contains("MeshBasic                  pass\n"), "{text}");
        assert!(!text.contains("not captured"), "{text}");
    }
}
