//! Shows Weft's main job on two nodes made of network namespaces. `cargo xtask demo` builds it and runs it.

use std::process::ExitCode;

use clap::Parser;
use mesh_tests::demo;

/// Shows a captured Service on two nodes made of network namespaces.
#[derive(Debug, Parser)]
struct Args {
    /// Leave everything running afterwards and print what to try.
    #[arg(long, conflicts_with = "down")]
    keep: bool,
    /// Remove a demo that was kept.
    #[arg(long)]
    down: bool,
}

fn main() -> ExitCode {
    let Args { keep, down } = Args::parse();
    if down {
        demo::down();
        return ExitCode::SUCCESS;
    }
    match demo::tell(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
