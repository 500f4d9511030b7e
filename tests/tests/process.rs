//! The process ring: the daemon's data path in this process, between real loopback sockets. Needs no privilege.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, helpers included")]

#[path = "process/bench.rs"]
mod bench;
#[path = "process/http.rs"]
mod http;
#[path = "process/leaving.rs"]
mod leaving;
#[path = "process/pool.rs"]
mod pool;
#[path = "process/opaque.rs"]
mod opaque;
#[path = "process/breaker.rs"]
mod breaker;
#[path = "process/limits.rs"]
mod limits;
#[path = "process/latency.rs"]
mod latency;
#[path = "process/truncation.rs"]
mod truncation;
#[path = "process/drain.rs"]
mod drain;
#[path = "process/client.rs"]
mod client;
#[path = "process/policies.rs"]
mod policies;
#[path = "process/pause.rs"]
mod pause;
