//! Sets up and removes the cluster of real nodes that people use. `cargo xtask cluster` builds what it needs and runs it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use mesh_tests::kubernetes::{
    Binaries,
    cluster::{
        ClusterOptions, Cni, Family, forward,
        kept::{self, Kept},
    },
};

/// A real Kubernetes on this machine: two nodes as network namespaces.
#[derive(Debug, Parser)]
struct Args {
    /// Another name than that of the one cluster that people use, for tests.
    #[arg(long, global = true, default_value = kept::NAME, hide = true)]
    name: String,
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Set the cluster up and leave it running.
    Up {
        /// How pods are joined to their node.
        #[arg(long, default_value = "ptp")]
        cni: Cni,
        /// The address families of pods, Services and nodes.
        #[arg(long, default_value = "dual")]
        family: Family,
        /// An image archive that every node gets (may be given more than once).
        #[arg(long, value_name = "FILE")]
        image: Vec<PathBuf>,
    },
    /// Fail if a cluster is up or being set up, before minutes are spent on a build for another.
    #[command(hide = true)]
    RefuseSecond,
    /// Remove the cluster, also one that came up half.
    Down,
    /// Pass connections to a free port of the loopback on to an address inside a network namespace.
    #[command(hide = true)]
    Forward { netns: PathBuf, to: SocketAddr },
}

fn main() -> ExitCode {
    let Args { name, command } = Args::parse();
    let kept = Kept::named(&name);
    let done = match command {
        Task::Up { cni, family, image } => up(&kept, cni, family, image),
        Task::RefuseSecond => kept.refuse_second(),
        Task::Down => down(&kept),
        Task::Forward { netns, to } => forward::serve(&netns, to),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(kept: &Kept, cni: Cni, family: Family, images: Vec<PathBuf>) -> Result<()> {
    elapsed();
    kept.up(ClusterOptions {
        cni,
        family,
        images,
        say,
        ..ClusterOptions::default()
    })?;
    println!(
        "The cluster is up after {:.1} s. To use it from a shell:",
        elapsed().as_secs_f64()
    );
    println!("  export PATH={}:$PATH", Binaries::find()?.bin().display());
    println!("  export KUBECONFIG={}", kept.kubeconfig().display());
    Ok(())
}

fn down(kept: &Kept) -> Result<()> {
    if kept.down()? {
        println!(
            "The cluster is gone: its processes, namespaces, cgroups, mounts and {}.",
            kept.dir().display()
        );
    } else {
        println!("No cluster is up; nothing to remove.");
    }
    Ok(())
}

/// Tells a step that is done, and when.
fn say(step: &str) {
    println!("  {:5.1} s  {step}", elapsed().as_secs_f64());
}

/// Since the first call.
fn elapsed() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
