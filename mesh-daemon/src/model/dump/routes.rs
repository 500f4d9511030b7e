//! Routes as text: tables in the order of precedence, the upstreams that they send to, and what became of each HTTPRoute.

use std::fmt::{self, Write as _};

use super::{
    super::{
        Action, Content, Edits, Family, HeaderEdits, PathChange, Redirect, RequestSettings, RouteParent, RouteTable,
        RouteVerdict, Rule, Target, plain::plain,
    },
    of_policy, write_endpoints,
};

/// Nothing where there are no routes.
pub(super) fn write(text: &mut String, content: &Content) -> fmt::Result {
    for (address, of_service) in &content.routes {
        for (clients, table) in of_service.groups() {
            writeln!(text, "routes {address} clients={}", clients.unwrap_or("*"))?;
            write_table(text, table)?;
        }
    }
    for upstream in content.backends.values() {
        let family = match upstream.family {
            Family::V4 => "v4",
            Family::V6 => "v6",
        };
        let (service, port, protocol) = (&upstream.service, upstream.port, upstream.app_protocol);
        writeln!(
            text,
            "backend {service}:{port} {family} protocol={protocol:?}{}",
            of_policy(upstream)
        )?;
        write_endpoints(text, upstream)?;
    }
    for (name, verdict) in &content.route_verdicts {
        writeln!(text, "route {name} generation={}", verdict.generation)?;
        write_verdict(text, verdict)?;
    }
    Ok(())
}

fn write_table(text: &mut String, table: &RouteTable) -> fmt::Result {
    for (what, rule) in table.matches() {
        writeln!(text, "  match {what} -> {}[{}]", rule.route, rule.index)?;
    }
    for rule in &table.rules {
        write_rule(text, rule)?;
    }
    Ok(())
}

fn write_rule(text: &mut String, rule: &Rule) -> fmt::Result {
    let Rule {
        route,
        generation,
        index,
        name,
        action,
        edits,
        settings,
        // `settings` has what holds
        timeouts: _,
        retry: _,
    } = rule;
    let name = name
        .as_ref()
        .map(|name| format!(" name={}", plain(name)))
        .unwrap_or_default();
    write!(text, "  rule {route}[{index}] generation={generation}{name}")?;
    match action {
        Action::Forward(_) => writeln!(text)?,
        Action::Redirect(redirect) => writeln!(text, "{}", plain(&described(redirect)))?,
        Action::Fail(failure) => writeln!(text, " fail={failure:?}")?,
    }
    write_edits(text, "    ", edits)?;
    write_settings(text, settings)?;
    let Action::Forward(backends) = action else {
        return Ok(());
    };
    for backend in &backends.list {
        let (weight, total) = (backend.weight, backends.total_weight);
        match &backend.target {
            Target::Upstream { v4, v6: _ } => writeln!(text, "    to {}:{} {weight}/{total}", v4.service, v4.port)?,
            Target::Unresolved { name } => writeln!(text, "    to nobody ({name}) {weight}/{total}")?,
        }
        write_edits(text, "      ", &backend.edits)?;
    }
    Ok(())
}

fn described(redirect: &Redirect) -> String {
    let Redirect {
        scheme,
        hostname,
        path,
        port,
        status,
    } = redirect;
    let mut text = format!(" redirect={status}");
    for (what, value) in [("scheme", scheme), ("hostname", hostname)] {
        text.extend(value.iter().map(|value| format!(" {what}={value}")));
    }
    text.extend(port.iter().map(|port| format!(" port={port}")));
    text + &changed(path.as_ref())
}

fn changed(path: Option<&PathChange>) -> String {
    match path {
        None => String::new(),
        Some(PathChange::Full(path)) => format!(" path={path}"),
        Some(PathChange::Prefix(prefix)) => format!(" prefix={prefix}"),
    }
}

fn write_edits(text: &mut String, indent: &str, edits: &Edits) -> fmt::Result {
    let Edits {
        request,
        response,
        rewrite,
    } = edits;
    write_headers(text, &format!("{indent}request"), request)?;
    write_headers(text, &format!("{indent}response"), response)?;
    let Some(rewrite) = rewrite else { return Ok(()) };
    let hostname = rewrite.hostname.iter().map(|name| format!(" hostname={name}"));
    let hostname: String = hostname.collect();
    let changes = hostname + &changed(rewrite.path.as_ref());
    writeln!(text, "{indent}rewrite{}", plain(&changes))
}

fn write_headers(text: &mut String, begin: &str, edits: &HeaderEdits) -> fmt::Result {
    let HeaderEdits { set, add, remove } = edits;
    for (verb, fields) in [("set", set), ("add", add)] {
        for (name, value) in fields {
            writeln!(text, "{begin} {verb} {name}={value:?}")?;
        }
    }
    for name in remove {
        writeln!(text, "{begin} remove {name}")?;
    }
    Ok(())
}

fn write_settings(text: &mut String, settings: &RequestSettings) -> fmt::Result {
    let RequestSettings {
        timeout,
        attempt_timeout,
        retry,
    } = settings;
    if let Some(timeout) = timeout {
        writeln!(text, "    timeout {timeout:?}")?;
    }
    if let Some(timeout) = attempt_timeout {
        writeln!(text, "    attempt-timeout {timeout:?}")?;
    }
    if let Some(retry) = retry {
        let (attempts, backoff) = (retry.attempts, retry.backoff);
        let (codes, on) = (&retry.codes, &retry.on);
        writeln!(
            text,
            "    retry attempts={attempts} backoff={backoff:?} codes={codes:?} on={on:?}"
        )?;
    }
    Ok(())
}

fn write_verdict(text: &mut String, verdict: &RouteVerdict) -> fmt::Result {
    for (parent, conditions) in &verdict.parents {
        writeln!(text, "  parent{}", plain(&named(parent)))?;
        for condition in conditions {
            let status = if condition.is_true { "True" } else { "False" };
            let (kind, reason, message) = (condition.kind, condition.reason, &condition.message);
            writeln!(text, "    {kind}={status} {reason}: {message}")?;
        }
    }
    Ok(())
}

fn named(parent: &RouteParent) -> String {
    let namespace = parent.namespace.as_ref().map(|namespace| format!("{namespace}/"));
    let mut text = format!(" {}{}", namespace.unwrap_or_default(), parent.name);
    text.extend(parent.section_name.iter().map(|name| format!(" sectionName={name}")));
    text.extend(parent.port.iter().map(|port| format!(" port={port}")));
    text
}
