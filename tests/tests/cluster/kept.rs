//! The program behind `cargo xtask cluster`: a cluster that outlives it, is reached from the machine's own network, and goes on request.

use std::{
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    kubernetes::{Binaries, cluster::archive, cluster::kept::Kept},
    process::{self, Process},
};
use nix::sys::signal::Signal;

use crate::down::nothing_is_called;

/// A start takes ten seconds; the machine may be busy.
const START_GUARD: Duration = Duration::from_secs(180);

#[test]
fn a_kept_cluster_is_used_refuses_a_second_one_and_goes() {
    let name = name("kept");
    let kept = Removed(Kept::named(&name));
    let told = (|| {
        let up = weft_cluster(&name, &["up", "--family=ipv4"], true)?;
        ensure!(up.status.success(), "{up:?}");
        let said = String::from_utf8_lossy(&up.stdout).into_owned();
        for line in [
            format!("export PATH={}:$PATH", Binaries::find()?.bin().display()),
            format!("export KUBECONFIG={}", kept.0.kubeconfig().display()),
        ] {
            ensure!(said.contains(&line), "{said} lacks {line}");
        }
        let kubectl = Command::new(Binaries::find()?.bin().join("kubectl"))
            .args(["get", "nodes", "--output=name", "--cache-dir", "/dev/null/none"])
            .env("KUBECONFIG", kept.0.kubeconfig())
            .output()?;
        let nodes = String::from_utf8_lossy(&kubectl.stdout).into_owned();
        ensure!(nodes == "node/n1\nnode/n2\n", "{kubectl:?}");
        let second = weft_cluster(&name, &["up"], true)?;
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        ensure!(!second.status.success() && said.contains("is up already"), "{said}");
        let demo = kept.0.refuse_unless_of_the_demo().err().map(|error| error.to_string());
        ensure!(
            demo.as_ref().is_some_and(|said| said.contains("is not the demo's")),
            "{demo:?}"
        );
        goes(&name)
    })();
    drop(kept);
    told.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_start_that_was_killed_half_way_leaves_nothing_after_down() {
    half_way("killed", |up, name| {
        up.kill();
        goes(name)
    });
}

#[test]
fn a_start_that_is_interrupted_half_way_leaves_nothing_by_itself() {
    half_way("interrupted", |up, name| {
        up.signal(Signal::SIGINT);
        up.wait(START_GUARD)?;
        nothing_is_called(name)
    });
}

/// Does something to a start while the control plane is still on its way.
fn half_way(what: &str, then: impl FnOnce(&mut Process, &str) -> Result<()>) {
    let name = name(what);
    let kept = Removed(Kept::named(&name));
    let told = (|| {
        let log = tempfile::NamedTempFile::new()?;
        let mut command = command(&name, &["up"])?;
        command.args(["--image".into(), archive("pause")?.into_os_string()]);
        let mut up = Process::start(command, log.path())?;
        wait_for("the first container runtime", START_GUARD, || {
            ensure!(up.exited()?.is_none(), "it ended: {}", up.output());
            Ok(up.output().contains("containerd runs on").then_some(()))
        })?;
        then(&mut up, &name)
    })();
    drop(kept);
    told.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn wrong_flags_say_what_is_right() {
    for (args, parts) in [
        (&["up", "--cni=calico"][..], &["calico", "ptp", "bridge"][..]),
        (&["up", "--family=ipv6"], &["ipv6", "dual", "ipv4"]),
        (&["sideways"], &["sideways", "--help"]),
    ] {
        let output = weft_cluster("never", args, false).unwrap_or_else(|error| panic!("{error:#}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?} succeeds");
        for part in parts {
            assert!(said.contains(part), "{args:?}: {said:?} lacks {part:?}");
        }
    }
}

/// Removes a cluster whatever happens to its test.
struct Removed(Kept);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("{error:#}");
        }
    }
}

/// Runs `down` twice and looks for what it left.
fn goes(name: &str) -> Result<()> {
    for expected in ["is gone", "nothing to remove"] {
        let down = weft_cluster(name, &["down"], false)?;
        let said = String::from_utf8_lossy(&down.stdout).into_owned();
        ensure!(down.status.success() && said.contains(expected), "{down:?}");
    }
    nothing_is_called(name)
}

/// A name that no other run of this test has, and that a later run knows as a dead one's.
fn name(what: &str) -> String {
    format!("p{}c{what}", std::process::id())
}

fn weft_cluster(name: &str, args: &[&str], images: bool) -> Result<Output> {
    let mut command = command(name, args)?;
    if images {
        command.args(["--image".into(), archive("pause")?.into_os_string()]);
    }
    command.output().context("weft-cluster cannot be started")
}

fn command(name: &str, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(process::binary("weft-cluster")?);
    command.args(["--name", name]).args(args);
    Ok(command)
}
