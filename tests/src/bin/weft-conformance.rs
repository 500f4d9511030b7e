//! Runs the Gateway API's conformance suite on clusters of its own. `cargo xtask conformance` builds what it needs and runs it.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use mesh_tests::conformance::{self, Column, Options};

/// Runs the Gateway API's conformance suite for meshes, captured and not, and prints both columns.
#[derive(Debug, Parser)]
struct Args {
    /// The folder with the suite's program and the API's CRDs.
    #[arg(long, value_name = "DIR")]
    suite: PathBuf,
    /// An image archive that every node gets (may be given more than once).
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// The folder in which reports and logs stay.
    #[arg(long, value_name = "DIR")]
    results: PathBuf,
    /// Run only this test of the suite.
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
    /// Make only this column.
    #[arg(long)]
    column: Option<Column>,
}

fn main() -> ExitCode {
    let Args {
        suite,
        image,
        results,
        test,
        column,
    } = Args::parse();
    let done = conformance::conform(&Options {
        suite,
        images: image,
        results,
        test,
        column,
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}
