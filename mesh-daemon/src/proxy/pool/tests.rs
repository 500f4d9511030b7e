//! The pool's bounds.

use super::*;

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
