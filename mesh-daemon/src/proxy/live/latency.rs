//! How long an endpoint takes to the head of its answer: a peak-sensitive moving average, without a lock.
//!
//! The idea is Finagle's Peak EWMA, which linkerd's balancer has too: a slower answer counts at once and whole, and fades until the faster ones
//! reach it, so that an endpoint that was slow once is tried again. They let a value fade whenever it is read, which comes to the greater of the
//! sample and of what is left; here a read changes nothing. Beside theirs, the time that requests wait without any answer counts as a latency,
//! since a server that hangs gives no other sign.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Time in which an old value loses 63 % of its weight (Finagle's and linkerd's default): shorter forgets a bad server between two requests,
/// longer keeps a server that is well again idle for minutes.
pub(in crate::proxy) const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint without any sign of its latency counts with. Below every real latency, so that it is tried: were it above, an endpoint
/// among faster ones would never be measured. Requests that wait for its first answer raise it within a millisecond.
pub(in crate::proxy) const UNKNOWN: Duration = Duration::from_micros(1);

/// What a failure counts as, at least: a server that fails at once must not look like a fast one. Above what healthy servers take, so that it is left alone for
/// about a minute beside those that answer within milliseconds ([`DECAY`]), and tried again where all are like it.
pub(in crate::proxy) const PENALTY: Duration = Duration::from_secs(1);

/// Bits of the packed word that hold the time: milliseconds, for two years. A difference counts as negative from half of that on.
const STAMP_BITS: u32 = 36;
const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;
/// Low bits that a value loses in the packed word: of an f32's 31 bits (it is never negative) 28 are left, a precision of 10⁻⁶.
const VALUE_SHIFT: u32 = u32::BITS - 1 - (u64::BITS - STAMP_BITS);

/// The state of one endpoint.
#[derive(Debug)]
pub(super) struct Latency {
    /// What times are counted from.
    epoch: Instant,
    /// The average in seconds (f32) and when it was that, in one word, so that both change at once; 0: no sample yet.
    average: AtomicU64,
    /// When the last sample was, whether the average followed it or not: nanoseconds since the epoch.
    sampled: AtomicU64,
    /// Nanoseconds; what is known without a sample; 0: nothing.
    first: AtomicU64,
    /// Requests that wait for the head of their answer.
    waiting: AtomicU32,
    /// Since when none of them had one: nanoseconds since the epoch.
    waiting_since: AtomicU64,
}

