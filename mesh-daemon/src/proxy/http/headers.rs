//! Headers that belong to one hop and end here (RFC 9110, 7.6.1), and what is said in their place.

use std::net::SocketAddr;

use http::{
    Method, Uri, Version,
    request::Parts,
    uri::{Authority, Scheme},
};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};

use crate::proxy::detect::Protocol;

/// Upgrades that go on with HTTP, in another version (`h2c`) or with the name that the registry has for all of them.
const HTTP_UPGRADES: [&str; 3] = ["h2c", "h2", "http"];

/// Makes `Host` say what the target's authority does, where there is one: a proxy has to (RFC 9112, 3.2.2), and of HTTP/2 `:authority` is enough (RFC 9113,
/// 8.3.1). Rules are matched by that authority, and the server must not see another one. A request of HTTP/2 without one gets that of its `Host`, or else
/// the address that it was sent to: hyper's client sends none without.
pub(super) fn host(head: &mut Parts, destination: SocketAddr) {
    let Some(authority) = head.uri.authority() else {
        if head.version == Version::HTTP_2 {
            adopt(head, destination);
        }
        return;
    };
    // a path without its slash looks like an authority
    if head.uri.scheme().is_none() && head.method != Method::CONNECT {
        return;
    }
    let host = authority.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if head.version == Version::HTTP_2 {
        head.headers.remove(HOST);
    } else if let Ok(host) = HeaderValue::from_str(host) {
        head.headers.insert(HOST, host);
    }
}

/// Gives a target its authority.
fn adopt(head: &mut Parts, destination: SocketAddr) {
    let host = head.headers.remove(HOST);
    let said = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = said.or_else(|| Authority::try_from(destination.to_string()).ok());
    let mut target = std::mem::take(&mut head.uri).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = authority;
    head.uri = Uri::from_parts(target).unwrap_or_default();
}

/// Takes back a client's offer to go on in another version of HTTP on the same connection: it may be ignored, and is deprecated (RFC 9113, 3.1). What an
/// upgrade leads to is bytes to the mesh, and these would be requests that no route, limit or timeout sees.
pub(super) fn keep_version(headers: &mut HeaderMap) {
    let offers: Vec<HeaderValue> = headers.get_all(UPGRADE).iter().filter_map(without_http).collect();
    headers.remove(UPGRADE);
    for offer in offers {
        headers.append(UPGRADE, offer);
    }
}

/// The other protocols of a list, if there are any.
fn without_http(offers: &HeaderValue) -> Option<HeaderValue> {
    let is_http = |offer: &&str| {
        let name = offer.split('/').next().unwrap_or_default();
        HTTP_UPGRADES.iter().any(|http| name.eq_ignore_ascii_case(http))
    };
    let offers = offers.to_str().ok()?.split(',').map(str::trim);
    let others: Vec<&str> = offers.filter(|offer| !offer.is_empty() && !is_http(offer)).collect();
    (!others.is_empty()).then(|| HeaderValue::from_str(&others.join(", ")).ok())?
}

