//! Draining HTTP: what is under way ends in order, and the client is told.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Request, header};
use mesh_daemon::model::AppProtocol::{Detect, Http, Http2};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_local,
};

use crate::{
    bench::{Bench, listener, run},
    http::{bytes, echo, full, head_of, http1, http2, post},
};

#[test]
fn a_drain_ends_http_connections_after_their_request() {
    run(async {
        let (address, _) = echo().await;
        let mut bench = Bench::new(Detect, &[address]);
        let mut one = http1(&bench).await;
        let mut two = http2(&bench).await;
        // a request under way on each: its body has not ended
        let mut bodies = Vec::new();
        let mut open = || {
            let (sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
            bodies.push(sender);
            post(BodyExt::boxed(body))
        };
        let answers = [
            one.send_request(open()).await.unwrap(),
            two.send_request(open()).await.unwrap(),
        ];
        let signal = bench.drain.take().unwrap();
        signal.start();
        for sender in &mut bodies {
            sender.send_data(Bytes::from("end")).await.unwrap();
        }
        bodies.clear();
        for answer in answers {
            assert_eq!(bytes(answer).await, "end");
        }
        bench.served.take().unwrap().await.unwrap();
        assert!(one.send_request(post(full(""))).await.is_err());
        assert!(two.send_request(post(full(""))).await.is_err());
    });
}

#[test]
fn a_drain_says_goaway_to_an_idle_http2_client() {
    run(async {
        let (address, _) = echo().await;
        let mut bench = Bench::new(Http2, &[address]);
        let mut client = bench.connect().await;
        // the preface and empty SETTINGS (RFC 9113, 3.4)
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut frames = client;
        // the server's SETTINGS: it is at work
        assert_eq!(frame(&mut frames).await, 4);
        let signal = bench.drain.take().unwrap();
        signal.start();
        while frame(&mut frames).await != GOAWAY {}
    });
}

/// RFC 9113, 6.8.
const GOAWAY: u8 = 7;

/// Reads a frame (RFC 9113, 4.1), and returns its type.
async fn frame(socket: &mut TcpStream) -> u8 {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length.try_into().unwrap()];
    socket.read_exact(&mut payload).await.unwrap();
    head[3]
}

#[test]
fn a_drain_is_said_in_the_answer() {
    run(async {
        let (server, address) = listener().await;
        let mut bench = Bench::new(Http, &[address]);
        let mut client = http1(&bench).await;
        let asking = spawn_local(async move {
            let request = Request::builder()
                .method(Method::GET)
                .uri("/")
                .header(header::HOST, "a")
                .body(full(""))
                .unwrap();
            client.send_request(request).await.unwrap()
        });
        let (mut upstream, _) = server.accept().await.unwrap();
        head_of(&mut upstream).await;
        let signal = bench.drain.take().unwrap();
        signal.start();
        while TcpStream::connect(bench.address).await.is_ok() {}
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(asking.await.unwrap().headers()[header::CONNECTION], "close");
    });
}
