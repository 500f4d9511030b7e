//! gRPC as far as a proxy must know it: which requests are calls, how they ended, and the mesh's own answers in the words of their callers.
//! Source: `PROTOCOL-HTTP2.md`, `statuscodes.md` and `http-grpc-status-mapping.md` of the gRPC project.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

// grpc-statuses, as `statuscodes.md` numbers them
const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

/// The highest grpc-status that has a meaning.
const LAST: u8 = 16;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is a gRPC call: `application/grpc`, alone or with a suffix or parameters. gRPC-Web frames its trailers in the body and
/// does not count.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((kind, rest)) = kind.split_at_checked(TYPE.len()) else {
        return false;
    };
    kind.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// The grpc-status in trailers, or in the head of an answer that has nothing else (`Trailers-Only`). What is no known number counts as UNKNOWN,
/// as it does for callers; none if there is no such field.
pub(super) fn status(headers: &HeaderMap) -> Option<u8> {
    let value = headers.get(&GRPC_STATUS)?;
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    Some(number.filter(|number| *number <= LAST).unwrap_or(UNKNOWN))
}

/// The grpc-status for the mesh's own answer. It is what callers make of the HTTP status alone, but for 504: the mesh answers that when a
/// deadline has passed, and that has a word of its own.
pub(super) fn status_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 => UNAVAILABLE,
        504 => DEADLINE_EXCEEDED,
        _ => UNKNOWN,
    }
}

/// The mesh's own answer to a call, in place of one with `status` and `message`. It is `Trailers-Only`: its body must be empty, so that the
/// head ends the stream.
pub(super) fn answer(status: StatusCode, message: &str) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status_of(status))));
    if let Ok(message) = HeaderValue::try_from(encoded(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// `Percent-Encoded` of the protocol: printable ASCII stays, `%` apart.
fn encoded(message: &str) -> String {
    message.bytes().fold(String::new(), |out, byte| match byte {
        b'%' | ..=0x1f | 0x7f.. => out + &format!("%{byte:02X}"),
        _ => out + char::from(byte).encode_utf8(&mut [0; 1]),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::body::Body as _;
    use tokio::{task::LocalSet, time::timeout};

    use super::*;
    use crate::proxy::{detect::Protocol, http::wire};

    /// A test that takes longer hangs.
    const GUARD: Duration = Duration::from_secs(30);

    fn one(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn calls() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc+json;charset=utf-8", true),
            ("application/grpc;a=b", true),
            ("application/grpc ; a=b", true),
            ("Application/GRPC", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcs", false),
            ("application/grp", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_call(&one(CONTENT_TYPE, kind)), expected, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn statuses_that_are_read() {
        for (value, expected) in [
            ("0", 0),
            ("14", 14),
            ("16", 16),
            ("17", UNKNOWN),
            ("300", UNKNOWN),
            ("-1", UNKNOWN),
            ("", UNKNOWN),
            ("ok", UNKNOWN),
        ] {
            assert_eq!(status(&one(GRPC_STATUS, value)), Some(expected), "{value}");
        }
        assert_eq!(status(&HeaderMap::new()), None);
    }

    #[test]
    fn statuses_that_are_said() {
        for (http, expected) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (500, 2),
            (502, 14),
            (503, 14),
            (504, 4),
            (418, 2),
        ] {
            assert_eq!(status_of(StatusCode::from_u16(http).unwrap()), expected, "{http}");
        }
    }

    #[test]
    fn answers() {
        let response = answer(StatusCode::SERVICE_UNAVAILABLE, "weft: 100 % of\nthe endpoints – gone");
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert!(is_call(headers));
        assert_eq!(status(headers), Some(14));
        assert_eq!(headers[GRPC_MESSAGE], "weft: 100 %25 of%0Athe endpoints %E2%80%93 gone");
        assert_eq!(headers.len(), 3);
    }

    #[tokio::test]
    async fn an_answer_is_one_head_on_the_wire() {
        let test = async {
            let mut sender = wire::serve(Protocol::Http2, |_| async {
                answer(StatusCode::GATEWAY_TIMEOUT, "late").map(|()| Empty::<Bytes>::new())
            })
            .await;
            let call = http::Request::post("http://web/a.B/C").body(Empty::<Bytes>::new());
            let response = sender.send(call.unwrap()).await.unwrap();
            assert!(response.body().is_end_stream());
            assert_eq!(status(response.headers()), Some(DEADLINE_EXCEEDED));
            assert!(!response.headers().contains_key(http::header::CONTENT_LENGTH));
        };
        LocalSet::new().run_until(timeout(GUARD, test)).await.unwrap();
    }
}
