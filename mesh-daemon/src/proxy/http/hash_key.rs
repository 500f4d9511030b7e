//! What of a request decides its endpoint under RingHash and Maglev.

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderMap, HeaderValue, header::COOKIE};

use crate::model::HashKey;

/// Stands between the values of a header that came more than once: no value holds it, so that `a`, `bc` and `ab`, `c` differ.
const SEPARATOR: &[u8] = b"\0";

/// The bytes to hash; none if the request lacks them. As Envoy reads them:
/// a header by all of its values, whatever their order, an empty one included;
/// a cookie by the first of its name, an empty one counting as absent;
/// the client's address without its port, an IPv4-mapped one as IPv4.
pub(in crate::proxy) fn hash_key<'a>(key: &HashKey, headers: &'a HeaderMap, client: IpAddr) -> Option<Cow<'a, [u8]>> {
    match key {
        HashKey::Header(name) => header(headers, name),
        HashKey::Cookie(name) => cookie(headers, name).map(Cow::Borrowed),
        HashKey::SourceAddress => Some(Cow::Owned(match client.to_canonical() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        })),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = values.next()?;
    let mut all: Vec<&[u8]> = values.collect();
    if all.is_empty() {
        return Some(Cow::Borrowed(first));
    }
    all.push(first);
    all.sort_unstable();
    Some(Cow::Owned(all.join(SEPARATOR)))
}

/// The value of a cookie: pairs are separated by `;`, and by `Cookie` fields, of which HTTP/2 may send several (RFC 9113, 8.2.3). Names are
/// case-sensitive, blanks around name and value do not count, and quotes are part of the value (RFC 6265, 5.2).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let fields = headers.get_all(COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let value = pairs.filter_map(pair).find(|(key, _)| *key == name.as_bytes());
    value.map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// Name and value; none without a `=`.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = text.split_at_checked(equals)?;
    Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const CLIENT: &str = "10.0.0.1";

    fn check(key: &HashKey, lines: &[(&'static str, &'static str)], client: &str, expected: Option<&[u8]>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let bytes = hash_key(key, &headers, client.parse().unwrap());
        assert_eq!(bytes.as_deref(), expected, "{key:?} {lines:?} {client}");
    }

    #[test]
    fn headers() {
        let key = HashKey::Header("x-user".to_owned());
        for (lines, expected) in [
            (&[("x-user", "ann")][..], Some(&b"ann"[..])),
            (&[("x-user", "")], Some(b"")),
            (&[("x-user", "b"), ("x-user", "a")], Some(b"a\0b")),
            (&[("x-user", "a"), ("x-user", "b")], Some(b"a\0b")),
            (&[("x-other", "ann")], None),
            (&[], None),
        ] {
            check(&key, lines, CLIENT, expected);
        }
    }

    #[test]
    fn cookies() {
        let key = HashKey::Cookie("id".to_owned());
        for (lines, expected) in [
            (&[("cookie", "id=7")][..], Some(&b"7"[..])),
            (&[("cookie", "a=1; id=7; b=2")], Some(b"7")),
            (&[("cookie", "a=1;id = 7 ;b=2")], Some(b"7")),
            (&[("cookie", "id=7; id=8")], Some(b"7")),
            (&[("cookie", "a=1"), ("cookie", "id=7")], Some(b"7")),
            (&[("cookie", "id=\"7\"")], Some(b"\"7\"")),
            (&[("cookie", "id=a=b")], Some(b"a=b")),
            (&[("cookie", "xid=7; ID=8; id")], None),
            (&[("cookie", "id=")], None),
            (&[("cookie", "id=; id=7")], None),
            (&[("cookie", "")], None),
            (&[("x-cookie", "id=7")], None),
            (&[], None),
        ] {
            check(&key, lines, CLIENT, expected);
        }
    }

    #[test]
    fn addresses() {
        let key = HashKey::SourceAddress;
        check(&key, &[], "10.0.0.1", Some(&[10, 0, 0, 1]));
        check(&key, &[], "::ffff:10.0.0.1", Some(&[10, 0, 0, 1]));
        let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        check(&key, &[], "fd00::1", Some(&v6));
    }
}
