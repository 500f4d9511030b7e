//! Which protocol a client speaks, from its first bytes: bounded, without a stall for protocols in which the server speaks first.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{net::TcpStream, task, time::timeout};

use super::bounds::{DETECT_BYTES, DETECT_READ_BYTES, DETECT_SILENCE, METHOD_BYTES};
use crate::model::AppProtocol;

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Anything else: carried as bytes.
    Opaque,
}

/// The end of detection.
#[derive(Debug)]
pub(super) enum Detected {
    /// The protocol, and everything read so far.
    Known(Protocol, Bytes),
    /// The client pauses, with nothing or too little said: perhaps the server speaks next.
    Silent(BytesMut),
    /// The client has ended without a word; it may still listen.
    Mute,
}

/// Reads until the protocol is known, or the client pauses. `hint` is what the Service says; `bytes` were read before.
///
/// # Errors
/// If the client resets the connection.
pub(super) async fn protocol(socket: &Arc<TcpStream>, hint: AppProtocol, mut bytes: BytesMut) -> io::Result<Detected> {
    let silence = match hint {
        AppProtocol::Opaque => return Ok(Detected::Known(Protocol::Opaque, Bytes::new())),
        // the Service says that the client speaks first, however late
        AppProtocol::Http | AppProtocol::Http2 => Duration::MAX,
        AppProtocol::Detect => DETECT_SILENCE,
    };
    loop {
        match timeout(silence, read(socket, &mut bytes)).await {
            Err(_) => return Ok(Detected::Silent(bytes)),
            Ok(Ok(0)) if bytes.is_empty() => return Ok(Detected::Mute),
            // what is here so far is all that there is to judge
            Ok(Ok(0)) => return Ok(Detected::Known(Protocol::Opaque, bytes.freeze())),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => {}
        }
        if let Some(protocol) = judge(&bytes) {
            return Ok(Detected::Known(protocol, bytes.freeze()));
        }
        if bytes.len() >= DETECT_BYTES {
            return Ok(Detected::Known(Protocol::Opaque, bytes.freeze()));
        }
    }
}

/// Which protocol starts with `bytes`; `None` while more than one may.
pub(super) fn judge(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    // RFC 9112, 2.2: an empty line before the request line is ignored
    let line = bytes
        .strip_prefix(b"\r\n")
        .or_else(|| bytes.strip_prefix(b"\n"))
        .unwrap_or(bytes);
    if line.is_empty() || bytes == b"\r" {
        return None;
    }
    match request_line(line) {
        Line::Complete => Some(Protocol::Http1),
        Line::Partial => None,
        Line::Other => Some(Protocol::Opaque),
    }
}

/// How far bytes are an HTTP/1 request line (RFC 9112, 3).
enum Line {
    Complete,
    Partial,
    Other,
}

fn request_line(bytes: &[u8]) -> Line {
    let Some((method, rest)) = split_space(bytes) else {
        return if bytes.len() <= METHOD_BYTES && bytes.iter().all(|byte| is_token(*byte)) {
            Line::Partial
        } else {
            Line::Other
        };
    };
    if method.is_empty() || method.len() > METHOD_BYTES || !method.iter().all(|byte| is_token(*byte)) {
        return Line::Other;
    }
    let Some((target, version)) = split_space(rest) else {
        return if rest.iter().all(|byte| is_target(*byte)) {
            Line::Partial
        } else {
            Line::Other
        };
    };
    if target.is_empty() || !target.iter().all(|byte| is_target(*byte)) {
        return Line::Other;
    }
    const ENDS: [&[u8]; 4] = [b"HTTP/1.1\r\n", b"HTTP/1.0\r\n", b"HTTP/1.1\n", b"HTTP/1.0\n"];
    if ENDS.iter().any(|end| version.starts_with(end)) {
        Line::Complete
    } else if ENDS.iter().any(|end| end.starts_with(version)) {
        Line::Partial
    } else {
        Line::Other
    }
}

fn split_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..space], &bytes[space + 1..]))
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

async fn read(socket: &TcpStream, bytes: &mut BytesMut) -> io::Result<usize> {
    loop {
        task::consume_budget().await;
        socket.readable().await?;
        if bytes.capacity() == bytes.len() {
            // most first words are short, and idle connections are many: begin small and double
            let more = bytes.len().max(DETECT_READ_BYTES);
            bytes.reserve(more.min(DETECT_BYTES - bytes.len()));
        }
        match socket.try_read_buf(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds one byte after the other; at which length is the protocol known, and which?
    fn decided(bytes: &[u8]) -> Option<(usize, Protocol)> {
        (1..=bytes.len()).find_map(|length| judge(&bytes[..length]).map(|protocol| (length, protocol)))
    }

    #[tokio::test]
    async fn what_the_service_says_is_believed_without_a_wait() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = tokio::net::TcpSocket::new_v4().unwrap();
        let _silent = dial.connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Arc::new(listener.accept().await.unwrap().0);
        // nothing is under way: only timers are left to wait for
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let ask = |hint| protocol(&socket, hint, BytesMut::new());
        let opaque = ask(AppProtocol::Opaque).await.unwrap();
        assert!(matches!(opaque, Detected::Known(Protocol::Opaque, _)));
        assert!(begun.elapsed() < DETECT_SILENCE);
        assert!(matches!(
            ask(AppProtocol::Detect).await.unwrap(),
            Detected::Silent(first) if first.is_empty()
        ));
        for hint in [AppProtocol::Http, AppProtocol::Http2] {
            let hour = Duration::from_secs(3600);
            assert!(
                timeout(hour, ask(hint)).await.is_err(),
                "{hint:?}: the client speaks first"
            );
        }
    }

    #[test]
    fn byte_by_byte() {
        use Protocol::{Http1, Http2, Opaque};
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Some((16, Http1))),
            (b"GET / HTTP/1.0\r\n", Some((16, Http1))),
            (b"GET / HTTP/1.1\n", Some((15, Http1))),
            (b"\r\nGET / HTTP/1.1\r\n", Some((18, Http1))),
            (b"OPTIONS * HTTP/1.1\r\n", Some((20, Http1))),
            (b"CONNECT a:1 HTTP/1.1\r\n", Some((22, Http1))),
            (b"P / HTTP/1.1\r\n", Some((14, Http1))),
            (b"GET / HTTP/1.1", None),
            (b"GET /", None),
            (b"HELLO", None),
            (b"HELLO\r\n", Some((6, Opaque))),
            (b"GET /\r\n", Some((6, Opaque))),
            (b"GET / HTTP/2.0\r\n", Some((12, Opaque))),
            (b"GET / HTTP/1.2\r\n", Some((14, Opaque))),
            (b"GET  / HTTP/1.1\r\n", Some((5, Opaque))),
            (b" GET / HTTP/1.1\r\n", Some((1, Opaque))),
            (b"\x16\x03\x01", Some((1, Opaque))),
            (b"\0", Some((1, Opaque))),
            (PREFACE, Some((24, Http2))),
            (b"PRI * HTTP/2.0\r\n\r\nSN", Some((20, Opaque))),
            (b"PRI * HTTP/1.1\r\n", Some((16, Http1))),
            (b"AMQP\0\0\x09\x01", Some((5, Opaque))),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJK", Some((33, Opaque))),
        ] {
            assert_eq!(decided(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
