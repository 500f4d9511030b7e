//! The kernel's ear: round trips and retransmits per endpoint, of this daemon's connections and of nobody else's.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mesh_common::{names::MAP_ROUND_TRIPS, settings::Settings};
use mesh_tests::{
    bench::{Netns, OUTSIDE_V4, OUTSIDE_V6, Options, cgroups, wait_for},
    client::{Load, Version},
    daemon::{DaemonOptions, HANG_GUARD},
    ear::{Ear, cgroup_of},
    shop::{BANNER_PORT, ECHO_PORT, HTTP_PORT, SERVICE_PORTS, SERVICE_V4, Shop, WEB4, WEB6, to_count},
    tcp,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{all_answered, captured, tell};

/// 1 where the ear stands.
const AVAILABLE: &str = "weft_kernel_rtt_available";
/// The histogram over all endpoints.
const RTT: &str = "weft_upstream_rtt_seconds_count";
/// Segments that were sent again.
const RETRANSMITS: &str = "weft_upstream_retransmits_total";
/// Connections whose endpoint found no place.
const NO_ROOM: &str = "weft_upstream_rtt_no_room_total";
/// What is gone is forgotten when the maps are looked through, every 30 s.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(60);

/// Every server's address with this port.
fn endpoints(shop: &Shop, port: u16) -> BTreeSet<SocketAddr> {
    let ips = shop.servers.values().flat_map(|server| server.pod.ips());
    ips.map(|ip| SocketAddr::new(ip, port)).collect()
}

/// Connects from a namespace with a mark, as a process that stands beside the daemon may.
fn connect_marked(netns: &Netns, mark: u32, target: SocketAddr) -> Result<TcpStream> {
    let connected = netns.inside(|| -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_mark(mark)?;
        socket.connect_timeout(&target.into(), tcp::TIMEOUT)?;
        Ok(socket.into())
    })?;
    connected.with_context(|| format!("connecting to {target} from {}", netns.name()))
}

#[test]
fn every_endpoint_that_is_dialled_is_heard_over_both_families() {
    captured(|shop| {
        for target in [WEB4, WEB6] {
            for version in [Version::Http1, Version::Http2] {
                all_answered(&shop.send(&Load::fresh(version, target), 30)?)?;
            }
        }
        let expected = endpoints(shop, HTTP_PORT);
        let daemon = shop.daemon(0)?;
        let heard = Ear::of(&daemon.process)?.heard()?;
        ensure!(heard.keys().eq(&expected), "heard of {heard:?}, not of {expected:?}");
        for (endpoint, heard) in &heard {
            // a millisecond's work for a path inside one machine; minutes would be a wrong unit
            let bounds = 1..8 * 60_000_000;
            ensure!(bounds.contains(&heard.smoothed), "{endpoint}: {heard:?}");
            ensure!(heard.samples > 0, "{endpoint}: {heard:?}");
        }
        let metrics = daemon.metrics()?;
        ensure!(
            to_count(metrics.sum(AVAILABLE, &[])) == 1,
            "the daemon says that it hears nothing"
        );
        let samples: u64 = heard.values().map(|heard| heard.samples).sum();
        ensure!(
            to_count(metrics.sum(RTT, &[])) >= samples,
            "fewer than {samples} samples are counted"
        );
        Ok(())
    });
}

#[test]
fn connections_of_others_in_the_cgroup_are_not_heard() {
    captured(|shop| {
        let own = Settings::DEFAULT_MARKS.mark_own;
        let node = shop.bench.nodes[0].netns.clone();
        let outside = shop.bench.outside.clone();
        // this process started the daemon, so that they share a cgroup; the last one shows that nothing but mark and namespace differs
        let dials = [
            (7001, &node, 0),
            (7002, &node, 0x4000),
            (7003, &outside, own),
            (7004, &node, own),
        ];
        for ip in [IpAddr::from(OUTSIDE_V4), OUTSIDE_V6.into()] {
            for (port, netns, mark) in dials {
                let target = SocketAddr::new(ip, port);
                let _listener = outside.inside(|| TcpListener::bind(target))??;
                connect_marked(netns, mark, target)?;
            }
            let heard = Ear::of(&shop.daemon(0)?.process)?.heard()?;
            let of_this: Vec<_> = heard.keys().filter(|endpoint| endpoint.ip() == ip).collect();
            ensure!(of_this == [&SocketAddr::new(ip, 7004)], "heard of {of_this:?}");
        }
        Ok(())
    });
}

