//! Content and tables as stable text, one line per fact: for golden files and for people at the admin socket.

mod routes;

use std::fmt::Write as _;

use mesh_common::capture::IFACE_CAPTURED;

use super::{Capture, Content, Tables, Upstream, Workload};

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
        // these three are written in a file of their own
        routes: _,
        backends: _,
        route_verdicts: _,
        policy_verdicts: _,
        patterns: _,
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
            "upstream {address} {} protocol={:?}",
            upstream.service, upstream.app_protocol
        )?;
        write_endpoints(text, upstream)?;
    }
    routes::write(text, content)?;
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
