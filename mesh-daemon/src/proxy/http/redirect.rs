//! A route's answer that sends the client elsewhere (`HTTPRequestRedirectFilter` of the Gateway API).

use std::fmt::Write as _;

use http::{HeaderValue, StatusCode, Uri, header::HOST, request, uri::Authority};

use super::path;
use crate::model::Redirect;

/// The ports that a URL leaves out (RFC 9110, 4.2).
const WELL_KNOWN: [(&str, u16); 2] = [("http", 80), ("https", 443)];

/// The scheme of what the mesh reads: plain HTTP.
const SCHEME: &str = "http";

/// Status and `Location` of the redirect, always with scheme and host.
///
/// `prefix` is the path prefix that matched, without a trailing `/`; `port` is the one of the service that the client addressed, which is what
/// the standard calls the listener's. None if the request says no host that could be repeated and the route gives none, or if the new path
/// cannot be sent: the request is then at fault (400).
pub(super) fn location(
    redirect: &Redirect,
    prefix: Option<&str>,
    parts: &request::Parts,
    port: u16,
) -> Option<(StatusCode, HeaderValue)> {
    let status = StatusCode::from_u16(redirect.status).ok()?;
    let scheme = redirect.scheme.as_deref().unwrap_or(SCHEME);
    let mut location = format!("{scheme}://{}", host(redirect, parts)?);
    if let Some(port) = named_port(redirect, scheme, port) {
        write!(location, ":{port}").ok()?;
    }
    location.push_str(&path(redirect, prefix, &parts.uri)?);
    Some((status, HeaderValue::try_from(location).ok()?))
}

/// The host without user and port; an IPv6 address stays in its brackets.
fn host(redirect: &Redirect, parts: &request::Parts) -> Option<String> {
    let authority = match (&redirect.hostname, parts.uri.authority()) {
        (Some(hostname), _) => Authority::try_from(hostname.as_str()).ok()?,
        // :authority, or an absolute-form target, which counts before Host (RFC 9112, 3.2.2)
        (None, Some(authority)) => authority.clone(),
        (None, None) => Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok()?,
    };
    let host = authority.host();
    (!host.is_empty()).then(|| host.to_owned())
}

/// The port, unless the scheme says it already.
fn named_port(redirect: &Redirect, scheme: &str, addressed: u16) -> Option<u16> {
    let well_known = WELL_KNOWN.iter().find(|(name, _)| *name == scheme);
    let well_known = well_known.map(|(_, port)| *port);
    let of_scheme = redirect.scheme.as_ref().and(well_known);
    let port = redirect.port.or(of_scheme).unwrap_or(addressed);
    (Some(port) != well_known).then_some(port)
}