#[test]
fn two_daemons_of_one_cgroup_hear_their_own_connections_only() {
    captured(|shop| {
        let [one, two] = [0, 1].map(|node| shop.daemons[node].as_ref().map(|daemon| &daemon.process));
        let (one, two) = (one.context("no daemon")?, two.context("no daemon")?);
        ensure!(
            cgroup_of(one)? == cgroup_of(two)?,
            "they have a cgroup each: nothing is shown"
        );
        let (one, two) = (Ear::of(one)?, Ear::of(two)?);
        all_answered(&shop.send(&Load::fresh(Version::Http1, WEB4), 30)?)?;
        ensure!(!one.heard()?.is_empty(), "the client's daemon heard nothing");
        ensure!(two.heard()?.is_empty(), "the other daemon heard of {:?}", two.heard()?);
        // and the other way about, on a port that tells whose connection it is
        let other = shop.bench.add_pod(1, "other")?;
        shop.announce(&other)?;
        wait_for("the second daemon to carry a connection", HANG_GUARD, || {
            let mut stream = tcp::connect(&other.netns, (SERVICE_V4, SERVICE_PORTS[1]).into())?;
            tcp::echo(&mut stream, b"\0x")?;
            Ok((!two.heard()?.is_empty()).then_some(()))
        })?;
        let (one, two) = (one.heard()?, two.heard()?);
        ensure!(one.keys().all(|endpoint| endpoint.port() == HTTP_PORT), "{one:?}");
        ensure!(two.keys().all(|endpoint| endpoint.port() == ECHO_PORT), "{two:?}");
        Ok(())
    });
}

#[test]
fn segments_that_are_sent_again_are_counted_for_their_endpoint() {
    captured(|shop| {
        let mut stream = tcp::connect(&shop.client.netns, (SERVICE_V4, SERVICE_PORTS[1]).into())?;
        tcp::echo(&mut stream, b"\0before")?;
        let ear = Ear::of(&shop.daemon(0)?.process)?;
        let retransmits = || -> Result<u64> { Ok(ear.heard()?.values().map(|heard| heard.retransmits).sum()) };
        ensure!(
            retransmits()? == 0,
            "sent again before anything was lost: {:?}",
            ear.heard()?
        );
        for server in shop.servers.values() {
            let loss = "add table inet loss\nadd chain inet loss in { type filter hook input priority 0; }\n\
                add rule inet loss in tcp dport 9000 drop\n";
            mesh_tests::bench::shell::output(server.pod.netns.command("nft").args(["-f", "-"]), loss)?;
        }
        stream.write_all(b"lost")?;
        wait_for("the loss to be heard", HANG_GUARD, || {
            Ok((retransmits()? > 0).then_some(()))
        })?;
        for server in shop.servers.values() {
            server.pod.netns.run("nft", &["delete", "table", "inet", "loss"])?;
        }
        let mut back = [0; 4];
        stream.read_exact(&mut back)?;
        ensure!(&back == b"lost");
        let (heard, counted) = (retransmits()?, shop.daemon(0)?.metrics()?.sum(RETRANSMITS, &[]));
        ensure!(to_count(counted) >= heard, "{heard} were heard, {counted} are counted");
        let hurt = ear.heard()?.into_values().filter(|heard| heard.retransmits > 0).count();
        ensure!(hurt == 1, "one connection lost something, {hurt} endpoints are blamed");
        Ok(())
    });
}

/// Takes the server with this address out of the Service, and gives all its addresses.
fn take_away(shop: &mut Shop, ip: IpAddr) -> Result<Vec<IpAddr>> {
    let mut servers = shop.servers.values().map(|server| server.pod.ips());
    let gone = servers.find(|ips| ips.contains(&ip)).context("no such server")?;
    let web = shop.services.get_mut("web").context("no Service")?;
    web.endpoints.retain(|ip| !gone.contains(ip));
    shop.publish()?;
    Ok(gone.to_vec())
}

#[test]
fn a_full_map_is_counted_and_endpoints_that_are_gone_are_forgotten() {
    captured(|shop| {
        all_answered(&shop.send(&Load::fresh(Version::Http1, WEB4), 30)?)?;
        let mut open = tcp::connect(&shop.client.netns, (SERVICE_V4, SERVICE_PORTS[1]).into())?;
        tcp::echo(&mut open, b"\0x")?;
        let mut ear = Ear::of(&shop.daemon(0)?.process)?;
        let before = ear.heard()?;
        let held = before
            .keys()
            .find(|endpoint| endpoint.port() == ECHO_PORT)
            .context("no echo")?
            .ip();
        let filled = ear.fill()?;
        ensure!(filled > 0, "it was full of {before:?}");
        // a port that nobody has dialled yet
        let banner = |shop: &Shop| tcp::connect(&shop.client.netns, (SERVICE_V4, SERVICE_PORTS[2]).into());
        let is_banner = |endpoint: &SocketAddr| endpoint.port() == BANNER_PORT;
        banner(shop)?.read_exact(&mut [0])?;
        ensure!(
            !ear.heard()?.keys().any(is_banner),
            "an endpoint found a place in a full map"
        );
        let no_room = shop.daemon(0)?.metrics()?.sum(NO_ROOM, &[]);
        ensure!(to_count(no_room) >= 1, "that there was no place is not counted");

        let gone = take_away(shop, held)?;
        let kept: BTreeSet<_> = before
            .into_keys()
            .filter(|endpoint| !gone.contains(&endpoint.ip()))
            .collect();
        wait_for("what is gone to be forgotten", FORGOTTEN_WITHIN, || {
            let heard = ear.heard()?;
            ensure!(
                heard.keys().eq(&kept),
                "{} are heard of, {kept:?} are there",
                heard.len()
            );
            Ok(Some(()))
        })?;
        let deleted = [("map", MAP_ROUND_TRIPS), ("operation", "delete")];
        let deleted = shop.daemon(0)?.metrics()?.sum("weft_bpf_map_writes_total", &deleted);
        ensure!(
            to_count(deleted) >= u64::from(filled),
            "{deleted} deletions are counted"
        );
        let samples = shop.daemon(0)?.metrics()?.sum(RTT, &[]);
        for _ in 0..10 {
            tcp::echo(&mut open, b"x")?;
        }
        ensure!(
            shop.daemon(0)?.metrics()?.sum(RTT, &[]) > samples,
            "the open connection is not heard any more"
        );
        ensure!(
            ear.heard()?.keys().eq(&kept),
            "a connection that still runs brought its endpoint back"
        );
        banner(shop)?.read_exact(&mut [0])?;
        ensure!(
            ear.heard()?.keys().any(is_banner),
            "there is room again, and no endpoint finds it"
        );
        Ok(())
    });
}

