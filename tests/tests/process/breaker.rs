//! What an attempt's end says to its endpoint's circuit breaker, and when: at the head, at the last byte, or never.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use mesh_daemon::{
    model::{AppProtocol::Http, CircuitBreaker, FailureClass, PolicySpec, RequestSettings, WhenAllOpen},
    proxy::Deaf,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    bench::{Bench, Policy, listener, refusing, reset, run},
    http::{echo, head_of},
};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const CALL: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const FAILURE: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
/// A head, and the first half of a body whose second half does not come.
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc";
/// Far longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Opens for ever with the first failure of a class.
fn opens_on(class: FailureClass) -> CircuitBreaker {
    CircuitBreaker {
        failure_threshold: 1,
        success_threshold: 1,
        timeout: FOR_EVER,
        half_open_requests: 1,
        failure_on: BTreeSet::from([class]),
        max_ejection_percent: 100,
        when_all_open: WhenAllOpen::FailFast,
    }
}

fn policy(breaker: CircuitBreaker) -> Policy {
    Policy {
        spec: PolicySpec {
            circuit_breaker: Some(breaker),
            ..PolicySpec::default()
        },
        ..Policy::default()
    }
}

/// A data path before one server that the test plays itself.
struct Stage {
    bench: Bench,
    server: TcpListener,
    address: SocketAddr,
}

impl Stage {
    async fn new(policy: Policy) -> Self {
        let (server, address) = listener().await;
        Self {
            bench: Bench::governed(Http, &[address], policy, Box::new(Deaf)),
            server,
            address,
        }
    }

    /// A request, and what the server writes when it has its head. Hands out the client's end and the server's, once the client has the answer's head.
    async fn exchange(&self, request: &str, answer: &str) -> (TcpStream, TcpStream, String) {
        let mut client = self.bench.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut upstream, _) = self.server.accept().await.unwrap();
        head_of(&mut upstream).await;
        upstream.write_all(answer.as_bytes()).await.unwrap();
        let head = head_of(&mut client).await;
        (client, upstream, head)
    }

    async fn until(&self, state: &str) {
        let is = |breaker: &mesh_daemon::proxy::BreakerView| breaker.state == state;
        self.bench
            .until_endpoint(self.address, |endpoint| endpoint.breaker.as_ref().is_some_and(is))
            .await;
    }

    fn breaker(&self) -> mesh_daemon::proxy::BreakerView {
        self.bench.endpoint(self.address).breaker.unwrap()
    }
}

#[test]
fn a_body_that_is_reset_is_a_failure() {
    run(async {
        let stage = Stage::new(policy(opens_on(FailureClass::Reset))).await;
        let (mut client, upstream, _) = stage.exchange(REQUEST, HALF).await;
        assert_eq!(stage.breaker().state, "closed");
        reset(upstream);
        assert!(client.read_to_end(&mut Vec::new()).await.is_err() || client.read(&mut [0]).await.is_ok());
        stage.until("open").await;
    });
}

#[test]
fn a_body_that_is_too_late_is_a_failure() {
    run(async {
        let settings = RequestSettings {
            timeout: Some(Duration::from_millis(500)),
            ..RequestSettings::default()
        };
        let policy = Policy {
            settings,
            ..policy(opens_on(FailureClass::Timeout))
        };
        let stage = Stage::new(policy).await;
        let (_client, _upstream, head) = stage.exchange(REQUEST, HALF).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stage.until("open").await;
    });
}

