//! Shows Weft's main job on two nodes made of network namespaces, or on a real cluster. `cargo xtask demo` builds it and runs it.

use std::process::ExitCode;

use clap::Parser;
use mesh_tests::{demo, kubernetes::cluster::kept};

/// Shows a captured Service on two nodes.
#[derive(Debug, Parser)]
struct Args {
    /// On a real cluster, with kubectl, instead of bare network namespaces.
    #[arg(long)]
    cluster: bool,
    /// Leave everything running afterwards and print what to try.
    #[arg(long, conflicts_with = "down")]
    keep: bool,
    /// Remove a demo that was kept.
    #[arg(long)]
    down: bool,
}

fn main() -> ExitCode {
    let Args { cluster, keep, down } = Args::parse();
    let done = match (down, cluster) {
        (true, true) => demo::cluster_down(),
        (true, false) => {
            demo::down();
            Ok(())
        }
        (false, true) => demo::tell_on_cluster(kept::NAME, keep),
        (false, false) => demo::tell(keep),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
