//! Files and functions that fit into a head, and a first line that says why a file exists.

use super::{Finding, Rule, source::Source};

/// Lines of a file: more than this is two subjects.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function, signature and braces included: what fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// What is too long, and a first line that is missing.
pub(super) fn findings(source: &Source) -> Vec<Finding> {
    let finding = |rule, line, message| Finding {
        rule,
        path: source.path.clone(),
        line,
        message,
    };
    let mut findings = Vec::new();
    let why = source.first_line.strip_prefix("//!").map_or("", str::trim);
    if why.is_empty() {
        findings.push(finding(
            Rule::FirstLine,
            1,
            "the first line is not a `//!` line that says why the file exists".into(),
        ));
    }
    if source.lines > FILE_LINES_MAX {
        findings.push(finding(
            Rule::FileLength,
            source.lines,
            format!("{} lines, at most {FILE_LINES_MAX}", source.lines),
        ));
    }
    for function in source
        .functions
        .iter()
        .filter(|function| function.lines > FUNCTION_LINES_MAX)
    {
        let message = format!(
            "`{}` has {} lines, at most {FUNCTION_LINES_MAX}",
            function.name, function.lines
        );
        findings.push(finding(Rule::FunctionLength, function.line, message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<Rule> {
        let source = Source::parse("mesh-common/src/x.rs".into(), text).unwrap();
        findings(&source).into_iter().map(|finding| finding.rule).collect()
    }

    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn limits() {
        for (text, expected) in [
            ("//! Why.\n".to_owned(), vec![]),
            ("//!\n".to_owned(), vec![Rule::FirstLine]),
            ("// Why.\n".to_owned(), vec![Rule::FirstLine]),
            ("#![no_std]\n//! Why.\n".to_owned(), vec![Rule::FirstLine]),
            (format!("//! Why.\n{}", "\n".repeat(FILE_LINES_MAX - 1)), vec![]),
            (
                format!("//! Why.\n{}", "\n".repeat(FILE_LINES_MAX)),
                vec![Rule::FileLength],
            ),
            (format!("//! Why.\n{}", function(FUNCTION_LINES_MAX)), vec![]),
            (
                format!("//! Why.\n{}", function(FUNCTION_LINES_MAX + 1)),
                vec![Rule::FunctionLength],
            ),
            (
                format!("//! Why.\nimpl T {{\n{}}}\n", function(FUNCTION_LINES_MAX + 1)),
                vec![Rule::FunctionLength],
            ),
            (
                format!("//! Why.\nmod m {{\n{}}}\n", function(FUNCTION_LINES_MAX + 1)),
                vec![Rule::FunctionLength],
            ),
        ] {
            assert_eq!(rules(&text), expected, "{} lines", text.lines().count());
        }
    }
}