impl Latency {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            average: AtomicU64::new(0),
            sampled: AtomicU64::new(0),
            first: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            waiting_since: AtomicU64::new(0),
        }
    }

    /// One more sample.
    pub(super) fn observe(&self, sample: Duration, now: Instant) {
        let stamp = self.stamp(now);
        let update = |word| next(word, sample.as_secs_f32(), stamp);
        // Relaxed: nothing else is published with it
        let _ = self.average.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        self.sampled.fetch_max(self.since_epoch(now), Ordering::Relaxed);
    }

    /// The average as its last sample left it, and that sample's age; none without a sample. For people: that a value fades while nothing is heard says
    /// nothing about the endpoint.
    pub(super) fn measured(&self, now: Instant) -> Option<(Duration, Duration)> {
        let sampled = self.epoch + Duration::from_nanos(self.sampled.load(Ordering::Relaxed));
        Some((self.average(sampled)?, now.saturating_duration_since(sampled)))
    }

    /// The average, faded to now; none without a sample.
    pub(super) fn average(&self, now: Instant) -> Option<Duration> {
        let (value, stamp) = unpack(self.average.load(Ordering::Relaxed))?;
        let faded = value * weight_after(elapsed_ms(stamp, self.stamp(now)));
        Some(Duration::try_from_secs_f32(faded).unwrap_or(Duration::ZERO))
    }

    /// What counts as long as there is no sample.
    pub(super) fn set_first(&self, latency: Duration) {
        self.first.store(nanoseconds(latency), Ordering::Relaxed);
    }

    /// What a request sent now must be expected to take; never below [`UNKNOWN`], or requests in flight would weigh nothing.
    pub(super) fn expected(&self, now: Instant) -> Duration {
        let known = self.average(now);
        let known = known.unwrap_or_else(|| Duration::from_nanos(self.first.load(Ordering::Relaxed)));
        known.max(self.silent_for(now)).max(UNKNOWN)
    }

    /// A request goes out.
    pub(super) fn begin(&self, now: Instant) {
        // A request that ends between these two leaves the time of an earlier one: too long until the next answer, and no longer.
        if self.waiting.load(Ordering::Acquire) == 0 {
            self.waiting_since.store(self.since_epoch(now), Ordering::Relaxed);
        }
        self.waiting.fetch_add(1, Ordering::Release);
    }

    /// The head of its answer came, so much later: the endpoint is alive, whatever else waits there.
    pub(super) fn answered(&self, latency: Duration, now: Instant) {
        self.waiting_since.fetch_max(self.since_epoch(now), Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Release);
        self.observe(latency, now);
    }

    /// It ended without an answer.
    pub(super) fn unanswered(&self) {
        self.waiting.fetch_sub(1, Ordering::Release);
    }

    /// How long requests have been waiting without any answer.
    fn silent_for(&self, now: Instant) -> Duration {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return Duration::ZERO;
        }
        let since = self.waiting_since.load(Ordering::Relaxed);
        Duration::from_nanos(self.since_epoch(now).saturating_sub(since))
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.epoch))
    }

    fn stamp(&self, now: Instant) -> u64 {
        (self.since_epoch(now) / 1_000_000) & STAMP_MASK
    }
}

/// The word after a sample in seconds; none if the sample is below what is left of the average: then that goes on fading as it is.
fn next(word: u64, sample: f32, now: u64) -> Option<u64> {
    let left = unpack(word).map_or(0.0, |(value, stamp)| value * weight_after(elapsed_ms(stamp, now)));
    (sample >= left).then(|| pack(sample, now))
}

/// What is left of a value's weight after so many milliseconds.
fn weight_after(elapsed_ms: u64) -> f32 {
    (-Duration::from_millis(elapsed_ms).as_secs_f32() / DECAY.as_secs_f32()).exp()
}

/// From one stamp to the other, around the end of their range; 0 if the second is earlier.
fn elapsed_ms(from: u64, to: u64) -> u64 {
    let elapsed = to.wrapping_sub(from) & STAMP_MASK;
    if elapsed > STAMP_MASK / 2 { 0 } else { elapsed }
}

/// A value of 0 is made the smallest above it, since 0 says that there is none.
fn pack(seconds: f32, stamp: u64) -> u64 {
    let bits = u64::from(seconds.max(f32::EPSILON * 1e-3).to_bits()) >> VALUE_SHIFT;
    (bits << STAMP_BITS) | stamp
}

