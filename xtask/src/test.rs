//! `cargo xtask test`: every ring of tests in order, the result of each, and one line that sums them up.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{build_ebpf, check, command, demo, image, kubernetes, setup};

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Run only this ring (may be given more than once)
    #[arg(long, value_name = "NAME", conflicts_with = "skip")]
    ring: Vec<Ring>,
    /// Leave this ring out; the summary names it (may be given more than once)
    #[arg(long, value_name = "NAME")]
    skip: Vec<Ring>,
    /// Write the golden files anew from what the code does now
    #[arg(long)]
    bless: bool,
}

/// A ring of tests; the next one needs more of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ring {
    /// Beside the code; needs nothing
    Pure,
    /// Kubernetes YAML in, snapshot and map tables out; needs nothing
    Golden,
    /// The daemon in process, over loopback
    Process,
    /// Nodes and pods as network namespaces; needs root, the kernel half and Debian's tools
    Namespace,
    /// A real API server with its controllers; needs Kubernetes' programs as well, which are built once
    ControlPlane,
    /// Two real nodes with containerd, kubelet and kube-proxy; needs Debian's packages for containers, and makes images
    Cluster,
}

const ALL: [Ring; 6] = [
    Ring::Pure,
    Ring::Golden,
    Ring::Process,
    Ring::Namespace,
    Ring::ControlPlane,
    Ring::Cluster,
];

/// What the result lines of one or more test programs add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// How one ring ended.
pub struct Outcome {
    name: &'static str,
    counts: Counts,
    /// Why it is a failure, if it is one.
    fault: Option<String>,
}

/// Runs what was asked for; without `--ring` also what CI wants around the rings.
///
/// # Errors
/// If anything failed.
pub fn run(args: &Args) -> Result<()> {
    let rings = chosen(&args.ring, &args.skip);
    let (mut faults, mut not_done) = (Vec::new(), Vec::new());
    if args.ring.is_empty() {
        command::step("setup", || setup::ensure(setup::Purpose::Test, false))?;
        command::step("build-ebpf", || build_ebpf::run(&build_ebpf::Args::default()))?;
        // the rings run all the same, so that one run shows everything that is wrong
        match command::step("check", check::static_checks) {
            Ok(left_out) => not_done = left_out,
            Err(error) => faults.push(format!("check: {error:#}")),
        }
    }
    let outcomes: Vec<_> = rings.iter().map(|ring| run_ring(*ring, args.bless)).collect();
    for ring in ALL.iter().filter(|ring| !rings.contains(ring)) {
        println!("{}: SKIPPED, not run", ring.name());
    }
    for check in not_done {
        println!("check: NOT DONE: {check}");
    }
    conclude(&outcomes, faults)
}

/// Runs one ring. Whatever keeps it from running is its failure.
pub fn run_ring(ring: Ring, bless: bool) -> Outcome {
    let mut counts = Counts::default();
    let done = command::step(ring.name(), || {
        let mut failed = ring.prepare().map(|()| Vec::new())?;
        for mut command in ring.commands(bless)? {
            if !command::run_seeing(&mut command, |line| counts.add_line(line))? {
                failed.push(
                    command
                        .get_args()
                        .map(|arg| arg.to_string_lossy())
                        .collect::<Vec<_>>()
                        .join(" "),
                );
            }
        }
        if failed.is_empty() {
            counts.accept()
        } else {
            bail!("`cargo {}` failed", failed.join("`, `cargo "))
        }
    });
    Outcome {
        name: ring.name(),
        counts,
        fault: done.err().map(|error| format!("{error:#}")),
    }
}

/// Prints the summary. The last line of a success holds the sums alone.
///
/// # Errors
/// If any ring or check failed.
pub fn conclude(outcomes: &[Outcome], mut faults: Vec<String>) -> Result<()> {
    let mut sum = Counts::default();
    for Outcome { name, counts, fault } in outcomes {
        let Counts {
            passed,
            failed,
            ignored,
        } = *counts;
        println!("{name}: {passed} passed, {failed} failed, {ignored} ignored");
        faults.extend(fault.iter().map(|fault| format!("{name}: {fault}")));
        sum.passed += passed;
        sum.failed += failed;
    }
    if !faults.is_empty() {
        println!("{} passed, {} failed", sum.passed, sum.failed);
        bail!("not everything passed:\n  {}", faults.join("\n  "));
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    Ok(())
}

fn chosen(only: &[Ring], skip: &[Ring]) -> Vec<Ring> {
    ALL.into_iter()
        .filter(|ring| (only.is_empty() || only.contains(ring)) && !skip.contains(ring))
        .collect()
}

impl Ring {
    fn name(self) -> &'static str {
        match self {
            Ring::Pure => "pure",
            Ring::Golden => "golden",
            Ring::Process => "process",
            Ring::Namespace => "namespace",
            Ring::ControlPlane => "control-plane",
            Ring::Cluster => "cluster",
        }
    }

    /// Builds or checks what the ring's tests find already there.
    fn prepare(self) -> Result<()> {
        match self {
            Ring::Pure | Ring::Golden | Ring::Process => Ok(()),
            Ring::Namespace => {
                setup::ensure(setup::Purpose::Test, true)?;
                build_ebpf::run(&build_ebpf::Args::default())?;
                command::run(&mut demo::build_binaries())
            }
            Ring::ControlPlane => {
                Ring::Namespace.prepare()?;
                kubernetes::build().map(drop)
            }
            Ring::Cluster => {
                Ring::ControlPlane.prepare()?;
                image::tests()?;
                image::daemon().map(drop)
            }
        }
    }

    fn commands(self, bless: bool) -> Result<Vec<Command>> {
        let test = |args: &[&str]| {
            let mut cargo = command::cargo();
            // one selection and one set of features for every ring, or each would compile its dependencies anew
            cargo
                .args([
                    "test",
                    "--no-fail-fast",
                    "--workspace",
                    "--features",
                    "mesh-tests/namespace",
                ])
                .args(args);
            if bless {
                cargo.env("WEFT_BLESS", "1");
            }
            cargo
        };
        // the tests share the machine's kernel, its bridges and its address ranges
        let alone = |target: &str| {
            let mut cargo = test(&["--test", target]);
            cargo
                .args(["--", "--test-threads=1"])
                .env("WEFT_BIN_DIR", demo::bin_dir());
            cargo
        };
        Ok(match self {
            Ring::Pure => vec![test(&["--lib", "--bins"]), test(&["--doc"])],
            Ring::Golden => vec![test(&["--test", "golden", "--test", "deploy"])],
            Ring::Process => vec![test(&["--test", "process"])],
            Ring::Namespace => {
                let namespace = |attach: &str, only: &[&str]| {
                    let mut cargo = alone("namespace");
                    cargo.args(only).env("WEFT_TEST_ATTACH", attach);
                    cargo
                };
                vec![namespace("auto", &[]), namespace("clsact", &AGAIN_WITH_CLSACT)]
            }
            Ring::ControlPlane => {
                let mut cargo = alone("control_plane");
                cargo.env("WEFT_KUBE_DIR", kubernetes::build()?);
                vec![cargo]
            }
            Ring::Cluster => {
                let mut cargo = alone("cluster");
                cargo
                    .env("WEFT_KUBE_DIR", kubernetes::build()?)
                    .env("WEFT_IMAGE_DIR", image::folder());
                vec![cargo]
            }
        })
    }
}

