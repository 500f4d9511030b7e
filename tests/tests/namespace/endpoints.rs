//! Endpoints that come, go, refuse and die: no request fails that another endpoint can serve.

use std::time::Instant;

use anyhow::ensure;
use mesh_tests::{
    bench::wait_for,
    client::{Load, Version},
    daemon::HANG_GUARD,
    shop::{SERVICE_PORTS, SERVICE_V4, WEB4, WEB6},
    tcp,
};

use crate::{all_answered, captured, report};

#[test]
fn a_new_endpoint_gets_traffic() {
    captured(|shop| {
        let name = shop.add_server(1)?;
        let start = Instant::now();
        shop.publish()?;
        let load = Load::fresh(Version::Http1, WEB4);
        wait_for("an answer of the new endpoint", HANG_GUARD, || {
            let tally = shop.send(&load, 1)?;
            Ok(tally.by_body.contains_key(&name).then_some(()))
        })?;
        report("endpoint file to traffic", start.elapsed());
        let tally = shop.send(&load, 400)?;
        all_answered(&tally)?;
        ensure!(
            tally.by_body.len() == 4 && tally.difference() <= u64::from(mesh_tests::daemon::WORKERS),
            "{tally:?}"
        );
        Ok(())
    });
}

#[test]
fn a_removed_endpoint_gets_no_more_traffic() {
    captured(|shop| {
        let gone = shop.server("web-2")?.pod.ips();
        if let Some(web) = shop.services.get_mut("web") {
            web.endpoints.retain(|ip| !gone.contains(ip));
        }
        shop.publish()?;
        let load = Load::fresh(Version::Http1, WEB4);
        wait_for("the removed endpoint to be left alone", HANG_GUARD, || {
            let tally = shop.send(&load, 12)?;
            Ok((!tally.by_body.contains_key("web-2")).then_some(()))
        })?;
        let tally = shop.send(&load, 100)?;
        all_answered(&tally)?;
        ensure!(tally.by_body.keys().eq(["web-1", "web-3"]), "{tally:?}");
        Ok(())
    });
}

#[test]
fn an_endpoint_that_refuses_is_replaced_at_once() {
    captured(|shop| {
        shop.kill_server("web-1");
        shop.kill_server("web-3");
        for target in [WEB4, WEB6] {
            for version in [Version::Http1, Version::Http2] {
                let tally = shop.send(&Load::fresh(version, target), 60)?;
                all_answered(&tally)?;
                ensure!(tally.by_body.keys().eq(["web-2"]), "{tally:?}");
            }
        }
        for _ in 0..9 {
            let mut stream = tcp::connect(&shop.client.netns, (SERVICE_V4, SERVICE_PORTS[1]).into())?;
            ensure!(tcp::echo(&mut stream, b"opaque too")? == b"opaque too");
        }
        Ok(())
    });
}

#[test]
fn a_killed_server_fails_no_request_although_connections_to_it_are_pooled() {
    captured(|shop| {
        for version in [Version::Http1, Version::Http2] {
            let load = Load::fresh(version, WEB4);
            all_answered(&shop.send(&load, 60)?)?;
            shop.kill_server("web-2");
            let tally = shop.send(&load, 300)?;
            all_answered(&tally)?;
            ensure!(tally.by_body.keys().eq(["web-1", "web-3"]), "{tally:?}");
            shop.start_server("web-2")?;
        }
        Ok(())
    });
}
