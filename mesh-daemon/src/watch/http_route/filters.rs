//! What a rule or a backend does to requests and answers: header changes, redirect, rewrite.

use serde::Deserialize;
use serde_json::Value;

use super::{
    super::convert,
    faults::{Faults, incompatible, unsupported},
    matches::{header_name, header_value, plain_path},
};
use crate::model::{Filters, HeaderChanges, PathChange, Redirect, Rewrite, RuleFault};

/// Status codes of redirects (Gateway API, `HTTPRequestRedirectFilter`).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
/// The one of a redirect that names none.
const REDIRECT_DEFAULT: u16 = 302;
/// Headers by which a message is framed and a connection kept: changed by a filter, the two sides would no longer mean the same message.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(rename = "type", default)]
    kind: String,
    request_header_modifier: Option<Value>,
    response_header_modifier: Option<Value>,
    request_redirect: Option<Value>,
    url_rewrite: Option<Value>,
}

#[derive(Deserialize)]
struct Modifier {
    set: Option<Vec<Header>>,
    add: Option<Vec<Header>>,
    remove: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestRedirect {
    scheme: Option<String>,
    hostname: Option<String>,
    path: Option<Path>,
    port: Option<i32>,
    status_code: Option<i64>,
}

#[derive(Deserialize)]
struct UrlRewrite {
    hostname: Option<String>,
    path: Option<Path>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Path {
    #[serde(rename = "type", default)]
    kind: String,
    replace_full_path: Option<String>,
    replace_prefix_match: Option<String>,
}

/// The filters of the rule or backend `owner`.
pub(super) fn convert(value: Option<Value>, owner: &str, faults: &mut Faults) -> Filters {
    let field = format!("{owner}.filters");
    let items: Vec<Value> = faults.piece(value, &field).unwrap_or_default();
    let mut filters = Filters::default();
    let mut seen = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        let field = format!("{field}[{i}]");
        let Some(filter) = faults.piece::<Filter>(Some(item), &field) else {
            continue;
        };
        if seen.contains(&filter.kind) {
            let detail = format!("`{}` stands there twice; a filter is applied once", filter.kind);
            faults.add(incompatible(format!("{field}.type"), detail));
            continue;
        }
        seen.push(filter.kind.clone());
        add(&mut filters, filter, &field, faults);
    }
    if filters.redirect.is_some() && filters.rewrite.is_some() {
        let detail = "`RequestRedirect` and `URLRewrite` exclude each other: a request is answered or sent on; remove one of them";
        faults.add(incompatible(field, detail));
    }
    filters
}

fn add(filters: &mut Filters, filter: Filter, field: &str, faults: &mut Faults) {
    match filter.kind.as_str() {
        "RequestHeaderModifier" => {
            let field = format!("{field}.requestHeaderModifier");
            if let Some(modifier) = settings(filter.request_header_modifier, &field, faults) {
                filters.request_headers = changes(modifier, &field, faults);
            }
        }
        "ResponseHeaderModifier" => {
            let field = format!("{field}.responseHeaderModifier");
            if let Some(modifier) = settings(filter.response_header_modifier, &field, faults) {
                filters.response_headers = changes(modifier, &field, faults);
            }
        }
        "RequestRedirect" => {
            let field = format!("{field}.requestRedirect");
            filters.redirect = settings(filter.request_redirect, &field, faults)
                .map(|redirect| convert_redirect(redirect, &field, faults));
        }
        "URLRewrite" => {
            let field = format!("{field}.urlRewrite");
            filters.rewrite = settings(filter.url_rewrite, &field, faults).map(|rewrite: UrlRewrite| Rewrite {
                hostname: host(rewrite.hostname, &field, faults),
                path: path(rewrite.path, &field, faults),
            });
        }
        "" => faults.add(unsupported(format!("{field}.type"), "is missing")),
        known @ ("RequestMirror" | "CORS" | "ExtensionRef" | "ExternalAuth") => {
            faults.add(unsupported(
                format!("{field}.type"),
                format!("`{known}` is not supported"),
            ));
        }
        unknown => faults.add(unsupported(
            format!("{field}.type"),
            format!("`{unknown}` is not known"),
        )),
    }
}

/// A filter's settings, which its type asks for.
fn settings<T: serde::de::DeserializeOwned>(value: Option<Value>, field: &str, faults: &mut Faults) -> Option<T> {
    if value.as_ref().is_none_or(Value::is_null) {
        faults.add(unsupported(field, "is missing, and the filter's type asks for it"));
    }
    faults.piece(value, field)
}

fn changes(modifier: Modifier, field: &str, faults: &mut Faults) -> HeaderChanges {
    let mut pairs = |headers: Option<Vec<Header>>, list: &str| {
        let mut pairs = Vec::new();
        for (i, Header { name, value }) in headers.into_iter().flatten().enumerate() {
            let field = format!("{field}.{list}[{i}]");
            let pair = changed_name(&name, &format!("{field}.name"))
                .and_then(|name| Ok((name, header_value(value, &format!("{field}.value"))?)));
            pairs.extend(faults.keep(pair));
        }
        pairs
    };
    let (set, add) = (pairs(modifier.set, "set"), pairs(modifier.add, "add"));
    let mut remove = Vec::new();
    for (i, name) in modifier.remove.into_iter().flatten().enumerate() {
        remove.extend(faults.keep(changed_name(&name, &format!("{field}.remove[{i}]"))));
    }
    HeaderChanges { set, add, remove }
}

/// The name of a header that may be changed.
fn changed_name(name: &str, field: &str) -> Result<String, RuleFault> {
    let name = header_name(name, field)?;
    if name == "host" {
        let detail = "`Host` is not changed by header filters; use `urlRewrite.hostname`";
        return Err(unsupported(field, detail));
    }
    if FRAMING.contains(&name.as_str()) {
        let detail = format!("`{name}` belongs to the connection, and no filter may change it");
        return Err(unsupported(field, detail));
    }
    Ok(name)
}

fn convert_redirect(redirect: RequestRedirect, field: &str, faults: &mut Faults) -> Redirect {
    let scheme = redirect.scheme.map(|scheme| match scheme.as_str() {
        "http" | "https" => Ok(scheme),
        other => Err(unsupported(
            format!("{field}.scheme"),
            format!("`{other}` is neither http nor https"),
        )),
    });
    let port = redirect.port.map(|number| {
        let detail = format!("{number} is not a port from 1 to 65535");
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.ok_or_else(|| unsupported(format!("{field}.port"), detail))
    });
    let status = redirect.status_code.map(|number| {
        let status = u16::try_from(number).ok().filter(|status| REDIRECTS.contains(status));
        let detail = || format!("{number} is none of {REDIRECTS:?}");
        status.ok_or_else(|| unsupported(format!("{field}.statusCode"), detail()))
    });
    Redirect {
        scheme: scheme.and_then(|scheme| faults.keep(scheme)),
        hostname: host(redirect.hostname, field, faults),
        path: path(redirect.path, field, faults),
        port: port.and_then(|port| faults.keep(port)),
        status: status
            .and_then(|status| faults.keep(status))
            .unwrap_or(REDIRECT_DEFAULT),
    }
}

/// A host name without a wildcard (Gateway API, `PreciseHostname`).
fn host(hostname: Option<String>, owner: &str, faults: &mut Faults) -> Option<String> {
    let hostname = hostname?;
    let detail = format!("{hostname:?} is no host name of lower-case letters, digits, `-` and `.`");
    let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    let is_host = convert::checked_name(&hostname, "hostname").is_ok() && hostname.split('.').all(is_label);
    let read = if is_host {
        Ok(hostname)
    } else {
        Err(unsupported(format!("{owner}.hostname"), detail))
    };
    faults.keep(read)
}

fn path(path: Option<Path>, owner: &str, faults: &mut Faults) -> Option<PathChange> {
    let field = format!("{owner}.path");
    let path = path?;
    let read = match (path.kind.as_str(), path.replace_full_path, path.replace_prefix_match) {
        ("ReplaceFullPath", Some(full), None) => {
            plain_path(full, &format!("{field}.replaceFullPath")).map(PathChange::Full)
        }
        // nothing in the prefix's place is what `/` means as well
        ("ReplacePrefixMatch", None, Some(prefix)) if prefix.is_empty() => Ok(PathChange::Prefix(prefix)),
        ("ReplacePrefixMatch", None, Some(prefix)) => {
            plain_path(prefix, &format!("{field}.replacePrefixMatch")).map(PathChange::Prefix)
        }
        ("ReplaceFullPath", ..) => Err(unsupported(
            field,
            "needs `replaceFullPath`, and that alone, with this type",
        )),
        ("ReplacePrefixMatch", ..) => Err(unsupported(
            field,
            "needs `replacePrefixMatch`, and that alone, with this type",
        )),
        (other, ..) => Err(unsupported(
            format!("{field}.type"),
            format!("`{other}` is none of ReplaceFullPath, ReplacePrefixMatch"),
        )),
    };
    faults.keep(read)
}