/// Tests of the namespace ring that run a second time with clsact filters, as kernels before 6.6 need them: what they prove depends on how
/// programs are attached.
const AGAIN_WITH_CLSACT: [&str; 5] = ["capture::", "labels::", "source::", "opaque::", "untouched::"];

impl Counts {
    /// Adds libtest's `test result: ok. 3 passed; 0 failed; 0 ignored; …`; other lines count nothing.
    fn add_line(&mut self, line: &str) {
        let Some((_, result)) = line.split_once("test result: ") else {
            return;
        };
        let number_of = |what: &str| {
            let mut parts = result.split(['.', ';']).map(str::trim);
            parts.find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok())
        };
        if let (Some(passed), Some(failed), Some(ignored)) =
            (number_of("passed"), number_of("failed"), number_of("ignored"))
        {
            self.passed += passed;
            self.failed += failed;
            self.ignored += ignored;
        }
    }

    /// A ring that ran no test proved nothing, even if nothing failed.
    fn accept(self) -> Result<()> {
        match self {
            Counts {
                passed: 0, failed: 0, ..
            } => bail!("no test ran"),
            Counts { failed: 0, .. } => Ok(()),
            Counts { failed, .. } => bail!("{failed} failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(lines: &[&str]) -> Counts {
        let mut counts = Counts::default();
        lines.iter().for_each(|line| counts.add_line(line));
        counts
    }

    #[test]
    fn result_lines_add_up() {
        let ok = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.52s\n";
        let bad = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        for (lines, passed, failed, ignored) in [
            (vec![], 0, 0, 0),
            (vec![ok], 12, 0, 1),
            (vec![ok, bad], 13, 2, 1),
            (vec!["running 12 tests\n", "test a ... ok\n", bad], 1, 2, 0),
            (
                vec!["left over from a test without newlinetest result: ok. 5 passed; 0 failed; 0 ignored; 0 measured"],
                5,
                0,
                0,
            ),
            (vec!["test result: strange"], 0, 0, 0),
        ] {
            assert_eq!(
                counts(&lines),
                Counts {
                    passed,
                    failed,
                    ignored
                },
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_ring_without_tests_is_a_failure() {
        for (passed, failed, ignored, good) in [(1, 0, 0, true), (0, 0, 0, false), (0, 0, 4, false), (3, 1, 0, false)] {
            assert_eq!(
                Counts {
                    passed,
                    failed,
                    ignored
                }
                .accept()
                .is_ok(),
                good,
                "{passed} {failed} {ignored}"
            );
        }
    }

    #[test]
    fn rings_keep_their_order() {
        for (only, skip, expected) in [
            (vec![], vec![], ALL.to_vec()),
            (
                vec![],
                vec![Ring::Namespace, Ring::Golden, Ring::ControlPlane, Ring::Cluster],
                vec![Ring::Pure, Ring::Process],
            ),
            (
                vec![Ring::Namespace, Ring::Pure],
                vec![],
                vec![Ring::Pure, Ring::Namespace],
            ),
        ] {
            assert_eq!(chosen(&only, &skip), expected);
        }
    }

    #[test]
    fn any_fault_fails_the_whole() {
        let outcome = |fault: Option<&str>| Outcome {
            name: "pure",
            counts: Counts {
                passed: 1,
                failed: 0,
                ignored: 0,
            },
            fault: fault.map(str::to_owned),
        };
        assert!(conclude(&[outcome(None)], vec![]).is_ok());
        assert!(conclude(&[outcome(None), outcome(Some("no test ran"))], vec![]).is_err());
        assert!(conclude(&[outcome(None)], vec!["check: clippy".into()]).is_err());
    }
}
