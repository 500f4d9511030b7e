//! What a rule matches: path, method, headers, query parameters.

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::faults::{Faults, unsupported};
use crate::model::{PathMatch, RouteMatch, RuleFault, ValueMatch, ValuePattern};

/// Methods that a match may name (Gateway API, `HTTPMethod`).
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];
/// What a path that is compared as text may not contain (Gateway API, `HTTPPathMatch`): no request would have it, or not in this form.
const NOT_IN_PATHS: [&str; 7] = ["//", "/./", "/../", "%2f", "%2F", "#", "?"];
/// Nor end in.
const NOT_AT_THE_END: [&str; 2] = ["/..", "/."];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match {
    path: Option<Path>,
    method: Option<String>,
    #[serde(default)]
    headers: Option<Vec<Named>>,
    #[serde(default)]
    query_params: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Path {
    #[serde(rename = "type")]
    kind: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: String,
}

/// What there is where nothing is said.
pub(super) fn everything() -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix(String::new()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

/// The matches of the rule `rule`; those that cannot be applied are left out.
pub(super) fn convert(value: Option<Value>, rule: &str, faults: &mut Faults) -> Vec<RouteMatch> {
    let field = format!("{rule}.matches");
    let items: Option<Vec<Value>> = faults.piece(value, &field);
    let items = items.unwrap_or_default();
    if items.is_empty() {
        return vec![everything()];
    }
    let mut matches = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        let field = format!("{field}[{i}]");
        if let Some(item) = faults.piece(Some(item), &field) {
            matches.extend(convert_match(item, &field, faults));
        }
    }
    matches
}

/// None if something of it cannot be applied: all of it is told.
fn convert_match(item: Match, field: &str, faults: &mut Faults) -> Option<RouteMatch> {
    let path = match item.path {
        Some(path) => path_match(path, &format!("{field}.path")),
        None => Ok(everything().path),
    };
    let method = item.method.map(|method| {
        if METHODS.contains(&method.as_str()) {
            return Ok(method);
        }
        let detail = format!("`{method}` is none of {}", METHODS.join(", "));
        Err(unsupported(format!("{field}.method"), detail))
    });
    let headers = named(item.headers, &format!("{field}.headers"), header, faults);
    let query = named(item.query_params, &format!("{field}.queryParams"), query, faults);
    let path = faults.keep(path);
    let method = faults.keep(method.transpose());
    Some(RouteMatch {
        path: path?,
        method: method?,
        headers: headers?,
        query: query?,
    })
}

fn path_match(path: Path, field: &str) -> Result<PathMatch, RuleFault> {
    let value = path.value.unwrap_or_else(|| "/".to_owned());
    let at = format!("{field}.value");
    match path.kind.as_deref().unwrap_or("PathPrefix") {
        "Exact" => plain_path(value, &at).map(PathMatch::Exact),
        // by whole segments: `/a/` and `/a` match the same
        "PathPrefix" => {
            let value = plain_path(value, &at)?;
            let prefix = value.strip_suffix('/').map(str::to_owned);
            Ok(PathMatch::Prefix(prefix.unwrap_or(value)))
        }
        "RegularExpression" => Ok(PathMatch::Regex(value)),
        other => Err(unsupported(
            format!("{field}.type"),
            format!("`{other}` is none of Exact, PathPrefix, RegularExpression"),
        )),
    }
}

/// A path that is compared as text.
pub(super) fn plain_path(value: String, field: &str) -> Result<String, RuleFault> {
    let refused = |why: String| Err(unsupported(field, format!("{value:?} {why}")));
    if !value.starts_with('/') {
        return refused("does not begin with `/`".to_owned());
    }
    if let Some(part) = NOT_IN_PATHS.iter().find(|part| value.contains(**part)) {
        return refused(format!("contains `{part}`"));
    }
    if let Some(end) = NOT_AT_THE_END.iter().find(|end| value.ends_with(**end)) {
        return refused(format!("ends in `{end}`"));
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return refused("has characters that no path has; percent-encode them".to_owned());
    }
    Ok(value)
}

/// Each name once: of equal ones the first counts. None if one of them cannot be applied.
fn named(
    items: Option<Vec<Named>>,
    field: &str,
    read: fn(Named, &str) -> Result<ValueMatch, RuleFault>,
    faults: &mut Faults,
) -> Option<Vec<ValueMatch>> {
    let mut matches: Vec<ValueMatch> = Vec::new();
    let mut is_whole = true;
    for (i, item) in items.into_iter().flatten().enumerate() {
        let field = format!("{field}[{i}]");
        match faults.keep(read(item, &field)) {
            Some(item) if matches.iter().all(|known| known.name != item.name) => matches.push(item),
            Some(_) => {}
            None => is_whole = false,
        }
    }
    is_whole.then_some(matches)
}

fn header(item: Named, field: &str) -> Result<ValueMatch, RuleFault> {
    let name = header_name(&item.name, &format!("{field}.name"))?;
    let value = match pattern(item, field)? {
        ValuePattern::Exact(value) => ValuePattern::Exact(header_value(value, &format!("{field}.value"))?),
        regex @ ValuePattern::Regex(_) => regex,
    };
    Ok(ValueMatch { name, value })
}

fn query(item: Named, field: &str) -> Result<ValueMatch, RuleFault> {
    if item.name.is_empty() {
        return Err(unsupported(format!("{field}.name"), "is empty"));
    }
    Ok(ValueMatch {
        name: item.name.clone(),
        value: pattern(item, field)?,
    })
}

fn pattern(item: Named, field: &str) -> Result<ValuePattern, RuleFault> {
    match item.kind.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(ValuePattern::Exact(item.value)),
        "RegularExpression" => Ok(ValuePattern::Regex(item.value)),
        other => Err(unsupported(
            format!("{field}.type"),
            format!("`{other}` is none of Exact, RegularExpression"),
        )),
    }
}

/// A header's name in lower case.
pub(super) fn header_name(name: &str, field: &str) -> Result<String, RuleFault> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    let parsed = parsed.map_err(|_| unsupported(field, format!("{name:?} is no name that a header can have")))?;
    Ok(parsed.as_str().to_owned())
}

/// A header's value.
pub(super) fn header_value(value: String, field: &str) -> Result<String, RuleFault> {
    if HeaderValue::from_str(&value).is_err() || value.trim() != value {
        return Err(unsupported(
            field,
            format!("{value:?} is no value that a header can have"),
        ));
    }
    Ok(value)
}
