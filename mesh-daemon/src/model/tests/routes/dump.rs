//! Routes as people read them.

use core::time::Duration;

use super::{
    super::{
        super::{HeaderChanges, PathChange, Rewrite, RouteRetry, RouteTimeouts, build, dump},
        ip,
    },
    any, backend, exact, parent, prefix,
    random::{fault, redirect},
    regex, route, rule, three,
};

const ASIDE: &str = "set-aside HTTPRoute shop/r unsupported_rule: Dropped Rule 2, whose requests are answered with 500: \
                     spec.rules[0].filters[1].type: `CORS` is not supported";
const EXPECTED: &str = "\
routes 10.96.0.1:80 clients=*
  match exact /a method=GET header x=1 query q=2 -> shop/r[0]
  match prefix /a -> shop/r[0]
  match prefix /b -> shop/r[1]
  match prefix / -> shop/r[2]
  rule shop/r[0] generation=1 name=first
    request set x-a=\"1\"
    request add x-b=\"2\"
    request remove x-c
    rewrite hostname=other prefix=/z
    timeout 2s
    attempt-timeout 1s
    retry attempts=3 backoff=25ms codes={503} on={ConnectFailure, Reset, Timeout}
    to shop/v1:80 9/10
      response remove x-d
    to nobody (shop/gone:80) 1/10
  rule shop/r[1] generation=1 redirect=302 hostname=other path=/y
  rule shop/r[2] generation=1 fail=Unsupported
routes 10.96.0.1:80 clients=blog
  match prefix / -> blog/r[0]
  rule blog/r[0] generation=1
    to shop/v1:80 1/1
backend shop/v1:80 v4 protocol=Detect
  endpoint 10.0.0.2:8080 -
backend shop/v1:80 v6 protocol=Detect
route blog/r generation=1
  parent shop/web
    Accepted=True Accepted: Holds for the clients of namespace blog of Service shop/web
    ResolvedRefs=True ResolvedRefs: All backends are known
route shop/r generation=1
  parent shop/web sectionName=http port=80
    Accepted=True Accepted: Holds for all clients of Service shop/web
    ResolvedRefs=False BackendNotFound: spec.rules[0].backendRefs[1]: there is no Service shop/gone
    PartiallyInvalid=True UnsupportedValue: Dropped Rule 2, whose requests are answered with 500: \
                        spec.rules[0].filters[1].type: `CORS` is not supported
";

#[test]
fn everything_about_routes_is_told() {
    let mut first = rule(&[prefix("/a"), exact("/a").method("GET").header("x", "1").query("q", "2")]);
    first.name = Some("first".to_owned());
    first.backends = vec![backend("shop/v1", 80, 9), backend("shop/gone", 80, 1)];
    first.backends[0].filters.response_headers.remove = vec!["x-d".to_owned()];
    first.filters.request_headers = HeaderChanges {
        set: vec![("x-a".to_owned(), "1".to_owned())],
        add: vec![("x-b".to_owned(), "2".to_owned())],
        remove: vec!["x-c".to_owned()],
    };
    first.filters.rewrite = Some(Rewrite {
        hostname: Some("other".to_owned()),
        path: Some(PathChange::Prefix("/z".to_owned())),
    });
    first.timeouts = RouteTimeouts {
        request: Some(Duration::from_secs(2)),
        backend_request: Some(Duration::from_secs(1)),
    };
    first.retry = Some(RouteRetry {
        codes: Some(vec![503]),
        attempts: Some(3),
        backoff: None,
    });
    let mut second = rule(&[prefix("/b")]);
    let redirect = second.filters.redirect.insert(redirect());
    redirect.path = Some(PathChange::Full("/y".to_owned()));
    let mut third = rule(&[any()]);
    third.faults.push(fault());
    let mut of_shop = route(&[first, second, third]);
    of_shop.parents[0].port = Some(80);
    of_shop.parents[0].section_name = Some("http".to_owned());

    let mut inputs = three();
    let without = dump(&build(&inputs));
    inputs
        .http_route("shop/r", of_shop)
        .http_route("blog/r", route(&[rule(&[any()])]));
    inputs.facts.node_addresses.insert(ip("10.9.9.9"));
    let with = dump(&build(&inputs));
    assert_eq!(with, format!("{without}{EXPECTED}node-address 10.9.9.9\n{ASIDE}\n"));
}

#[test]
fn no_author_writes_lines_of_their_own() {
    let forged = "x\ncapture shop/p captured interface=1";
    let mut one = rule(&[any().query("q", forged).header_regex("x", forged), prefix(forged)]);
    one.name = Some(forged.to_owned());
    one.filters.rewrite = Some(Rewrite {
        hostname: Some(forged.to_owned()),
        path: Some(PathChange::Full(forged.to_owned())),
    });
    let mut other = rule(&[regex(&format!("({forged}"))]);
    let redirect = other.filters.redirect.insert(redirect());
    redirect.hostname = Some(forged.to_owned());
    let mut route = route(&[one, other, rule(&[any()])]);
    route.parents.push(parent(&format!("shop/{forged}")));
    let mut inputs = three();
    inputs.http_route("shop/r", route);
    let text = dump(&build(&inputs));
    assert!(text.contains("captured interface=1"));
    assert!(!text.contains("\ncapture "), "{text}");
}
