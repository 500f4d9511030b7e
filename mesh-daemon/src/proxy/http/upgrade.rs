//! Connections that stop being HTTP: `Upgrade` (RFC 9110, 7.8) and CONNECT (RFC 9110, 9.3.6). After the answer they are bytes both ways.

use std::rc::Rc;

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{CONNECTION, UPGRADE},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

use super::{Client, headers};
use crate::{
    proxy::{
        bounds::HTTP2_TUNNEL_BUFFER_BYTES,
        choose::Attempt,
        copy,
        limits::Permit,
        outcome::Outcome,
        pool::Lease,
        report::{Exchange, OpenConnection},
        socket::Stream,
    },
    task,
};

/// A request that asks for an end of HTTP.
pub(super) struct Asked {
    client: OnUpgrade,
    connect: bool,
}

/// Whether the request asks for it. An offer to go on with another version of HTTP is none.
pub(super) fn asked(request: &mut Request<Incoming>) -> Option<Asked> {
    headers::keep_version(request.headers_mut());
    let connect = request.method() == Method::CONNECT;
    let headers = request.headers();
    let upgrade = headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")));
    (connect || upgrade).then(|| Asked {
        client: hyper::upgrade::on(request),
        connect,
    })
}

impl Asked {
    /// Whether the upstream agrees.
    pub(super) fn is_granted(&self, response: &Response<Incoming>) -> bool {
        response.status() == StatusCode::SWITCHING_PROTOCOLS || (self.connect && response.status().is_success())
    }
}

/// Carries the bytes in a task of its own, once both sides have switched. Hands back the answer's version.
pub(super) fn carry(
    client: &Rc<Client>,
    asked: Asked,
    response: &mut Response<Incoming>,
    mut report: Exchange,
    held: (Attempt, Option<Permit>, Lease),
) -> Version {
    let version = Version::HTTP_11;
    let upstream = hyper::upgrade::on(response);
    let client = Rc::clone(client);
    task::spawn("upgraded", async move {
        report.end(Outcome::Completed);
        let mut open = OpenConnection::new(&client.worker.shared, &client.connection, report.parties.clone());
        let bytes = open.connected(report.parties.destination.clone(), report.endpoint);
        drop(report);
        let switched = tokio::try_join!(asked.client, upstream);
        let outcome = match switched {
            Ok((downstream, upstream)) => both(&client, downstream, upstream, &bytes).await,
            Err(error) => {
                tracing::debug!(%error, "an upgrade was granted but one side left");
                Outcome::ClientReset
            }
        };
        open.close(outcome);
        // in flight for as long as bytes may flow
        drop(held);
    });
    version
}

async fn both(client: &Client, downstream: Upgraded, upstream: Upgraded, bytes: &copy::Bytes) -> Outcome {
    // HTTP/1 gives the sockets back; a stream of HTTP/2 stays a stream
    let (downstream, upstream) = match (stream(downstream), stream(upstream)) {
        (Ok(downstream), Ok(upstream)) => return copy::both(&client.worker.buffers, downstream, upstream, bytes).await,
        (Err(downstream), Err(upstream)) => (downstream, upstream),
        // both sides of an exchange speak the same version
        _ => return Outcome::UpstreamReset,
    };
    let (from_client, to_client) = split(TokioIo::new(downstream));
    let (from_upstream, to_upstream) = split(TokioIo::new(upstream));
    let (client_broke, upstream_broke) = (Outcome::ClientReset, Outcome::UpstreamReset);
    let up = one_way(from_client, to_upstream, &bytes.sent, client_broke, upstream_broke);
    let down = one_way(from_upstream, to_client, &bytes.received, upstream_broke, client_broke);
    match tokio::try_join!(up, down) {
        Ok(_) => Outcome::Completed,
        Err(broke) => broke,
    }
}

/// Carries one direction to its end, and counts while it does: what broke off has moved bytes too.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    counter: &copy::Counter,
    from_broke: Outcome,
    to_broke: Outcome,
) -> Result<(), Outcome> {
    let mut buffer = vec![0; HTTP2_TUNNEL_BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await.map_err(|_| from_broke)?;
        if count == 0 {
            return to.shutdown().await.map_err(|_| to_broke);
        }
        to.write_all(&buffer[..count]).await.map_err(|_| to_broke)?;
        to.flush().await.map_err(|_| to_broke)?;
        counter.add(count);
    }
}

fn stream(upgraded: Upgraded) -> Result<Stream, Upgraded> {
    let hyper::upgrade::Parts { io, read_buf, .. } = upgraded.downcast::<Stream>()?;
    let Stream { first, socket } = io;
    let first = if first.is_empty() {
        read_buf
    } else {
        Bytes::from([read_buf, first].concat())
    };
    Ok(Stream { first, socket })
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounter;
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_direction_that_breaks_has_counted_its_bytes() {
        let counter = copy::Counter::new(IntCounter::new("sent", "sent").unwrap());
        let (mut client, from_client) = duplex(64);
        let (to_upstream, mut upstream) = duplex(64);
        let carrying = one_way(
            from_client,
            to_upstream,
            &counter,
            Outcome::ClientReset,
            Outcome::UpstreamReset,
        );
        let sending = async {
            client.write_all(b"HELLO").await.unwrap();
            upstream.read_exact(&mut [0; 5]).await.unwrap();
            drop(upstream);
            client.write_all(b"x").await.unwrap();
            client
        };
        let (outcome, _client) = tokio::join!(carrying, sending);
        assert_eq!(outcome, Err(Outcome::UpstreamReset));
        assert_eq!(counter.get(), 5);
    }
}
