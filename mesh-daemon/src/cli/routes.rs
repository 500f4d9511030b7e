//! `mesh-daemon routes`: rules as a table, then what became of each HTTPRoute.

use super::table::{Table, condition, or_dash, rule};
use crate::{
    config::Subject,
    model::{ActionView, FilterView, HeaderView, ParentView, PathChangeView, RoutesView, RuleView},
};

/// The whole answer.
pub(super) fn table(subject: &Subject, view: &RoutesView) -> String {
    let RoutesView {
        snapshot: _,
        rules: _,
        routes: _,
    } = view;
    let rules = rules(view);
    let routes = routes(view);
    match (rules.is_empty(), routes.is_empty()) {
        (true, true) => none(subject),
        (true, false) => format!(
            "No rule holds: requests go to the Services' own endpoints.\n\n{}",
            routes.text()
        ),
        (false, _) => format!("{}\n{}", rules.text(), routes.text()),
    }
}

fn none(subject: &Subject) -> String {
    match subject {
        Subject::RoutesOf(service) => {
            format!("No HTTPRoute names Service {service}: its requests go to its own endpoints.\n")
        }
        Subject::RoutesIn(namespace) => format!("No HTTPRoute names a Service of namespace {namespace}.\n"),
        _ => "No HTTPRoute names a Service.\n".to_owned(),
    }
}

fn rules(view: &RoutesView) -> Table {
    let headings = ["SERVICE", "PORT", "CLIENTS", "MATCH", "ACTION", "RULE", "GENERATION"];
    let mut table = Table::new(headings);
    for told in &view.rules {
        table.row([
            told.service.to_string(),
            told.port.to_string(),
            told.clients
                .as_ref()
                .map_or_else(|| "all".to_owned(), |name| format!("namespace {name}")),
            told.matches.clone(),
            done(told),
            rule(&told.route, told.rule, told.rule_name.as_deref()),
            told.generation.to_string(),
        ]);
    }
    table
}

/// What is changed, where something is, and what is done then.
fn done(rule: &RuleView) -> String {
    let action = action(&rule.action);
    if rule.filters.is_empty() {
        return action;
    }
    format!("{} -> {action}", filters(&rule.filters))
}

