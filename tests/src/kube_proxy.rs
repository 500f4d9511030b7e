//! A stand-in for kube-proxy: its hooks, priorities and marks (nftables mode), and the drop of packets that conntrack calls invalid
//! (iptables mode), so that capture is tried beside what it meets on a real node.

use std::{fmt::Write, net::IpAddr, process::Command};

use anyhow::Result;

use crate::{
    bench::{Netns, shell},
    manifests::{Port, Service},
};

/// Name of the table, as kube-proxy has it.
pub const TABLE: &str = "kube-proxy";

/// Replaces the rules of a node, at once.
///
/// # Errors
/// If `nft` refuses them.
pub fn apply<'a>(node: &Netns, services: impl IntoIterator<Item = &'a Service>) -> Result<()> {
    let services: Vec<&Service> = services.into_iter().collect();
    let rules = render(&services, &V4) + &render(&services, &V6);
    shell::output(
        Command::new("nsenter")
            .arg(format!("--net={}", node.path().display()))
            .args(["nft", "-f", "-"]),
        &rules,
    )
    .map(drop)
}

/// What differs between the families.
struct Family {
    table: &'static str,
    word: &'static str,
    pods: &'static str,
    outside: &'static str,
    is_own: fn(&IpAddr) -> bool,
}

const V4: Family = Family {
    table: "ip",
    word: "ip",
    pods: "10.244.0.0/16",
    outside: "198.51.100.0/24",
    is_own: IpAddr::is_ipv4,
};
const V6: Family = Family {
    table: "ip6",
    word: "ip6",
    pods: "fd44::/16",
    outside: "fd98::/64",
    is_own: IpAddr::is_ipv6,
};

fn render(services: &[&Service], family: &Family) -> String {
    let Family {
        table,
        word,
        pods,
        outside,
        ..
    } = family;
    let mut chains = String::new();
    let mut jumps = String::new();
    let mut rejects = String::new();
    for (number, service) in services.iter().enumerate() {
        let endpoints: Vec<&IpAddr> = service.endpoints.iter().filter(|ip| (family.is_own)(ip)).collect();
        for ip in service.ips.iter().filter(|ip| (family.is_own)(ip)) {
            for port in &service.ports {
                let name = format!("svc-{number}-{}", port.port);
                let to = format!("{word} daddr {ip} tcp dport {}", port.port);
                if endpoints.is_empty() {
                    let _ = writeln!(rejects, "    {to} reject");
                } else {
                    let _ = writeln!(jumps, "    {to} goto {name}");
                    chains += &service_chains(&name, port, &endpoints, family);
                }
            }
        }
    }
    format!(
        "table {table} {TABLE}
delete table {table} {TABLE}
table {table} {TABLE} {{
  chain mark-for-masquerade {{
    meta mark set meta mark or 0x4000
  }}
{chains}  chain services {{
{jumps}  }}
  chain no-endpoints {{
{rejects}  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    jump services
  }}
  chain filter-output {{
    type filter hook output priority -110; policy accept;
    ct state new jump no-endpoints
  }}
  chain filter-forward {{
    type filter hook forward priority -110; policy accept;
    ct state invalid counter drop
    ct state new jump no-endpoints
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {word} saddr {pods} {word} daddr {outside} masquerade
    meta mark & 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }}
}}
"
    )
}

fn service_chains(name: &str, port: &Port, endpoints: &[&IpAddr], family: &Family) -> String {
    let Family { word, pods, .. } = family;
    let mut text = String::new();
    let mut choices = Vec::new();
    for (index, ip) in endpoints.iter().enumerate() {
        let target = if ip.is_ipv4() {
            format!("{ip}:{}", port.target)
        } else {
            format!("[{ip}]:{}", port.target)
        };
        let _ = writeln!(
            text,
            "  chain {name}-{index} {{\n    {word} saddr {ip} jump mark-for-masquerade\n    meta l4proto tcp dnat to {target}\n  }}"
        );
        choices.push(format!("{index} : goto {name}-{index}"));
    }
    let _ = writeln!(
        text,
        "  chain {name} {{\n    {word} saddr != {pods} jump mark-for-masquerade\n    numgen random mod {} vmap {{ {} }}\n  }}",
        endpoints.len(),
        choices.join(", ")
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_endpoints_is_rejected_and_one_with_is_spread() {
        let mut service = Service {
            namespace: "shop".into(),
            name: "web".into(),
            ips: vec!["10.96.0.10".parse().unwrap(), "fd96::10".parse().unwrap()],
            ports: vec![Port::new("http", 80, 8080)],
            endpoints: Vec::new(),
        };
        assert!(render(&[&service], &V4).contains("ip daddr 10.96.0.10 tcp dport 80 reject"));
        service.endpoints = vec!["fd44:1::a".parse().unwrap(), "fd44:2::a".parse().unwrap()];
        let v6 = render(&[&service], &V6);
        assert!(
            v6.contains("numgen random mod 2") && v6.contains("dnat to [fd44:2::a]:8080"),
            "{v6}"
        );
        assert!(render(&[&service], &V4).contains("reject"));
    }
}
