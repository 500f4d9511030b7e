//! Every timeout, buffer, size and count of the data path, with its unit and reason, so that they can be judged side by side.

use std::time::Duration;

/// Connections that one worker carries at once. Each costs two descriptors; 16,384 stay below the usual limit of 65,536 for two workers.
pub const CONNECTIONS_PER_WORKER: u32 = 16_384;
/// Connections of one client that one worker carries at once: half, so that however many a pod opens, others find a place. More are reset.
pub const CONNECTIONS_PER_CLIENT: u32 = CONNECTIONS_PER_WORKER / 2;
/// SYNs that may wait for `accept()`, in connections. The kernel caps it at `net.core.somaxconn`, 4096 by default.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Pause after a failed `accept()`: long enough not to spin while descriptors are short, short enough not to be noticed after.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a draining worker goes on accepting: its slots are empty by then, but handshakes that began before may still end. Longer than a
/// round trip inside a cluster, shorter than a SYN's first retry.
pub const DRAIN_ACCEPT: Duration = Duration::from_millis(250);
/// How long a draining worker waits for the first request of a connection that it has just accepted, instead of closing it unanswered.
pub const DRAIN_FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Idle time before the first keepalive probe. Below the 350 s after which common NAT devices forget a connection.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
/// Time between keepalive probes: with the count below the dead are found within four minutes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Keepalive probes without answer until the connection is dead.
pub const KEEPALIVE_PROBES: u32 = 4;

/// Silence after which the upstream is dialled: where the client waits for the server's first word, this is the delay that it sees.
pub const DETECT_SILENCE: Duration = Duration::from_millis(50);
/// Time for a client that paused amid its first words to go on, if the server says nothing either; then they are passed on as they are.
/// A lost segment comes again after about 200 ms. Not longer: a client of another protocol that waits for an answer to half a line waits
/// this long for each connection.
pub const DETECT_PAUSE: Duration = Duration::from_millis(250);
/// How long a client that has said nothing yet is listened to where no endpoint can be had: HTTP is told why, in an answer. Longer than a lost segment takes to come
/// again, and no longer: a client of another protocol waits so long to be refused.
pub const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of the first read for detection. Grows up to [`DETECT_BYTES`] with what the client sends.
pub const DETECT_READ_BYTES: usize = 4 * 1024;
/// Bytes that detection looks at. Longer request lines are carried as opaque bytes; most servers refuse lines above 8 KiB.
pub const DETECT_BYTES: usize = 16 * 1024;
/// Longest HTTP method in bytes that detection believes; the longest registered one has 17 (`UPDATEREDIRECTREF`).
pub const METHOD_BYTES: usize = 32;

/// Time for one endpoint to accept: a SYN and its first retry after 1 s.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for all endpoints of one connection or request together: a client's patience.
pub const CONNECT_TIMEOUT_TOTAL: Duration = Duration::from_secs(10);
/// Local ports for dials from a pod's address: above the range (32768–60999) from which pods take their own by default, so that a dial
/// never meets a connection that the pod opened before capture.
pub const DIAL_PORTS: std::ops::RangeInclusive<u16> = 61_000..=65_535;
/// Ports of [`DIAL_PORTS`] that are tried before the kernel may take any.
pub const DIAL_PORT_TRIES: usize = 8;

/// Bytes of one copy buffer. It is held only while it carries bytes, so idle connections cost none.
pub const COPY_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes that one direction carries before the worker's other tasks have their turn: a few buffers, about 0.1 ms of work.
pub const COPY_TURN_BYTES: usize = 256 * 1024;
/// Copy buffers that a worker keeps for reuse: 8 MiB at most.
pub const COPY_BUFFERS_KEPT: usize = 128;

/// How long an HTTP/1 request of a client that has sent its FIN goes on waiting for the head of its answer. Such a client is mostly gone (a timeout of its
/// own, a killed process), and its request must not hold a place of a limit for as long as a server hangs; the few that half-close and read on (`nc`) ask for
/// what is there at once.
pub const HALF_CLOSED_WAIT: Duration = Duration::from_secs(3);
/// Time for an HTTP/1 client to send its next request head, idle time included (hyper has one timer for both). Long, because closing an
/// idle connection that the server would have kept races with the next request.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a client that still sends a request's body, after an answer that did not wait for it, is listened to before its connection is closed: long
/// enough to get the answer and stop, or to send what a pod sends in a second; Envoy's `delayed_close_timeout` has the same default.
pub const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are thrown away at once meanwhile: a few packets, so that little is allocated for what mostly is nothing.
pub const LINGER_BYTES: usize = 16 * 1024;
/// Bytes of an HTTP/1 read buffer, which bounds a message head: what hyper itself allows, above what common servers accept.
pub const HTTP1_BUFFER_BYTES: usize = 400 * 1024;
/// Header fields in one HTTP/1 message; common servers allow 100.
pub const HTTP1_HEADERS: usize = 128;
/// Bytes of an HTTP/2 header list (RFC 9113, 6.5.2), counted with 32 bytes for each field.
pub const HTTP2_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Streams that one HTTP/2 client connection may have open; RFC 9113, 5.1.2 asks for at least 100.
pub const HTTP2_STREAMS: u32 = 256;
/// HTTP/2 receive window of a stream, in bytes: also what one slow reader may hold in memory.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// HTTP/2 receive window of a connection, in bytes: 32 streams that nobody reads, before they hold up the others.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes that hyper buffers for sending on one HTTP/2 stream.
pub const HTTP2_SEND_BYTES: usize = 256 * 1024;

/// Bytes of the copy buffer of one direction of an HTTP/2 CONNECT stream, held for as long as the stream lasts.
pub const HTTP2_TUNNEL_BUFFER_BYTES: usize = 8 * 1024;

/// Idle upstream connections kept for one key (client pod, endpoint, protocol).
pub const POOL_IDLE_PER_KEY: usize = 64;
/// Idle upstream connections kept by one worker: a descriptor each.
pub const POOL_IDLE_TOTAL: usize = 4096;
/// HTTP/2 upstream connections that one worker shares between streams: a descriptor each. Above it a stream has one to itself.
pub const POOL_HTTP2_TOTAL: usize = 4096;
/// How long an upstream connection is kept idle: below the 75 s (nginx) and 60 s after which common servers close.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// How often idle connections are looked through.
pub const POOL_SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Times that one request may meet a pooled connection that turned out to be closed before it dials afresh.
pub const POOL_STALE_TRIES: usize = 3;

/// Latency buckets in seconds: factor about 1.5 from 0.25 ms, so that p50 and p99 read from them are meaningful.
pub const DURATION_BUCKETS: &[f64] = &[
    0.000_25, 0.000_4, 0.000_6, 0.000_9, 0.001_3, 0.002, 0.003, 0.004_5, 0.007, 0.01, 0.015, 0.022, 0.033, 0.05, 0.075,
    0.11, 0.17, 0.25, 0.4, 0.6, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
