//! What the kernel's ear costs: CPU of the daemon and the server for the same requests, with the program attached and without, in turns.
//! The daemon itself sees no cgroup2, so that its program is loaded and not attached; the bench attaches it, and takes it away again.

use std::{borrow::Cow, io::Write as _, time::Duration};

use anyhow::{Result, ensure};
use aya::{
    programs::{CgroupAttachMode, SockOps, sock_ops::SockOpsLink},
    sys::{Stats, enable_stats},
};
use mesh_common::names;
use mesh_daemon::bpf::cgroup;

use super::program_of;
use crate::{
    bench::Options,
    client::{Load, Version},
    daemon::DaemonOptions,
    scale::figures,
    shop::{SERVICE_PORTS, SERVICE_V4, Shop, WEB4},
    tcp,
};

/// Pairs of rounds, without and with: enough for a median that others' work on the machine does not move.
const PAIRS: usize = 25;
/// Requests before each round that are not measured: the server is a new process, and connections to it are opened.
const WARM_UP: u64 = 300;
/// Requests of one round: a round's CPU is some hundred milliseconds.
const REQUESTS: u64 = 3000;
/// Connections of one round.
const CONNECTIONS: u64 = 1000;
/// The daemon's wrapper: a mount namespace without cgroup2.
const HIDDEN: [&str; 8] = [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    "umount --all --lazy --types cgroup2 && exec \"$@\"",
    "sh",
];
/// The one server, on the other node.
const SERVER: &str = "web-1";

/// What one round does.
#[derive(Clone, Copy)]
enum Work {
    /// Requests over connections that stay: about one event for each.
    Requests,
    /// Connections of one short exchange each: one dial for each.
    Connections,
}

/// What one round took for each request or connection, in µs of CPU.
struct Took {
    daemon: f64,
    both: f64,
}

/// Measures and prints.
///
/// # Errors
/// If a part does not start, or a request fails.
pub fn cost() -> Result<()> {
    let mut shop = Shop::open(Options::default(), &[1])?;
    let options = DaemonOptions {
        wrapper: HIDDEN.map(str::to_owned).to_vec(),
        ..DaemonOptions::default()
    };
    shop.start_daemon(0, &options)?;
    shop.capture()?;
    println!(
        "{PAIRS} pairs of rounds, without and with the kernel's ear in turns; CPU in µs, medians; the server in the other node"
    );
    for work in [Work::Requests, Work::Connections] {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            without.push(round(&mut shop, work, false)?);
            with.push(round(&mut shop, work, true)?);
        }
        tell(work, "daemon", &without, &with, |took| took.daemon);
        tell(work, "daemon and server", &without, &with, |took| took.both);
        program(&mut shop, work)?;
    }
    Ok(())
}

/// One round on connections of its own: what is asked for of a connection is decided when it opens.
fn round(shop: &mut Shop, work: Work, with: bool) -> Result<Took> {
    shop.kill_server(SERVER);
    shop.start_server(SERVER)?;
    let _attached = with.then(|| attach(shop)).transpose()?;
    run(shop, work, WARM_UP)?;
    let times = |shop: &Shop| -> Result<(Duration, Duration)> {
        let daemon = shop.daemons[0].as_ref().map(|daemon| daemon.process.cpu_time());
        let server = shop.server(SERVER)?.process.as_ref().map(|server| server.cpu_time());
        Ok((
            daemon.transpose()?.unwrap_or_default(),
            server.transpose()?.unwrap_or_default(),
        ))
    };
    let before = times(shop)?;
    let count = run(shop, work, work.count())?;
    let after = times(shop)?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let daemon = after.0.saturating_sub(before.0);
    Ok(Took {
        daemon: micros(daemon),
        both: micros(daemon + after.1.saturating_sub(before.1)),
    })
}

/// Attaches the daemon's own program to the cgroup that it shares with this process.
fn attach(shop: &mut Shop) -> Result<SockOpsLink> {
    let info = program_of(&shop.daemon(0)?.process)?;
    let mut program = SockOps::from_program_info(info, Cow::Borrowed(names::PROGRAM_EAR))?;
    let (_, cgroup) = cgroup::own()?;
    let link = program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(program.take_link(link)?)
}

fn run(shop: &Shop, work: Work, count: u64) -> Result<u64> {
    match work {
        Work::Requests => {
            let tally = shop.send(&Load::reused(Version::Http1, WEB4), count)?;
            ensure!(
                tally.failed == 0,
                "{} of {count} requests failed: {:?}",
                tally.failed,
                tally.errors
            );
        }
        Work::Connections => shop.client.netns.inside(|| {
            (0..count).try_for_each(|_| {
                let mut stream = std::net::TcpStream::connect((SERVICE_V4, SERVICE_PORTS[1]))?;
                // no HTTP from its first byte on: the daemon need not wait for more
                tcp::echo(&mut stream, b"\0x").map(drop)
            })
        })??,
    }
    Ok(count)
}

/// The program by itself, as the kernel's own statistics have it; these cost time of their own, and so have a round of their own.
fn program(shop: &mut Shop, work: Work) -> Result<()> {
    shop.kill_server(SERVER);
    shop.start_server(SERVER)?;
    let _attached = attach(shop)?;
    run(shop, work, WARM_UP)?;
    let _statistics = enable_stats(Stats::RunTime)?;
    let before = program_of(&shop.daemon(0)?.process)?;
    let count = run(shop, work, work.count())?;
    let after = program_of(&shop.daemon(0)?.process)?;
    let events = u32::try_from(after.run_count() - before.run_count())?;
    let time = after.run_time().saturating_sub(before.run_time());
    ensure!(events > 0, "the program was never asked");
    let per = |time: Duration, of: u32| time.as_secs_f64() * 1e9 / f64::from(of);
    let count = u32::try_from(count)?;
    println!(
        "  the program itself: {:.2} events for each, {:.0} ns for an event, {:.0} ns for each",
        f64::from(events) / f64::from(count),
        per(time, events),
        per(time, count)
    );
    std::io::stdout().flush()?;
    Ok(())
}

fn tell(work: Work, whose: &str, without: &[Took], with: &[Took], figure: impl Fn(&Took) -> f64) {
    let pairs: Vec<f64> = without
        .iter()
        .zip(with)
        .map(|(without, with)| figure(with) / figure(without))
        .collect();
    let median = |rounds: &[Took]| figures::quantile(&rounds.iter().map(&figure).collect::<Vec<_>>(), 50);
    println!(
        "{:12} {whose:18} without {:7.1} µs, with {:7.1} µs, ratio of a pair {:.3} ({:.3} to {:.3} for half of the pairs)",
        work.name(),
        median(without),
        median(with),
        figures::quantile(&pairs, 50),
        figures::quantile(&pairs, 25),
        figures::quantile(&pairs, 75),
    );
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Connections => "connections",
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::Requests => REQUESTS,
            Self::Connections => CONNECTIONS,
        }
    }
}
