//! SIGTERM: no new connections, open ones end in order, capture stays for the successor. `detach`: nothing stays.

use std::{
    io::{Read, Write},
    time::Instant,
};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{self, Background, Load, Version},
    daemon::{self, DaemonOptions, HANG_GUARD},
    hooks,
    shop::{Shop, WEB4, WEB6},
    tcp,
};
use nix::sys::signal::Signal;

use crate::{all_answered, captured, captured_by, report};

#[test]
fn requests_under_way_are_answered_and_told_to_go_elsewhere() {
    captured(|shop| {
        let mut stream = tcp::connect(&shop.client.netns, WEB4)?;
        stream.write_all(b"GET /slow/1500 HTTP/1.1\r\nhost: web\r\n\r\n")?;
        let http2 = Background::start(
            &shop.client.netns,
            Load {
                path: "/slow/300".to_owned(),
                ..Load::reused(Version::Http2, WEB6)
            },
        )?;
        wait_for("a first answer over HTTP/2", HANG_GUARD, || {
            Ok((http2.tally().sent > 0).then_some(()))
        })?;
        let start = Instant::now();
        shop.daemon(0)?.process.signal(Signal::SIGTERM);
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        ensure!(answer.to_lowercase().contains("connection: close"), "{answer}");
        let status = shop.daemon(0)?.process.wait(HANG_GUARD)?;
        report(
            "SIGTERM to the end, with a request of 1500 ms under way",
            start.elapsed(),
        );
        ensure!(status.success(), "{status}");
        // the client opened its next connection, which flowed as if unmeshed
        let sent = http2.tally().sent;
        wait_for("requests after the drain", HANG_GUARD, || {
            Ok((http2.tally().sent > sent + 1).then_some(()))
        })?;
        all_answered(&http2.stop()?)?;
        hooks::exactly_one_each(&shop.bench.nodes[0].netns)
    });
}

#[test]
fn an_idle_connection_does_not_hold_up_the_drain() {
    captured(|shop| {
        let mut stream = tcp::connect(&shop.client.netns, WEB4)?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")?;
        let count = stream.read(&mut [0; 4096])?;
        ensure!(count > 0);
        let start = Instant::now();
        shop.daemon(0)?.terminate()?;
        ensure!(start.elapsed().as_secs() < 10, "the drain took {:?}", start.elapsed());
        Ok(())
    });
}

#[test]
fn a_rolling_restart_fails_no_request() {
    captured(|shop| {
        let load = Background::start(&shop.client.netns, Load::fresh(Version::Http1, WEB4))?;
        for _ in 0..3 {
            shop.daemon(0)?.terminate()?;
            shop.start_daemon(0, &DaemonOptions::default())?;
            shop.wait_captured(true)?;
        }
        let tally = load.stop()?;
        all_answered(&tally)?;
        hooks::exactly_one_each(&shop.bench.nodes[0].netns)
    });
}

#[test]
fn detach_leaves_nothing_with_tcx() {
    captured_by("tcx", detach_leaves_nothing);
}

#[test]
fn detach_leaves_nothing_with_clsact() {
    captured_by("clsact", detach_leaves_nothing);
}

fn detach_leaves_nothing(shop: &mut Shop) -> Result<()> {
    for node in [0, 1] {
        ensure!(
            hooks::nothing_left(&shop.bench, node).is_err(),
            "the check finds nothing while capture is attached"
        );
        ensure!(
            daemon::detach(&shop.bench, node).is_err(),
            "it detached beneath a running daemon"
        );
        shop.daemon(node)?.process.kill();
        daemon::detach(&shop.bench, node)?;
        hooks::nothing_left(&shop.bench, node)?;
        // once more: what is not there is fine
        daemon::detach(&shop.bench, node)?;
    }
    let answer = client::once(&shop.client.netns, Version::Http1, WEB4, "/")?;
    ensure!(answer.text().starts_with("web-"), "{answer:?}");
    Ok(())
}
