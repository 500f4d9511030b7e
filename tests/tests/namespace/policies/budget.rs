//! `retry.budget`: retries of all requests to a Service together. A shop for each: what was retried is remembered.

use anyhow::{Result, ensure};
use hyper::Method;
use mesh_tests::shop::Shop;
use serde_json::json;

use super::{FOR_EVER, ask_counted, counter, get, is_servers, obey, one_server, wait_counter};

/// Requests that fail for good, and how many retries there were.
fn retries(shop: &Shop, requests: u64) -> Result<u64> {
    let mut retries = 0;
    for _ in 0..requests {
        let (answer, served) = ask_counted(shop, &get())?;
        is_servers(&answer, 503)?;
        retries += served - 1;
    }
    Ok(retries)
}

fn with(budget: &str) -> String {
    format!("retry: {{codes: [503], backoff: 0s, attempts: 1, budget: {budget}}}")
}

#[test]
fn the_floor_is_had_in_any_case_and_no_more() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"status": 503}))?;
        obey(
            shop,
            &[&with(
                "{percent: 0, interval: 1h, minRetryRate: {count: 3, interval: 1h}}",
            )],
        )?;
        let made = retries(shop, 10)?;
        ensure!(made == 3, "{made} retries");
        wait_counter(
            shop,
            "weft_retries_total",
            &[("result", "budget_exhausted"), ("reason", "5xx")],
            7,
        )?;
        ensure!(counter(shop, "weft_retries_total", &[("result", "sent")])? == 3);
        // the rate is of its own interval: 1 in 20 minutes are 3 in an hour, which were had
        obey(
            shop,
            &[&with(
                "{percent: 0, interval: 1h, minRetryRate: {count: 1, interval: 20m}}",
            )],
        )?;
        ensure!(retries(shop, 3)? == 0);
        obey(
            shop,
            &[&with(
                "{percent: 0, interval: 1h, minRetryRate: {count: 5, interval: 1h}}",
            )],
        )?;
        ensure!(retries(shop, 5)? == 2);
        // in a window of a second none of them is left
        obey(
            shop,
            &[&with(
                "{percent: 0, interval: 1s, minRetryRate: {count: 1, interval: 1s}}",
            )],
        )?;
        mesh_tests::bench::wait_for("a retry in the next window", mesh_tests::daemon::HANG_GUARD, || {
            Ok((retries(shop, 1)? == 1).then_some(()))
        })
    });
}

#[test]
fn a_body_that_is_too_long_to_be_sent_again_costs_no_budget() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"status": 503}))?;
        obey(
            shop,
            &[&with(
                "{percent: 0, interval: 1h, minRetryRate: {count: 1, interval: 1h}}",
            )],
        )?;
        let too_long = get().method(Method::PUT).body(vec![b'x'; 100_000]);
        ensure!(ask_counted(shop, &too_long)?.1 == 1);
        let made = retries(shop, 3)?;
        ensure!(made == 1, "{made} retries, the budget has one");
        Ok(())
    });
}

#[test]
fn a_retry_that_finds_no_endpoint_costs_no_budget() {
    one_server(|shop| {
        let one = with("{percent: 0, interval: 1h, minRetryRate: {count: 1, interval: 1h}}");
        shop.behave("web-1", &json!({"status": 503}))?;
        obey(
            shop,
            &[
                &one,
                &format!("circuitBreaker: {{failureThreshold: 1, timeout: {FOR_EVER}}}"),
            ],
        )?;
        // by its own answer the only server is ejected, and the client gets that
        ensure!(retries(shop, 1)? == 0);
        wait_counter(
            shop,
            "weft_retries_total",
            &[("result", "no_endpoint"), ("reason", "5xx")],
            1,
        )?;
        obey(shop, &[&one])?;
        let made = retries(shop, 3)?;
        ensure!(made == 1, "{made} retries, the budget has one");
        Ok(())
    });
}

#[test]
fn a_part_of_the_requests_pays_for_retries() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"status": 503}))?;
        obey(
            shop,
            &[&with(
                "{percent: 50, interval: 1h, minRetryRate: {count: 4, interval: 1h}}",
            )],
        )?;
        let made = retries(shop, 60)?;
        // at most half of all requests; at most one in five of those is lost to looking at every window
        ensure!((24..=30).contains(&made), "{made} retries of 60 requests");
        obey(
            shop,
            &[&with(
                "{percent: 100, interval: 1h, minRetryRate: {count: 1, interval: 1h}}",
            )],
        )?;
        let made = retries(shop, 20)?;
        ensure!(made >= 10, "{made} retries of 20 requests");
        Ok(())
    });
}

/// It is a part of the requests that may be retried: others come without a bound, and would pay for any storm.
#[test]
fn requests_that_are_never_retried_do_not_pay() {
    one_server(|shop| {
        let budget = with("{percent: 50, interval: 1h, minRetryRate: {count: 1, interval: 1h}}");
        shop.behave("web-1", &json!({"status": 503}))?;
        obey(shop, &[&budget])?;
        let made = retries(shop, 1)?;
        ensure!(made == 1, "the floor has one, there were {made}");
        for spec in ["timeout: {request: 20s}", "retry: {attempts: 0}"] {
            obey(shop, &[spec])?;
            let made = retries(shop, 20)?;
            ensure!(made == 0, "{spec}: {made} retries");
        }
        obey(shop, &[&budget])?;
        let made = retries(shop, 1)?;
        ensure!(made == 0, "{made} retries were paid by requests that have none");
        // those that may be retried do, also where they need none
        shop.behave("web-1", &json!({}))?;
        for _ in 0..20 {
            ask_counted(shop, &get())?;
        }
        shop.behave("web-1", &json!({"status": 503}))?;
        let made = retries(shop, 1)?;
        ensure!(made == 1, "{made} retries after 20 requests that pay");
        Ok(())
    });
}
