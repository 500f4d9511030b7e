//! What the suite's test program prints about its tests, told apart from everything else that it prints: pure.

/// The test of the suite's program: the suite's own tests are its subtests.
pub(super) const ROOT: &str = "TestConformance";
/// With `-test.v=test2json` each line of the testing package begins so (its name is SYN), so that no test can print one by chance; and a test's
/// result is printed when the test ends, not when all have.
const MARK: char = '\x16';

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pass,
    Fail,
    /// It needs a feature that is exempt, or was not asked for.
    Skipped,
}

/// A test of the suite that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// The result in a line such as `␖    --- PASS: TestConformance/MeshBasic (2.50s)`; none in every other line, those of a test's own parts among
/// them.
pub(super) fn ended(line: &str) -> Option<Ended> {
    let (outcome, rest) = line.strip_prefix(MARK)?.trim().strip_prefix("--- ")?.split_once(": ")?;
    let outcome = match outcome {
        "PASS" => Outcome::Pass,
        "FAIL" => Outcome::Fail,
        "SKIP" => Outcome::Skipped,
        _ => return None,
    };
    // the time in parentheses leaves out what a test waits for its parallel parts
    let (name, _) = rest.strip_prefix(ROOT)?.strip_prefix('/')?.split_once(" (")?;
    (!name.contains('/')).then(|| Ended {
        name: name.to_owned(),
        outcome,
    })
}

/// The line without what marks it.
pub(super) fn unmarked(line: &str) -> &str {
    line.trim_start_matches(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_test_is_a_result() {
        for (line, expected) in [
            (
                "\x16    --- PASS: TestConformance/MeshBasic (2.50s)\n",
                Some(("MeshBasic", Outcome::Pass)),
            ),
            (
                "\x16--- FAIL: TestConformance/MeshPorts (30.01s)",
                Some(("MeshPorts", Outcome::Fail)),
            ),
            (
                "\x16    --- SKIP: TestConformance/GatewayInfrastructure (0.00s)",
                Some(("GatewayInfrastructure", Outcome::Skipped)),
            ),
            // a part of a test, the whole, a start, another test of that name, and what a test printed itself
            ("\x16        --- FAIL: TestConformance/MeshPorts/port_80 (0.01s)", None),
            ("\x16--- FAIL: TestConformance (99.00s)", None),
            ("\x16=== RUN   TestConformance/MeshBasic", None),
            ("\x16--- PASS: TestConformanceOfAll/MeshBasic (2.50s)", None),
            ("    --- PASS: TestConformance/MeshBasic (2.50s)", None),
            ("\x16--- GOOD: TestConformance/MeshBasic (2.50s)", None),
            ("\x16--- PASS: TestConformance/MeshBasic", None),
            ("", None),
        ] {
            let expected = expected.map(|(name, outcome): (&str, _)| Ended {
                name: name.to_owned(),
                outcome,
            });
            assert_eq!(ended(line), expected, "{line:?}");
        }
    }

    #[test]
    fn marks_are_not_kept() {
        assert_eq!(
            unmarked("\x16=== RUN   TestConformance\n"),
            "=== RUN   TestConformance\n"
        );
        assert_eq!(unmarked("  as it is\n"), "  as it is\n");
    }
}
