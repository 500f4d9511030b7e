//! What matching and building cost: printed, not asserted. `cargo test --release -p mesh-daemon --lib model::tests::routes::cost -- --ignored --nocapture`

use std::{hint::black_box, time::Instant};

use http::{HeaderMap, Method, Uri};

use super::{
    super::super::{Content, Inputs, RouteMatch, RouteRule, build, build_after},
    WEB, any, exact, prefix, regex, route, rule, three,
};

const FINDS: u32 = 100_000;
const BUILDS: u32 = 10;

#[test]
#[ignore = "prints figures"]
fn cost_of_find_and_build() {
    let kinds: [(&str, fn(usize) -> RouteMatch); 4] = [
        ("exact", |number| exact(&format!("/shop/item{number}/buy"))),
        ("prefix", |number| prefix(&format!("/shop/item{number}"))),
        ("prefix, method and header", |number| {
            prefix(&format!("/shop/item{number}"))
                .method("GET")
                .header("x-version", "v2")
        }),
        ("regex, the last", |number| {
            regex(&format!("/shop/item{number}/b[a-z]+"))
        }),
    ];
    for (what, one) in kinds {
        for rules in [1, 100, 1_000] {
            let content = build(&with(rules, one));
            println!("find: {what}, {rules} rules: {} ns", find(&content, rules));
        }
    }
    let inputs = routes(1_000);
    let first = build(&inputs);
    println!("build: 1,000 routes: {} µs", time(|| drop(build(&inputs))));
    println!("build after itself: {} µs", time(|| drop(build_after(&first, &inputs))));
    let none = three();
    println!("build: no routes: {} µs", time(|| drop(build(&none))));
}

/// One route per 16 rules, as many as the API allows, all of `shop/web`.
fn with(rules: usize, one: fn(usize) -> RouteMatch) -> Inputs {
    let rules: Vec<RouteRule> = (0..rules).map(|number| rule(&[one(number)])).collect();
    let mut inputs = three();
    for (number, rules) in rules.chunks(16).enumerate() {
        inputs.http_route(&format!("shop/r{number:04}"), route(rules));
    }
    inputs
}

/// Routes of three rules each, one of them with a regular expression.
fn routes(number: usize) -> Inputs {
    let mut inputs = three();
    for number in 0..number {
        let path = format!("/team{number}");
        let rules = [
            rule(&[exact(&path)]),
            rule(&[prefix(&path), any()]),
            rule(&[regex(&format!("{path}/[0-9]+"))]),
        ];
        inputs.http_route(&format!("shop/r{number:04}"), route(&rules));
    }
    inputs
}

/// Nanoseconds to find the last rule.
fn find(content: &Content, rules: usize) -> u128 {
    let table = content.route_table(None, WEB.parse().unwrap()).unwrap();
    let uri: Uri = format!("/shop/item{}/buy", rules - 1).parse().unwrap();
    let headers: HeaderMap = [
        ("host", "web"),
        ("user-agent", "test"),
        ("accept", "*/*"),
        ("x-version", "v2"),
    ]
    .into_iter()
    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
    .collect();
    assert!(table.find(&Method::GET, &uri, &headers).is_some());
    let begin = Instant::now();
    for _ in 0..FINDS {
        black_box(table.find(&Method::GET, black_box(&uri), &headers));
    }
    begin.elapsed().as_nanos() / u128::from(FINDS)
}

/// Microseconds of one.
fn time(of: impl Fn()) -> u128 {
    let begin = Instant::now();
    for _ in 0..BUILDS {
        of();
    }
    begin.elapsed().as_micros() / u128::from(BUILDS)
}
