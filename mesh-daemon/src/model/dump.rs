//! Content and tables as stable text, one line per fact: for golden files and for people at the admin socket.

mod routes;

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use mesh_common::capture::IFACE_CAPTURED;

use super::{AppliedPolicy, Capture, Condition, Content, PolicyVerdict, Tables, Upstream, Workload};
use crate::ids::ObjectRef;

/// Everything but the kernel's tables.
pub fn dump(content: &Content) -> String {
    let mut text = String::new();
    // writing to a String cannot fail
    let _ = write_content(&mut text, content);
    text
}

/// The kernel's tables.
pub fn dump_tables(tables: &Tables) -> String {
    let mut text = String::new();
    let _ = write_tables(&mut text, tables);
    text
}

fn write_content(text: &mut String, content: &Content) -> std::fmt::Result {
    let Content {
        workloads,
        upstreams,
        // written in a file of its own, with the backends
        routes: _,
        backends,
        route_verdicts: _,
        patterns: _,
        policy_verdicts,
        pod_ranges,
        node_addresses,
        captures,
        set_aside,
        tables: _,
    } = content;
    for (address, workload) in workloads {
        writeln!(text, "workload {address} {}", describe(workload))?;
    }
    for (address, upstream) in upstreams {
        writeln!(
            text,
            "upstream {address} {} protocol={:?}{}",
            upstream.service,
            upstream.app_protocol,
            of_policy(upstream)
        )?;
        write_endpoints(text, upstream)?;
    }
    routes::write(text, content)?;
    for (name, policy) in applied(upstreams.values().chain(backends.values())) {
        let AppliedPolicy { generation, spec, .. } = policy;
        writeln!(text, "policy {name} generation={generation} {spec:?}")?;
    }
    for (name, verdict) in policy_verdicts {
        write_policy_verdict(text, name, verdict)?;
    }
    for range in pod_ranges {
        writeln!(text, "pod-range {range}")?;
    }
    for address in node_addresses {
        writeln!(text, "node-address {address}")?;
    }
    for (pod, capture) in captures {
        match capture {
            Capture::Captured(interface) => writeln!(text, "capture {pod} captured interface={interface}")?,
            Capture::Not(reason) => writeln!(text, "capture {pod} not: {}", reason.name())?,
        }
    }
    for aside in set_aside {
        writeln!(
            text,
            "set-aside {} {} {}: {}",
            aside.kind, aside.name, aside.reason, aside.detail
        )?;
    }
    Ok(())
}

fn write_endpoints(text: &mut String, upstream: &Upstream) -> std::fmt::Result {
    for endpoint in &upstream.endpoints {
        let pod = endpoint
            .workload
            .as_ref()
            .map_or_else(|| "-".to_owned(), |workload| workload.pod.to_string());
        writeln!(text, "  endpoint {} {pod}", endpoint.address)?;
    }
    Ok(())
}

fn of_policy(upstream: &Upstream) -> String {
    let policy = upstream.policy.as_ref();
    policy.map_or_else(String::new, |policy| format!(" policy={}", policy.name))
}

/// Each policy that holds anywhere, once.
fn applied<'a>(upstreams: impl Iterator<Item = &'a Arc<Upstream>>) -> BTreeMap<&'a ObjectRef, &'a AppliedPolicy> {
    upstreams
        .filter_map(|upstream| upstream.policy.as_deref())
        .map(|policy| (&policy.name, policy))
        .collect()
}

/// By target: the order of the spec is of no weight.
fn write_policy_verdict(text: &mut String, name: &ObjectRef, verdict: &PolicyVerdict) -> std::fmt::Result {
    let PolicyVerdict { generation, ancestors } = verdict;
    let ancestors: BTreeMap<_, _> = ancestors.iter().map(|(service, told)| (service, told)).collect();
    for (service, conditions) in ancestors {
        for condition in conditions {
            let Condition {
                kind,
                is_true,
                reason,
                message,
            } = condition;
            writeln!(
                text,
                "policy-status {name} generation={generation} target={service} {kind}={is_true} {reason}: {message}"
            )?;
        }
    }
    Ok(())
}

fn write_tables(text: &mut String, tables: &Tables) -> std::fmt::Result {
    let Tables {
        ifaces,
        services,
        pod_ranges,
        node_addrs,
        attachments,
    } = tables;
    for (index, iface) in ifaces {
        let captured = if iface.flags & IFACE_CAPTURED == 0 {
            "uncaptured"
        } else {
            "captured"
        };
        writeln!(text, "iface {index} {captured} {} {}", iface.addr4, iface.addr6)?;
    }
    for (key, value) in services {
        writeln!(text, "service {} {} endpoints={}", key.addr, key.port, value.endpoints)?;
    }
    for (bits, network) in pod_ranges {
        writeln!(text, "pod-range {network} bits={bits}")?;
    }
    for address in node_addrs {
        writeln!(text, "node-address {address}")?;
    }
    for (index, attachment) in attachments {
        writeln!(
            text,
            "attach {index} {} {}",
            attachment.interface,
            attachment.program.name()
        )?;
    }
    Ok(())
}

fn describe(workload: &Workload) -> String {
    let node = workload.node.as_ref().map_or("-", |node| node.0.as_str());
    let interface = workload
        .interface
        .map_or_else(|| "-".to_owned(), |index| index.to_string());
    format!(
        "{} workload={} node={node} interface={interface}",
        workload.pod, workload.name
    )
}
