//! `retry`: how often, for what, after which pause, and what is never sent twice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hyper::Method;
use mesh_tests::{
    client::{self, Load, Version},
    shop::{Shop, WEB4, to_count},
};
use serde_json::json;

use super::{
    FOR_EVER, WELL, all_behave, ask, ask_counted, counted, counter, get, is_servers, obey, one_server, sequence, tally,
    wait_counter,
};
use crate::captured;

/// A budget that is never exhausted.
const RICH: &str = "budget: {percent: 100, minRetryRate: {count: 1000, interval: 1s}}";
/// Bytes of a body that are kept for retries, as `proxy::http::replay` has it.
const REPLAY_BYTES: usize = 64 * 1024;

fn retry(fields: &str) -> String {
    format!("retry: {{backoff: 0s, {RICH}, {fields}}}")
}

#[test]
fn attempts_are_retries_and_the_last_answer_is_the_answer() {
    captured(|shop| {
        all_behave(shop, &json!({"status": 503}))?;
        for (fields, expected) in [
            ("codes: [503], attempts: 0", 1),
            ("codes: [503]", 2),
            ("codes: [503], attempts: 2", 3),
            // one endpoint after the other, then again
            ("codes: [503], attempts: 5", 6),
            ("codes: [500, 502, 504], attempts: 2", 1),
            ("retryOn: [], attempts: 2", 1),
        ] {
            obey(shop, &[&retry(fields)])?;
            let (answer, served) = ask_counted(shop, &get())?;
            is_servers(&answer, 503)?;
            ensure!(served == expected, "{fields}: {served}");
        }
        obey(shop, &[&retry("codes: [503], attempts: 2")])?;
        let (_, counts) = counted(shop, || client::ask(&shop.client.netns, &get()))?;
        ensure!(
            counts.values().all(|count| *count == 1),
            "another endpoint for each: {counts:?}"
        );
        Ok(())
    });
}

#[test]
fn a_retry_finds_the_endpoint_that_is_well() {
    captured(|shop| {
        for behaviour in [json!({"status": 500}), json!({"reset": true})] {
            shop.behave("web-2", &behaviour)?;
            obey(shop, &[&retry("retryOn: [5xx, reset]")])?;
            let (answers, counts) = counted(shop, || sequence(shop, &get(), 30))?;
            ensure!(tally(&answers).keys().eq(["web-1", "web-3"].iter()), "{answers:?}");
            // its turns and no more: a retry takes no turn, or every second request would meet it
            ensure!(counts["web-2"] == 10, "{counts:?}");
        }
        Ok(())
    });
}

#[test]
fn an_answer_that_is_retried_counts_for_the_breaker() {
    captured(|shop| {
        shop.behave("web-2", &json!({"status": 500}))?;
        obey(
            shop,
            &[
                &retry("retryOn: [5xx]"),
                "circuitBreaker: {failureThreshold: 3, timeout: 1h}",
            ],
        )?;
        let (answers, counts) = counted(shop, || sequence(shop, &get(), 30))?;
        ensure!(tally(&answers).keys().eq(["web-1", "web-3"].iter()), "{answers:?}");
        ensure!(counts["web-2"] == 3, "{counts:?}");
        Ok(())
    });
}

/// "Another one, or else the same": also where the others are there and ejected.
#[test]
fn the_same_one_is_asked_again_where_the_others_are_ejected() {
    captured(|shop| {
        obey(
            shop,
            &[
                &retry("retryOn: [5xx], attempts: 2"),
                &format!("circuitBreaker: {{failureThreshold: 2, timeout: {FOR_EVER}}}"),
            ],
        )?;
        for name in ["web-2", "web-3"] {
            shop.behave(name, &json!({"status": 500}))?;
        }
        sequence(shop, &get(), 20)?;
        shop.behave("web-1", &json!({"status": 500, "times": 1}))?;
        let (answer, counts) = counted(shop, || ask(shop))?;
        is_servers(&answer, 200)?;
        ensure!(
            counts["web-1"] == 2 && counts["web-2"] + counts["web-3"] == 0,
            "{counts:?}"
        );
        Ok(())
    });
}

