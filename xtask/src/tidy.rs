//! `cargo xtask tidy`: the house rules that a machine can keep: floors, borders, sizes, and a first line that says why a file exists.

mod borders;
mod exceptions;
mod floors;
mod sizes;
mod source;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::command;
use exceptions::{EXCEPTIONS, Exception};
use source::Source;

/// What `cargo xtask tidy` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The workspace to look at, if not this one
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// The crates that are held to the rules.
const CRATES: [&str; 5] = ["mesh-common", "mesh-daemon", "mesh-ebpf", "xtask", "tests"];
/// What compilers write.
const NOT_SOURCE: &str = "target";

/// What a finding breaks. An exception names one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A room uses only lower floors and itself.
    Floors,
    /// `aya` only in `bpf/`.
    Aya,
    /// `kube` and `k8s_openapi` only in `watch/`.
    Kube,
    /// Spawning only in `task.rs`.
    Spawn,
    /// The environment only in `config/`.
    Env,
    /// Files only in `config/`, `watch/manifest.rs`, `watch/state.rs`, `certs/file.rs`.
    Files,
    /// `model` is pure.
    Model,
    /// No file is too long.
    FileLength,
    /// No function is too long.
    FunctionLength,
    /// The first line says why the file exists.
    FirstLine,
    /// An exception, or the table of rooms, says what is no longer so.
    Stale,
}

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    rule: Rule,
    path: String,
    line: usize,
    message: String,
}

/// Prints every finding.
///
/// # Errors
/// If there is one, or the source cannot be read.
pub fn run(args: &Args) -> Result<()> {
    report(&findings_in(&args.root.clone().unwrap_or_else(command::workspace))?)
}

/// As [`run`], over this workspace.
///
/// # Errors
/// If there is a finding, or the source cannot be read.
pub fn check() -> Result<()> {
    report(&findings_in(&command::workspace())?)
}

fn report(findings: &[Finding]) -> Result<()> {
    for finding in findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        Ok(())
    } else {
        bail!("tidy found {} breaches of the house rules", findings.len())
    }
}

fn findings_in(root: &Path) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    for name in CRATES
        .iter()
        .map(|name| root.join(name))
        .filter(|folder| folder.exists())
    {
        collect(&name, &mut files)?;
    }
    files.sort();
    let mut sources = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
        let path = file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
        sources.push(Source::parse(path, &text)?);
    }
    let manifest =
        fs::read_to_string(root.join("mesh-daemon/Cargo.toml")).context("could not read mesh-daemon/Cargo.toml")?;
    Ok(judge(&sources, &borders::dependencies(&manifest), &EXCEPTIONS))
}

/// Everything that is wrong with these files, but for the exceptions; and the exceptions that nothing needs.
fn judge(sources: &[Source], dependencies: &[String], exceptions: &[Exception]) -> Vec<Finding> {
    let all: Vec<Finding> = sources
        .iter()
        .flat_map(|source| {
            [
                floors::findings(source),
                borders::findings(source, dependencies),
                sizes::findings(source),
            ]
        })
        .flatten()
        .collect();
    let stale = exceptions
        .iter()
        .filter(|exception| !all.iter().any(|finding| exception.covers(finding)));
    let stale: Vec<_> = stale.map(Exception::stale).collect();
    all.into_iter()
        .filter(|finding| !exceptions.iter().any(|exception| exception.covers(finding)))
        .chain(stale)
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != NOT_SOURCE) {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            path,
            line,
            message,
        } = self;
        write!(f, "{path}:{line}: {message} [{rule:?}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let findings = findings_in(&command::workspace()).unwrap();
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }

    #[test]
    fn an_exception_hides_its_finding_and_is_one_when_nothing_needs_it() {
        let source = Source::parse("mesh-daemon/src/bpf/pins.rs".into(), "//! Why.\nuse std::fs;\n").unwrap();
        let exception = |path| Exception {
            rule: Rule::Files,
            path,
            reason: "pins are files",
        };
        let rules = |exceptions: &[Exception]| -> Vec<Rule> {
            judge(std::slice::from_ref(&source), &[], exceptions)
                .into_iter()
                .map(|finding| finding.rule)
                .collect()
        };
        assert_eq!(rules(&[]), [Rule::Files]);
        assert_eq!(rules(&[exception("mesh-daemon/src/bpf/pins.rs")]), []);
        assert_eq!(
            rules(&[exception("mesh-daemon/src/bpf/other.rs")]),
            [Rule::Files, Rule::Stale]
        );
    }
}
