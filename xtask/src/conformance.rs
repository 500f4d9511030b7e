//! `cargo xtask conformance`: the official Gateway API suite's mesh profiles on a real cluster, with pods that are captured and with pods that are
//! not, from a bare machine to the two columns of results.

pub mod programs;

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::{cluster, command, demo, image, kubernetes, setup};

/// What `cargo xtask conformance` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Run only this test of the suite, as MeshBasic
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
    /// Make only this column
    #[arg(long)]
    column: Option<Column>,
    /// Only list what is missing on this machine, install nothing
    #[arg(long)]
    no_install: bool,
}

/// A run of the suite.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Column {
    NotCaptured,
    Captured,
}

/// What sets the clusters up and runs the suite: a program of the crate mesh-tests.
const CONFORMANCE: &str = "weft-conformance";
/// Where the suite's reports and logs stay, below the folder that cargo builds into.
const RESULTS: &str = "conformance";

/// Builds what the runs need, then becomes the runs.
///
/// # Errors
/// If the machine will not do, or something could not be installed or built.
pub fn run(args: &Args) -> Result<()> {
    let Args {
        test,
        column,
        no_install,
    } = args;
    command::step("setup", || setup::ensure(setup::Purpose::Cluster, *no_install))?;
    command::step("build", || command::run(&mut demo::build_binaries()))?;
    let kubernetes = command::step("kubernetes", kubernetes::build)?;
    let programs = command::step("conformance suite", programs::build)?;
    let mut images = command::step("images for pods", image::tests)?;
    images.push(image::echo(&programs.echo()?)?);
    images.push(image::daemon()?);
    let mut runs = command::program(demo::bin_dir().join(CONFORMANCE));
    runs.env("WEFT_BIN_DIR", demo::bin_dir())
        .env("WEFT_KUBE_DIR", kubernetes)
        .arg("--suite")
        .arg(programs.dir())
        .arg("--results")
        .arg(command::target_dir().join(RESULTS));
    for archive in images {
        runs.arg("--image").arg(archive);
    }
    if let Some(test) = test {
        runs.arg("--test").arg(test);
    }
    if let Some(column) = column {
        runs.arg("--column").arg(cluster::name(column));
    }
    println!("== conformance");
    // on success this process is the other, and never comes back here: a Ctrl-C is the other's to clean up after
    let error = runs.exec();
    Err(error).with_context(|| format!("could not start {}", demo::bin_dir().join(CONFORMANCE).display()))
}
