//! What is in use counts, as long as it is, and no longer.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::{StatusCode, body::Frame};
use mesh_daemon::{
    model::{AppProtocol::Http, Limits, PolicySpec},
    proxy::Deaf,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    bench::{Bench, Policy, listener, run},
    http::{bytes, echo, full, head_of, held, http1, http2, post},
};

fn limited(endpoint: SocketAddr, limits: Limits) -> Bench {
    let policy = Policy {
        spec: PolicySpec {
            limits: Some(limits),
            ..PolicySpec::default()
        },
        ..Policy::default()
    };
    Bench::governed(Http, &[endpoint], policy, Box::new(Deaf))
}

#[test]
fn a_request_is_under_way_until_its_last_byte() {
    run(async {
        let (address, seen) = echo().await;
        let limits = Limits {
            max_requests: Some(1),
            ..Limits::default()
        };
        let bench = limited(address, limits);
        let (body, end) = held();
        end.send(Frame::data(Bytes::from("a"))).unwrap();
        let mut first = http1(&bench).await;
        let response = first.send_request(post(body)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "the head is here");
        let mut second = http1(&bench).await;
        let refused = second.send_request(post(full("x"))).await.unwrap();
        assert_eq!(refused.headers()["x-weft-reason"], "max_requests");
        assert_eq!(seen.requests.get(), 1);
        drop(end);
        assert_eq!(bytes(response).await, "a");
        bytes(refused).await;
        second.ready().await.unwrap();
        let next = second.send_request(post(full("x"))).await.unwrap();
        assert_eq!(next.status(), StatusCode::OK);
    });
}

/// The places in use of the Service and of its only endpoint.
fn in_use(bench: &Bench, address: SocketAddr) -> [u32; 2] {
    [bench.view().connections, bench.endpoint(address).connections]
}

#[test]
fn a_connection_of_http2_is_in_use_from_its_first_stream_to_its_last() {
    run(async {
        let (address, seen) = echo().await;
        let limits = Limits {
            max_connections: Some(2),
            max_connections_per_endpoint: Some(2),
            ..Limits::default()
        };
        let bench = limited(address, limits);
        let mut client = http2(&bench).await;
        bytes(client.send_request(post(full("x"))).await.unwrap()).await;
        while in_use(&bench, address) != [0, 0] {
            tokio::task::yield_now().await;
        }
        // the same connection again, by two streams
        let (bodies, ends): (Vec<_>, Vec<_>) = (0..2).map(|_| held()).unzip();
        let mut responses = Vec::new();
        for body in bodies {
            responses.push(client.send_request(post(body)).await.unwrap());
            assert_eq!((in_use(&bench, address), seen.connections.get()), ([1, 1], 1));
        }
        for (response, (end, left)) in responses.into_iter().zip(ends.into_iter().zip([1, 0])) {
            drop(end);
            bytes(response).await;
            while bench.view().requests_in_flight != left {
                tokio::task::yield_now().await;
            }
            assert_eq!(in_use(&bench, address), [left, left]);
        }
    });
}

/// While as many connections are in use as may be, none is kept idle on top of them.
#[test]
fn a_connection_at_the_limit_is_closed_and_not_kept() {
    run(async {
        for (limits, is_kept) in [
            ((Some(1), None), false),
            ((None, Some(1)), false),
            ((Some(2), Some(2)), true),
        ] {
            let limits = Limits {
                max_connections: limits.0,
                max_connections_per_endpoint: limits.1,
                ..Limits::default()
            };
            let (server, address) = listener().await;
            let bench = limited(address, limits);
            let mut client = bench.connect().await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let (mut upstream, _) = server.accept().await.unwrap();
            head_of(&mut upstream).await;
            upstream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                .await
                .unwrap();
            head_of(&mut client).await;
            client.read_exact(&mut [0; 2]).await.unwrap();
            if is_kept {
                bench.until("weft_pool_idle_connections", &[], 1.0).await;
            } else {
                assert_eq!(upstream.read(&mut [0]).await.unwrap_or(0), 0, "{limits:?}: it ends");
                bench.until("weft_pool_idle_connections", &[], 0.0).await;
            }
            assert_eq!(in_use(&bench, address), [0, 0], "{limits:?}");
        }
    });
}

#[test]
fn an_http2_connection_at_the_limit_is_closed_and_not_kept() {
    run(async {
        let (address, seen) = echo().await;
        for (most, connections) in [(2, 1), (1, 2)] {
            seen.connections.set(0);
            let limits = Limits {
                max_connections: Some(most),
                ..Limits::default()
            };
            let bench = limited(address, limits);
            let mut client = http2(&bench).await;
            for _ in 0..2 {
                let response = client.send_request(post(full("x"))).await.unwrap();
                assert_eq!(bytes(response).await, "x");
                while bench.view().requests_in_flight > 0 {
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(seen.connections.get(), connections, "at most {most}");
        }
    });
}