/// Makes a client's request fit for the upstream connection.
pub(super) fn request(headers: &mut HeaderMap, protocol: Protocol, upgrade: bool) {
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| names(value).any(|name| name == "trailers"));
    let upgrade = one_hop(headers, upgrade);
    if trailers {
        // without it servers leave trailers away, and the client asked for them
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if protocol == Protocol::Http1 {
            headers.append(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    restore_upgrade(headers, upgrade);
}

/// Makes an upstream's answer fit for the client's connection.
pub(super) fn response(headers: &mut HeaderMap, upgrade: bool) {
    let upgrade = one_hop(headers, upgrade);
    headers.remove(TRANSFER_ENCODING);
    restore_upgrade(headers, upgrade);
}

/// Removes what belongs to one hop; hands back the values of `Upgrade` if it is to stay.
fn one_hop(headers: &mut HeaderMap, upgrade: bool) -> Vec<HeaderValue> {
    let kept = if upgrade {
        headers.get_all(UPGRADE).iter().cloned().collect()
    } else {
        Vec::new()
    };
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(names)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        // these say how the message is framed: removing them on a peer's word would change what the next hop reads
        .filter(|name| *name != hyper::header::CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    headers.remove("http2-settings");
    kept
}

fn restore_upgrade(headers: &mut HeaderMap, kept: Vec<HeaderValue>) {
    if kept.is_empty() {
        return;
    }
    headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    for value in kept {
        headers.append(UPGRADE, value);
    }
}

/// The names in a comma-separated list, in lower case, parameters left out.
fn names(value: &HeaderValue) -> impl Iterator<Item = String> {
    let text = value.to_str().unwrap_or_default();
    let names = text
        .split(',')
        .map(|name| name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    names.filter(|name| !name.is_empty()).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn requests() {
        for (lines, upgrade, expected) in [
            (
                &[("connection", "close, X-Hop"), ("x-hop", "1"), ("x-end", "2")][..],
                false,
                &[("x-end", "2")][..],
            ),
            (
                &[("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive")],
                false,
                &[],
            ),
            (&[("te", "gzip"), ("connection", "te")], false, &[]),
            (
                &[("te", "trailers;q=0.5")],
                false,
                &[("te", "trailers"), ("connection", "te")],
            ),
            (
                &[("transfer-encoding", "chunked"), ("connection", "transfer-encoding")],
                false,
                &[("transfer-encoding", "chunked")],
            ),
            (
                &[
                    ("content-length", "3"),
                    ("connection", "content-length, host"),
                    ("host", "a"),
                ],
                false,
                &[("content-length", "3"), ("host", "a")],
            ),
            (
                &[("connection", "Upgrade"), ("upgrade", "websocket")],
                true,
                &[("connection", "upgrade"), ("upgrade", "websocket")],
            ),
            (
                &[("connection", "Upgrade"), ("upgrade", "h2c"), ("http2-settings", "AAM")],
                false,
                &[],
            ),
        ] {
            let mut headers = map(lines);
            request(&mut headers, Protocol::Http1, upgrade);
            assert_eq!(headers, map(expected), "{lines:?}");
        }
    }

    #[test]
    fn an_offer_of_another_version_is_taken_back() {
        for (offers, expected) in [
            (&["h2c"][..], &[][..]),
            (&["H2C"], &[]),
            (&["HTTP/2.0", "h2"], &[]),
            (&["h2c, websocket"], &["websocket"]),
            (&["websocket,h2c ,, echo/2"], &["websocket, echo/2"]),
            (&["h2c", "websocket"], &["websocket"]),
            (&["h2cx"], &["h2cx"]),
            (&[","], &[]),
            (&[], &[]),
        ] {
            let of = |values: &[&'static str]| -> HeaderMap {
                let value = |value: &&'static str| (UPGRADE, HeaderValue::from_static(value));
                values.iter().map(value).collect()
            };
            let mut headers = of(offers);
            keep_version(&mut headers);
            assert_eq!(headers, of(expected), "{offers:?}");
        }
    }

    #[test]
    fn host_is_the_targets_authority() {
        let destination = SocketAddr::from(([10, 96, 0, 10], 80));
        for (version, method, target, host, expected) in [
            (Version::HTTP_11, "GET", "http://web/x", Some("evil"), Some("web")),
            (Version::HTTP_11, "GET", "foo", Some("web"), Some("web")),
            (
                Version::HTTP_11,
                "GET",
                "http://me:secret@web:81/",
                None,
                Some("web:81"),
            ),
            (Version::HTTP_11, "CONNECT", "web:443", Some("evil"), Some("web:443")),
            (Version::HTTP_11, "GET", "/x", Some("web"), Some("web")),
            (Version::HTTP_10, "GET", "/x", None, None),
            (Version::HTTP_2, "GET", "http://web/x", Some("evil"), None),
        ] {
            let request = http::Request::builder().version(version).method(method).uri(target);
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            head.headers
                .extend(host.map(|host| (HOST, HeaderValue::from_static(host))));
            super::host(&mut head, destination);
            let hosts: Vec<_> = head.headers.get_all(HOST).iter().collect();
            assert_eq!(hosts, Vec::from_iter(expected), "{version:?} {target} {host:?}");
        }
    }

    #[test]
    fn a_request_of_http2_has_an_authority() {
        for (host, expected) in [
            (Some("web:81"), "http://web:81/x?a=b"),
            (Some("no authority"), "http://[fd96::10]:80/x?a=b"),
            (None, "http://[fd96::10]:80/x?a=b"),
        ] {
            let request = http::Request::builder().version(Version::HTTP_2).uri("/x?a=b");
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            head.headers
                .extend(host.map(|host| (HOST, HeaderValue::from_static(host))));
            super::host(&mut head, "[fd96::10]:80".parse().unwrap());
            assert_eq!(head.uri.to_string(), expected, "{host:?}");
            assert!(!head.headers.contains_key(HOST), "{host:?}");
        }
    }

    #[test]
    fn http2_asks_for_trailers_without_a_connection_header() {
        let mut headers = map(&[("te", "trailers")]);
        request(&mut headers, Protocol::Http2, false);
        assert_eq!(headers, map(&[("te", "trailers")]));
    }

    #[test]
    fn responses_lose_their_framing_of_this_hop() {
        let mut headers = map(&[
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
            ("connection", "keep-alive"),
        ]);
        response(&mut headers, false);
        assert_eq!(headers, map(&[("trailer", "x-sum")]));
    }
}