/// Some clients offer it with each request: these are requests like any other, and the offer goes no further.
#[test]
fn a_client_that_offers_another_version_of_http_is_retried() {
    captured(|shop| {
        obey(shop, &[&retry("retryOn: [5xx]")])?;
        shop.behave("web-2", &json!({"status": 500}))?;
        let load = get()
            .header("connection", "Upgrade, HTTP2-Settings")
            .header("upgrade", "h2c")
            .header("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA");
        let (answers, counts) = counted(shop, || sequence(shop, &load, 12))?;
        ensure!(
            tally(&answers).keys().eq(["web-1", "web-3"].iter()) && counts["web-2"] > 0,
            "{answers:?} {counts:?}"
        );
        Ok(())
    });
}

/// Time that has passed is at least what the policy says: it may be more on a busy machine, and never less.
#[test]
fn the_pause_doubles_and_does_not_outlast_the_request() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"status": 503}))?;
        obey(
            shop,
            &[&format!("retry: {{codes: [503], attempts: 3, backoff: 100ms, {RICH}}}")],
        )?;
        let start = Instant::now();
        let (answer, served) = ask_counted(shop, &get())?;
        is_servers(&answer, 503)?;
        let waited = start.elapsed();
        ensure!(
            served == 4 && waited >= Duration::from_millis(100 + 200 + 400),
            "{served} {waited:?}"
        );
        obey(
            shop,
            &[
                &format!("retry: {{codes: [503], backoff: 1h, {RICH}}}"),
                "timeout: {request: 20s}",
            ],
        )?;
        let (answer, served) = ask_counted(shop, &get())?;
        is_servers(&answer, 503)?;
        ensure!(served == 1, "{served}");
        wait_counter(
            shop,
            "weft_retries_total",
            &[("result", "no_time"), ("reason", "5xx")],
            1,
        )
    });
}

#[test]
fn what_may_have_had_its_effect_is_sent_once() {
    one_server(|shop| {
        obey(
            shop,
            &[
                &retry("retryOn: [reset, 5xx, timeout], attempts: 3"),
                "timeout: {backendRequest: 300ms}",
            ],
        )?;
        for (behaviour, status) in [
            (json!({"reset": true}), 502),
            (json!({"status": 503}), 503),
            (json!({"delay_ms": 3000}), 504),
        ] {
            shop.behave("web-1", &behaviour)?;
            for version in [Version::Http1, Version::Http2] {
                for method in [Method::POST, Method::PATCH] {
                    let load = Load::fresh(version, WEB4).method(method.clone()).body("once");
                    let (answer, served) = ask_counted(shop, &load)?;
                    ensure!(
                        answer.status == status && served == 1,
                        "{method} {behaviour}: {served} {answer:?}"
                    );
                }
                for method in [Method::PUT, Method::DELETE, Method::GET] {
                    let (answer, served) = ask_counted(shop, &Load::fresh(version, WEB4).method(method.clone()))?;
                    ensure!(
                        answer.status == status && served == 4,
                        "{method} {behaviour}: {served} {answer:?}"
                    );
                }
            }
        }
        Ok(())
    });
}

/// Letters that do not repeat in any block: what is lost, doubled or moved shows.
fn letters(count: usize) -> String {
    let mut state: u32 = 1;
    let letter = |_| {
        // a linear congruential generator (Numerical Recipes), always from the same seed
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + u8::try_from((state >> 16) % 26).unwrap_or_default())
    };
    (0..count).map(letter).collect()
}

