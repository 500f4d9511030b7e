//! What `PeakEwma` knows of endpoints: what the kernel heard of one that was not asked yet, and the time that was waited in vain.

use std::{net::SocketAddr, time::Duration};

use mesh_daemon::{
    model::{AppProtocol::Http, LoadBalancer, PolicySpec, RequestSettings},
    proxy::{Deaf, Ear, RoundTrip},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    bench::{Bench, Policy, listener, run},
    http::{bytes, echo, full, head_of, http1, http2, post},
};

/// Hears of one endpoint that it is slower than any other could be.
struct Far(SocketAddr);

impl Ear for Far {
    fn round_trip(&self, endpoint: SocketAddr) -> Option<RoundTrip> {
        (endpoint == self.0).then_some(RoundTrip {
            smoothed: Duration::from_secs(3600),
            retransmits: 0,
        })
    }
}

fn peak_ewma() -> Policy {
    Policy {
        spec: PolicySpec {
            load_balancer: Some(LoadBalancer::PeakEwma),
            ..PolicySpec::default()
        },
        ..Policy::default()
    }
}

/// One request of a client of its own. If it is not answered, the client has left once a server that never answers had its first bytes: the connection there,
/// which is to stay open, or the server would be who broke off.
async fn unanswered(bench: &Bench, version: u8, far: &TcpListener) -> Option<TcpStream> {
    let asking = async {
        let response = if version == 2 {
            http2(bench).await.send_request(post(full("x"))).await
        } else {
            http1(bench).await.send_request(post(full("x"))).await
        };
        bytes(response.unwrap()).await
    };
    let asked = async {
        let (mut socket, _) = far.accept().await.unwrap();
        assert_ne!(socket.read(&mut [0; 4096]).await.unwrap(), 0);
        socket
    };
    tokio::select! {
        body = asking => {
            assert_eq!(body, "x");
            None
        }
        socket = asked => Some(socket),
    }
}

#[test]
fn an_endpoint_without_samples_begins_with_what_the_kernel_heard() {
    run(async {
        for version in [1, 2] {
            let (far, address) = listener().await;
            let (near, _) = echo().await;
            let bench = Bench::governed(Http, &[address, near], peak_ewma(), Box::new(Far(address)));
            // what is unknown is tried; the client leaves, so that nothing is known but the handshake
            let mut hanging = None;
            while hanging.is_none() {
                hanging = unanswered(&bench, version, &far).await;
            }
            bench
                .until_endpoint(address, |endpoint| endpoint.requests_in_flight == 0)
                .await;
            assert_eq!(bench.endpoint(address).latency_ms, None, "HTTP/{version}");
            for _ in 0..20 {
                let asked = unanswered(&bench, version, &far).await;
                assert!(asked.is_none(), "HTTP/{version}: what is far was asked");
            }
        }
    });
}

#[test]
fn a_time_that_was_waited_in_vain_counts_as_a_latency() {
    run(async {
        let (server, address) = listener().await;
        let settings = RequestSettings {
            attempt_timeout: Some(Duration::from_millis(200)),
            ..RequestSettings::default()
        };
        let policy = Policy {
            settings,
            ..peak_ewma()
        };
        let bench = Bench::governed(Http, &[address], policy, Box::new(Deaf));
        let mut client = bench.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        head_of(&mut upstream).await;
        assert_eq!(bench.endpoint(address).latency_ms, None);
        let head = head_of(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 504"), "{head}");
        assert!(bench.endpoint(address).latency_ms.is_some_and(|latency| latency > 0.0));
    });
}
