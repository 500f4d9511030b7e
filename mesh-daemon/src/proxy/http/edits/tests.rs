//! Edits and rewrites by table: what filters may change, and where a host stands in each version.

use super::*;

type Lines<'a> = &'a [(&'static str, &'static str)];

fn fields(lines: Lines<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let pairs = lines.iter();
    pairs
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn map(lines: Lines<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields(lines) {
        headers.append(name, value);
    }
    headers
}

fn edits(set: Lines<'_>, add: Lines<'_>, remove: &[&'static str]) -> HeaderEdits {
    HeaderEdits {
        set: fields(set),
        add: fields(add),
        remove: remove.iter().map(|name| HeaderName::from_static(name)).collect(),
    }
}

fn head(version: Version, method: &str, target: &str, lines: Lines<'_>) -> request::Parts {
    let request = http::Request::builder().version(version).method(method).uri(target);
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    parts.headers = map(lines);
    parts
}

#[test]
fn set_then_add_then_remove() {
    for (edits, before, after) in [
        (
            edits(&[("a", "1")], &[], &[]),
            &[("a", "0"), ("a", "00")][..],
            &[("a", "1")][..],
        ),
        (edits(&[("a", "1")], &[], &[]), &[], &[("a", "1")]),
        (edits(&[], &[("a", "1")], &[]), &[("a", "0")], &[("a", "0"), ("a", "1")]),
        (edits(&[], &[("a", "1")], &[]), &[], &[("a", "1")]),
        (
            edits(&[], &[], &["a"]),
            &[("a", "0"), ("b", "1"), ("a", "2")],
            &[("b", "1")],
        ),
        (edits(&[], &[], &["a"]), &[], &[]),
        (
            edits(&[("a", "1")], &[("a", "2")], &[]),
            &[("a", "0")],
            &[("a", "1"), ("a", "2")],
        ),
        (edits(&[("a", "1")], &[("a", "2")], &["a"]), &[("a", "0")], &[]),
    ] {
        let mut headers = map(before);
        apply_headers(&edits, &mut headers);
        assert_eq!(headers, map(after), "{edits:?}");
    }
}

#[test]
fn no_filter_touches_what_belongs_to_the_hop() {
    let before = map(&[
        ("host", "web"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("te", "trailers"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("http2-settings", "AA"),
    ]);
    for name in before.keys() {
        let field = (name.clone(), HeaderValue::from_static("7"));
        for (set, add, remove) in [
            (vec![field.clone()], vec![], vec![]),
            (vec![], vec![field.clone()], vec![]),
            (vec![], vec![], vec![name.clone()]),
        ] {
            let mut headers = before.clone();
            apply_headers(&HeaderEdits { set, add, remove }, &mut headers);
            assert_eq!(headers, before, "{name}");
        }
    }
}

#[test]
fn a_host_that_is_set_is_the_requests_host() {
    let set = edits(&[("host", "other:81")], &[("host", "third")], &["host"]);
    let mut parts = head(Version::HTTP_11, "GET", "/a", &[("host", "web")]);
    request(&set, &mut parts).unwrap();
    assert_eq!(parts.headers, map(&[("host", "other:81")]));
    assert_eq!(parts.uri, "/a");
    let mut parts = head(Version::HTTP_2, "GET", "http://web/a", &[]);
    request(&set, &mut parts).unwrap();
    assert_eq!(parts.headers, map(&[]));
    assert_eq!(parts.uri, "http://other:81/a");

    let mut parts = head(Version::HTTP_11, "GET", "/a", &[("host", "web")]);
    assert_eq!(
        request(&edits(&[("host", "a b")], &[], &[]), &mut parts),
        Err(Unfit("host"))
    );
}

fn check(before: (Version, &str, &str, Lines<'_>), change: &Rewrite, after: (&str, Lines<'_>)) {
    let (version, method, target, lines) = before;
    let mut parts = head(version, method, target, lines);
    rewrite(change, Some("/foo"), &mut parts).unwrap();
    assert_eq!(
        (parts.uri.to_string().as_str(), parts.headers),
        (after.0, map(after.1)),
        "{before:?} {change:?}"
    );
}

const WEB: Lines<'static> = &[("host", "web")];
const OTHER: Lines<'static> = &[("host", "other.shop")];

#[test]
fn hosts() {
    let change = Rewrite {
        hostname: Some("other.shop".to_owned()),
        path: None,
    };
    for (before, after) in [
        ((Version::HTTP_11, "GET", "/foo?a", WEB), ("/foo?a", OTHER)),
        (
            (Version::HTTP_11, "GET", "/foo", &[("host", "web:80")]),
            ("/foo", OTHER),
        ),
        ((Version::HTTP_10, "GET", "/foo", &[]), ("/foo", OTHER)),
        // absolute form: the server reads the target, and ignores Host
        (
            (Version::HTTP_11, "GET", "http://web:80/foo?a", WEB),
            ("http://other.shop/foo?a", OTHER),
        ),
        ((Version::HTTP_11, "OPTIONS", "*", WEB), ("*", OTHER)),
        (
            (Version::HTTP_2, "GET", "http://web/foo", &[]),
            ("http://other.shop/foo", &[]),
        ),
        (
            (Version::HTTP_2, "GET", "https://web/foo", WEB),
            ("https://other.shop/foo", OTHER),
        ),
        // without :authority
        ((Version::HTTP_2, "GET", "/foo", WEB), ("http://other.shop/foo", OTHER)),
        // a tunnel's end
        ((Version::HTTP_11, "CONNECT", "web:80", WEB), ("web:80", WEB)),
    ] {
        check(before, &change, after);
    }
}

#[test]
fn paths() {
    let prefix = PathChange::Prefix("/xyz".to_owned());
    let full = PathChange::Full("/all".to_owned());
    for (before, path, after) in [
        (
            (Version::HTTP_11, "GET", "/foo/bar?a=1", WEB),
            &prefix,
            ("/xyz/bar?a=1", WEB),
        ),
        (
            (Version::HTTP_11, "GET", "http://web:80/foo?a", WEB),
            &prefix,
            ("http://web:80/xyz?a", WEB),
        ),
        (
            (Version::HTTP_2, "GET", "http://web/foo/", &[]),
            &prefix,
            ("http://web/xyz/", &[]),
        ),
        (
            (Version::HTTP_2, "GET", "http://web/foo/?b", &[]),
            &full,
            ("http://web/all?b", &[]),
        ),
        ((Version::HTTP_11, "OPTIONS", "*", WEB), &full, ("*", WEB)),
        ((Version::HTTP_11, "CONNECT", "web:80", WEB), &full, ("web:80", WEB)),
    ] {
        let change = Rewrite {
            hostname: None,
            path: Some(path.clone()),
        };
        check(before, &change, after);
    }
}

#[test]
fn host_and_path_together() {
    let change = Rewrite {
        hostname: Some("other.shop".to_owned()),
        path: Some(PathChange::Prefix("/".to_owned())),
    };
    check(
        (Version::HTTP_2, "GET", "http://web:80/foo/bar?a", &[]),
        &change,
        ("http://other.shop/bar?a", &[]),
    );
}

#[test]
fn what_cannot_be_sent_is_an_error() {
    let mut parts = head(Version::HTTP_11, "GET", "/foo", WEB);
    let change = Rewrite {
        hostname: Some("a b".to_owned()),
        path: None,
    };
    assert_eq!(rewrite(&change, None, &mut parts), Err(Unfit("host")));
    let change = Rewrite {
        hostname: None,
        path: Some(PathChange::Full("/".repeat(70_000))),
    };
    assert_eq!(rewrite(&change, None, &mut parts), Err(Unfit("path")));
}
