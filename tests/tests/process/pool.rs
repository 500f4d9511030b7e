//! The pool: who shares an upstream connection, who never does, and what happens to those that wait for one.

use std::{net::IpAddr, sync::Arc};

use hyper::StatusCode;
use mesh_daemon::{
    ids::ObjectRef,
    model::{
        AppProtocol::{Detect, Http},
        Workload,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::spawn_local,
};

use crate::{
    bench::{Bench, listener, run, silent, snapshot},
    http::{bytes, echo, full, http1, http2, post},
};

#[test]
fn a_burst_of_streams_shares_one_connection() {
    run(async {
        let (address, seen) = echo().await;
        let bench = Bench::new(Detect, &[address]);
        let client = http2(&bench).await;
        let streams = (0..100).map(|_| {
            let mut client = client.clone();
            spawn_local(async move { bytes(client.send_request(post(full("x"))).await.unwrap()).await })
        });
        for stream in streams.collect::<Vec<_>>() {
            assert_eq!(stream.await.unwrap(), "x");
        }
        assert_eq!((seen.requests.get(), seen.connections.get()), (100, 1));
    });
}

#[test]
fn a_burst_of_streams_joins_one_dial_and_fails_over_together() {
    run(async {
        let (address, seen) = echo().await;
        let (hole, _full) = silent().await;
        let bench = Bench::new(Detect, &[hole, address]);
        let client = http2(&bench).await;
        let streams = (0..40).map(|_| {
            let mut client = client.clone();
            spawn_local(async move { client.send_request(post(full("x"))).await.unwrap().status() })
        });
        for stream in streams.collect::<Vec<_>>() {
            assert_eq!(stream.await.unwrap(), StatusCode::OK);
        }
        assert_eq!((seen.requests.get(), seen.connections.get()), (40, 1));
        assert_eq!(
            bench.counter("weft_connect_failures_total", &[("reason", "timeout")]),
            1.0,
            "those who wait for a dial share its failure"
        );
    });
}

#[test]
fn a_pooled_connection_that_has_closed_is_replaced_unseen() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Http, &[address]);
        let mut client = http1(&bench).await;
        for _ in 0..20 {
            client.ready().await.unwrap();
            let asking = client.send_request(post(full("x")));
            let serving = async {
                let (mut upstream, _) = server.accept().await.unwrap();
                let mut bytes = vec![0; 4096];
                while !bytes.contains(&b'x') {
                    let _ = upstream.read(&mut bytes).await.unwrap();
                }
                // keeps the connection open in words, and closes it
                upstream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await
                    .unwrap();
            };
            let (response, ()) = tokio::join!(asking, serving);
            assert_eq!(response.unwrap().status(), StatusCode::OK);
        }
    });
}

/// One HTTP/1 request from an address of the loopback network; returns when the upstream connection is back in the pool.
async fn ask(bench: &Bench, from: IpAddr, idle: f64) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut client = socket.connect(bench.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    bench.until("weft_pool_idle_connections", &[], idle).await;
}

#[test]
fn a_connection_is_never_lent_to_another_pod() {
    run(async {
        let (address, seen) = echo().await;
        let bench = Bench::new(Http, &[address]);
        let [one, other]: [IpAddr; 2] = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap());
        let pod = |generation, uid: &str| {
            let mut next = Arc::into_inner(snapshot(generation, Http, &[address])).unwrap();
            let workload = Workload {
                weight: 1,
                pod: ObjectRef::new("shop", "client"),
                uid: uid.into(),
                name: "client".into(),
                node: None,
                interface: None,
            };
            next.content.workloads.insert(one, Arc::new(workload));
            bench.shared.publish(Arc::new(next));
        };
        for (client, uid, connections) in [
            (one, None, 1_u8),
            (one, None, 1),
            (other, None, 2),
            (one, None, 2),
            // the address passes to a pod, and from it to the next
            (one, Some((2, "first")), 3),
            (one, Some((3, "second")), 4),
            (one, Some((4, "second")), 4),
        ] {
            if let Some((generation, uid)) = uid {
                pod(generation, uid);
            }
            ask(&bench, client, f64::from(connections)).await;
            assert_eq!(seen.connections.get(), usize::from(connections), "{client} {uid:?}");
        }
    });
}
