//! What is cut off must not look complete.

use std::io::ErrorKind;

use mesh_daemon::model::AppProtocol::Detect;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bench::{Bench, listener, reset, run};

/// A client that has asked without a length in sight, and the server's side of it: the answer ends with the connection.
async fn asked() -> (Bench, TcpStream, TcpStream) {
    let (server, address) = listener().await;
    let bench = Bench::new(Detect, &[address]);
    let mut client = bench.connect().await;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let (mut upstream, _) = server.accept().await.unwrap();
    assert!(upstream.read(&mut [0; 1024]).await.unwrap() > 0);
    (bench, client, upstream)
}

#[test]
fn an_answer_without_a_length_that_is_reset_is_reset_for_the_client() {
    run(async {
        let (_bench, mut client, mut upstream) = asked().await;
        upstream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhalf").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"half") {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
        reset(upstream);
        assert_eq!(
            client.read(&mut [0]).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn an_answer_without_a_length_that_ends_ends_for_the_client() {
    run(async {
        let (_bench, mut client, mut upstream) = asked().await;
        upstream.write_all(b"HTTP/1.0 200 OK\r\n\r\nwhole").await.unwrap();
        drop(upstream);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"\r\n\r\nwhole"), "{answer:?}");
    });
}
