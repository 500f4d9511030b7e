//! Measures Weft. `cargo xtask bench` builds it and runs it.

use std::process::ExitCode;

use clap::Parser;
use mesh_tests::{ear, scale};

/// Measures Weft.
#[derive(Debug, Parser)]
enum Measure {
    /// How soon a daemon is ready that finds 1,000 Services and 10,000 endpoints, and what memory it takes.
    Scale,
    /// How soon one changed endpoint of 10,000 is served.
    Churn,
    /// What the kernel's ear costs.
    Ear,
}

fn main() -> ExitCode {
    let done = match Measure::parse() {
        Measure::Scale => scale::scale(),
        Measure::Churn => scale::churn(),
        Measure::Ear => ear::cost(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
