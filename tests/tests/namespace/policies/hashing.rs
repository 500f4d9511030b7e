//! `RingHash` and `Maglev`: a key stays with its endpoint, goes to the same other one while that is ejected, and comes back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{self, Load, Version},
    daemon::HANG_GUARD,
    shop::{Shop, WEB4, WEB6},
};
use serde_json::json;

use super::{WELL, another_client, counter, forget, get, obey, sequence, tally};
use crate::captured;

/// Keys that are tried: that an even hash puts them all on one of three endpoints is (1/3)^23, 1e-11, once and for all.
const KEYS: usize = 24;

/// Clients beside the first: that an even hash puts all six on one of three endpoints is (1/3)^5, 0.4 %; addresses and hash are the same in each run.
const OTHER_CLIENTS: usize = 5;

type Keyed = fn(usize) -> Load;

fn by_header(key: usize) -> Load {
    get().header("x-user", &format!("user-{key}"))
}

fn by_cookie(key: usize) -> Load {
    get().header("cookie", &format!("theme=dark; session=s{key}"))
}

/// Where each key goes; it must be one place for all of its requests.
fn places(shop: &Shop, load: Keyed) -> Result<BTreeMap<usize, String>> {
    (0..KEYS)
        .map(|key| {
            let answers: BTreeSet<_> = sequence(shop, &load(key), 3)?.into_iter().collect();
            ensure!(answers.len() == 1, "key {key} went to {answers:?}");
            let place = answers.into_iter().next().context("no answer")?;
            Ok((key, place))
        })
        .collect()
}

#[test]
fn keys_stay_move_on_while_their_target_is_ejected_and_return() {
    captured(|shop| {
        for (kind, key, load) in [
            ("RingHash", "{type: Header, name: X-User}", by_header as Keyed),
            ("Maglev", "{type: Header, name: X-User}", by_header),
            ("RingHash", "{type: Cookie, name: session}", by_cookie),
            ("Maglev", "{type: Cookie, name: session}", by_cookie),
        ] {
            let balancer = format!("loadBalancer: {{type: {kind}, hashKey: {key}}}");
            let breaker =
                |timeout| format!("circuitBreaker: {{failureThreshold: 1, successThreshold: 1, timeout: {timeout}}}");
            obey(shop, &[&balancer, &breaker("1h")])?;
            let before = places(shop, load)?;
            let all: BTreeSet<_> = before.values().collect();
            ensure!(all.len() > 1, "{kind} by {key} uses {all:?}");
            let target = before[&0].clone();
            shop.behave(&target, &json!({"status": 500}))?;
            ensure!(sequence(shop, &load(0), 1)? == ["500 "], "the failure that ejects it");
            let ejected = places(shop, load)?;
            for (key, place) in &ejected {
                let stays = *place == before[key];
                ensure!(
                    stays != (before[key] == target),
                    "{kind}: key {key} from {} to {place}",
                    before[key]
                );
            }
            shop.behave(&target, &WELL())?;
            obey(shop, &[&balancer, &breaker("1s")])?;
            wait_for("the target's return", HANG_GUARD, || {
                Ok((places(shop, load)? == before).then_some(()))
            })?;
            forget(shop)?;
        }
        Ok(())
    });
}

#[test]
fn clients_are_told_apart_by_their_addresses() {
    captured(|shop| {
        let mut clients = vec![shop.client.clone()];
        for number in 1..=OTHER_CLIENTS {
            clients.push(another_client(shop, 0, &format!("other-{number}"))?);
        }
        for kind in ["RingHash", "Maglev"] {
            obey(
                shop,
                &[&format!(
                    "loadBalancer: {{type: {kind}, hashKey: {{type: SourceAddress}}}}"
                )],
            )?;
            let mut places = BTreeSet::new();
            for client in &clients {
                let answers = (0..5).map(|_| Ok(client::ask(&client.netns, &get())?.text()));
                let of_client: BTreeSet<_> = answers.collect::<Result<_>>()?;
                ensure!(of_client.len() == 1, "{kind}: {} was with {of_client:?}", client.v4);
                places.extend(of_client);
            }
            ensure!(places.len() > 1, "{kind}: all clients are with {places:?}");
        }
        Ok(())
    });
}

#[test]
fn a_client_stays_by_its_address_and_absent_keys_are_drawn_and_counted() {
    const ABSENT: &str = "weft_hash_key_absent_total";
    captured(|shop| {
        for kind in ["RingHash", "Maglev"] {
            obey(
                shop,
                &[&format!(
                    "loadBalancer: {{type: {kind}, hashKey: {{type: SourceAddress}}}}"
                )],
            )?;
            let absent = counter(shop, ABSENT, &[])?;
            for target in [WEB4, WEB6] {
                let answers = sequence(shop, &Load::fresh(Version::Http1, target), 20)?;
                ensure!(tally(&answers).len() == 1, "{kind}: {answers:?}");
            }
            ensure!(counter(shop, ABSENT, &[])? == absent, "an address is never absent");
            obey(
                shop,
                &[&format!(
                    "loadBalancer: {{type: {kind}, hashKey: {{type: Cookie, name: session}}}}"
                )],
            )?;
            let answers = sequence(shop, &get().header("cookie", "other=1"), 60)?;
            // one that is never drawn: 3 (2/3)^60, 8e-11
            ensure!(tally(&answers).len() == 3, "{kind}: {answers:?}");
            ensure!(counter(shop, ABSENT, &[])? == absent + 60, "each is counted");
        }
        Ok(())
    });
}
