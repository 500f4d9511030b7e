//! `mesh-daemon endpoints`: what this node knows of a Service's endpoints, as a table.

use super::table::{Table, counted, or_dash};
use crate::proxy::{BreakerView, EndpointView, EndpointsView, PortView};

/// Age in milliseconds from which a latency stands with its age: younger ones are of an endpoint that answers.
const AGE_SHOWN_MS: f64 = 1000.0;

/// The whole answer.
pub(super) fn table(view: &EndpointsView) -> String {
    let EndpointsView {
        snapshot: _,
        service,
        requests_in_flight,
        connections,
        ports,
    } = view;
    let mut table = Table::new([
        "PORT",
        "ADDRESS",
        "POD",
        "NODE",
        "STATE",
        "BREAKER",
        "REQUESTS",
        "CONNECTIONS",
        "LATENCY",
        "RTT",
        "RETRANSMITS",
        "WEIGHT",
    ]);
    let mut without = String::new();
    for port in ports {
        if port.endpoints.is_empty() {
            without.push_str(&format!(
                "Port {} has no ready endpoint over {}.\n",
                port.port, port.family
            ));
        }
        for endpoint in &port.endpoints {
            table.row(row(port, endpoint));
        }
    }
    let requests = counted(*requests_in_flight, "request");
    let connections = counted(*connections, "connection");
    let head = format!("Service {service}: from this node {requests} in flight, {connections}\n");
    match (table.is_empty(), ports.is_empty()) {
        (_, true) => format!("Service {service} has no port that is balanced here.\n"),
        (true, _) => format!("{head}{without}"),
        (false, _) => format!("{head}{without}\n{}", table.text()),
    }
}

fn row(port: &PortView, endpoint: &EndpointView) -> [String; 12] {
    [
        port.port.to_string(),
        endpoint.address.to_string(),
        or_dash(endpoint.pod.as_ref()),
        or_dash(endpoint.node.as_ref()),
        endpoint.state.clone(),
        endpoint.breaker.as_ref().map_or_else(|| "-".to_owned(), breaker),
        endpoint.requests_in_flight.to_string(),
        endpoint.connections.to_string(),
        or_dash(
            endpoint
                .latency_ms
                .map(|latency| self::latency(latency, endpoint.latency_age_ms)),
        ),
        or_dash(endpoint.round_trip_ms.map(milliseconds)),
        or_dash(endpoint.retransmits),
        endpoint.weight.to_string(),
    ]
}

/// With its age, where that is worth a word.
fn latency(average: f64, age: Option<f64>) -> String {
    let average = milliseconds(average);
    match age {
        Some(age) if age >= AGE_SHOWN_MS => format!("{average} ({:.0}s ago)", age / 1000.0),
        _ => average,
    }
}

fn milliseconds(number: f64) -> String {
    format!("{number:.3}ms")
}

fn breaker(breaker: &BreakerView) -> String {
    let BreakerView {
        state,
        failures,
        successes,
        open_for_ms,
    } = breaker;
    match (state.as_str(), open_for_ms) {
        ("open", Some(left)) if *left > 0.0 => format!("open for {:.1}s more", left / 1000.0),
        ("open", _) => "open, trial due".to_owned(),
        ("half_open", _) => format!("half open, trials passed: {successes}"),
        ("closed", _) if *failures > 0 => format!("closed, {} in a row", counted(*failures, "failure")),
        (state, _) => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoint(number: u8, state: &str, breaker: &Value) -> Value {
        json!({
            "address": format!("10.0.0.{number}:8080"), "pod": format!("shop/web-{number}"), "node": "n1", "weight": 1, "state": state,
            "breaker": breaker, "requestsInFlight": 1, "opaqueConnections": 0, "connections": 2, "latencyMs": 1.25,
            "latencyAgeMs": 40.5, "roundTripMs": 0.5, "retransmits": 3
        })
    }

    #[test]
    fn endpoints_as_people_read_them() {
        let unknown = json!({
            "address": "10.0.0.9:8080", "pod": null, "node": null, "weight": 7, "state": "ready", "breaker": null,
            "requestsInFlight": 0, "opaqueConnections": 0, "connections": 0, "latencyMs": null, "latencyAgeMs": null, "roundTripMs": null, "retransmits": null
        });
        let open = json!({"state": "open", "failures": 0, "successes": 0, "openForMs": 4200.0});
        let document = json!({
            "snapshot": 7, "service": "shop/web", "requestsInFlight": 1, "connections": 2,
            "ports": [
                {"port": 80, "family": "IPv4", "loadBalancer": "RoundRobin", "endpoints": [endpoint(1, "ejected", &open), unknown]},
                {"port": 80, "family": "IPv6", "loadBalancer": "RoundRobin", "endpoints": []}
            ]
        });
        let view: EndpointsView = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&view).unwrap(),
            document,
            "these are the names that scripts read"
        );
        assert_eq!(
            table(&view),
            "\
Service shop/web: from this node 1 request in flight, 2 connections
Port 80 has no ready endpoint over IPv6.

PORT   ADDRESS         POD          NODE   STATE     BREAKER              REQUESTS   CONNECTIONS   LATENCY   RTT       RETRANSMITS   WEIGHT
80     10.0.0.1:8080   shop/web-1   n1     ejected   open for 4.2s more   1          2             1.250ms   0.500ms   3             1
80     10.0.0.9:8080   -            -      ready     -                    0          0             -         -         -             7
"
        );
    }

    #[test]
    fn a_latency_that_is_old_says_so() {
        for (age, expected) in [
            (None, "0.250ms"),
            (Some(999.0), "0.250ms"),
            (Some(20_400.0), "0.250ms (20s ago)"),
        ] {
            assert_eq!(latency(0.25, age), expected);
        }
    }

    #[test]
    fn a_breaker_in_words() {
        for (state, failures, successes, left, expected) in [
            ("closed", 0, 0, None, "closed"),
            ("closed", 1, 0, None, "closed, 1 failure in a row"),
            ("closed", 2, 0, None, "closed, 2 failures in a row"),
            ("half_open", 0, 1, None, "half open, trials passed: 1"),
            ("open", 0, 0, Some(1250.0), "open for 1.2s more"),
            ("open", 0, 0, Some(0.0), "open, trial due"),
        ] {
            let view = BreakerView {
                state: state.to_owned(),
                failures,
                successes,
                open_for_ms: left,
            };
            assert_eq!(breaker(&view), expected);
        }
    }
}
