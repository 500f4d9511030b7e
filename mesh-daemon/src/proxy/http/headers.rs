//! Headers that belong to one hop and end here (RFC 9110, 7.6.1), and what is said in their place.

use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};

use crate::proxy::detect::Protocol;

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
        .filter(|name| {
            *name != hyper::header::CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != hyper::header::HOST
        })
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
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
            (&[("connection", "Upgrade"), ("upgrade", "h2c")], false, &[]),
        ] {
            let mut headers = map(lines);
            request(&mut headers, Protocol::Http1, upgrade);
            assert_eq!(headers, map(expected), "{lines:?}");
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
