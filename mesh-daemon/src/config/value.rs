//! One flag's text → its value. Each error says what is expected; clap puts the flag and the text in front.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;
use mesh_common::settings::WORKERS_MAX;

/// Longest drain: an hour. A node that waits longer for its daemon is a node that somebody forgot.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// `500ms`, `25s`, `2m`, `0s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || "use a number and a unit, ms, s or m, up to 60m, as in 25s".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let millis_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(refused()),
    };
    let duration = number.checked_mul(millis_each).map(Duration::from_millis);
    duration.filter(|duration| *duration <= DRAIN_MAX).ok_or_else(refused)
}

/// Oldest state that can be asked for: a month. Older than that, hardly an address in it is still true.
pub(super) const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// `90s`, `30m`, `24h`, `7d`.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let refused = || "use a number and a unit, s, m, h or d, up to 30d, as in 24h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let seconds_each = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(refused()),
    };
    let age = number.checked_mul(seconds_each).map(Duration::from_secs);
    age.filter(|age| *age <= AGE_MAX).ok_or_else(refused)
}

/// `4096`, `0x1000`.
pub(super) fn mark(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "use a number of 32 bits, decimal or with 0x in front, as in 0x1000".to_owned())
}

/// A range of addresses with no bits set behind its prefix.
pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .parse()
        .map_err(|_| "use an address and a prefix length, as in 10.244.0.0/16 or fd00:10::/64".to_owned())?;
    if net.prefix_len() == 0 {
        return Err("it would take every address for a pod; use the cluster's pod ranges".to_owned());
    }
    if net != net.trunc() {
        return Err(format!("it has bits set behind its prefix; use {}", net.trunc()));
    }
    Ok(net)
}

/// An address and a port, no names: what is served must not depend on a resolver.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "use an IP address and a port, as in 127.0.0.1:9490 or [::1]:9490".to_owned())
}

/// Any number of 32 bits.
pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "use a whole number, as in 100".to_owned())
}

/// 1 to [`WORKERS_MAX`].
pub(super) fn workers(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|workers| (1..=WORKERS_MAX).contains(workers));
    number.ok_or_else(|| format!("use a whole number from 1 to {WORKERS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("500ms", Some(ms(500))),
            ("25s", Some(ms(25_000))),
            ("2m", Some(ms(120_000))),
            ("0s", Some(ms(0))),
            ("60m", Some(DRAIN_MAX)),
            ("61m", None),
            ("25", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1h", None),
            ("99999999999999999999s", None),
            ("18446744073709551615m", None),
            ("", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn ages() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        for (text, expected) in [
            ("90s", Some(Duration::from_secs(90))),
            ("30m", Some(Duration::from_secs(1800))),
            ("24h", Some(hours(24))),
            ("7d", Some(hours(168))),
            ("0s", Some(Duration::ZERO)),
            ("30d", Some(AGE_MAX)),
            ("31d", None),
            ("721h", None),
            ("500ms", None),
            ("24", None),
            ("d", None),
            ("-1h", None),
            ("1.5h", None),
            ("18446744073709551615d", None),
            ("", None),
        ] {
            assert_eq!(age(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn marks() {
        for (text, expected) in [
            ("0x3000", Some(0x3000)),
            ("0X3000", Some(0x3000)),
            ("4096", Some(4096)),
            ("0xffffffff", Some(u32::MAX)),
            ("0x100000000", None),
            ("3000h", None),
            ("0x", None),
            ("-1", None),
        ] {
            assert_eq!(mark(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(cidr("10.244.0.0/16").unwrap().to_string(), "10.244.0.0/16");
        assert_eq!(cidr("fd00:10::/64").unwrap().to_string(), "fd00:10::/64");
        assert_eq!(
            cidr("10.244.0.1/16").unwrap_err(),
            "it has bits set behind its prefix; use 10.244.0.0/16"
        );
        for text in ["10.244.0.0", "10.244.0.0/33", "0.0.0.0/0", "::/0", "pods", ""] {
            assert!(cidr(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_of_workers() {
        for (text, expected) in [
            ("1", Some(1)),
            ("64", Some(64)),
            ("65", None),
            ("0", None),
            ("-1", None),
            ("x", None),
        ] {
            assert_eq!(workers(text).ok(), expected, "{text:?}");
        }
    }
}
