//! The process ring: the daemon's data path in this process, between real loopback sockets. Needs no privilege.

#[path = "process/bench.rs"]
mod bench;
#[path = "process/http.rs"]
mod http;
#[path = "process/opaque.rs"]
mod opaque;
