//! What the daemon reads and writes by netlink, against the real kernel: each test on a thread with a network namespace of its own, which
//! goes with the thread. Needs root; `ip` and `nft` are the second opinion.

use std::{future::Future, net::IpAddr, path::PathBuf, process::Command, time::Duration};

use mesh_daemon::{
    bpf::{
        Noticed, facts,
        nftables::{self, Mended},
        steering::{self, SteeringError},
    },
    config::{AttachMode, KernelSettings},
    model::{Facts, LinkKind},
    task,
};
use tokio::sync::{mpsc, watch};

/// Far above what anything here takes; only a broken build waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings() -> KernelSettings {
    KernelSettings {
        pin_dir: PathBuf::new(),
        attach: AttachMode::Auto,
        marks: mesh_common::settings::Settings::DEFAULT_MARKS,
        route_table: 100,
        rule_preference: 8,
    }
}

/// Runs the test on a fresh thread in a fresh network namespace whose `lo` is up. Children inherit the namespace.
fn in_namespace<F, Fut>(test: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root makes network namespaces");
        run("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            tokio::time::timeout(PATIENCE, test())
                .await
                .expect("the test ends in time");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command in this thread's namespace; words are separated by spaces.
fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().expect(command);
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that steering and nftables could leave behind.
fn everything() -> String {
    [
        "ip rule",
        "ip -6 rule",
        "ip route show table all",
        "ip -6 route show table all",
        "nft list ruleset",
    ]
    .map(run)
    .join("--\n")
}

#[test]
fn nftables_and_steering_leave_nothing_behind() {
    in_namespace(|| async {
        let settings = settings();
        let before = everything();
        nftables::remove(&settings).await.unwrap();
        steering::remove(&settings).await.unwrap();
        assert!(!nftables::is_installed(&settings).await.unwrap());
        assert!(!steering::is_installed(&settings).await);
        nftables::install(&settings).await.unwrap();
        steering::install(&settings).await.unwrap();
        assert!(nftables::is_installed(&settings).await.unwrap());
        assert!(steering::is_installed(&settings).await);
        assert_ne!(everything(), before);
        nftables::remove(&settings).await.unwrap();
        steering::remove(&settings).await.unwrap();
        assert_eq!(everything(), before);
    });
}

#[test]
fn nftables_and_steering_installed_twice_stand_once() {
    in_namespace(|| async {
        let settings = settings();
        nftables::install(&settings).await.unwrap();
        steering::install(&settings).await.unwrap();
        let once = everything();
        nftables::install(&settings).await.unwrap();
        steering::install(&settings).await.unwrap();
        assert_eq!(everything(), once);
        for family in ["-4", "-6"] {
            let rules = run(&format!("ip {family} rule"));
            let ours: Vec<_> = rules
                .lines()
                .filter(|line| line.contains("proto 87"))
                .map(str::trim_end)
                .collect();
            let expected = [
                "8:\tfrom all fwmark 0x1000/0x3000 iif lo goto 10 proto 87",
                "9:\tfrom all fwmark 0x1000/0x3000 lookup 100 proto 87",
                "10:\tfrom all nop proto 87",
            ];
            assert_eq!(ours, expected);
            assert!(run(&format!("ip {family} route show table 100")).starts_with("local default dev lo proto 87"));
        }
    });
}

#[test]
fn the_nftables_table_is_what_nft_reads() {
    in_namespace(|| async {
        nftables::install(&settings()).await.unwrap();
        let shown: String = run("nft list ruleset").split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = "table inet weft { \
            chain prerouting { type filter hook prerouting priority raw; policy accept; meta mark & 0x00003000 == 0x00001000 notrack } \
            chain output { type filter hook output priority raw; policy accept; meta mark & 0x00003000 == 0x00002000 notrack } }";
        assert_eq!(shown, expected);
    });
}

#[test]
fn every_damage_to_the_nftables_table_is_noticed() {
    in_namespace(|| async {
        let settings = settings();
        for damage in [
            "nft flush ruleset",
            "nft delete table inet weft",
            "nft flush chain inet weft output",
            "nft flush table inet weft",
            "nft insert rule inet weft prerouting accept",
            "nft add chain inet weft another",
            "nft add table inet weft { flags dormant; }",
            "nft chain inet weft output { policy drop; }",
        ] {
            nftables::install(&settings).await.unwrap();
            assert!(nftables::is_installed(&settings).await.unwrap());
            run(damage);
            assert!(!nftables::is_installed(&settings).await.unwrap(), "{damage}");
        }
        nftables::install(&settings).await.unwrap();
        let mut other = settings.clone();
        other.marks.mark_steer = 0x3000;
        assert!(!nftables::is_installed(&other).await.unwrap(), "another mark");
        nftables::install(&other).await.unwrap();
        assert!(
            nftables::is_installed(&other).await.unwrap(),
            "replaced by the other mark"
        );
    });
}

#[test]
fn other_peoples_rules_are_untouched() {
    in_namespace(|| async {
        let settings = settings();
        run("nft add table inet theirs");
        run("nft add chain inet theirs prerouting { type filter hook prerouting priority raw; }");
        run("nft add rule inet theirs prerouting tcp dport 1 drop");
        run("ip rule add pref 7 from 10.0.0.0/8 lookup 50");
        run("ip rule add pref 11 from 10.0.0.0/8 lookup 50");
        let theirs = everything();
        nftables::install(&settings).await.unwrap();
        steering::install(&settings).await.unwrap();
        assert!(nftables::is_installed(&settings).await.unwrap());
        nftables::remove(&settings).await.unwrap();
        steering::remove(&settings).await.unwrap();
        assert_eq!(everything(), theirs);
    });
}

#[test]
fn steering_refuses_a_foreign_rule_or_route_in_its_place() {
    in_namespace(|| async {
        let settings = settings();
        run("ip rule add pref 9 from 10.0.0.0/8 lookup 50");
        let before = everything();
        let refused = steering::install(&settings).await.unwrap_err();
        assert!(
            matches!(&refused, SteeringError::ForeignRule(rule) if rule == "9: from 10.0.0.0/8 lookup 50"),
            "{refused}"
        );
        assert_eq!(everything(), before);
        steering::remove(&settings).await.unwrap();
        assert_eq!(everything(), before, "removal leaves it alone, too");
        run("ip rule del pref 9");
        run("ip route add 192.0.2.0/24 dev lo table 100");
        let refused = steering::install(&settings).await.unwrap_err();
        assert!(
            matches!(&refused, SteeringError::ForeignRoute { table: 100, .. }),
            "{refused}"
        );
    });
}

#[test]
fn steering_replaces_what_a_daemon_with_other_marks_left() {
    in_namespace(|| async {
        let mut old = settings();
        old.marks.mark_steer = 0x2000;
        steering::install(&old).await.unwrap();
        let new = settings();
        assert!(!steering::is_installed(&new).await);
        steering::install(&new).await.unwrap();
        assert!(steering::is_installed(&new).await);
        assert_eq!(run("ip rule").matches("proto 87").count(), 3);
        steering::remove(&new).await.unwrap();
    });
}

#[test]
fn steering_without_ipv6_is_ipv4_only() {
    in_namespace(|| async {
        // in a process of its own: this one's /proc/self is the main thread, which is in another namespace
        run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1");
        let settings = settings();
        let before = run("ip -6 rule");
        steering::install(&settings).await.unwrap();
        assert!(steering::is_installed(&settings).await);
        assert_eq!(run("ip -6 rule"), before);
        assert_eq!(run("ip rule").matches("proto 87").count(), 3);
        steering::remove(&settings).await.unwrap();
    });
}

#[test]
fn a_table_above_255_and_a_downed_loopback() {
    in_namespace(|| async {
        let settings = KernelSettings {
            route_table: 70_000,
            ..settings()
        };
        steering::install(&settings).await.unwrap();
        assert!(steering::is_installed(&settings).await);
        run("ip link set lo down");
        assert!(!steering::is_installed(&settings).await, "the routes went with lo");
        let refused = steering::install(&settings).await.unwrap_err();
        assert!(matches!(refused, SteeringError::LoopbackDown), "{refused}");
    });
}

#[test]
fn a_flush_is_mended() {
    in_namespace(|| async {
        let settings = settings();
        let (sender, mut mends) = mpsc::unbounded_channel();
        let kept = settings.clone();
        task::spawn("keep", async move {
            nftables::keep(&kept, |part, noticed| sender.send((part, noticed)).unwrap())
                .await
                .map(drop)
        });
        let first = [mends.recv().await.unwrap(), mends.recv().await.unwrap()];
        assert_eq!(
            first,
            Mended::ALL.map(|part| (part, Noticed::Start)),
            "what is missing at the start is written"
        );
        for (damage, part) in [
            ("nft flush ruleset", Mended::Nftables),
            ("ip rule del pref 9", Mended::Steering),
            ("ip -6 route flush table 100", Mended::Steering),
        ] {
            run(damage);
            // not by the slow check
            let mended = mends.recv().await;
            assert_eq!(mended, Some((part, Noticed::Notification)), "{damage}");
            assert!(nftables::is_installed(&settings).await.unwrap(), "{damage}");
            assert!(steering::is_installed(&settings).await, "{damage}");
        }
    });
}

#[test]
fn facts_follow_an_interface_and_its_routes() {
    in_namespace(|| async {
        let (sender, mut facts) = watch::channel(None);
        let (publishes, mut published) = mpsc::unbounded_channel();
        let observer = task::spawn(
            "facts",
            facts::observe(sender, move |noticed| publishes.send(noticed).unwrap()),
        );
        let lo = facts.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!(lo.links[&1].kind, LinkKind::Loopback);
        assert_eq!(
            lo.node_addresses,
            ["127.0.0.1", "::1"].map(|text| text.parse().unwrap()).into()
        );
        assert!(lo.on_link.is_empty());

        run("ip link add veth1 type veth peer name peer1");
        run("ip link set veth1 up");
        run("ip link set peer1 up");
        run("ip route add 10.1.0.5/32 dev veth1 scope host");
        run("ip -6 route add fd00:1::5/128 dev veth1");
        let seen = wait(&mut facts, |facts| facts.on_link.len() == 2).await;
        let (index, link) = seen.links.iter().find(|(_, link)| link.name == "veth1").unwrap();
        assert_eq!(link.kind, LinkKind::Ethernet);
        assert_eq!(seen.on_link[&ip("10.1.0.5")], *index);
        assert_eq!(seen.on_link[&ip("fd00:1::5")], *index);

        run("ip route del 10.1.0.5/32 dev veth1");
        wait(&mut facts, |facts| !facts.on_link.contains_key(&ip("10.1.0.5"))).await;
        run("ip neigh add 10.1.0.5 lladdr 02:00:00:00:00:05 dev veth1 nud permanent");
        wait(&mut facts, |facts| facts.on_link.contains_key(&ip("10.1.0.5"))).await;
        run("ip link add br0 type bridge");
        run("ip link set veth1 master br0");
        let bridged = wait(&mut facts, |facts| facts.links[index].master.is_some()).await;
        assert_eq!(
            bridged.links[&bridged.links[index].master.unwrap()].kind,
            LinkKind::Bridge
        );
        run("ip link del veth1");
        wait(&mut facts, |facts| {
            !facts.links.contains_key(index) && facts.on_link.is_empty()
        })
        .await;

        drop(facts);
        assert!(
            matches!(observer.await, Ok(Some(Ok(())))),
            "the observer ends with its last receiver"
        );
        assert_eq!(published.recv().await, Some(Noticed::Start));
        while let Some(noticed) = published.recv().await {
            assert_eq!(noticed, Noticed::Notification, "not the slow read");
        }
    });
}

#[test]
fn facts_know_the_nodes_own_addresses() {
    in_namespace(|| async {
        run("ip link add veth1 type veth peer name peer1");
        run("ip addr add 10.0.0.1/32 peer 10.0.0.2 dev veth1");
        run("ip addr add fd00::1/128 dev veth1 nodad");
        run("ip link set veth1 up");
        run("ip link set peer1 up");
        let facts = facts::read().await.unwrap();
        for own in ["127.0.0.1", "::1", "10.0.0.1", "fd00::1"] {
            assert!(facts.node_addresses.contains(&ip(own)), "{own}");
            assert!(!facts.on_link.contains_key(&ip(own)), "{own}");
        }
        assert!(
            !facts.node_addresses.contains(&ip("10.0.0.2")),
            "a peer is somebody else"
        );
        assert!(facts.on_link.contains_key(&ip("10.0.0.2")), "and on-link");
    });
}

async fn wait(facts: &mut watch::Receiver<Option<Facts>>, until: impl Fn(&Facts) -> bool) -> Facts {
    let seen = facts
        .wait_for(|facts| facts.as_ref().is_some_and(&until))
        .await
        .unwrap();
    seen.clone().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
