//! Counts a request or an opaque connection as in flight at its endpoint for as long as the guard lives, and learns from it how long answers take.

use std::{sync::Arc, time::Instant};

use super::EndpointLive;
use crate::proxy::limits::Permit;

/// One request or opaque connection in flight. Dropping it counts down, however it ended; it also keeps the live state of an endpoint that
/// meanwhile left its Service.
#[derive(Debug)]
pub(in crate::proxy) struct InFlight {
    endpoint: Arc<EndpointLive>,
    /// Since when the head of the answer is waited for; none once it is here, and for an opaque connection.
    waiting: Option<Instant>,
    _permit: Permit,
}

impl InFlight {
    /// A request goes out to the endpoint, unless `limit` are under way there.
    pub(in crate::proxy) fn request(endpoint: &Arc<EndpointLive>, limit: Option<u32>, now: Instant) -> Option<Self> {
        let permit = endpoint.requests.try_acquire(limit)?;
        endpoint.latency.begin(now);
        Some(Self {
            endpoint: Arc::clone(endpoint),
            waiting: Some(now),
            _permit: permit,
        })
    }

    /// An opaque connection goes out to the endpoint. How many there may be is up to [`EndpointLive::connections`].
    pub(in crate::proxy) fn connection(endpoint: &Arc<EndpointLive>) -> Option<Self> {
        Some(Self {
            endpoint: Arc::clone(endpoint),
            waiting: None,
            _permit: endpoint.opaque.try_acquire(None)?,
        })
    }

    /// The head of the answer is here; its time since the start becomes a sample of the endpoint's latency. Further calls say nothing new.
    pub(in crate::proxy) fn answered(&mut self, now: Instant) {
        if let Some(since) = self.waiting.take() {
            self.endpoint
                .latency
                .answered(now.saturating_duration_since(since), now);
        }
    }

    /// It ended by the endpoint's own doing. How long an answer went on that had begun says nothing of the endpoint's latency.
    pub(in crate::proxy) fn failed(&self, now: Instant) {
        let waited = self.waiting.map(|since| now.saturating_duration_since(since));
        self.endpoint.failed(waited.unwrap_or_default(), now);
    }

    /// To whom.
    pub(in crate::proxy) fn endpoint(&self) -> &Arc<EndpointLive> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            self.endpoint.latency.unanswered();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;

    #[test]
    fn guards_count_up_and_down() {
        let start = Instant::now();
        let endpoint = Arc::new(EndpointLive::new(SocketAddr::from(([10, 0, 0, 1], 80)), start));
        let counts = || [endpoint.requests.current(), endpoint.opaque.current()];
        let mut request = InFlight::request(&endpoint, None, start).unwrap();
        let connection = InFlight::connection(&endpoint).unwrap();
        assert_eq!(counts(), [1, 1]);
        assert_eq!(endpoint.load(), 2, "an opaque connection counts as one request");
        let answered = start + Duration::from_millis(5);
        request.answered(answered);
        request.answered(answered + Duration::from_secs(1));
        assert_eq!(counts(), [1, 1], "the body is still on its way");
        let latency = endpoint.latency(answered).unwrap();
        assert!(
            latency.abs_diff(Duration::from_millis(5)) < Duration::from_micros(5),
            "the second word about the head says nothing: {latency:?}"
        );
        drop(connection);
        assert_eq!(counts(), [1, 0]);
        drop(request);
        assert_eq!(counts(), [0, 0]);
    }

    #[test]
    fn what_ends_without_an_answer_is_no_sample_and_waits_no_more() {
        let start = Instant::now();
        let endpoint = Arc::new(EndpointLive::new(SocketAddr::from(([10, 0, 0, 1], 80)), start));
        let request = InFlight::request(&endpoint, None, start).unwrap();
        let later = start + Duration::from_secs(1);
        let waiting = endpoint.cost(later);
        assert!(
            waiting > 1.9,
            "one waits for a second, and would be before us: {waiting}"
        );
        drop(request);
        assert!(endpoint.cost(later) < 0.001);
        assert_eq!(endpoint.latency(later), None);
    }

    #[test]
    fn what_breaks_before_its_answer_counts_with_its_time_and_after_it_with_none() {
        let start = Instant::now();
        let later = start + Duration::from_secs(3600);
        for (is_answered, expected_s) in [(false, 3600), (true, 1)] {
            let endpoint = Arc::new(EndpointLive::new(SocketAddr::from(([10, 0, 0, 1], 80)), start));
            let mut request = InFlight::request(&endpoint, None, start).unwrap();
            if is_answered {
                request.answered(start + Duration::from_millis(5));
            }
            request.failed(later);
            let latency = endpoint.latency(later).unwrap();
            let expected = Duration::from_secs(expected_s);
            assert!(
                latency.abs_diff(expected) < expected / 1000,
                "{is_answered}: {latency:?}"
            );
        }
    }
}