/// Of headers the names: their values may be long, and stand in the JSON.
fn filters(filters: &[FilterView]) -> String {
    let words = filters.iter().map(|filter| match filter {
        FilterView::RequestHeaderModifier { set, add, remove } => headers("request", set, add, remove),
        FilterView::ResponseHeaderModifier { set, add, remove } => headers("response", set, add, remove),
        FilterView::UrlRewrite { hostname, path } => {
            let host = hostname.iter().map(|host| format!(" hostname={host}"));
            let path = path.iter().map(|path| format!(" {}", self::path(path)));
            format!("rewrite{}", host.chain(path).collect::<String>())
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn headers(of: &str, set: &[HeaderView], add: &[HeaderView], remove: &[String]) -> String {
    let names = |headers: &[HeaderView]| headers.iter().map(|header| header.name.clone()).collect::<Vec<_>>();
    let changes = [("set", names(set)), ("add", names(add)), ("remove", remove.to_vec())];
    let words = changes.iter().filter(|(_, names)| !names.is_empty());
    let words = words.map(|(what, names)| format!(" {what}={}", names.join("+")));
    format!("{of}{}", words.collect::<String>())
}

fn path(change: &PathChangeView) -> String {
    match change {
        PathChangeView::ReplaceFullPath(path) => format!("path={path}"),
        PathChangeView::ReplacePrefixMatch(prefix) => format!("prefix={prefix}"),
    }
}

fn action(action: &ActionView) -> String {
    match action {
        ActionView::Forward { backends } => {
            let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
            let share = |weight: u32| match backends.len() {
                1 => String::new(),
                _ => format!(" {weight}/{total}"),
            };
            let words = backends.iter().map(|backend| {
                let missing = if backend.is_resolved { "" } else { " (missing: 500)" };
                let own = match backend.filters.as_slice() {
                    [] => String::new(),
                    own => format!(" ({})", filters(own)),
                };
                format!("{}{}{own}{missing}", backend.name, share(backend.weight))
            });
            words.collect::<Vec<_>>().join(", ")
        }
        ActionView::Redirect {
            status,
            scheme,
            hostname,
            port,
            path,
        } => {
            let mut words = format!("redirect {status}");
            for (what, value) in [("scheme", scheme), ("hostname", hostname)] {
                words.extend(value.iter().map(|value| format!(" {what}={value}")));
            }
            words.extend(port.iter().map(|port| format!(" port={port}")));
            words.extend(path.iter().map(|path| format!(" {}", self::path(path))));
            words
        }
        ActionView::Fail { reason } => format!("500: {reason}"),
    }
}

fn routes(view: &RoutesView) -> Table {
    let headings = [
        "HTTPROUTE",
        "GENERATION",
        "PARENT",
        "CONDITION",
        "STATUS",
        "REASON",
        "MESSAGE",
    ];
    let mut table = Table::new(headings);
    for route in &view.routes {
        for parent in &route.parents {
            for told in &parent.conditions {
                let [kind, status, reason, message] = condition(told);
                let (name, generation) = (route.route.to_string(), route.generation.to_string());
                table.row([name, generation, named(parent), kind, status, reason, message]);
            }
        }
    }
    table
}

fn named(parent: &ParentView) -> String {
    let ParentView {
        service,
        section_name,
        port,
        conditions: _,
    } = parent;
    match (section_name, port) {
        (None, None) => service.to_string(),
        (Some(name), None) => format!("{service}:{name}"),
        (None, port) => format!("{service}:{}", or_dash(*port)),
        (Some(name), port) => format!("{service}:{}({name})", or_dash(*port)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::ObjectRef;

    #[test]
    fn rules_and_conditions_as_people_read_them() {
        let rule = |matches: &str, action: serde_json::Value, index: usize| {
            json!({
                "service": "shop/web", "port": 80, "addresses": ["10.96.0.1"], "clients": null, "match": matches,
                "action": action, "filters": [], "route": "shop/r", "generation": 3, "rule": index, "ruleName": null
            })
        };
        let mut named = rule(
            "prefix /cart",
            json!({"type": "forward", "backends": [
                {"name": "shop/v1:80", "weight": 9, "isResolved": true, "filters": [
                    {"type": "ResponseHeaderModifier", "set": [], "add": [{"name": "x-v", "value": "1"}], "remove": []}
                ]},
                {"name": "shop/gone:80", "weight": 1, "isResolved": false, "filters": []}
            ]}),
            0,
        );
        named["ruleName"] = json!("cart");
        named["filters"] = json!([
            {"type": "RequestHeaderModifier", "set": [{"name": "x-a", "value": "1"}], "add": [{"name": "x-b", "value": "2"}], "remove": ["x-c", "x-d"]},
            {"type": "URLRewrite", "hostname": "new.example", "path": {"type": "ReplaceFullPath", "value": "/all"}}
        ]);
        let mut of_blog = rule(
            "prefix /",
            json!({"type": "forward", "backends": [{"name": "shop/v2:80", "weight": 1, "isResolved": true, "filters": []}]}),
            0,
        );
        of_blog["clients"] = json!("blog");
        let redirect = json!({"type": "redirect", "status": 301, "scheme": "https", "hostname": null, "port": null, "path": {"type": "ReplacePrefixMatch", "value": "/new"}});
        let document = json!({
            "snapshot": 7,
            "rules": [
                rule("exact /old", redirect, 1),
                named,
                rule("prefix /", json!({"type": "fail", "reason": "it has no backend"}), 2),
                of_blog
            ],
            "routes": [{"route": "shop/r", "generation": 3, "parents": [{
                "service": "shop/web", "sectionName": null, "port": 80,
                "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "Holds"}]
            }]}]
        });
        let view: RoutesView = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&view).unwrap(),
            document,
            "these are the names that scripts read"
        );
        let subject = Subject::Routes;
        assert_eq!(
            table(&subject, &view),
            "\
SERVICE    PORT   CLIENTS          MATCH          ACTION                                                                                                                                                   RULE             GENERATION
shop/web   80     all              exact /old     redirect 301 scheme=https prefix=/new                                                                                                                    shop/r#1         3
shop/web   80     all              prefix /cart   request set=x-a add=x-b remove=x-c+x-d, rewrite hostname=new.example path=/all -> shop/v1:80 9/10 (response add=x-v), shop/gone:80 1/10 (missing: 500)   shop/r#0(cart)   3
shop/web   80     all              prefix /       500: it has no backend                                                                                                                                   shop/r#2         3
shop/web   80     namespace blog   prefix /       shop/v2:80                                                                                                                                               shop/r#0         3

HTTPROUTE   GENERATION   PARENT        CONDITION   STATUS   REASON     MESSAGE
shop/r      3            shop/web:80   Accepted    True     Accepted   Holds
"
        );
    }

    #[test]
    fn where_there_are_no_routes_a_sentence_says_so() {
        let view = RoutesView {
            snapshot: 1,
            rules: Vec::new(),
            routes: Vec::new(),
        };
        for (subject, expected) in [
            (Subject::Routes, "No HTTPRoute names a Service.\n"),
            (
                Subject::RoutesOf(ObjectRef::new("shop", "web")),
                "No HTTPRoute names Service shop/web: its requests go to its own endpoints.\n",
            ),
        ] {
            assert_eq!(table(&subject, &view), expected);
        }
    }
}
