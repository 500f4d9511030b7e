//! `cargo xtask bench`: figures on this machine, with a release build; of what depends on it, with the real API server. Nothing here passes or fails by a figure.

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
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Churn => "churn",
            Self::Ear => "ear",
        }
    }
}

/// Builds what is measured, the daemon as its image has it, and measures.
///
/// # Errors
/// If something is missing, a build fails, or the measurement does not come to its end.
pub fn run(args: &Args) -> Result<()> {
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
