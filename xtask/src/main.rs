//! Weft's own commands, run as `cargo xtask …`: one file per command, and the few things that they share.

mod bench;
mod build_ebpf;
mod check;
mod cluster;
mod command;
mod conformance;
mod demo;
mod image;
mod kubernetes;
mod machine;
mod setup;
mod test;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything that is done to Weft's source tree.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, showing and testing Weft needs on Debian 12, and say what
    Setup(setup::Args),
    /// Build the kernel half (mesh-ebpf) into mesh-ebpf/target/weft.o, which the daemon embeds
    BuildEbpf(build_ebpf::Args),
    /// Make the daemon's container image, an OCI archive, without any container tool
    Image(image::Args),
    /// Show Weft at work: two nodes as network namespaces, a Service, a table that grows
    Demo(demo::Args),
    /// A real Kubernetes of two nodes on this machine, for tests and to try things by hand
    Cluster(cluster::Args),
    /// Run every ring of tests, as CI does
    Test(test::Args),
    /// Measure on this machine, with a release build; no figure passes or fails
    Bench(bench::Args),
    /// Run the Gateway API's conformance suite for meshes on a real cluster, captured and not, and print both columns
    Conformance(conformance::Args),
    /// Build Kubernetes and CoreDNS from their Go modules, for the rings that need a real API server
    Kubernetes,
    /// Formatting, lints, tidy, documentation and the fast rings: what to run before a commit
    Check(check::Args),
    /// Say where the source breaks the house rules (floors, borders, sizes)
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Task::Setup(args) => setup::run(&args),
        Task::BuildEbpf(args) => build_ebpf::run(&args),
        Task::Image(args) => image::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Cluster(args) => cluster::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Conformance(args) => conformance::run(&args),
        Task::Kubernetes => kubernetes::run(),
        Task::Check(args) => check::run(&args),
        Task::Tidy(args) => tidy::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
