//! Counts a request or an opaque connection as in flight for as long as the guard lives, on its endpoint and its Service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use super::{EndpointLive, ServiceLive};

/// One request or opaque connection in flight. Dropping it counts down, however it ended; it also keeps the live state of an endpoint that
/// meanwhile left its Service.
#[derive(Debug)]
pub(in crate::proxy) struct InFlight {
    endpoint: Arc<EndpointLive>,
    service: Arc<ServiceLive>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A request whose answer's head has not come yet, and since when.
    Waiting(Instant),
    /// A request that is being answered.
    Answered,
    /// An opaque connection.
    Connection,
}

#[cfg_attr(not(test), expect(dead_code, reason = "the request's story does not hold it yet"))]
impl InFlight {
    /// A request goes out to the endpoint.
    pub(in crate::proxy) fn request(service: &Arc<ServiceLive>, endpoint: &Arc<EndpointLive>, now: Instant) -> Self {
        endpoint.latency.begin(now);
        Self::new(service, endpoint, What::Waiting(now))
    }

    /// An opaque connection goes out to the endpoint.
    pub(in crate::proxy) fn connection(service: &Arc<ServiceLive>, endpoint: &Arc<EndpointLive>) -> Self {
        Self::new(service, endpoint, What::Connection)
    }

    /// The head of the answer is here; its time since the start becomes a sample of the endpoint's latency. Further calls say nothing new.
    pub(in crate::proxy) fn answered(&mut self, now: Instant) {
        if let What::Waiting(since) = self.what {
            self.endpoint
                .latency
                .answered(now.saturating_duration_since(since), now);
            self.what = What::Answered;
        }
    }

    /// To whom.
    pub(in crate::proxy) fn endpoint(&self) -> &Arc<EndpointLive> {
        &self.endpoint
    }

    fn new(service: &Arc<ServiceLive>, endpoint: &Arc<EndpointLive>, what: What) -> Self {
        let in_flight = Self {
            endpoint: Arc::clone(endpoint),
            service: Arc::clone(service),
            what,
        };
        for counter in in_flight.counters() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        in_flight
    }
}

impl InFlight {
    fn counters(&self) -> [&AtomicU32; 2] {
        match self.what {
            What::Waiting(_) | What::Answered => [&self.endpoint.requests, &self.service.requests],
            What::Connection => [&self.endpoint.connections, &self.service.connections],
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let What::Waiting(_) = self.what {
            self.endpoint.latency.unanswered();
        }
        for counter in self.counters() {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;

    #[test]
    fn guards_count_up_and_down_on_endpoint_and_service() {
        let start = Instant::now();
        let service = Arc::new(ServiceLive::default());
        let endpoint = Arc::new(EndpointLive::new(SocketAddr::from(([10, 0, 0, 1], 80)), start));
        let counts = || {
            [
                &endpoint.requests,
                &endpoint.connections,
                &service.requests,
                &service.connections,
            ]
            .map(|counter| counter.load(Ordering::Relaxed))
        };
        let mut request = InFlight::request(&service, &endpoint, start);
        let connection = InFlight::connection(&service, &endpoint);
        assert_eq!(counts(), [1, 1, 1, 1]);
        assert_eq!(endpoint.load(), 2, "an opaque connection counts as one request");
        let answered = start + Duration::from_millis(5);
        request.answered(answered);
        request.answered(answered + Duration::from_secs(1));
        assert_eq!(counts(), [1, 1, 1, 1], "the body is still on its way");
        let latency = endpoint.latency(answered).unwrap();
        assert!(
            latency.abs_diff(Duration::from_millis(5)) < Duration::from_micros(5),
            "the second word about the head says nothing: {latency:?}"
        );
        drop(connection);
        assert_eq!(counts(), [1, 0, 1, 0]);
        drop(request);
        assert_eq!(counts(), [0, 0, 0, 0]);
    }

    #[test]
    fn what_ends_without_an_answer_is_no_sample_and_waits_no_more() {
        let start = Instant::now();
        let service = Arc::new(ServiceLive::default());
        let endpoint = Arc::new(EndpointLive::new(SocketAddr::from(([10, 0, 0, 1], 80)), start));
        let request = InFlight::request(&service, &endpoint, start);
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
}