/// Path and query: of `*` and of what has no path none.
fn path(redirect: &Redirect, prefix: Option<&str>, uri: &Uri) -> Option<String> {
    let from = match uri.path_and_query() {
        Some(from) if from.path() != "*" => from.clone(),
        _ => return Some(String::new()),
    };
    let to = match &redirect.path {
        Some(change) => path::changed(change, prefix, &from).ok()?,
        None => from,
    };
    Some(to.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PathChange;

    fn redirect() -> Redirect {
        Redirect {
            scheme: None,
            hostname: None,
            path: None,
            port: None,
            status: 302,
        }
    }

    fn head(target: &str, host: Option<&str>) -> request::Parts {
        let request = http::Request::builder().uri(target);
        let request = host
            .into_iter()
            .fold(request, |request, host| request.header(HOST, host));
        request.body(()).unwrap().into_parts().0
    }

    fn check(redirect: &Redirect, parts: &request::Parts, port: u16, expected: Option<&str>) {
        let answer = location(redirect, Some("/foo"), parts, port);
        let answer = answer.as_ref().map(|(_, location)| location.to_str().unwrap());
        assert_eq!(answer, expected, "{redirect:?} {parts:?} {port}");
    }

    #[test]
    fn schemes_and_ports() {
        let parts = head("/foo/bar?a=1", Some("web:1234"));
        for (scheme, port, addressed, expected) in [
            (None, None, 80, "http://web/foo/bar?a=1"),
            (None, None, 8080, "http://web:8080/foo/bar?a=1"),
            (None, Some(80), 8080, "http://web/foo/bar?a=1"),
            (None, Some(443), 80, "http://web:443/foo/bar?a=1"),
            (Some("http"), None, 8080, "http://web/foo/bar?a=1"),
            (Some("http"), Some(8080), 80, "http://web:8080/foo/bar?a=1"),
            (Some("https"), None, 80, "https://web/foo/bar?a=1"),
            (Some("https"), Some(443), 80, "https://web/foo/bar?a=1"),
            (Some("https"), Some(80), 80, "https://web:80/foo/bar?a=1"),
        ] {
            let scheme = scheme.map(str::to_owned);
            let redirect = Redirect {
                scheme,
                port,
                ..redirect()
            };
            check(&redirect, &parts, addressed, Some(expected));
        }
    }

    #[test]
    fn hosts() {
        for (target, host, expected) in [
            ("/a", Some("web"), Some("http://web/a")),
            ("/a", Some("[fd00::1]:8080"), Some("http://[fd00::1]/a")),
            ("/a", Some("[fd00::1]"), Some("http://[fd00::1]/a")),
            ("/a", Some("10.0.0.1:99"), Some("http://10.0.0.1/a")),
            // absolute form and HTTP/2
            ("http://web:99/a?b", Some("other"), Some("http://web/a?b")),
            ("http://me@web/a", None, Some("http://web/a")),
            ("http://web", None, Some("http://web/")),
            ("*", Some("web"), Some("http://web")),
            ("/a", None, None),
            ("/a", Some(""), None),
            ("/a", Some(":80"), None),
            ("/a", Some("a b"), None),
            ("/a", Some("web/evil?"), None),
        ] {
            check(&redirect(), &head(target, host), 80, expected);
        }
        let named = Redirect {
            hostname: Some("other.shop".to_owned()),
            ..redirect()
        };
        check(&named, &head("/a", Some("web:99")), 81, Some("http://other.shop:81/a"));
        check(&named, &head("/a", None), 80, Some("http://other.shop/a"));
    }

    #[test]
    fn paths() {
        let parts = head("/foo/bar?a=1", Some("web"));
        for (path, expected) in [
            (PathChange::Full("/all".to_owned()), "http://web/all?a=1"),
            (PathChange::Prefix("/xyz/".to_owned()), "http://web/xyz/bar?a=1"),
            (PathChange::Prefix(String::new()), "http://web/bar?a=1"),
        ] {
            let path = Some(path);
            check(&Redirect { path, ..redirect() }, &parts, 80, Some(expected));
        }
    }

    #[test]
    fn statuses() {
        let parts = head("/", Some("web"));
        for status in [301, 302, 303, 307, 308] {
            let answer = location(&Redirect { status, ..redirect() }, None, &parts, 80);
            assert_eq!(answer.unwrap().0.as_u16(), status);
        }
    }

    #[test]
    fn whatever_is_written_the_location_is_a_url() {
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..20_000 {
            let text: String = (0..rng.usize(0..12)).map(|_| rng.char('\0'..='\u{ff}')).collect();
            let changes = [
                None,
                Some(PathChange::Full(text.clone())),
                Some(PathChange::Prefix(text)),
            ];
            let redirect = Redirect {
                scheme: [None, Some("https".to_owned())][rng.usize(0..2)].clone(),
                path: changes[rng.usize(0..3)].clone(),
                port: [None, Some(rng.u16(1..))][rng.usize(0..2)],
                ..redirect()
            };
            let parts = head(["/foo/b?x=/", "//evil/foo", "/foo", "/?"][rng.usize(0..4)], Some("web"));
            let (_, location) = location(&redirect, Some("/foo"), &parts, rng.u16(1..)).unwrap();
            let uri: Uri = location.to_str().unwrap().parse().unwrap();
            assert_eq!(uri.host(), Some("web"), "{redirect:?}");
            assert_eq!(uri.query(), parts.uri.query(), "{redirect:?}");
            assert_eq!(uri.scheme_str(), Some(redirect.scheme.as_deref().unwrap_or("http")));
        }
    }
}
