//! `cargo xtask bench`: figures on this machine, with a release build and the real API server. Nothing here passes or fails by a figure.

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
}

/// Builds what is measured, the daemon as its image has it, and measures.
///
/// # Errors
/// If something is missing, a build fails, or the measurement does not come to its end.
pub fn run(args: &Args) -> Result<()> {
    command::step("setup", || setup::ensure(setup::Purpose::Cluster, false))?;
    let daemon = image::daemon_program_folder()?;
    let kubernetes = command::step("kubernetes", kubernetes::build)?;
    command::step("build", || command::run(&mut demo::build_binaries()))?;
    let what = match args.what {
        What::Scale => "scale",
        What::Churn => "churn",
    };
    command::run(
        command::program(demo::bin_dir().join("weft-bench"))
            .arg(what)
            .env("WEFT_BIN_DIR", daemon)
            .env("WEFT_KUBE_DIR", kubernetes),
    )
}
