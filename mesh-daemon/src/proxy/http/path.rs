//! A request's path as a route changes it: one reading of `HTTPPathModifier` for rewrites and redirects.

use http::uri::PathAndQuery;
use thiserror::Error;

use crate::model::PathChange;

/// What a route would make of a request cannot be sent: the longest target that `http` carries has 65,534 bytes.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("weft: the route makes the request's {0} into one that HTTP cannot carry")]
pub(super) struct Unfit(pub(super) &'static str);

/// The changed path with the request's query, which stays (`HTTPPathModifier` of the Gateway API).
///
/// `prefix` is the path prefix that matched, without a trailing `/`. A trailing `/` of the replacement counts for nothing either, so that exactly
/// one stands where both parts meet. `*` (RFC 9112, 3.2.4) is no path and stays.
///
/// # Errors
/// If the result is too long.
pub(super) fn changed(change: &PathChange, prefix: Option<&str>, from: &PathAndQuery) -> Result<PathAndQuery, Unfit> {
    let path = match change {
        _ if from.path() == "*" => return Ok(from.clone()),
        PathChange::Full(full) => encoded(full),
        PathChange::Prefix(new) => match rest(from.path(), prefix) {
            Some(rest) => encoded(new.trim_end_matches('/')) + rest,
            // the rule has no prefix that this path begins with: there is nothing to put in its place
            None => return Ok(from.clone()),
        },
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let query = from.query().map(|query| format!("?{query}")).unwrap_or_default();
    PathAndQuery::try_from(format!("{slash}{path}{query}")).map_err(|_| Unfit("path"))
}

/// What follows the prefix: whole segments, or nothing.
fn rest<'a>(path: &'a str, prefix: Option<&str>) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix?)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// A path of a manifest as a path on the wire (RFC 3986, 3.3): what is not allowed there is percent-encoded, `?` and `#` too, since else the
/// rest would become a query. What is encoded already stays.
fn encoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        if is_path(*byte) || (*byte == b'%' && is_escape(bytes.get(at + 1..at + 3))) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `pchar` or `/`, escapes apart.
fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

fn is_escape(digits: Option<&[u8]>) -> bool {
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    fn full(path: &str) -> PathChange {
        PathChange::Full(path.to_owned())
    }

    fn prefix(path: &str) -> PathChange {
        PathChange::Prefix(path.to_owned())
    }

    fn check(from: &'static str, matched: Option<&str>, change: &PathChange, expected: &str) {
        let path = changed(change, matched, &PathAndQuery::from_static(from)).unwrap();
        assert_eq!(path.as_str(), expected, "{from} {matched:?} {change:?}");
    }

    #[test]
    fn the_table_of_the_standard() {
        for (from, matched, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            // the prefix of everything is empty
            ("/", "", "/xyz", "/xyz/"),
            ("/foo/bar", "", "/xyz/", "/xyz/foo/bar"),
            ("/foo/bar", "", "/", "/foo/bar"),
            // and the query stays
            ("/foo/bar?a=1&b=%20?", "/foo", "/xyz", "/xyz/bar?a=1&b=%20?"),
            ("/foo?a", "/foo", "", "/?a"),
        ] {
            check(from, Some(matched), &prefix(new), expected);
        }
    }

    #[test]
    fn what_has_no_such_prefix_stays() {
        check("/foobar", Some("/foo"), &prefix("/xyz"), "/foobar");
        check("/foo", None, &prefix("/xyz"), "/foo");
        check("/bar", Some("/foo"), &prefix("/xyz"), "/bar");
        check("*", Some(""), &prefix("/xyz"), "*");
        check("*", None, &full("/xyz"), "*");
    }

    #[test]
    fn full_paths() {
        for (from, new, expected) in [
            ("/foo/bar?a=1", "/xyz", "/xyz?a=1"),
            ("/foo/bar?", "/xyz/", "/xyz/?"),
            ("/foo", "", "/"),
            ("/foo", "xyz", "/xyz"),
            ("/foo?a=1", "/x?b=2#c", "/x%3Fb=2%23c?a=1"),
            ("/foo", "/ä b%", "/%C3%A4%20b%25"),
            ("/foo", "/a%2Fb%2", "/a%2Fb%252"),
        ] {
            check(from, None, &full(new), expected);
        }
    }

    #[test]
    fn a_path_that_grows_too_long_is_an_error() {
        let from = PathAndQuery::try_from(format!("/{}", "a".repeat(65_000))).unwrap();
        let change = prefix(&format!("/{}", "b".repeat(1000)));
        assert_eq!(changed(&change, Some(""), &from), Err(Unfit("path")));
    }

    #[test]
    fn whatever_is_written_the_result_is_a_target() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let text: String = (0..rng.usize(0..12)).map(|_| rng.char('\0'..='\u{ff}')).collect();
            let from = ["/foo/bar?x=1", "/foo", "/foo/", "/?", "//a//b", "/{x}\"?|^`"][rng.usize(0..6)];
            let change = if rng.bool() { full(&text) } else { prefix(&text) };
            let matched = ["", "/foo"][rng.usize(0..2)];
            let from = PathAndQuery::from_static(from);
            let path = changed(&change, Some(matched), &from).unwrap();
            assert!(path.as_str().starts_with('/'), "{change:?} {path}");
            assert_eq!(path.query(), from.query(), "{change:?} {path}");
            let read: Uri = path.as_str().parse().unwrap();
            assert_eq!(read.path_and_query(), Some(&path), "{change:?}");
        }
    }
}
