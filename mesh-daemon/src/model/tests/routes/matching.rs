//! Which rule a request meets, row by row.

use super::{
    super::super::{HttpRoute, RouteMatch, build},
    any, exact, matched_prefix, met, prefix, regex, route, rule, three,
};

/// Requests with their headers, and whether they meet the one rule of a route with this match.
fn check(one: RouteMatch, rows: &[(&str, &[(&str, &str)], bool)]) {
    let what = format!("{one:?}");
    let mut inputs = three();
    inputs.http_route("shop/r", route(&[rule(&[one])]));
    let content = build(&inputs);
    for (request, headers, expected) in rows {
        let expected = if *expected { "shop/r[0]" } else { "-" };
        assert_eq!(
            met(&content, None, request, headers),
            expected,
            "{request} {headers:?}: {what}"
        );
    }
}

#[test]
fn an_exact_path_is_the_whole_path_as_sent() {
    check(
        exact("/a/b"),
        &[
            ("GET /a/b", &[], true),
            ("GET /a/b?x=1", &[], true),
            ("GET http://web/a/b", &[], true),
            ("GET /a/b/", &[], false),
            ("GET /a/B", &[], false),
            ("GET /a%2Fb", &[], false),
            ("GET /%61/b", &[], false),
            ("GET /a/./b", &[], false),
            ("GET //a/b", &[], false),
            ("GET /a", &[], false),
            ("GET /", &[], false),
        ],
    );
    check(exact("/%61/b"), &[("GET /%61/b", &[], true), ("GET /a/b", &[], false)]);
}

#[test]
fn a_prefix_is_of_whole_segments() {
    check(
        prefix("/a/b"),
        &[
            ("GET /a/b", &[], true),
            ("GET /a/b/", &[], true),
            ("GET /a/b/c?x=/a", &[], true),
            ("GET /a/b//", &[], true),
            ("GET /a/bc", &[], false),
            ("GET /a/B", &[], false),
            ("GET /a", &[], false),
            ("GET /x/a/b", &[], false),
            ("GET /", &[], false),
        ],
    );
    let everything: &[(&str, &[(&str, &str)], bool)] = &[
        ("GET /", &[], true),
        ("POST /a", &[], true),
        ("OPTIONS *", &[], true),
        ("CONNECT web:80", &[], true),
    ];
    check(any(), everything);
}

#[test]
fn a_regular_expression_is_of_the_whole_path() {
    check(
        regex("/(a|ab)/[0-9]+"),
        &[
            ("GET /ab/12", &[], true),
            ("GET /a/1?x=y", &[], true),
            ("GET /ab/12/", &[], false),
            ("GET /x/ab/12", &[], false),
            ("GET /AB/12", &[], false),
        ],
    );
}

#[test]
fn a_method_is_as_written() {
    check(
        any().method("POST"),
        &[("POST /", &[], true), ("GET /", &[], false), ("post /", &[], false)],
    );
}

#[test]
fn headers_must_all_be_there_with_their_values() {
    check(
        any().header("x-version", "v2").header("x-env", "Test"),
        &[
            ("GET /", &[("x-version", "v2"), ("x-env", "Test")], true),
            ("GET /", &[("X-Version", "v2"), ("X-ENV", "Test"), ("other", "1")], true),
            ("GET /", &[("x-version", "v2")], false),
            ("GET /", &[("x-version", "v2"), ("x-env", "test")], false),
            ("GET /", &[], false),
        ],
    );
    check(
        any().header_regex("x-version", "v[0-9]+"),
        &[
            ("GET /", &[("x-version", "v12")], true),
            ("GET /", &[("x-version", "v12x")], false),
            ("GET /", &[("x-version", "")], false),
        ],
    );
}

#[test]
fn fields_of_one_name_are_one_value() {
    check(
        any().header("x-a", "1,2"),
        &[
            ("GET /", &[("x-a", "1"), ("x-a", "2")], true),
            ("GET /", &[("x-a", "1,2")], true),
            ("GET /", &[("x-a", "2"), ("x-a", "1")], false),
            ("GET /", &[("x-a", "1")], false),
        ],
    );
    check(
        any().header("cookie", "a=1; b=2"),
        &[
            ("GET /", &[("cookie", "a=1"), ("cookie", "b=2")], true),
            ("GET /", &[("cookie", "a=1; b=2")], true),
        ],
    );
}

#[test]
fn the_host_is_the_authority_that_the_request_names() {
    check(
        any().header("host", "web.shop:80"),
        &[
            ("GET /", &[("host", "web.shop:80")], true),
            ("GET http://web.shop:80/", &[], true),
            ("GET http://web.shop:80/", &[("host", "other")], true),
            ("GET http://u@web.shop:80/", &[], true),
            ("GET http://other/", &[("host", "web.shop:80")], false),
            ("GET /", &[], false),
        ],
    );
}

#[test]
fn query_parameters_are_read_as_servers_read_them() {
    check(
        any().query("name", "a b"),
        &[
            ("GET /?name=a%20b", &[], true),
            ("GET /?name=a+b", &[], true),
            ("GET /?x&n%61me=a%20b&y=1", &[], true),
            ("GET /?name=a%20b&name=c", &[], true),
            ("GET /?name=c&name=a%20b", &[], false),
            ("GET /?name=a%2Bb", &[], false),
            ("GET /?Name=a+b", &[], false),
            ("GET /?name", &[], false),
            ("GET /", &[], false),
        ],
    );
    check(
        any().query("flag", "").query("p", "100%"),
        &[
            ("GET /?flag&p=100%", &[], true),
            ("GET /?flag=&p=100%25", &[], true),
            ("GET /?p=100%", &[], false),
        ],
    );
    check(
        any().query("p", "%zz%4"),
        &[("GET /?p=%zz%4", &[], true), ("GET /?p=%25zz%254", &[], true)],
    );
    check(
        any().query_regex("id", "[0-9]{2}"),
        &[
            ("GET /?id=12", &[], true),
            ("GET /?id=%31%32", &[], true),
            ("GET /?id=123", &[], false),
        ],
    );
}

