//! Opaque connections: bytes, half-closes and resets pass as they are; nobody waits for a protocol that will not come.

use std::io::Read as _;

use mesh_daemon::{
    model::AppProtocol::{Detect, Opaque},
    proxy::{self, bounds},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Bench, listener, refusing, reset, run, snapshot};

const BANNER: &[u8] = b"220 ready\r\n";

#[test]
fn half_close_passes_and_the_other_direction_goes_on() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Opaque, &[address]);
        let mut client = bench.connect().await;
        let (mut upstream, _) = server.accept().await.unwrap();
        client.write_all(b"all I have").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        upstream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"all I have");
        upstream.write_all(b"my answer").await.unwrap();
        drop(upstream);
        got.clear();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"my answer");
        bench
            .until("weft_tcp_connections_closed_total", &[("outcome", "completed")], 1.0)
            .await;
        bench.until("weft_tcp_sent_bytes_total", &[], 10.0).await;
        bench.until("weft_tcp_received_bytes_total", &[], 9.0).await;
    });
}

#[test]
fn a_client_that_closes_before_a_byte_is_seen_by_the_server() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Detect, &[address]);
        let mut client = bench.connect().await;
        client.shutdown().await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
        upstream.write_all(BANNER).await.unwrap();
        drop(upstream);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, BANNER);
    });
}

#[test]
fn a_reset_arrives_as_a_reset_on_either_side() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Opaque, &[address]);

        let client = bench.connect().await;
        let (mut upstream, _) = server.accept().await.unwrap();
        reset(client);
        assert_eq!(
            upstream.read(&mut [0]).await.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );

        let mut client = bench.connect().await;
        let (mut upstream, _) = server.accept().await.unwrap();
        // a byte first: before it the reset could still count as a dial that failed
        client.write_all(b"x").await.unwrap();
        upstream.read_exact(&mut [0]).await.unwrap();
        reset(upstream);
        assert_eq!(
            client.read(&mut [0]).await.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        bench
            .until("weft_tcp_connections_closed_total", &[("outcome", "client_reset")], 1.0)
            .await;
        bench
            .until(
                "weft_tcp_connections_closed_total",
                &[("outcome", "upstream_reset")],
                1.0,
            )
            .await;
    });
}

#[test]
fn a_reset_after_a_half_close_arrives_though_nobody_reads() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Opaque, &[address]);
        for client_closes in [true, false] {
            let mut client = bench.connect().await;
            let (mut upstream, _) = server.accept().await.unwrap();
            let (closer, other) = if client_closes {
                (&mut client, &mut upstream)
            } else {
                (&mut upstream, &mut client)
            };
            closer.shutdown().await.unwrap();
            assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
            let mut other = if client_closes {
                reset(client);
                upstream
            } else {
                reset(upstream);
                client
            };
            // the end was read before: what comes now is the reset, which only a write or an error event shows
            other.ready(tokio::io::Interest::ERROR).await.unwrap();
            let error = match other.take_error().unwrap() {
                Some(error) => error,
                None => other.write_all(b"x").await.unwrap_err(),
            };
            assert!(
                matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
                ),
                "{error}"
            );
        }
    });
}

#[test]
fn a_reset_overtakes_bytes_that_nobody_reads() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Opaque, &[address]);
        for client_writes in [true, false] {
            let client = bench.connect().await;
            let (upstream, _) = server.accept().await.unwrap();
            let (writer, other) = if client_writes {
                (client, upstream)
            } else {
                (upstream, client)
            };
            // until both sides' buffers are full: the data path waits for room then
            let mut refused = 0;
            while refused < 1000 {
                match writer.try_write(&[0; 65_536]) {
                    Ok(_) => refused = 0,
                    Err(error) => {
                        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                        refused += 1;
                        tokio::task::yield_now().await;
                    }
                }
            }
            reset(writer);
            other.ready(tokio::io::Interest::ERROR).await.unwrap();
        }
        for outcome in ["client_reset", "upstream_reset"] {
            bench
                .until("weft_tcp_connections_closed_total", &[("outcome", outcome)], 1.0)
                .await;
        }
    });
}

