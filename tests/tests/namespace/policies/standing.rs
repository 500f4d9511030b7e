//! Which policy holds: of two the older one, whole; of one whose spec went wrong, the last that was right.

use anyhow::{Result, ensure};
use mesh_tests::{announce::Announce as _, daemon::DaemonOptions, shop::Shop};
use serde_json::json;

use super::{ask, ask_counted, get, is_servers, obeyed, one_server, policy};

/// Applies a policy without waiting.
fn apply(shop: &Shop, name: &str, created: &str, spec: &[&str]) -> Result<u32> {
    let (yaml, generation) = policy(name, created, spec);
    shop.objects.apply(&yaml)?;
    Ok(generation)
}

const OLDER: &str = "2025-01-01T00:00:00Z";
const YOUNGER: &str = "2026-01-01T00:00:00Z";
const RETRY: &str = "retry: {codes: [503], attempts: 2, backoff: 0s}";

#[test]
fn the_older_of_two_holds_whole_and_its_end_is_the_others_beginning() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"status": 503}))?;
        // first by name, and younger
        let younger = apply(shop, "a", YOUNGER, &[RETRY])?;
        obeyed(shop, &format!("policy shop/a generation={younger} "))?;
        ensure!(ask_counted(shop, &get())?.1 == 3);
        let older = apply(shop, "b", OLDER, &["timeout: {request: 20s}"])?;
        obeyed(shop, &format!("policy shop/b generation={older} "))?;
        obeyed(
            shop,
            &format!("policy-status shop/a generation={younger} target=shop/web Accepted=false Conflicted: "),
        )?;
        ensure!(
            ask_counted(shop, &get())?.1 == 1,
            "the younger one's retry holds beside the older one"
        );
        shop.objects.delete("TrafficPolicy", "shop", "b")?;
        obeyed(shop, &format!("policy shop/a generation={younger} "))?;
        ensure!(ask_counted(shop, &get())?.1 == 3, "it falls back");
        // as old: the first by name
        let same = apply(shop, "b", YOUNGER, &["timeout: {request: 20s}"])?;
        obeyed(
            shop,
            &format!("policy-status shop/b generation={same} target=shop/web Accepted=false Conflicted: "),
        )?;
        ensure!(ask_counted(shop, &get())?.1 == 3);
        shop.objects.delete("TrafficPolicy", "shop", "a")?;
        obeyed(shop, &format!("policy shop/b generation={same} "))?;
        ensure!(ask_counted(shop, &get())?.1 == 1);
        shop.objects.delete("TrafficPolicy", "shop", "b")?;
        shop.objects.delete("TrafficPolicy", "shop", "none")?;
        is_servers(&ask(shop)?, 503)
    });
}

#[test]
fn a_spec_that_is_wrong_does_not_replace_one_that_was_right() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"status": 503}))?;
        let right = apply(shop, "web", YOUNGER, &[RETRY])?;
        obeyed(shop, &format!("policy shop/web generation={right} "))?;
        for (spec, field) in [
            ("retry: {attempts: 11}", "spec.retry.attempts"),
            ("timeout: {request: soon}", "spec.timeout.request"),
            ("loadBalancer: {type: Best}", "spec.loadBalancer.type"),
        ] {
            let wrong = apply(shop, "web", YOUNGER, &[spec])?;
            let told =
                format!("policy-status shop/web generation={wrong} target=shop/web Accepted=false Invalid: {field}");
            obeyed(shop, &told)?;
            obeyed(shop, &format!("policy shop/web generation={right} "))?;
            ensure!(ask_counted(shop, &get())?.1 == 3, "{spec}: the last valid one holds");
        }
        // another object of its name never was right
        let wrong = apply(shop, "web", OLDER, &["retry: {attempts: 11}"])?;
        obeyed(shop, &format!("policy-status shop/web generation={wrong} "))?;
        ensure!(ask_counted(shop, &get())?.1 == 1, "it counts as absent");
        Ok(())
    });
}

/// The state directory belongs to the API server's objects: what stands in the manifests alone is all that a daemon knows that begins with them.
#[test]
fn a_daemon_that_never_saw_a_valid_spec_treats_the_policy_as_absent() {
    one_server(|shop| {
        shop.behave("web-1", &json!({"status": 503}))?;
        let right = apply(shop, "web", YOUNGER, &[RETRY])?;
        obeyed(shop, &format!("policy shop/web generation={right} "))?;
        let wrong = apply(shop, "web", YOUNGER, &["retry: {attempts: 11}"])?;
        let told = format!("policy-status shop/web generation={wrong} ");
        obeyed(shop, &told)?;
        ensure!(ask_counted(shop, &get())?.1 == 3);
        shop.daemons[0] = None;
        shop.start_daemon(0, &DaemonOptions::default())?;
        obeyed(shop, &told)?;
        shop.wait_captured(true)?;
        ensure!(ask_counted(shop, &get())?.1 == 1);
        Ok(())
    });
}
