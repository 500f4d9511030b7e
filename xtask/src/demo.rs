//! `cargo xtask demo`: from a bare machine to the growing table: checks, installs, builds, and hands over to the demo itself.

use std::{
    fs,
    io::IsTerminal,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};

use crate::{build_ebpf, cluster, command, image, kubernetes, machine, setup};

/// What `cargo xtask demo` takes.
#[derive(clap::Args)]
pub struct Args {
    /// On a real cluster with pods and kubectl, instead of bare network namespaces
    #[arg(long)]
    cluster: bool,
    /// Only list what is missing on this machine, install nothing
    #[arg(long)]
    no_install: bool,
    /// Leave everything running at the end, and say what to try by hand
    #[arg(long, conflicts_with = "down")]
    keep: bool,
    /// Take away what an earlier `--keep` left running
    #[arg(long)]
    down: bool,
}

/// The demo itself: a program of the crate mesh-tests.
const DEMO: &str = "weft-demo";
/// Where a demo says whose it is, as long as it is there; the demo writes and removes it.
const STATE: &str = "/run/weft-demo/owner";
/// Columns of cargo's progress bar; cargo wants a number as soon as the bar is asked for.
const PROGRESS_WIDTH: &str = "80";

/// Does what the demo needs first, then becomes the demo.
///
/// # Errors
/// If the machine will not do, something could not be installed, or the build fails.
pub fn run(args: &Args) -> Result<()> {
    let started_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?
        .as_millis();
    if args.down {
        take_down(args.cluster)
    } else {
        if !args.cluster {
            refuse_second(Path::new(STATE))?;
        }
        let purpose = if args.cluster {
            setup::Purpose::Cluster
        } else {
            setup::Purpose::Demo
        };
        command::step("setup", || setup::ensure(purpose, args.no_install))?;
        let building = Instant::now();
        command::step("build-ebpf", || build_ebpf::run(&build_ebpf::Args::default()))?;
        command::step("build", || command::run(with_progress(&mut build_binaries())))?;
        let mut demo = demo(args.cluster);
        if args.cluster {
            // before more minutes are spent on what only this one needs
            command::run(cluster::program().arg("refuse-second"))?;
            image::daemon()?;
            command::step("images for pods", image::tests)?;
            demo.env("WEFT_KUBE_DIR", command::step("kubernetes", kubernetes::build)?);
        }
        println!("== the build took {:.1} s", building.elapsed().as_secs_f64());
        demo.env("WEFT_DEMO_STARTED", started_ms.to_string());
        if args.keep {
            demo.arg("--keep");
        }
        become_it(&mut demo)
    }
}

/// Refuses before minutes are spent on a build; the demo itself looks again.
fn refuse_second(state: &Path) -> Result<()> {
    let Ok(state) = fs::read_to_string(state) else {
        return Ok(());
    };
    let field = |key: &str| state.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?");
    let (pid, checkout, since) = (field("pid "), field("checkout "), field("since "));
    if state.lines().any(|line| line == "kept") {
        bail!(
            "a demo of {checkout} (pid {pid}, since {since}) is kept: use it, or remove it with `cargo xtask demo --down`"
        );
    }
    if Path::new("/proc").join(pid).exists() {
        bail!(
            "a demo of {checkout} (pid {pid}, since {since}) is running: wait for its end, or end it with `cargo xtask demo --down`"
        );
    }
    // a demo that crashed: the next one removes what it left
    Ok(())
}

/// Builds the programs that the demo and the tests start: the daemon, its test servers, the demo.
pub fn build_binaries() -> Command {
    let mut cargo = command::cargo();
    // the whole workspace, as the tests: another selection means other features, and everything is compiled twice
    cargo.args(["build", "--workspace", "--bins"]);
    cargo
}

/// The folder with the programs of [`build_binaries`].
pub fn bin_dir() -> PathBuf {
    command::target_dir().join("debug")
}

/// What was built for `--keep` knows how to end it; only if it is gone, it is built again.
fn take_down(cluster: bool) -> Result<()> {
    if !machine::is_root() {
        bail!(
            "the demo runs as root, so `--down` needs root too; {}",
            machine::AS_ROOT
        );
    }
    if !bin_dir().join(DEMO).exists() || !bin_dir().join("mesh-daemon").exists() {
        command::run(with_progress(&mut build_binaries()))?;
    }
    become_it(demo(cluster).arg("--down"))
}

fn demo(cluster: bool) -> Command {
    let mut demo = command::program(bin_dir().join(DEMO));
    demo.env("WEFT_BIN_DIR", bin_dir());
    if cluster {
        demo.arg("--cluster").env("WEFT_IMAGE_DIR", image::folder());
    }
    demo
}

/// On success this process is the demo, and never comes back here.
fn become_it(demo: &mut Command) -> Result<()> {
    let error = demo.exec();
    Err(error).with_context(|| format!("could not start {}", bin_dir().join(DEMO).display()))
}

/// A bar for people, plain lines for logs.
fn with_progress(cargo: &mut Command) -> &mut Command {
    if std::io::stderr().is_terminal() {
        cargo
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", PROGRESS_WIDTH);
    }
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_that_is_there_is_named() {
        let dir = std::env::temp_dir().join(format!("weft-xtask-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("owner");
        let own = std::process::id();
        for (state, parts) in [
            (None, &[][..]),
            // beyond the largest pid that the kernel gives
            (Some("pid 4194305\ncheckout /w\nsince noon\n".to_owned()), &[]),
            (
                Some(format!("pid {own}\ncheckout /w\nsince noon\n")),
                &["running", "/w", "noon", "--down"],
            ),
            (
                Some("pid 4194305\ncheckout /w\nsince noon\nkept\n".to_owned()),
                &["kept", "4194305", "/w", "noon", "--down"],
            ),
        ] {
            let _ = fs::remove_file(&file);
            if let Some(state) = &state {
                fs::write(&file, state).unwrap();
            }
            let text = refuse_second(&file).err().map(|e| e.to_string()).unwrap_or_default();
            assert_eq!(text.is_empty(), parts.is_empty(), "{state:?}: {text}");
            for part in parts {
                assert!(text.contains(part), "{state:?}: {text:?} lacks {part:?}");
            }
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
