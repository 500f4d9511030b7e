//! The pool's bounds.

use super::*;
use crate::{
    model::PolicySpec,
    proxy::choose::{Purpose, tests::Bench},
};

fn key(client: &str) -> Key {
    Key {
        client: client.parse().unwrap(),
        client_port: 0,
        uid: None,
        source: Source::Preserve,
        endpoint: "10.0.0.9:80".parse().unwrap(),
    }
}

#[test]
fn a_full_pool_shares_no_more_http2_connections() {
    let metrics = Metrics::new(&prometheus::Registry::new());
    let pool = Pool::default();
    let [first, second] = ["10.0.0.1", "10.0.0.2"].map(|client| pool.slot(&metrics, key(client), 2));
    assert!(!Rc::ptr_eq(&first, &second));
    assert!(Rc::ptr_eq(&first, &pool.slot(&metrics, key("10.0.0.1"), 2)));
    let third = pool.slot(&metrics, key("10.0.0.3"), 2);
    assert!(!Rc::ptr_eq(&third, &pool.slot(&metrics, key("10.0.0.3"), 2)));
    assert_eq!(metrics.pool_http2.get(), 2);
}

/// A connection that was dialled while its client kept silent has its place already.
#[tokio::test]
async fn an_early_connection_takes_no_second_place() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bench = Bench::new(&[address], PolicySpec::default());
    let attempt = bench.chooser(Purpose::Request).next().ok().unwrap();
    let socket = Arc::new(TcpStream::connect(address).await.unwrap());
    let permit = attempt.connection().ok().unwrap();
    let early = Fresh { socket, permit };
    let slot = Rc::new(Slot::new());
    let dial = slot.dial(&bench.worker, bench.client.client.ip(), &attempt, Some(early));
    let places = || {
        [
            bench.group().service.connections.current(),
            bench.group().endpoints[0].connections.current(),
        ]
    };
    assert_eq!(places(), [1, 1]);
    drop(dial);
    assert_eq!(places(), [0, 0], "a dial that nobody waits for ends");
}
