//! The matcher against one that is slow and obviously right: it knows no index and no encoding, tries every match of every rule, and takes the best.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{
    super::{
        super::{HttpRoute, PathMatch, RouteMatch, RouteRule, ValueMatch, ValuePattern, build},
        Random,
    },
    exact, find, prefix, regex, route, rule, three,
};

/// Sets of routes tried, and requests of each: 10,000 pairs.
const WORLDS: u64 = 2000;
const REQUESTS: usize = 5;
/// Patterns of paths, each with what it means.
const PATH_PATTERNS: [(&str, fn(&str) -> bool); 5] = [
    ("/a", |path| path == "/a"),
    ("/.*", |_| true),
    ("/a.*", |path| path.starts_with("/a")),
    ("/b.*", |path| path.starts_with("/b")),
    ("/a|/a/b", |path| path == "/a" || path == "/a/b"),
];
/// Patterns of values, each with what it means.
const VALUE_PATTERNS: [(&str, fn(&str) -> bool); 2] = [
    ("1|2", |value| value == "1" || value == "2"),
    (".*2", |value| value.ends_with('2')),
];
const VALUES: [&str; 4] = ["1", "2", "1,2", "a b"];
const SEGMENTS: [&str; 3] = ["a", "b", "ab"];

/// A request before it is written down: values are as they are meant.
struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
}

/// A match with where it stands.
struct Place<'a> {
    name: &'a str,
    route: &'a HttpRoute,
    rule: usize,
    one: &'a RouteMatch,
}

#[test]
fn the_table_agrees_with_the_reference() {
    let (mut matched, mut steps) = (0, BTreeMap::<&str, u32>::new());
    for seed in 1..=WORLDS {
        let random = &mut Random(seed);
        let names = ["a", "b", "c", "d"];
        let routes: BTreeMap<&str, HttpRoute> = names[..1 + random.below(4)]
            .iter()
            .map(|name| (*name, any_route(random)))
            .collect();
        let mut inputs = three();
        for (name, route) in &routes {
            inputs.http_route(&format!("shop/{name}"), route.clone());
        }
        let content = build(&inputs);
        for _ in 0..REQUESTS {
            let request = any_request(random);
            let (expected, step) = reference(&routes, &request);
            let target = written(&request, random);
            let found = find(&content, None, &target, &request.headers, |matched| {
                format!(
                    "shop/{}[{}] {:?}",
                    matched.rule.route.name, matched.rule.index, matched.prefix
                )
            });
            assert_eq!(
                found, expected,
                "seed {seed}: {target} {:?} in {routes:#?}",
                request.headers
            );
            matched += u32::from(found != "-");
            if let Some(step) = step {
                *steps.entry(step).or_default() += 1;
            }
        }
    }
    println!("{matched} of 10,000 met a rule; what decided between the best two: {steps:?}");
    assert!((3_000..9_000).contains(&matched), "a good share matches: {matched}");
    for step in ["kind", "length", "method", "headers", "query", "age", "name", "rule"] {
        let times = steps.get(step).copied().unwrap_or_default();
        assert!(times >= 50, "{step} decides often enough to be tried: {times}");
    }
}

/// The rule that the request meets with its prefix, and which step of the precedence put it before the next best, if there is one.
fn reference(routes: &BTreeMap<&str, HttpRoute>, request: &Request) -> (String, Option<&'static str>) {
    let mut places = Vec::new();
    for (name, route) in routes {
        for (rule, of) in route.rules.iter().enumerate() {
            let holds = of.matches.iter().filter(|one| holds(one, request));
            places.extend(holds.map(|one| Place { name, route, rule, one }));
        }
    }
    // a sort that keeps the order of equals: the order of matches
    places.sort_by(|a, b| compare(a, b).0);
    let Some(best) = places.first() else {
        return ("-".to_owned(), None);
    };
    let prefix = match &best.one.path {
        PathMatch::Prefix(prefix) => Some(prefix.as_str()),
        _ => None,
    };
    let step = places.get(1).map(|second| compare(best, second).1);
    (format!("shop/{}[{}] {prefix:?}", best.name, best.rule), step)
}

/// Less is better; and the first step that differs.
fn compare(a: &Place<'_>, b: &Place<'_>) -> (Ordering, &'static str) {
    let kind = |place: &Place<'_>| match place.one.path {
        PathMatch::Exact(_) => 0,
        PathMatch::Regex(_) => 1,
        PathMatch::Prefix(_) => 2,
    };
    let length = |place: &Place<'_>| match &place.one.path {
        PathMatch::Exact(path) | PathMatch::Regex(path) | PathMatch::Prefix(path) => path.len(),
    };
    let age = |place: &Place<'_>| place.route.created.unwrap_or(i64::MAX);
    let steps = [
        ("kind", kind(a).cmp(&kind(b))),
        ("length", length(b).cmp(&length(a))),
        ("method", b.one.method.is_some().cmp(&a.one.method.is_some())),
        ("headers", b.one.headers.len().cmp(&a.one.headers.len())),
        ("query", b.one.query.len().cmp(&a.one.query.len())),
        ("age", age(a).cmp(&age(b))),
        ("name", a.name.cmp(b.name)),
        ("rule", a.rule.cmp(&b.rule)),
    ];
    let first = steps.into_iter().find(|(_, order)| *order != Ordering::Equal);
    first.map_or((Ordering::Equal, "match"), |(step, order)| (order, step))
}

