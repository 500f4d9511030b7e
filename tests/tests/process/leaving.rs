//! HTTP/1 clients that leave, or say that they have said all.

use mesh_daemon::model::AppProtocol::{Detect, Http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    bench::{Bench, listener, reset, run},
    http::head_of,
};

#[test]
fn a_client_that_leaves_cancels_the_request() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Http, &[address]);
        let mut client = bench.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        assert_ne!(upstream.read(&mut [0; 4096]).await.unwrap(), 0);
        reset(client);
        assert_eq!(
            upstream.read(&mut [0]).await.unwrap_or(0),
            0,
            "the upstream connection ends"
        );
        bench
            .until("weft_request_outcomes_total", &[("outcome", "client_reset")], 1.0)
            .await;
        bench.until("weft_requests_open", &[], 0.0).await;
    });
}

#[test]
fn a_client_that_has_said_all_gets_its_answer() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Detect, &[address]);
        for resets in [false, true] {
            let mut client = bench.connect().await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            client.shutdown().await.unwrap();
            let (mut upstream, _) = server.accept().await.unwrap();
            head_of(&mut upstream).await;
            if resets {
                // the end was read before: only the reset is left to say that nobody waits
                reset(client);
                assert_eq!(upstream.read(&mut [0]).await.unwrap_or(0), 0);
                continue;
            }
            upstream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                .await
                .unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhi"),
                "{answer}"
            );
        }
        bench
            .until("weft_request_outcomes_total", &[("outcome", "completed")], 1.0)
            .await;
        bench
            .until("weft_request_outcomes_total", &[("outcome", "client_reset")], 1.0)
            .await;
    });
}

/// A client that has sent its FIN with its request, and the connection that the request came to.
async fn said_all(bench: &Bench, server: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = bench.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut upstream, _) = server.accept().await.unwrap();
    head_of(&mut upstream).await;
    (client, upstream)
}

#[test]
fn a_client_that_has_said_all_is_not_waited_for_without_end_unless_its_answer_has_begun() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Http, &[address]);
        let (mut served, mut serving) = said_all(&bench, &server).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh";
        serving.write_all(head).await.unwrap();
        assert!(head_of(&mut served).await.starts_with("HTTP/1.1 200"));
        // later than the other, so that its end says that the other's time has passed too
        let (client, mut hanging) = said_all(&bench, &server).await;
        assert_eq!(hanging.read(&mut [0]).await.unwrap_or(0), 0, "its request ends");
        bench
            .until("weft_request_outcomes_total", &[("outcome", "client_reset")], 1.0)
            .await;
        drop(client);
        serving.write_all(b"i").await.unwrap();
        let mut rest = String::new();
        served.read_to_string(&mut rest).await.unwrap();
        assert!(rest.ends_with('i'), "{rest}");
        bench
            .until("weft_request_outcomes_total", &[("outcome", "completed")], 1.0)
            .await;
        bench.until("weft_requests_open", &[], 0.0).await;
    });
}

#[test]
fn an_upload_that_breaks_off_is_the_clients_doing() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Http, &[address]);
        let mut client = bench.connect().await;
        let part = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
        client.write_all(part).await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        head_of(&mut upstream).await;
        upstream.read_exact(&mut [0; 3]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(upstream.read(&mut [0]).await.unwrap_or(0), 0, "nothing is made up");
        bench
            .until("weft_request_outcomes_total", &[("outcome", "client_reset")], 1.0)
            .await;
    });
}