/// Neither a failure nor a success: a success would end the row.
#[test]
fn a_client_that_leaves_amid_a_body_says_nothing() {
    run(async {
        let breaker = CircuitBreaker {
            failure_threshold: 2,
            ..opens_on(FailureClass::Http5xx)
        };
        let stage = Stage::new(policy(breaker)).await;
        stage.exchange(REQUEST, FAILURE).await;
        assert_eq!(stage.breaker().failures, 1);
        let (client, mut upstream, _) = stage.exchange(REQUEST, HALF).await;
        reset(client);
        assert_eq!(upstream.read(&mut [0]).await.unwrap_or(0), 0, "the connection ends");
        stage
            .bench
            .until_endpoint(stage.address, |endpoint| endpoint.requests_in_flight == 0)
            .await;
        assert_eq!(stage.breaker().failures, 1);
        // while a whole answer is one
        stage
            .exchange(REQUEST, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
        stage
            .bench
            .until_endpoint(stage.address, |endpoint| {
                endpoint.breaker.as_ref().is_some_and(|breaker| breaker.failures == 0)
            })
            .await;
    });
}

/// What lasts is not waited for: a bad status, of HTTP or of a call, is known at the head.
#[test]
fn a_bad_status_is_a_failure_before_its_body_ends() {
    const BAD: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\nabc";
    const BAD_CALL: &str = "HTTP/1.1 200 OK\r\nGrpc-Status: 14\r\nContent-Length: 6\r\n\r\nabc";
    run(async {
        for (request, answer, class) in [
            (REQUEST, BAD, FailureClass::Http5xx),
            (CALL, BAD_CALL, FailureClass::Grpc(14)),
        ] {
            let stage = Stage::new(policy(opens_on(class))).await;
            let _open = stage.exchange(request, answer).await;
            assert_eq!(stage.breaker().state, "open", "{class:?}");
            assert_eq!(stage.bench.view().requests_in_flight, 1, "it is under way still");
        }
    });
}

/// A breaker that was opened and lets a trial through at once.
async fn on_trial() -> Stage {
    let breaker = CircuitBreaker {
        timeout: Duration::ZERO,
        ..opens_on(FailureClass::Http5xx)
    };
    let stage = Stage::new(policy(breaker)).await;
    stage.exchange(REQUEST, FAILURE).await;
    stage.until("open").await;
    stage
}

#[test]
fn a_trial_is_over_with_its_head() {
    run(async {
        let stage = on_trial().await;
        let _open = stage.exchange(REQUEST, HALF).await;
        assert_eq!(stage.breaker().state, "closed");
        assert_eq!(stage.bench.view().requests_in_flight, 1, "it is under way still");
    });
}

#[test]
fn a_trial_is_over_with_an_upgrade() {
    const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    run(async {
        let stage = on_trial().await;
        let (mut client, mut upstream, head) = stage.exchange(UPGRADE, GRANTED).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert_eq!(stage.breaker().state, "closed");
        client.write_all(b"x").await.unwrap();
        assert_eq!(upstream.read_u8().await.unwrap(), b'x', "it is open still");
    });
}

/// The time of an attempt is that of its last byte, also where its breaker knows at the head.
#[test]
fn the_time_of_an_attempt_ends_with_its_body() {
    const BAD: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\nabc";
    run(async {
        let stage = Stage::new(policy(opens_on(FailureClass::Http5xx))).await;
        let count = || {
            let families = stage.bench.registry.gather();
            let own = families
                .iter()
                .filter(|family| family.name() == "weft_upstream_duration_seconds");
            own.flat_map(|family| family.get_metric())
                .map(|metric| metric.get_histogram().get_sample_count())
                .sum::<u64>()
        };
        let (mut client, mut upstream, _) = stage.exchange(REQUEST, BAD).await;
        assert_eq!((stage.breaker().state.as_str(), count()), ("open", 0));
        upstream.write_all(b"def").await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(count(), 1);
    });
}

/// The others were tried and refused: that is not "all open".
#[test]
fn a_panic_needs_every_breaker_open() {
    run(async {
        let (server, address) = listener().await;
        let dead = [refusing(), refusing()];
        let breaker = CircuitBreaker {
            when_all_open: WhenAllOpen::Panic,
            ..opens_on(FailureClass::Http5xx)
        };
        let endpoints = [address, dead[0], dead[1]];
        let stage = Stage {
            bench: Bench::governed(Http, &endpoints, policy(breaker), Box::new(Deaf)),
            server,
            address,
        };
        stage.exchange(REQUEST, FAILURE).await;
        assert_eq!(stage.breaker().state, "open");
        for _ in 0..3 {
            let mut client = stage.bench.connect().await;
            client.write_all(REQUEST.as_bytes()).await.unwrap();
            let head = tokio::select! {
                head = head_of(&mut client) => head,
                _ = stage.server.accept() => panic!("the one that is open was asked"),
            };
            assert!(head.contains("x-weft-reason: connect_failed"), "{head}");
        }
    });
}

/// The word of a status in trailers, behind a message.
#[test]
fn a_calls_status_in_trailers_is_its_end() {
    run(async {
        let (address, seen) = echo().await;
        let bench = Bench::governed(
            Http,
            &[address],
            policy(opens_on(FailureClass::Grpc(14))),
            Box::new(Deaf),
        );
        let mut client = crate::http::http2(&bench).await;
        let trailers = [("grpc-status".parse().unwrap(), "14".parse().unwrap())];
        let (body, end) = crate::http::held();
        let mut request = crate::http::post(body);
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let response = client.send_request(request).await.unwrap();
        let state = || bench.endpoint(address).breaker.unwrap().state;
        assert_eq!((response.status().as_u16(), state().as_str()), (200, "closed"));
        end.send(hyper::body::Frame::trailers(trailers.into_iter().collect()))
            .unwrap();
        crate::http::bytes(response).await;
        assert_eq!((state().as_str(), seen.requests.get()), ("open", 1));
    });
}
