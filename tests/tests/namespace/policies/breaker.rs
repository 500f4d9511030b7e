//! `circuitBreaker`: when it opens, what it lets through then, and when it closes.

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client,
    daemon::HANG_GUARD,
    shop::{Shop, WEB4},
};
use serde_json::json;

use super::{
    FOR_EVER, Held, WELL, all_behave, another_client, ask, ask_counted, counted, counter, crowd, forget, get,
    is_servers, obey, one_server, refused, sequence, tally,
};
use crate::captured;

/// Asks until the server answers: the first trial of a breaker that is open.
fn wait_trial(shop: &Shop) -> Result<()> {
    wait_for("a trial", HANG_GUARD, || Ok((ask(shop)?.status == 200).then_some(())))
}

/// The next `failures` requests are answered by the server with 500, and the one after them by nobody.
fn opens_after(shop: &Shop, failures: u64) -> Result<()> {
    for number in 1..=failures {
        let answer = ask(shop)?;
        ensure!(answer.status == 500, "failure {number} of {failures}: {answer:?}");
        is_servers(&answer, 500)?;
    }
    let (answer, served) = ask_counted(shop, &get())?;
    ensure!(served == 0, "after {failures} failures it was asked again");
    refused(&answer, "circuit_open")
}

#[test]
fn failures_in_a_row_open_it_and_none_else() {
    one_server(|shop| {
        obey(
            shop,
            &[&format!("circuitBreaker: {{failureThreshold: 3, timeout: {FOR_EVER}}}")],
        )?;
        shop.behave("web-1", &json!({"status": 500, "times": 2}))?;
        for expected in [500, 500, 200] {
            is_servers(&ask(shop)?, expected)?;
        }
        shop.behave("web-1", &json!({"status": 500}))?;
        opens_after(shop, 3)?;
        ensure!(counter(shop, "weft_ejections_total", &[("reason", "5xx")])? == 1);
        // what is not among the default's words does not
        forget(shop)?;
        obey(
            shop,
            &[&format!("circuitBreaker: {{failureThreshold: 1, timeout: {FOR_EVER}}}")],
        )?;
        shop.behave("web-1", &json!({"status": 429}))?;
        for _ in 0..3 {
            is_servers(&ask(shop)?, 429)?;
        }
        Ok(())
    });
}

/// However many ask at once, only those fail that were under way when the last of the failures came.
#[test]
fn a_crowd_meets_it_no_more_often_than_it_must() {
    const CROWD: u64 = 8;
    one_server(|shop| {
        obey(
            shop,
            &[&format!("circuitBreaker: {{failureThreshold: 5, timeout: {FOR_EVER}}}")],
        )?;
        shop.behave("web-1", &json!({"status": 500, "delay_ms": 50}))?;
        let (tally, counts) = counted(shop, || crowd(shop, 200, CROWD))?;
        ensure!(tally.failed == 200, "{tally:?}");
        ensure!((5..5 + CROWD).contains(&counts["web-1"]), "{counts:?}");
        Ok(())
    });
}

#[test]
fn trials_follow_the_timeout_and_enough_of_them_close_it() {
    one_server(|shop| {
        obey(
            shop,
            &["circuitBreaker: {failureThreshold: 3, successThreshold: 2, timeout: 300ms}"],
        )?;
        shop.behave("web-1", &json!({"status": 500}))?;
        for _ in 0..3 {
            is_servers(&ask(shop)?, 500)?;
        }
        shop.behave("web-1", &WELL())?;
        wait_trial(shop)?;
        // one success of two: a failure opens it at once
        obey(
            shop,
            &["circuitBreaker: {failureThreshold: 3, successThreshold: 2, timeout: 1h}"],
        )?;
        shop.behave("web-1", &json!({"status": 500}))?;
        opens_after(shop, 1)?;
        shop.behave("web-1", &WELL())?;
        obey(
            shop,
            &["circuitBreaker: {failureThreshold: 3, successThreshold: 2, timeout: 300ms}"],
        )?;
        wait_trial(shop)?;
        is_servers(&ask(shop)?, 200)?;
        obey(
            shop,
            &["circuitBreaker: {failureThreshold: 3, successThreshold: 2, timeout: 1h}"],
        )?;
        shop.behave("web-1", &json!({"status": 500}))?;
        opens_after(shop, 3)
    });
}

