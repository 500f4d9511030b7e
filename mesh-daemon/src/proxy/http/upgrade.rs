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
use tokio::io::copy_bidirectional;

use super::Client;
use crate::{
    proxy::{
        copy,
        outcome::Outcome,
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

/// Whether the request asks for it.
pub(super) fn asked(request: &mut Request<Incoming>) -> Option<Asked> {
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
) -> Version {
    let version = Version::HTTP_11;
    let upstream = hyper::upgrade::on(response);
    let client = Rc::clone(client);
    task::spawn("upgraded", async move {
        report.end(Outcome::Completed);
        let mut open = OpenConnection::new(&client.worker.shared, report.parties.clone());
        let bytes = open.connected(report.parties.destination.clone());
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
    let result = copy_bidirectional(&mut TokioIo::new(downstream), &mut TokioIo::new(upstream)).await;
    match result {
        Ok((sent, received)) => {
            bytes.sent.inc_by(sent);
            bytes.received.inc_by(received);
            Outcome::Completed
        }
        Err(_) => Outcome::UpstreamReset,
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
