//! `/healthz` and `/readyz` of a real daemon: not ready, ready, draining.

use std::io::{Read, Write};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    daemon::{Daemon, DaemonOptions, HANG_GUARD, HEALTH_ADDR},
    shop::{Shop, WEB4},
    tcp,
};
use nix::sys::signal::Signal;

use crate::{captured, tell};

/// What must be listed before a node is ready.
const KINDS: [&str; 5] = ["Namespaces", "Nodes", "Pods", "Services", "EndpointSlices"];

fn answers(daemon: &Daemon, path: &str, code: u16, words: &[&str]) -> Result<()> {
    let (status, body) = daemon.get(HEALTH_ADDR, path)?;
    ensure!(status == code, "{path} answered {status}, not {code}: {body}");
    for word in words {
        ensure!(body.contains(word), "{path} does not say {word}: {body}");
    }
    Ok(())
}

#[test]
fn a_daemon_that_cannot_attach_lives_and_is_not_ready() {
    tell(Shop::usual(), |shop| {
        let node = shop.bench.nodes[0].netns.clone();
        node.run("tc", &["qdisc", "add", "dev", "uplink", "clsact"])?;
        let in_the_way = "filter add dev uplink ingress prio 49 handle 1 protocol all bpf da bytecode";
        let args: Vec<_> = in_the_way.split(' ').chain(["1,6 0 0 4294967295"]).collect();
        node.run("tc", &args)?;
        let options = DaemonOptions {
            attach: "clsact".to_owned(),
            ..DaemonOptions::default()
        };
        let daemon = Daemon::spawn(&shop.bench, 0, &shop.objects, &options)?;
        wait_for("the daemon to have tried", HANG_GUARD, || {
            Ok(daemon.process.output().contains("without its program").then_some(()))
        })?;
        answers(&daemon, "/healthz", 200, &["ok"])?;
        answers(&daemon, "/readyz", 503, &["[-]", "not ready"])?;
        answers(&daemon, "/readyz?verbose", 503, &KINDS)
    });
}

#[test]
fn a_ready_daemon_says_so_and_one_that_drains_is_alive_but_not_ready() {
    captured(|shop| {
        let mut stream = tcp::connect(&shop.client.netns, WEB4)?;
        let daemon = shop.daemon(0)?;
        answers(daemon, "/healthz", 200, &["ok"])?;
        answers(daemon, "/readyz", 200, &["ok"])?;
        answers(daemon, "/readyz?verbose", 200, &KINDS)?;
        stream.write_all(b"GET /slow/3000 HTTP/1.1\r\nhost: web\r\n\r\n")?;
        daemon.process.signal(Signal::SIGTERM);
        wait_for("the drain to be said", HANG_GUARD, || {
            answers(daemon, "/readyz", 503, &["draining"]).map(Some)
        })?;
        answers(daemon, "/healthz", 200, &["ok"])?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(())
    });
}
