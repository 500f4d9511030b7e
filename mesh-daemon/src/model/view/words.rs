//! Settings in the words of a manifest.

use core::time::Duration;

use super::super::{FailureClass, HashKey, LoadBalancer, WhenAllOpen};

/// What stands where there is no value.
const NONE: &str = "none";
/// The units of the API's durations (GEP-2257), largest first, in milliseconds.
const UNITS: [(&str, u128); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// `loadBalancer.type`; where no policy says one, the default's.
pub fn balancer_name(balancer: Option<&LoadBalancer>) -> &'static str {
    match balancer.unwrap_or(&LoadBalancer::RoundRobin) {
        LoadBalancer::RoundRobin => "RoundRobin",
        LoadBalancer::WeightedRoundRobin => "WeightedRoundRobin",
        LoadBalancer::LeastRequest => "LeastRequest",
        LoadBalancer::Random => "Random",
        LoadBalancer::PowerOfTwoChoices => "PowerOfTwoChoices",
        LoadBalancer::PeakEwma => "PeakEwma",
        LoadBalancer::RingHash(_) => "RingHash",
        LoadBalancer::Maglev(_) => "Maglev",
    }
}

/// `loadBalancer.hashKey`, of those that have one.
pub(super) fn hash_key(balancer: Option<&LoadBalancer>) -> Option<String> {
    let (LoadBalancer::RingHash(key) | LoadBalancer::Maglev(key)) = balancer? else {
        return None;
    };
    Some(match key {
        HashKey::Header(name) => format!("Header {name}"),
        HashKey::Cookie(name) => format!("Cookie {name}"),
        HashKey::SourceAddress => "SourceAddress".to_owned(),
    })
}

/// A word of `failureOn` and `retryOn`; a grpc-status that has none there by its number.
pub(super) fn class(class: FailureClass) -> String {
    match class {
        FailureClass::ConnectFailure => "connect-failure",
        FailureClass::Reset => "reset",
        FailureClass::Timeout => "timeout",
        FailureClass::Http5xx => "5xx",
        FailureClass::GatewayError => "gateway-error",
        FailureClass::Grpc(1) => "cancelled",
        FailureClass::Grpc(4) => "deadline-exceeded",
        FailureClass::Grpc(8) => "resource-exhausted",
        FailureClass::Grpc(13) => "internal",
        FailureClass::Grpc(14) => "unavailable",
        FailureClass::Grpc(code) => return format!("grpc-status {code}"),
    }
    .to_owned()
}

/// `whenAllOpen`.
pub(super) fn when_all_open(all_open: WhenAllOpen) -> &'static str {
    match all_open {
        WhenAllOpen::FailFast => "FailFast",
        WhenAllOpen::Panic => "Panic",
    }
}

/// A number, if there is one.
pub(super) fn count(number: Option<u32>) -> String {
    number.map_or_else(|| NONE.to_owned(), |number| number.to_string())
}

/// A time, if there is one.
pub(super) fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| NONE.to_owned(), duration)
}

/// Words with commas between them.
pub(super) fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    if words.is_empty() {
        NONE.to_owned()
    } else {
        words.join(",")
    }
}

/// As a manifest has it (GEP-2257), as in `1m30s`.
pub(super) fn duration(duration: Duration) -> String {
    let mut left = duration.as_millis();
    let mut text = String::new();
    for (unit, milliseconds) in UNITS {
        if left >= milliseconds {
            text.push_str(&format!("{}{unit}", left / milliseconds));
            left %= milliseconds;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_manifests_have_them() {
        for (milliseconds, expected) in [
            (0, "0s"),
            (250, "250ms"),
            (1_000, "1s"),
            (1_500, "1s500ms"),
            (90_000, "1m30s"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }
}