fn holds(one: &RouteMatch, request: &Request) -> bool {
    let path = match &one.path {
        PathMatch::Exact(path) => *path == request.path,
        PathMatch::Regex(pattern) => meaning(&PATH_PATTERNS, pattern)(&request.path),
        PathMatch::Prefix(prefix) => {
            let wanted: Vec<_> = prefix.split('/').collect();
            let given: Vec<_> = request.path.split('/').collect();
            given.starts_with(&wanted)
        }
    };
    let method = one.method.as_ref().is_none_or(|method| method == request.method);
    let headers = one.headers.iter().all(|header| {
        let values: Vec<_> = named(&request.headers, &header.name).collect();
        !values.is_empty() && value_holds(header, &values.join(","))
    });
    let query = one.query.iter().all(|parameter| {
        let first = named(&request.query, &parameter.name).next();
        first.is_some_and(|first| value_holds(parameter, first))
    });
    path && method && headers && query
}

fn named<'a>(list: &'a [(&str, &'a str)], name: &str) -> impl Iterator<Item = &'a str> {
    list.iter()
        .filter(move |(known, _)| *known == name)
        .map(|(_, value)| *value)
}

fn value_holds(wanted: &ValueMatch, value: &str) -> bool {
    match &wanted.value {
        ValuePattern::Exact(exact) => exact == value,
        ValuePattern::Regex(pattern) => meaning(&VALUE_PATTERNS, pattern)(value),
    }
}

fn meaning(patterns: &[(&str, fn(&str) -> bool)], pattern: &str) -> fn(&str) -> bool {
    patterns.iter().find(|(known, _)| *known == pattern).unwrap().1
}

fn any_route(random: &mut Random) -> HttpRoute {
    let rules: Vec<RouteRule> = (0..1 + random.below(3))
        .map(|_| {
            let matches: Vec<_> = (0..1 + random.below(2)).map(|_| any_match(random)).collect();
            rule(&matches)
        })
        .collect();
    HttpRoute {
        created: random.pick(&[None, Some(1), Some(2)]),
        ..route(&rules)
    }
}

fn any_match(random: &mut Random) -> RouteMatch {
    let path = any_path(random);
    let mut one = match random.below(5) {
        0 => exact(if path.is_empty() { "/" } else { &path }),
        1 => regex(random.pick(&PATH_PATTERNS).0),
        _ => prefix(&path),
    };
    if random.below(4) == 0 {
        one = one.method(random.pick(&["GET", "POST"]));
    }
    for name in ["x", "y"] {
        one = match random.below(8) {
            0 => one.header(name, random.pick(&VALUES)),
            1 => one.header_regex(name, random.pick(&VALUE_PATTERNS).0),
            _ => one,
        };
    }
    for name in ["q", "r s"] {
        one = match random.below(8) {
            0 => one.query(name, random.pick(&VALUES)),
            1 => one.query_regex(name, random.pick(&VALUE_PATTERNS).0),
            _ => one,
        };
    }
    one
}

fn any_path(random: &mut Random) -> String {
    let depth = random.pick(&[0, 1, 1, 2, 3]);
    (0..depth).map(|_| format!("/{}", random.pick(&SEGMENTS))).collect()
}

fn any_request(random: &mut Random) -> Request {
    let end = random.pick(&["", "", "", "/", "//"]);
    let path = any_path(random) + end;
    let list = |random: &mut Random, names: &[&'static str]| {
        (0..random.below(4))
            .map(|_| (random.pick(names), random.pick(&VALUES)))
            .collect()
    };
    Request {
        method: random.pick(&["GET", "POST"]),
        path: if path.is_empty() { "/".to_owned() } else { path },
        headers: list(random, &["x", "y", "z"]),
        query: list(random, &["q", "r s", "t"]),
    }
}

/// Method and target; each character of the query that may be written in several ways is written in one of them.
fn written(request: &Request, random: &mut Random) -> String {
    let mut target = format!("{} {}", request.method, request.path);
    for (at, (name, value)) in request.query.iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        encode(name, &mut target, random);
        target.push('=');
        encode(value, &mut target, random);
    }
    target
}

fn encode(text: &str, target: &mut String, random: &mut Random) {
    for character in text.chars() {
        let code = u32::from(character);
        match (character, random.below(3)) {
            (' ', 0) => target.push('+'),
            (' ', _) | (_, 0) => target.push_str(&format!("%{code:02X}")),
            (_, 1) => target.push_str(&format!("%{code:02x}")),
            _ => target.push(character),
        }
    }
}