#[test]
fn a_killed_daemon_leaves_no_ear() {
    captured(|shop| {
        let daemon = shop.daemon(0)?;
        let ear = Ear::of(&daemon.process)?;
        ensure!(ear.is_loaded());
        daemon.process.kill();
        wait_for("the program to go", HANG_GUARD, || Ok((!ear.is_loaded()).then_some(())))
    });
}

#[test]
fn a_daemon_that_sees_no_cgroup2_goes_on_without_its_ear() {
    let hide = "umount --all --lazy --types cgroup2 && exec \"$@\"";
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh"];
    let daemon = DaemonOptions {
        wrapper: wrapper.map(str::to_owned).to_vec(),
        ..DaemonOptions::default()
    };
    tell(Shop::captured_with(Options::default(), &daemon), |shop| {
        for target in [WEB4, WEB6] {
            all_answered(&shop.send(&Load::fresh(Version::Http1, target), 20)?)?;
        }
        let daemon = shop.daemon(0)?;
        ensure!(
            to_count(daemon.metrics()?.sum(AVAILABLE, &[])) == 0,
            "it claims to hear"
        );
        let log = daemon.process.output();
        let said = log
            .lines()
            .filter(|line| line.contains("round trips"))
            .collect::<Vec<_>>();
        ensure!(
            matches!(said[..], [line] if line.contains("cgroup2") && line.contains("mount one")),
            "it says {said:?}"
        );
        Ok(())
    });
}

/// As a container has it whose runtime gives it a cgroup and a cgroup namespace of its own, and mounts its part of cgroup2 alone.
#[test]
fn a_daemon_in_a_cgroup_of_its_own_hears_that_cgroup_and_no_other() {
    let own = "echo $$ >\"$1\"/cgroup.procs && shift && exec unshare --cgroup --mount --propagation private sh -c \
        'umount --all --lazy --types cgroup2 && mount --types cgroup2 cgroup2 /mnt && exec \"$@\"' sh \"$@\"";
    tell(Shop::usual(), |shop| {
        let id = shop.bench.dir().file_name().and_then(|name| name.to_str());
        let path = cgroups::of_run(id.context("the run has no name")?);
        cgroups::create(&path)?;
        let folder = cgroups::unified(&path)?;
        let folder = folder.to_string_lossy();
        let wrapper = ["sh", "-c", own, "sh", &folder];
        let daemon = DaemonOptions {
            wrapper: wrapper.map(str::to_owned).to_vec(),
            ..DaemonOptions::default()
        };
        shop.start_daemons(&daemon)?;
        shop.capture()?;
        all_answered(&shop.send(&Load::fresh(Version::Http1, WEB4), 30)?)?;
        let target = SocketAddr::new(OUTSIDE_V4.into(), 7001);
        let _listener = shop.bench.outside.inside(|| TcpListener::bind(target))??;
        connect_marked(&shop.bench.nodes[0].netns, Settings::DEFAULT_MARKS.mark_own, target)?;
        let process = &shop.daemon(0)?.process;
        let seen = cgroup_of(process)?;
        ensure!(
            Path::new(&seen).ends_with(path.strip_prefix("/")?),
            "the daemon is in {seen}"
        );
        let heard = Ear::of(process)?.heard()?;
        ensure!(
            heard.keys().any(|endpoint| endpoint.port() == HTTP_PORT),
            "it heard of {heard:?}"
        );
        ensure!(
            !heard.contains_key(&target),
            "it heard of a connection outside of its cgroup"
        );
        Ok(())
    });
}
