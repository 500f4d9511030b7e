//! What a build takes from the one before it.

use std::{net::SocketAddr, sync::Arc};

use super::{
    super::{
        super::{Content, Inputs, RouteTable, build, build_after},
        ready, slice,
    },
    any, backend, prefix, regex, route, rule, three,
};

fn table<'a>(content: &'a Content, at: &str) -> &'a Arc<RouteTable> {
    let at: SocketAddr = at.parse().unwrap();
    content.route_table(None, at).unwrap()
}

/// A route of `shop/web` to `shop/v1`, and one of `shop/v2` to itself.
fn two() -> Inputs {
    let mut inputs = three();
    let mut other = rule(&[regex("/[a-z]+")]);
    other.backends = vec![backend("shop/v2", 80, 1)];
    let mut other = route(&[other]);
    other.parents = vec![super::parent("shop/v2")];
    inputs
        .http_route("shop/a", route(&[rule(&[regex("/[0-9]+"), any()])]))
        .http_route("shop/b", other);
    inputs
}

const V2: &str = "10.96.0.3:80";

#[test]
fn tables_that_are_equal_are_shared() {
    let mut inputs = two();
    let first = build(&inputs);
    let again = build_after(&first, &inputs);
    assert_eq!(again, first);
    for at in [super::WEB, V2] {
        assert!(Arc::ptr_eq(table(&first, at), table(&again, at)), "{at}");
    }
    for (key, upstream) in &first.backends {
        assert!(Arc::ptr_eq(upstream, &again.backends[key]), "{key:?}");
    }
    inputs.slice("shop/v1-2", slice("v1", &[("http", 8080)], &[ready("10.0.0.9")]));
    let changed = build_after(&first, &inputs);
    assert_eq!(changed, build(&inputs));
    assert_ne!(
        table(&first, super::WEB),
        table(&changed, super::WEB),
        "its backend has another endpoint"
    );
    assert!(Arc::ptr_eq(table(&first, V2), table(&changed, V2)));
}

#[test]
fn addresses_and_ports_with_the_same_routes_share_one_table() {
    let mut inputs = three();
    let service = super::service(&["10.96.0.1", "fd00:96::1"], &[("http", 80), ("admin", 81)]);
    inputs
        .service("shop/web", service)
        .http_route("shop/a", route(&[rule(&[any()])]));
    let content = build(&inputs);
    let first = table(&content, super::WEB);
    for at in ["10.96.0.1:81", "[fd00:96::1]:80", "[fd00:96::1]:81"] {
        assert!(Arc::ptr_eq(first, table(&content, at)), "{at}");
    }
}

#[test]
fn a_table_differs_with_each_thing_that_a_route_says() {
    let first = build(&two());
    let changes: [fn(&mut Inputs); 7] = [
        |inputs| change(inputs).generation = 2,
        |inputs| change(inputs).rules[0].matches[0] = regex("/[0-8]+"),
        |inputs| change(inputs).rules[0].matches[1] = prefix("/a"),
        |inputs| change(inputs).rules[0].matches[1].method = Some("GET".to_owned()),
        |inputs| change(inputs).rules[0].name = Some("x".to_owned()),
        |inputs| change(inputs).rules[0].backends[0].weight = 2,
        |inputs| drop(inputs.routes.pop_first()),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut inputs = two();
        change(&mut inputs);
        let changed = build_after(&first, &inputs);
        assert_eq!(changed, build(&inputs), "{number}");
        assert_ne!(changed.routes, first.routes, "{number}");
    }
}

fn change(inputs: &mut Inputs) -> &mut super::HttpRoute {
    inputs.routes.values_mut().next().unwrap()
}

#[test]
fn regular_expressions_are_kept_by_their_text() {
    let mut inputs = two();
    let first = build(&inputs);
    inputs.http_route("shop/c", route(&[rule(&[regex("/[a-z]+"), regex("/new")])]));
    let second = build_after(&first, &inputs);
    assert_ne!(first.patterns, second.patterns);
    assert_eq!(second.patterns, build(&inputs).patterns);
    inputs.routes.clear();
    assert_eq!(build_after(&second, &inputs), build(&three()));
}
