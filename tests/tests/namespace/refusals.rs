//! A daemon that cannot start says so in one sentence, ends with an exit code other than 0, and leaves nothing attached.

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    daemon::{self, Daemon, DaemonOptions, HANG_GUARD, HEALTH_ADDR, METRICS_ADDR},
    hooks,
    missing::Missing,
    process::Process,
    shop::Shop,
};

use crate::{tell, with_daemons};

/// Starts a daemon on node 1 that must refuse; its one sentence.
fn refused(shop: &Shop, options: &DaemonOptions) -> Result<String> {
    // before it starts: a quick one has said everything a moment later
    let log = shop.bench.dir().join("daemon-n1.log");
    let before = std::fs::read_to_string(log).map_or(0, |text| text.len());
    let mut daemon = Daemon::spawn(&shop.bench, 0, &shop.objects, options)?;
    let status = daemon.process.wait(HANG_GUARD).context("it did not refuse")?;
    let said = daemon.process.output();
    ensure!(!status.success(), "it ended with {status}: {said}");
    ensure!(status.code().is_some(), "it was killed: {said}");
    ensure!(!said.contains("panicked"), "it panicked: {said}");
    let last = said
        .get(before..)
        .unwrap_or(&said)
        .lines()
        .rfind(|line| !line.trim().is_empty());
    last.map(str::to_owned).context("it said nothing")
}

fn says(shop: &Shop, options: &DaemonOptions, words: &[&str]) -> Result<()> {
    let said = refused(shop, options)?;
    for word in words {
        ensure!(said.contains(word), "it says {said:?}, which does not name {word:?}");
    }
    Ok(())
}

fn with(extra: &[&str]) -> DaemonOptions {
    DaemonOptions {
        extra: extra.iter().map(|word| (*word).to_owned()).collect(),
        ..DaemonOptions::default()
    }
}

#[test]
fn a_second_daemon_on_a_node() {
    tell(with_daemons(), |shop| {
        says(shop, &with(&["--drain-timeout", "1s"]), &["another mesh-daemon"])?;
        // the first one is unharmed
        hooks::exactly_one_each(&shop.bench.nodes[0].netns)?;
        shop.capture()
    });
}

#[test]
fn a_port_in_use() {
    tell(Shop::usual(), |shop| {
        for addr in [METRICS_ADDR, HEALTH_ADDR] {
            let _taken = shop.bench.nodes[0]
                .netns
                .inside(|| std::net::TcpListener::bind(addr))??;
            says(shop, &DaemonOptions::default(), &[addr])?;
            hooks::nothing_left_but_the_pin_directory(&shop.bench, 0)?;
        }
        Ok(())
    });
}

#[test]
fn a_directory_that_is_not_on_a_bpffs() {
    tell(Shop::usual(), |shop| {
        let dir = tempfile::tempdir()?;
        let path = dir.path().display().to_string();
        // the later value of a flag that is given twice is refused by clap: run it without the bench's own
        let mut command = shop.bench.nodes[0]
            .netns
            .command(mesh_tests::process::binary("mesh-daemon")?);
        command
            .args(["--node-name", "n1", "--bpffs-dir", &path, "--manifests"])
            .arg(shop.objects.dir());
        let error = mesh_tests::bench::shell::output(&mut command, "").expect_err("it must refuse");
        let said = format!("{error:#}");
        ensure!(said.contains("is not on a bpffs") && said.contains(&path), "{said}");
        hooks::nothing_left(&shop.bench, 0)
    });
}

#[test]
fn a_manifest_that_does_not_parse() {
    tell(Shop::usual(), |shop| {
        shop.objects
            .text("broken.yaml", "apiVersion: v1\nkind: Pod\n  metadata: {[\n")?;
        says(shop, &DaemonOptions::default(), &["broken.yaml"])?;
        hooks::nothing_left(&shop.bench, 0)
    });
}

#[test]
fn a_capability_that_is_missing() {
    tell(Shop::usual(), |shop| {
        for (dropped, named) in [("-net_admin", "CAP_NET_ADMIN"), ("-sys_admin,-bpf", "CAP_BPF")] {
            let wrapper = ["setpriv", "--bounding-set", dropped, "--inh-caps", dropped]
                .map(str::to_owned)
                .to_vec();
            says(
                shop,
                &DaemonOptions {
                    wrapper,
                    ..DaemonOptions::default()
                },
                &[named],
            )?;
            hooks::nothing_left(&shop.bench, 0)?;
        }
        Ok(())
    });
}

#[test]
fn a_wrong_flag() {
    tell(Shop::usual(), |shop| {
        let said = refused(shop, &with(&["--no-such-flag"]));
        ensure!(said.is_ok(), "{said:?}");
        hooks::nothing_left(&shop.bench, 0)
    });
}

#[test]
fn a_kernel_feature_that_is_missing() {
    tell(Shop::usual(), |shop| {
        for (missing, attach, words) in [
            (Missing::TCX, "tcx", &["TCX", "--attach"][..]),
            (Missing::BPF, "auto", &["BPF"]),
            (Missing::NFTABLES, "auto", &["nftables"]),
        ] {
            let options = DaemonOptions {
                attach: attach.to_owned(),
                ..DaemonOptions::default()
            };
            let mut command = daemon::command(&shop.bench, 0, &shop.objects, &options)?;
            missing.deny(&mut command)?;
            let error = mesh_tests::bench::shell::output(&mut command, "").expect_err("it must refuse");
            let said = format!("{error:#}");
            ensure!(!said.contains("panicked"), "it panicked: {said}");
            for word in words {
                ensure!(said.contains(word), "it says {said:?}, which does not name {word:?}");
            }
            hooks::nothing_left_but_the_pin_directory(&shop.bench, 0)?;
        }
        Ok(())
    });
}

#[test]
fn without_tcx_the_way_to_attach_is_clsact() {
    tell(Shop::usual(), |shop| {
        let options = DaemonOptions {
            attach: "auto".to_owned(),
            ..DaemonOptions::default()
        };
        let mut command = daemon::command(&shop.bench, 0, &shop.objects, &options)?;
        Missing::TCX.deny(&mut command)?;
        let log = shop.bench.dir().join("daemon-without-tcx.log");
        let _daemon = Process::start(command, &log)?;
        let node = &shop.bench.nodes[0].netns;
        wait_for("programs on every interface", HANG_GUARD, || {
            hooks::exactly_one_each(node).map(Some)
        })?;
        let (links, _) = hooks::count_by_way(node)?;
        ensure!(links == 0, "{links} TCX links stand where the kernel has none");
        Ok(())
    });
}
