//! Bounds and words of the API, once for the schema and once more for specs that slipped past it.

/// Most targets of a policy (GEP-713: a status has at most 16 ancestors).
pub(super) const TARGETS_MAX: usize = 16;
/// Longest name of a Service, in characters (RFC 1035 label).
pub(super) const NAME_CHARS_MAX: usize = 63;
/// Highest threshold or number of trials of a breaker: beyond it, it would never trip in practice.
pub(super) const THRESHOLD_MAX: i64 = 1000;
/// Highest limit and highest floor of a budget: more than a node can have open, so that a slip of the finger is told.
pub(super) const COUNT_MAX: i64 = 1_000_000;
/// Most retries of one request: each is one more request in an outage, which is when there are too many already.
pub(super) const RETRIES_MAX: i64 = 10;
/// Statuses that may be tried again (GEP-1731).
pub(super) const CODE_MIN: i64 = 400;
/// See [`CODE_MIN`].
pub(super) const CODE_MAX: i64 = 599;
/// Most of them: as many as are registered (IANA HTTP status codes), and more than anybody lists.
pub(super) const CODES_MAX: usize = 64;
/// Longest pause, window and time of an open breaker, in seconds: one hour, as XBackendTrafficPolicy bounds its windows.
pub(super) const TIME_SECONDS_MAX: u64 = 3600;
/// Shortest window of a budget, in seconds, as XBackendTrafficPolicy bounds it.
pub(super) const WINDOW_SECONDS_MIN: u64 = 1;

/// A duration (GEP-2257).
pub(super) const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// Longest text of one, in characters: four pieces of five digits and a unit of two.
pub(super) const DURATION_CHARS_MAX: usize = 28;
/// The name of a header or cookie (RFC 9110, token).
pub(super) const TOKEN: &str = "^[A-Za-z0-9!#$%&'*+\\-.^_\\x60|~]+$";
/// Longest one, in characters, as HTTPRoute bounds them.
pub(super) const TOKEN_CHARS_MAX: usize = 256;

/// `loadBalancer.type`.
pub(super) const BALANCERS: [&str; 8] = [
    "RoundRobin",
    "WeightedRoundRobin",
    "LeastRequest",
    "Random",
    "PowerOfTwoChoices",
    "PeakEwma",
    "RingHash",
    "Maglev",
];
/// `loadBalancer.hashKey.type`.
pub(super) const HASH_KEYS: [&str; 3] = ["Header", "Cookie", "SourceAddress"];
/// `circuitBreaker.whenAllOpen`.
pub(super) const ALL_OPEN: [&str; 2] = ["FailFast", "Panic"];
/// `circuitBreaker.failureOn` and `retry.retryOn`, in Envoy's words.
pub(super) const FAILURES: [&str; 10] = [
    "connect-failure",
    "reset",
    "timeout",
    "5xx",
    "gateway-error",
    "cancelled",
    "deadline-exceeded",
    "resource-exhausted",
    "internal",
    "unavailable",
];