#[test]
fn a_body_is_replayed_byte_for_byte_up_to_a_bound() {
    one_server(|shop| {
        obey(shop, &[&retry("retryOn: [reset, 5xx], attempts: 2")])?;
        for version in [Version::Http1, Version::Http2] {
            for behaviour in [json!({"status": 503, "times": 2}), json!({"reset": true, "times": 2})] {
                let body = letters(REPLAY_BYTES);
                shop.behave("web-1", &behaviour)?;
                let load = Load::fresh(version, WEB4)
                    .method(Method::PUT)
                    .header("x-echo", "1")
                    .body(body.clone());
                let (answer, served) = ask_counted(shop, &load)?;
                ensure!(
                    answer.status == 200 && served == 3,
                    "{version:?} {behaviour}: {served} {}",
                    answer.status
                );
                ensure!(
                    answer.echoed()?["body"] == body.as_str(),
                    "{version:?} {behaviour}: other bytes came"
                );
                shop.behave("web-1", &behaviour)?;
                let too_long = load.body(letters(REPLAY_BYTES + 1));
                let (answer, served) = ask_counted(shop, &too_long)?;
                ensure!(
                    answer.status >= 500 && served == 1,
                    "{version:?} {behaviour}: {served} {}",
                    answer.status
                );
                shop.behave("web-1", &WELL())?;
            }
        }
        let told = counter(shop, "weft_retries_total", &[("result", "body_too_large")])?;
        ensure!(told == 4, "{told}");
        Ok(())
    });
}

#[test]
fn nothing_is_retried_once_a_byte_of_the_answer_went_out() {
    one_server(|shop| {
        obey(shop, &[&retry("retryOn: [reset, 5xx, timeout], attempts: 3")])?;
        shop.behave("web-1", &json!({"cut": true}))?;
        for version in [Version::Http1, Version::Http2] {
            let served = broken(shop, version)?;
            ensure!(served == 1, "{version:?}: {served}");
        }
        Ok(())
    });
}

/// A request whose answer breaks off amid its body, and how many requests the server got for it.
fn broken(shop: &Shop, version: Version) -> Result<u64> {
    let (answer, counts) = counted(shop, || {
        Ok(client::ask(&shop.client.netns, &Load::fresh(version, WEB4)))
    })?;
    ensure!(answer.is_err(), "{version:?}: a whole answer: {answer:?}");
    Ok(counts.values().sum())
}

/// A key's next choice is the same endpoint as long as that is not left out: only a balancer that knows what was tried gets past it.
#[test]
fn a_retry_leaves_the_endpoint_of_its_key() {
    captured(|shop| {
        let keyed = |key: usize| get().header("x-user", &format!("user-{key}"));
        for kind in ["RingHash", "Maglev"] {
            let balancer = format!("loadBalancer: {{type: {kind}, hashKey: {{type: Header, name: x-user}}}}");
            obey(shop, &[&balancer, &retry("codes: [500], attempts: 1")])?;
            let targets = sequence(shop, &keyed(0), 2)?;
            ensure!(targets[0] == targets[1], "{kind}: {targets:?}");
            shop.behave(&targets[0], &json!({"status": 500}))?;
            let (answers, counts) = counted(shop, || sequence(shop, &keyed(0), 10))?;
            ensure!(counts[&targets[0]] == 10, "{kind}: {counts:?}");
            ensure!(
                tally(&answers).len() == 1 && answers[0].starts_with("web-") && answers[0] != targets[0],
                "{kind}: {answers:?}"
            );
            shop.behave(&targets[0], &WELL())?;
        }
        Ok(())
    });
}

#[test]
fn a_retry_for_which_there_is_no_endpoint_ends_with_the_last_answer_and_is_counted() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"status": 503}))?;
        // the answer that asks for the retry is the one that opens the only endpoint's breaker
        obey(
            shop,
            &[
                &retry("codes: [503], attempts: 3"),
                "circuitBreaker: {failureThreshold: 1, timeout: 1h}",
            ],
        )?;
        let before = shop.metrics()?;
        let (answer, served) = ask_counted(shop, &get())?;
        is_servers(&answer, 503)?;
        ensure!(served == 1, "{served}");
        let since = shop.metrics()?.since(&before);
        let told = since.by("weft_retries_total", "result", &[("reason", "5xx")]);
        let told: Vec<_> = told.iter().filter(|(_, count)| **count > 0.0).collect();
        ensure!(
            matches!(told[..], [(result, count)] if result == "no_endpoint" && to_count(*count) == 1),
            "{told:?}"
        );
        Ok(())
    });
}
