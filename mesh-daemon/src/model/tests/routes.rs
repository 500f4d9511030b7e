//! Routes: which requests meet which rule, whom they are attached to, where they send, and what is said of them.

mod attachment;
mod backends;
mod cost;
mod dump;
mod matching;
mod patterns;
mod policies;
pub(super) mod random;
mod reference;
mod seen;
mod sharing;
mod verdicts;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::{
    super::{
        Action, BackendRef, BackendTarget, Content, Filters, HttpRoute, Inputs, Matched, PathMatch, RouteMatch,
        RouteParent, RouteRule, Target, ValueMatch, ValuePattern,
    },
    empty, object, ready, service, slice,
};

/// Where `shop/web` is.
const WEB: &str = "10.96.0.1:80";

/// Services `shop/web`, `shop/v1` and `shop/v2`, port 80 `http`, at 10.96.0.1 to .3, each with one endpoint at 10.0.0.1 to .3.
fn three() -> Inputs {
    let mut inputs = empty();
    for (number, name) in [(1, "web"), (2, "v1"), (3, "v2")] {
        let cluster_ip = format!("10.96.0.{number}");
        let endpoint = format!("10.0.0.{number}");
        inputs
            .service(&format!("shop/{name}"), service(&[&cluster_ip], &[("http", 80)]))
            .slice(
                &format!("shop/{name}-1"),
                slice(name, &[("http", 8080)], &[ready(&endpoint)]),
            );
    }
    inputs
}

impl Inputs {
    fn http_route(&mut self, name: &str, route: HttpRoute) -> &mut Self {
        self.routes.insert(object(name), route);
        self
    }
}

/// A route of `shop/web`.
fn route(rules: &[RouteRule]) -> HttpRoute {
    HttpRoute {
        generation: 1,
        created: Some(1),
        parents: vec![parent("shop/web")],
        rules: rules.to_vec(),
    }
}

fn parent(service: &str) -> RouteParent {
    let service = object(service);
    RouteParent {
        group: Some(String::new()),
        kind: Some("Service".to_owned()),
        namespace: Some(service.namespace),
        name: service.name,
        section_name: None,
        port: None,
    }
}

/// A rule that sends everything to `shop/v1`.
fn rule(matches: &[RouteMatch]) -> RouteRule {
    RouteRule {
        matches: matches.to_vec(),
        backends: vec![backend("shop/v1", 80, 1)],
        ..RouteRule::default()
    }
}

fn backend(service: &str, port: u16, weight: u32) -> BackendRef {
    BackendRef {
        target: BackendTarget::Service {
            service: object(service),
            port,
        },
        weight,
        filters: Filters::default(),
    }
}

fn any() -> RouteMatch {
    prefix("")
}

fn prefix(path: &str) -> RouteMatch {
    of_path(PathMatch::Prefix(path.to_owned()))
}

fn exact(path: &str) -> RouteMatch {
    of_path(PathMatch::Exact(path.to_owned()))
}

fn regex(pattern: &str) -> RouteMatch {
    of_path(PathMatch::Regex(pattern.to_owned()))
}

fn of_path(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

impl RouteMatch {
    fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .push(value_match(name, ValuePattern::Exact(value.to_owned())));
        self
    }

    fn header_regex(mut self, name: &str, pattern: &str) -> Self {
        self.headers
            .push(value_match(name, ValuePattern::Regex(pattern.to_owned())));
        self
    }

    fn query(mut self, name: &str, value: &str) -> Self {
        self.query
            .push(value_match(name, ValuePattern::Exact(value.to_owned())));
        self
    }

    fn query_regex(mut self, name: &str, pattern: &str) -> Self {
        self.query
            .push(value_match(name, ValuePattern::Regex(pattern.to_owned())));
        self
    }
}

fn value_match(name: &str, value: ValuePattern) -> ValueMatch {
    ValueMatch {
        name: name.to_owned(),
        value,
    }
}

/// The rule that `METHOD TARGET` with these headers meets at `shop/web`, as `namespace/name[index]`; `-` if none.
fn met(content: &Content, client: Option<&str>, request: &str, headers: &[(&str, &str)]) -> String {
    find(content, client, request, headers, describe)
}

/// The prefix that matched, in parentheses if there is one.
fn matched_prefix(content: &Content, request: &str) -> String {
    find(content, None, request, &[], |matched| format!("{:?}", matched.prefix))
}

fn find(
    content: &Content,
    client: Option<&str>,
    request: &str,
    headers: &[(&str, &str)],
    of: impl Fn(Matched<'_>) -> String,
) -> String {
    let table = content.route_table(client, WEB.parse().unwrap()).unwrap();
    let (method, target) = request.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let uri: Uri = target.parse().unwrap();
    let mut fields = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        fields.append(name, HeaderValue::from_str(value).unwrap());
    }
    table.find(&method, &uri, &fields).map_or_else(|| "-".to_owned(), of)
}

fn describe(matched: Matched<'_>) -> String {
    format!("{}[{}]", matched.rule.route, matched.rule.index)
}

/// The action of a route's rule at `shop/web`.
fn action<'a>(content: &'a Content, name: &str, index: usize) -> &'a Action {
    let table = content.route_table(None, WEB.parse().unwrap()).unwrap();
    let mut rules = table.rules.iter();
    let rule = rules.find(|rule| rule.route == object(name) && rule.index == index);
    &rule.unwrap().action
}

/// Where a rule sends, as `weight × service:port` and the number of endpoints by family; or what it does otherwise.
fn sends(action: &Action) -> Vec<String> {
    let Action::Forward(backends) = action else {
        return vec![format!("{action:?}")];
    };
    let total = backends
        .list
        .iter()
        .map(|backend| u64::from(backend.weight))
        .sum::<u64>();
    assert_eq!(backends.total_weight, total);
    let list = backends.list.iter();
    list.map(|backend| match &backend.target {
        Target::Unresolved { name } => format!("{}×{name}?", backend.weight),
        Target::Upstream { v4, v6 } => {
            assert_eq!((&v4.service, v4.port), (&v6.service, v6.port));
            let (service, port) = (&v4.service, v4.port);
            format!(
                "{}×{service}:{port} {}+{}",
                backend.weight,
                v4.endpoints.len(),
                v6.endpoints.len()
            )
        }
    })
    .collect()
}