fn unpack(word: u64) -> Option<(f32, u64)> {
    let bits = u32::try_from(word >> STAMP_BITS).unwrap_or(0) << VALUE_SHIFT;
    (bits != 0).then(|| (f32::from_bits(bits), word & STAMP_MASK))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[track_caller]
    fn assert_near(seen: Duration, expected: Duration) {
        let off = seen.abs_diff(expected);
        assert!(off <= expected / 1000, "{seen:?} is not {expected:?}");
    }

    #[test]
    fn a_peak_counts_at_once_and_what_is_faster_slowly() {
        let start = Instant::now();
        let latency = Latency::new(start);
        assert_eq!(latency.average(start), None);
        latency.observe(4 * MS, start);
        assert_near(latency.average(start).unwrap(), 4 * MS);
        latency.observe(100 * MS, start);
        assert_near(latency.average(start).unwrap(), 100 * MS);
        // of what is faster nothing is seen until the peak has faded that far
        for after in 1..=60u32 {
            let now = start + after * Duration::from_secs(1);
            latency.observe(10 * MS, now);
            let left = 0.100 * (-f64::from(after) / DECAY.as_secs_f64()).exp();
            assert_near(latency.average(now).unwrap(), Duration::from_secs_f64(left.max(0.010)));
        }
    }

    #[test]
    fn what_is_not_confirmed_fades_and_reading_changes_nothing() {
        let start = Instant::now();
        let latency = Latency::new(start);
        latency.observe(Duration::from_secs(1), start);
        for rounds in [1, 2, 3] {
            let seen = latency.average(start + rounds * DECAY).unwrap();
            assert_near(seen, Duration::from_secs_f64((-f64::from(rounds)).exp()));
        }
        assert_near(latency.average(start).unwrap(), Duration::from_secs(1));
    }

    #[test]
    fn what_was_measured_stays_while_nothing_is_heard_and_its_age_grows() {
        let start = Instant::now();
        let latency = Latency::new(start);
        assert_eq!(latency.measured(start), None);
        latency.observe(100 * MS, start);
        // faster, so that the peak goes on fading up to here, and no further
        let last = start + DECAY;
        latency.observe(MS, last);
        let left = latency.average(last).unwrap();
        for silence in [Duration::ZERO, 20 * DECAY] {
            let (average, age) = latency.measured(last + silence).unwrap();
            assert_near(average, left);
            assert_eq!(age, silence);
        }
        assert!(
            latency.expected(last + 20 * DECAY) < MS,
            "whoever chooses tries it again"
        );
    }

    #[test]
    fn a_clock_that_was_read_earlier_does_not_turn_time_back() {
        let start = Instant::now();
        let latency = Latency::new(start);
        latency.observe(100 * MS, start + DECAY);
        latency.observe(MS, start);
        assert_near(latency.average(start).unwrap(), 100 * MS);
        assert_near(latency.average(start + DECAY).unwrap(), 100 * MS);
    }

    #[test]
    fn stamps_go_around_their_end() {
        assert_eq!(elapsed_ms(STAMP_MASK - 1, 3), 5);
        assert_eq!(elapsed_ms(3, STAMP_MASK - 1), 0);
        assert_eq!(elapsed_ms(7, 7), 0);
    }

    #[test]
    fn values_survive_packing() {
        for seconds in [1e-9, 1e-6, 0.000_123, 0.25, 1.0, 60.0, 100_000.0] {
            let (value, stamp) = unpack(pack(seconds, STAMP_MASK)).unwrap();
            assert!((value / seconds - 1.0).abs() < 1e-5, "{value} is not {seconds}");
            assert_eq!(stamp, STAMP_MASK);
        }
        assert_eq!(unpack(0), None);
        assert!(unpack(pack(0.0, 0)).is_some(), "a sample of no time at all is a sample");
    }

    #[test]
    fn without_a_sample_the_first_value_counts_and_then_no_more() {
        let start = Instant::now();
        let latency = Latency::new(start);
        assert_eq!(latency.expected(start), UNKNOWN);
        latency.set_first(3 * MS);
        assert_eq!(latency.expected(start), 3 * MS);
        assert_eq!(latency.average(start), None, "people see samples only");
        latency.observe(2 * MS, start);
        assert_near(latency.expected(start), 2 * MS);
    }

    #[test]
    fn silence_counts_while_a_request_waits_and_ends_with_any_answer() {
        let start = Instant::now();
        let at = |ms: u32| start + ms * MS;
        let latency = Latency::new(start);
        latency.observe(MS, at(0));
        latency.begin(at(10));
        latency.begin(at(20));
        assert_eq!(latency.expected(at(510)), 500 * MS);
        latency.answered(490 * MS, at(510));
        assert_near(latency.expected(at(510)), 490 * MS);
        assert_eq!(latency.silent_for(at(600)), 90 * MS, "the first still waits");
        latency.unanswered();
        assert_eq!(latency.silent_for(at(600)), Duration::ZERO);
        latency.begin(at(700));
        assert_eq!(
            latency.silent_for(at(705)),
            5 * MS,
            "a new request waits from its own start on"
        );
    }
}