#[test]
fn half_open_it_lets_so_many_through_at_a_time() {
    const ALL: u64 = 6;
    one_server(|shop| {
        let spec = |timeout| {
            format!(
                "circuitBreaker: {{failureThreshold: 1, successThreshold: 1000, timeout: {timeout}, halfOpenRequests: 2}}"
            )
        };
        obey(shop, &[&spec("1ms")])?;
        shop.behave("web-1", &json!({"status": 500, "times": 1}))?;
        is_servers(&ask(shop)?, 500)?;
        wait_trial(shop)?;
        // long enough for the slowest machine to ask six times within it
        shop.behave("web-1", &json!({"delay_ms": 3000}))?;
        let (tally, counts) = counted(shop, || crowd(shop, ALL, ALL))?;
        ensure!(counts["web-1"] == 2 && tally.failed == 4, "{counts:?} {tally:?}");
        ensure!(
            tally.errors.keys().all(|error| error.contains("circuit_open")),
            "{tally:?}"
        );
        Ok(())
    });
}

#[test]
fn no_more_are_ejected_than_the_policy_lets_and_one_always() {
    captured(|shop| {
        all_behave(shop, &json!({"status": 500}))?;
        for (percent, ejected) in [(0, 1), (50, 1), (66, 1), (67, 2), (99, 2)] {
            forget(shop)?;
            let breaker =
                format!("circuitBreaker: {{failureThreshold: 1, timeout: {FOR_EVER}, maxEjectionPercent: {percent}}}");
            obey(shop, &[&breaker])?;
            sequence(shop, &get(), 12)?;
            let (answers, counts) = counted(shop, || sequence(shop, &get(), 12))?;
            ensure!(tally(&answers).keys().eq(["500 "].iter()), "{percent} %: {answers:?}");
            let left_out = counts.values().filter(|count| **count == 0).count();
            ensure!(left_out == ejected, "{percent} %: {counts:?}");
        }
        Ok(())
    });
}

#[test]
fn when_all_are_open_it_fails_fast_or_panics() {
    captured(|shop| {
        all_behave(shop, &json!({"status": 500}))?;
        let breaker = |when| format!("circuitBreaker: {{failureThreshold: 1, timeout: {FOR_EVER}{when}}}");
        obey(shop, &[&breaker("")])?;
        ensure!(tally(&sequence(shop, &get(), 3)?).keys().eq(["500 "].iter()));
        let (answers, counts) = counted(shop, || sequence(shop, &get(), 5))?;
        ensure!(tally(&answers).keys().eq(["503 circuit_open"].iter()), "{answers:?}");
        ensure!(counts.values().all(|count| *count == 0), "{counts:?}");
        obey(shop, &[&breaker(", whenAllOpen: Panic")])?;
        all_behave(shop, &WELL())?;
        let (answers, counts) = counted(shop, || sequence(shop, &get(), 9))?;
        ensure!(counts.values().sum::<u64>() == 9, "{answers:?}");
        obey(shop, &[&breaker(", whenAllOpen: FailFast")])?;
        refused(&ask(shop)?, "circuit_open")
    });
}

#[test]
fn pods_of_a_node_share_it_and_a_new_snapshot_keeps_it() {
    one_server(|shop| {
        let beside = another_client(shop, 0, "beside")?;
        let elsewhere = another_client(shop, 1, "elsewhere")?;
        let breaker = format!("circuitBreaker: {{failureThreshold: 2, timeout: {FOR_EVER}}}");
        obey(shop, &[&breaker])?;
        shop.behave("web-1", &json!({"status": 500}))?;
        opens_after(shop, 2)?;
        refused(&client::ask(&beside.netns, &get())?, "circuit_open")?;
        is_servers(&client::ask(&elsewhere.netns, &get())?, 500)?;
        // the policy says more, and other endpoints come
        obey(shop, &[&breaker, "limits: {maxRequests: 100}"])?;
        refused(&ask(shop)?, "circuit_open")?;
        let new = shop.add_server(1)?;
        shop.publish()?;
        wait_for("the new endpoint", HANG_GUARD, || {
            Ok((ask(shop)?.status == 200).then_some(()))
        })?;
        let (answers, counts) = counted(shop, || sequence(shop, &get(), 6))?;
        ensure!(counts["web-1"] == 0 && counts[&new] == 6, "{answers:?}");
        // without the policy nothing is broken
        forget(shop)?;
        let (_, counts) = counted(shop, || sequence(shop, &get(), 6))?;
        ensure!(counts["web-1"] == 3, "{counts:?}");
        Ok(())
    });
}

/// What went out before there was a breaker says nothing to it.
#[test]
fn a_request_from_before_the_policy_does_not_close_it() {
    one_server(|shop| {
        let held = Held::begin(shop, WEB4)?;
        obey(
            shop,
            &[&format!("circuitBreaker: {{failureThreshold: 2, timeout: {FOR_EVER}}}")],
        )?;
        shop.behave("web-1", &json!({"status": 500}))?;
        opens_after(shop, 2)?;
        held.end()?;
        refused(&ask(shop)?, "circuit_open")
    });
}