#[test]
fn any_of_a_rules_matches_suffices() {
    let mut inputs = three();
    inputs.http_route("shop/r", route(&[rule(&[exact("/a"), prefix("/b").method("GET")])]));
    let content = build(&inputs);
    for (request, expected) in [
        ("GET /a", "shop/r[0]"),
        ("GET /b/c", "shop/r[0]"),
        ("POST /b/c", "-"),
        ("GET /c", "-"),
    ] {
        assert_eq!(met(&content, None, request, &[]), expected, "{request}");
    }
}

#[test]
fn the_prefix_that_matched_is_told() {
    let mut inputs = three();
    let rules = [
        rule(&[prefix("/a"), prefix("/a/b"), exact("/a/b/e"), regex("/a/r+")]),
        rule(&[any()]),
    ];
    inputs.http_route("shop/r", route(&rules));
    let content = build(&inputs);
    for (request, expected) in [
        ("GET /a/b/c", "Some(\"/a/b\")"),
        ("GET /a/c", "Some(\"/a\")"),
        ("GET /x", "Some(\"\")"),
        ("GET /a/b/e", "None"),
        ("GET /a/rr", "None"),
    ] {
        assert_eq!(matched_prefix(&content, request), expected, "{request}");
    }
}

/// Two routes, `shop/a` with the first match and `shop/b` with the second: `GET /a/b?q=1` with `x: 1` meets the second, although all else speaks for the first.
fn second_wins(a: RouteMatch, b: RouteMatch, change: impl Fn(&mut HttpRoute, &mut HttpRoute)) {
    let what = format!("{a:?} and {b:?}");
    let (mut first, mut second) = (route(&[rule(&[a])]), route(&[rule(&[b])]));
    change(&mut first, &mut second);
    let mut inputs = three();
    inputs.http_route("shop/a", first).http_route("shop/b", second);
    let request = "GET /a/b?q=1&r=1";
    let headers = [("x", "1"), ("y", "1")];
    assert_eq!(met(&build(&inputs), None, request, &headers), "shop/b[0]", "{what}");
}

#[test]
fn precedence() {
    let none = |_: &mut HttpRoute, _: &mut HttpRoute| {};
    let full = |one: RouteMatch| one.method("GET").header("x", "1").query("q", "1");
    // exact, regular expression, prefix; whatever else
    second_wins(full(regex("/a/b|/a/bbbbbbbbbb")), exact("/a/b"), none);
    second_wins(full(prefix("/a/b")), regex("/.*"), none);
    // longer pattern, longer prefix
    second_wins(full(regex("/.*")), regex("/a/.*"), none);
    second_wins(full(any()), prefix("/a"), none);
    second_wins(full(prefix("/a")), prefix("/a/b"), none);
    // method, headers, query
    second_wins(
        prefix("/a").header("x", "1").query("q", "1"),
        prefix("/a").method("GET"),
        none,
    );
    second_wins(
        prefix("/a").query("q", "1").query("r", "1"),
        prefix("/a").header("x", "1"),
        none,
    );
    second_wins(
        prefix("/a").header("x", "1"),
        prefix("/a").header("x", "1").header("y", "1"),
        none,
    );
    second_wins(
        prefix("/a").query("q", "1"),
        prefix("/a").query("q", "1").query("r", "1"),
        none,
    );
    // the oldest route; one without a time is the youngest
    second_wins(prefix("/a"), prefix("/a"), |a, b| {
        (a.created, b.created) = (Some(2), Some(1))
    });
    second_wins(prefix("/a"), prefix("/a"), |a, b| {
        (a.created, b.created) = (None, Some(9))
    });
}

#[test]
fn names_decide_between_routes_and_places_within_one() {
    let mut inputs = three();
    let same = route(&[rule(&[prefix("/a")]), rule(&[prefix("/a"), any()]), rule(&[any()])]);
    inputs
        .http_route("shop/b", same.clone())
        .http_route("shop/a", same.clone());
    let content = build(&inputs);
    assert_eq!(met(&content, None, "GET /a", &[]), "shop/a[0]");
    assert_eq!(met(&content, None, "GET /x", &[]), "shop/a[1]");
    let mut untimed = same;
    untimed.created = None;
    inputs
        .http_route("shop/a", untimed.clone())
        .http_route("shop/b", untimed);
    assert_eq!(met(&build(&inputs), None, "GET /x", &[]), "shop/a[1]");
}

#[test]
fn matches_and_rules_are_told_in_the_order_of_precedence() {
    let mut inputs = three();
    let rules = [
        rule(&[any(), prefix("/a")]),
        rule(&[exact("/a").method("GET").header_regex("x", "1|2").query("q", "1")]),
        rule(&[regex("/r.*")]),
    ];
    inputs.http_route("shop/r", route(&rules));
    let content = build(&inputs);
    let table = content.route_table(None, super::WEB.parse().unwrap()).unwrap();
    let matches: Vec<_> = table
        .matches()
        .map(|(text, rule)| format!("{text} → {}", rule.index))
        .collect();
    assert_eq!(
        matches,
        [
            "exact /a method=GET header x~1|2 query q=1 → 1",
            "regex /r.* → 2",
            "prefix /a → 0",
            "prefix / → 0"
        ]
    );
    let rules: Vec<_> = table.rules.iter().map(|rule| rule.index).collect();
    assert_eq!(rules, [1, 2, 0]);
}
