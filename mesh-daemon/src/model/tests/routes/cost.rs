//! What matching and building cost: printed, not asserted. `cargo test --release -p mesh-daemon --lib model::tests::routes::cost -- --ignored --nocapture`

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, Uri};

use super::{
    super::super::{Content, Inputs, RouteMatch, RouteRule, build, build_after},
    WEB, any, exact, prefix, regex, route, rule, three,
};

const FINDS: u32 = 1_000;
/// The best of so many: what else runs on the machine only makes it slower.
const TRIES: u32 = 30;

/// The match of the rule with a number.
type Numbered = fn(usize) -> RouteMatch;

#[test]
#[ignore = "prints figures"]
fn cost_of_find() {
    let kinds: [(&str, Numbered); 4] = [
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
}

#[test]
#[ignore = "prints figures"]
fn cost_of_build() {
    let inputs = routes(1_000);
    println!("build: 1,000 routes: {} µs", time(|| drop(build(&inputs))));
}

#[test]
#[ignore = "prints figures"]
fn cost_of_build_after() {
    let inputs = routes(1_000);
    let first = build(&inputs);
    println!(
        "build after itself: 1,000 routes: {} µs",
        time(|| drop(build_after(&first, &inputs)))
    );
}

/// What the bounds of patterns leave of the worst that routes can ask for.
#[test]
#[ignore = "prints figures"]
fn cost_of_the_worst_patterns() {
    let value: String = (0_u32..400_000)
        .scan(1_u32, |seed, _| {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some(if *seed >> 31 == 0 { 'a' } else { 'b' })
        })
        .collect();
    for pattern in ["[ab]*c", "(?:a|b)*a(?:a|b){10}"] {
        for matches in [1, 128] {
            let matches: Vec<_> = (0..matches)
                .map(|number| any().header_regex("x-tag", &format!("{pattern}{number}")))
                .collect();
            let mut inputs = three();
            inputs.http_route("shop/a", route(&[rule(&matches)]));
            let content = build(&inputs);
            let table = content.route_table(None, WEB.parse().unwrap()).unwrap();
            let headers: HeaderMap = [("x-tag".parse().unwrap(), value.parse().unwrap())]
                .into_iter()
                .collect();
            let find = || {
                black_box(table.find(&Method::GET, &Uri::from_static("/"), &headers));
            };
            println!("find: {} of `{pattern}` and 400 kB: {} µs", matches.len(), time(find));
        }
    }
}

/// The pattern with a number.
type Hostile = fn(usize) -> String;

/// As much as one HTTPRoute may hold: 128 matches of a path, 16 headers and 16 query parameters.
#[test]
#[ignore = "prints figures"]
fn cost_of_the_worst_route() {
    let words = |number: usize| {
        (0..50)
            .map(|word| format!("w{word}x{number}"))
            .collect::<Vec<_>>()
            .join("|")
    };
    let kinds: [(&str, Hostile); 5] = [
        ("small", |number| format!("/{number}/[a-z]+/.*")),
        ("refused for its size", |number| format!("{number}.*a.{{30}}")),
        ("refused later", |number| {
            format!("{number}(?:(?:a?){{60}}(?:.|b1|c2|d3|e4)){{3}}")
        }),
        ("of Unicode", |number| format!(r"{number}(?u)\w+[^\W\d]*")),
        ("no pattern", |number| format!("{number}(")),
    ];
    let folded = |number: usize| format!("(?i).*({}).*", words(number));
    let kinds = kinds
        .into_iter()
        .map(|(what, one)| (what, Box::new(one) as Box<dyn Fn(usize) -> String>));
    for (what, one) in kinds.chain([("words in either case", Box::new(folded) as Box<_>)]) {
        let matches = (0..128).map(|at| {
            (0..16).fold(regex(&one(at * 33)), |of, number| {
                of.header_regex(&format!("x-{number}"), &one(at * 33 + number + 1))
                    .query_regex(&format!("q{number}"), &one(at * 33 + number + 17))
            })
        });
        let rules: Vec<_> = matches.collect::<Vec<_>>().chunks(8).map(rule).collect();
        let mut inputs = three();
        inputs.http_route("shop/a", route(&rules));
        let before = resident_bytes();
        let begin = Instant::now();
        let content = build(&inputs);
        let (took, kept) = (begin.elapsed(), resident_bytes().saturating_sub(before));
        println!(
            "build: one route of 4,224 patterns, {what}: {took:?}, {} kB",
            kept / 1024
        );
        drop(content);
    }
}

/// What the process has in memory.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// One route per 16 rules, as many as the API allows, all of `shop/web`.
fn with(rules: usize, one: Numbered) -> Inputs {
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
    let finds = || {
        for _ in 0..FINDS {
            black_box(table.find(&Method::GET, black_box(&uri), &headers));
        }
    };
    best(finds).as_nanos() / u128::from(FINDS)
}

/// Microseconds of one.
fn time(of: impl Fn()) -> u128 {
    best(of).as_micros()
}

fn best(of: impl Fn()) -> Duration {
    let tries = (0..TRIES).map(|_| {
        let begin = Instant::now();
        of();
        begin.elapsed()
    });
    tries.min().unwrap()
}