#[test]
fn a_bulk_transfer_leaves_other_connections_their_turn() {
    const TOTAL: u64 = 512 << 20;
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Opaque, &[address]);
        let client = bench.connect().await.into_std().unwrap();
        let (upstream, _) = server.accept().await.unwrap();
        let upstream = upstream.into_std().unwrap();
        client.set_nonblocking(false).unwrap();
        upstream.set_nonblocking(false).unwrap();
        // threads of their own: the worker hardly ever waits for one of them
        let source = std::thread::spawn(move || std::io::copy(&mut std::io::repeat(0).take(TOTAL), &mut &client));
        let sink = std::thread::spawn(move || std::io::copy(&mut &upstream, &mut std::io::sink()));
        let sent = || bench.counter("weft_tcp_sent_bytes_total", &[]);
        let (mut before, mut most) = (sent(), 0.0_f64);
        while !sink.is_finished() {
            tokio::task::yield_now().await;
            let now = sent();
            most = most.max(now - before);
            before = now;
        }
        source.join().unwrap().unwrap();
        assert_eq!(sink.join().unwrap().unwrap(), TOTAL);
        let bound = 2 * (bounds::COPY_TURN_BYTES + bounds::COPY_BUFFER_BYTES);
        assert!(most <= bound as f64, "{most} bytes between two turns of another task");
    });
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Detect, &[address]);
        let mut client = bench.connect().await;
        let (mut upstream, _) = server.accept().await.unwrap();
        upstream.write_all(BANNER).await.unwrap();
        let mut got = [0; BANNER.len()];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, BANNER);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut got = [0; 18];
        upstream.read_exact(&mut got).await.unwrap();
        assert_eq!(
            &got, b"GET / HTTP/1.1\r\n\r\n",
            "the server spoke first: whatever follows is opaque"
        );
    });
}

#[test]
fn a_word_without_a_newline_does_not_hang() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Detect, &[address]);
        let mut client = bench.connect().await;
        client.write_all(b"HELLO").await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        let mut got = [0; 5];
        upstream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"HELLO");
        upstream.write_all(b"WORLD").await.unwrap();
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"WORLD");
    });
}

#[test]
fn a_server_that_speaks_into_half_a_line_is_heard() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Detect, &[address]);
        let mut client = bench.connect().await;
        client.write_all(b"HELLO").await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        upstream.write_all(BANNER).await.unwrap();
        let mut got = [0; BANNER.len()];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, BANNER);
        client.write_all(b" HTTP/1.1\r\n").await.unwrap();
        let mut got = [0; 16];
        upstream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"HELLO HTTP/1.1\r\n");
    });
}

#[test]
fn an_endpoint_that_refuses_is_replaced_at_once() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Opaque, &[refusing(), refusing(), address]);
        for _ in 0..3 {
            let mut client = bench.connect().await;
            let (mut upstream, _) = server.accept().await.unwrap();
            client.write_all(b"x").await.unwrap();
            upstream.read_exact(&mut [0]).await.unwrap();
        }
        // the first two clients had the turns of those that refuse, and then drew among the other two; the third had the right one's
        let refused = bench.counter("weft_connect_failures_total", &[("reason", "refused")]);
        assert!((2.0..=4.0).contains(&refused), "{refused}");
    });
}

#[test]
fn who_dials_the_listener_itself_is_reset() {
    run(async {
        let (_server, address) = listener().await;
        let bench = Bench::with_origin(Opaque, &[address], Box::new(proxy::FromSocket));
        let mut client = bench.connect().await;
        assert_eq!(
            client.read(&mut [0]).await.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        bench.until("weft_not_captured_total", &[], 1.0).await;
        assert_eq!(bench.counter("weft_tcp_connections_opened_total", &[]), 0.0);
    });
}

#[test]
fn without_an_endpoint_the_client_is_reset() {
    run(async {
        let refusing = refusing();
        let bench = Bench::new(Opaque, &[]);
        for (generation, endpoints, outcome) in [(2, &[][..], "no_endpoint"), (3, &[refusing][..], "connect_failed")] {
            bench.shared.publish(snapshot(generation, Opaque, endpoints));
            let mut client = bench.connect().await;
            assert_eq!(
                client.read(&mut [0]).await.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionReset
            );
            bench
                .until("weft_tcp_connections_closed_total", &[("outcome", outcome)], 1.0)
                .await;
        }
    });
}

#[test]
fn an_open_connection_goes_on_during_a_drain_and_the_listener_is_closed() {
    run(async {
        let (server, address) = listener().await;
        let mut bench = Bench::new(Opaque, &[address]);
        let mut client = bench.connect().await;
        let (mut upstream, _) = server.accept().await.unwrap();
        let drain = bench.drain.take().unwrap();
        drain.start();
        while let Ok(socket) = tokio::net::TcpStream::connect(bench.address).await {
            drop(socket);
        }
        client.write_all(b"still").await.unwrap();
        upstream.read_exact(&mut [0; 5]).await.unwrap();
        let served = bench.served.take().unwrap();
        assert!(!served.is_finished());
        // the listener too: connections that were accepted in the drain's first moment wait there
        drop((client, upstream, server));
        served.await.unwrap();
    });
}
