//! `cargo xtask bench`: figures on this machine, with a release build, and the real API server where one is needed. Nothing here passes or
//! fails by a figure.

use anyhow::Result;

use crate::{command, demo, image, kubernetes, setup};

/// What `cargo xtask bench` takes.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: What,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// 1,000 Services and 10,000 endpoints: time to ready, peak memory
    Scale,
    /// One endpoint of 10,000 changes: time until the data path uses it
    Churn,
    /// CPU of requests and connections with and without the kernel's ear
    Ear,
    /// What choosing one of 1,000 endpoints costs with each balancer, and publishing 1,000 upstreams
    Balance,
}

impl What {
    /// As our bench program names it.
    fn name(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Churn => "churn",
            Self::Ear => "ear",
            Self::Balance => "balance",
        }
    }
}

/// The measurements of balancers: ignored tests, since what they measure is not public.
const BALANCE: &str = "proxy::balance::tests::figures";

/// Builds what is measured, the daemon as its image has it, and measures.
///
/// # Errors
/// If something is missing, a build fails, or the measurement does not come to its end.
pub fn run(args: &Args) -> Result<()> {
    if matches!(args.what, What::Balance) {
        return balance();
    }
    let needs_kubernetes = !matches!(args.what, What::Ear);
    let purpose = if needs_kubernetes {
        setup::Purpose::Cluster
    } else {
        setup::Purpose::Demo
    };
    command::step("setup", || setup::ensure(purpose, false))?;
    let daemon = image::daemon_program_folder()?;
    let mut bench = command::program(demo::bin_dir().join("weft-bench"));
    if needs_kubernetes {
        bench.env("WEFT_KUBE_DIR", command::step("kubernetes", kubernetes::build)?);
    }
    command::step("build", || command::run(&mut demo::build_binaries()))?;
    command::run(bench.arg(args.what.name()).env("WEFT_BIN_DIR", daemon))
}

/// In release, one after the other.
fn balance() -> Result<()> {
    let mut tests = command::cargo();
    tests.args(["test", "--release", "--package", "mesh-daemon", "--lib", BALANCE]);
    command::run(tests.args(["--", "--ignored", "--nocapture", "--test-threads=1"]))
}
