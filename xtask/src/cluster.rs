//! `cargo xtask cluster`: a real Kubernetes of two nodes on this machine, from a bare machine to the lines that one needs to use it.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{command, demo, image, kubernetes, machine, setup};

/// What `cargo xtask cluster` takes.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Set the cluster up and leave it running
    Up(UpArgs),
    /// Remove the cluster, also one that came up half; nothing is left
    Down,
}

/// What `cargo xtask cluster up` takes.
#[derive(clap::Args)]
struct UpArgs {
    /// How pods are joined to their node: a routed veth pair each, or a bridge on each node
    #[arg(long, default_value = "ptp")]
    cni: Cni,
    /// The address families of pods, Services and nodes
    #[arg(long, default_value = "dual")]
    family: Family,
    /// Only list what is missing on this machine, install nothing
    #[arg(long)]
    no_install: bool,
}

/// How pods are joined.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Cni {
    Ptp,
    Bridge,
}

/// The address families.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Family {
    Dual,
    Ipv4,
}

/// What sets it up and removes it: a program of the crate mesh-tests.
const CLUSTER: &str = "weft-cluster";
/// Where a cluster says whose it is, as long as it is there; [`CLUSTER`] writes and removes it.
const STATE: &str = "/run/weft-cluster";

/// Sets up or removes the cluster.
///
/// # Errors
/// If the machine will not do, something could not be installed or built, or the cluster does not come up.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Task::Up(args) => up(args),
        Task::Down => down(),
    }
}

fn up(args: &UpArgs) -> Result<()> {
    let UpArgs {
        cni,
        family,
        no_install,
    } = args;
    command::step("setup", || setup::ensure(setup::Purpose::Cluster, *no_install))?;
    command::step("build", || command::run(&mut demo::build_binaries()))?;
    // before minutes are spent on what follows
    command::run(program().arg("refuse-second"))?;
    let programs = command::step("kubernetes", kubernetes::build)?;
    let mut images = command::step("images", image::tests)?;
    images.push(image::daemon()?);
    let mut up = program();
    up.arg("up").env("WEFT_KUBE_DIR", programs);
    up.arg(format!("--cni={}", name(cni)))
        .arg(format!("--family={}", name(family)));
    for archive in images {
        up.arg("--image").arg(archive);
    }
    become_it(&mut up)
}

fn down() -> Result<()> {
    if !machine::is_root() {
        bail!(
            "the cluster runs as root, so `down` needs root too; {}",
            machine::AS_ROOT
        );
    }
    if !demo::bin_dir().join(CLUSTER).exists() {
        if !Path::new(STATE).exists() {
            println!("No cluster is up; nothing to remove.");
            return Ok(());
        }
        command::run(&mut demo::build_binaries())?;
    }
    become_it(program().arg("down"))
}

/// On success this process is the other, and never comes back here: a Ctrl-C is the other's to clean up after.
fn become_it(cluster: &mut Command) -> Result<()> {
    println!("== cluster");
    let error = cluster.exec();
    Err(error).with_context(|| format!("could not start {}", demo::bin_dir().join(CLUSTER).display()))
}

/// The program that sets a cluster up, removes it, and says whether there is one.
pub fn program() -> Command {
    let mut cluster = command::program(demo::bin_dir().join(CLUSTER));
    cluster.env("WEFT_BIN_DIR", demo::bin_dir());
    cluster
}

/// A value as the command line has it.
pub fn name(value: &impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
