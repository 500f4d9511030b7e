//! A tunnel between the nodes, whose packets have no Ethernet header: what comes out of it finds the daemon's connections, too.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsRawFd,
};

use anyhow::{Context, Result, ensure};
use mesh_common::names;
use mesh_tests::{
    bench::{Netns, Options},
    client::{Load, Version},
    daemon::DaemonOptions,
    hooks,
    shop::{Shop, WEB4, WEB6},
};
use nix::libc::{IFF_NO_PI, IFF_TUN};

use crate::{all_answered, counting, tell};

/// The interface's name on both nodes.
const NAME: &str = "tunnel";
/// More than the largest packet that a tunnel without offloads hands out.
const PACKET_BYTES: usize = 64 << 10;

nix::ioctl_write_int!(tun_set_iff, b'T', 202);

/// `struct ifreq` as far as TUNSETIFF reads it; the kernel copies 40 bytes.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: nix::libc::c_short,
    rest: [u8; 22],
}

/// A tun device in a namespace; it lives as long as the file.
fn tun(node: &Netns) -> Result<File> {
    let mut request = Request {
        name: [0; 16],
        flags: nix::libc::c_short::try_from(IFF_TUN | IFF_NO_PI)?,
        rest: [0; 22],
    };
    request.name[..NAME.len()].copy_from_slice(NAME.as_bytes());
    node.inside(|| {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        let address = (&raw const request).addr() as nix::libc::c_ulong;
        // SAFETY: the request lives through the call, which reads and writes no more than its 40 bytes
        unsafe { tun_set_iff(file.as_raw_fd(), address) }?;
        anyhow::Ok(file)
    })?
    .context("a tun device; does this kernel have them?")
}

/// Carries packets one way until either device is gone.
fn carry(mut from: File, mut to: File) {
    let mut packet = vec![0; PACKET_BYTES];
    while let Ok(count) = from.read(&mut packet) {
        // an interface that is down refuses packets: they are lost, as on any link
        let _ = to.write(&packet[..count]);
    }
}

/// A tunnel between the nodes. Its files hold the nodes' namespaces: dropping it ends who reads them.
struct Tunnel([Netns; 2]);

impl Drop for Tunnel {
    fn drop(&mut self) {
        for node in &self.0 {
            // a device that is gone already is fine
            let _ = node.ip(&format!("link del {NAME}\n"));
        }
    }
}

/// Leads the pods' traffic between the nodes through a tunnel.
fn dig(shop: &Shop) -> Result<Tunnel> {
    let [one, two] = &shop.bench.nodes;
    let tunnel = Tunnel([one.netns.clone(), two.netns.clone()]);
    let (near, far) = (tun(&one.netns)?, tun(&two.netns)?);
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        std::thread::spawn(move || carry(from, to));
    }
    for (node, peer) in [(one, 2), (two, 1)] {
        node.netns.ip(&format!(
            "link set {NAME} up\nroute replace 10.244.{peer}.0/24 dev {NAME}\nroute replace fd44:{peer}::/64 dev {NAME}\n"
        ))?;
    }
    Ok(tunnel)
}

/// The kernel keeps the first 15 characters of a program's name (`BPF_OBJ_NAME_LEN` less its end).
fn is_for_no_link_layer(name: &str) -> bool {
    name.len() >= 15 && names::PROGRAM_FROM_NET_L3.starts_with(name) && !names::PROGRAM_FROM_NET.starts_with(name)
}

fn through_the_tunnel(attach: &str) {
    tell(Shop::open(Options::default(), &[1, 1]), |shop| {
        let _tunnel = dig(shop)?;
        for target in [WEB4, WEB6] {
            all_answered(&shop.send(&Load::fresh(Version::Http1, target), 10)?).context("without a daemon")?;
        }
        shop.start_daemons(&DaemonOptions {
            attach: attach.to_owned(),
            ..DaemonOptions::default()
        })?;
        shop.capture()?;
        for node in &shop.bench.nodes {
            hooks::exactly_one_each(&node.netns)?;
            let programs = hooks::programs(&node.netns)?;
            ensure!(
                programs
                    .get(NAME)
                    .is_some_and(|own| own.len() == 1 && is_for_no_link_layer(&own[0])),
                "on the tunnel stands {programs:?}"
            );
        }
        for target in [WEB4, WEB6] {
            for version in [Version::Http1, Version::Http2] {
                let (tally, captured) = counting(shop, || shop.send(&Load::fresh(version, target), 30))?;
                all_answered(&tally)?;
                ensure!(captured == 30, "{captured} of 30 connections were captured");
            }
        }
        Ok(())
    });
}

#[test]
fn answers_out_of_a_tunnel_find_the_daemon_with_tcx() {
    through_the_tunnel("tcx");
}

#[test]
fn answers_out_of_a_tunnel_find_the_daemon_with_clsact() {
    through_the_tunnel("clsact");
}
