//! The running writer before an API server: paths and bodies, other writers, troubles, storms. The clock turns by itself while all wait.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        LOOK_EVERY, TOKEN_EVERY, TOKENS_MAX,
        backlog::{REMOVED_AFTER, SAME_AFTER},
        write::REQUESTS,
    },
    accepted, content,
    daemon::{PATH, THEN, holds, parents, route, shown, with},
    entry, own, policy_content,
    server::{LEASES, Server},
    verdict,
};
use crate::{
    ids::ObjectRef,
    model::Content,
    watch::{objects::Kind, status::tests::api::Answer},
};

const POLICY: &str = "/apis/weft.mesh/v1alpha1/namespaces/shop/trafficpolicies/p";

#[tokio::test(start_paused = true)]
async fn a_route_gets_its_status_by_a_read_and_a_write_that_holds_only_for_what_was_read() {
    with(route(1, &[]), |server, daemon| async move {
        daemon.publish(holds(1));
        sleep(LOOK_EVERY * 2).await;
        let [read, write] = server.requests().try_into().unwrap();
        assert_eq!(read.line, format!("GET {PATH}"));
        assert_eq!(
            write.line,
            format!("PATCH {PATH}/status?&fieldManager=weft-mesh-daemon")
        );
        assert_eq!(write.content_type, "application/merge-patch+json");
        assert_eq!(write.body["metadata"], json!({"resourceVersion": "1"}));
        assert_eq!(shown(&server), [own("a", 1, "True", "It holds.", "now")]);
        assert_eq!(daemon.writes("route", "written"), 1);
        assert_eq!(server.object(PATH).unwrap()["spec"], route(1, &[])["spec"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_gets_its_status() {
    with(route(1, &[]), |server, daemon| async move {
        let metadata = json!({"namespace": "shop", "name": "p", "uid": "v", "generation": 2});
        server.change(|objects| objects.put(POLICY, json!({"metadata": metadata})));
        daemon.publish(policy_content("p", 2, &["a"], &accepted(false, "No.")));
        sleep(LOOK_EVERY * 2).await;
        let policy = server.object(POLICY).unwrap();
        assert_eq!(policy["status"]["ancestors"][0]["ancestorRef"]["name"], "a");
        assert_eq!(
            policy["status"]["ancestors"][0]["conditions"][0]["observedGeneration"],
            2
        );
        assert_eq!(daemon.writes("policy", "written"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn in_the_steady_state_nothing_is_read_or_written() {
    with(
        route(1, &[own("a", 1, "True", "It holds.", THEN)]),
        |server, daemon| async move {
            for _ in 0..100 {
                daemon.publish(holds(1));
                server
                    .change(|objects| objects.change(PATH, |object| object["metadata"]["labels"] = json!({"x": "y"})));
                sleep(Duration::from_secs(60)).await;
            }
            assert_eq!(server.requests().len(), 0);
            // the lease alone
            let renewals = server.api.seen().len() as u64;
            assert!((1190..1210).contains(&renewals), "{renewals} requests in 100 minutes");
            assert_eq!(daemon.writes("route", "written"), 0);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_writer_between_read_and_write_loses_nothing() {
    with(route(1, &[]), |server, daemon| async move {
        let mut conflicts = 3;
        server.hook(move |seen, objects| {
            if seen.line.starts_with("PATCH") && conflicts > 0 {
                conflicts -= 1;
                let foreign = entry("example.net/other", &format!("g{conflicts}"), 1, "True", "Mine.", THEN);
                objects.change(PATH, |object| {
                    object["status"]["parents"].as_array_mut().unwrap().push(foreign);
                });
            }
            None
        });
        daemon.publish(holds(1));
        sleep(Duration::from_secs(5)).await;
        let foreign = |name| entry("example.net/other", name, 1, "True", "Mine.", THEN);
        assert_eq!(
            shown(&server),
            [
                foreign("g2"),
                foreign("g1"),
                foreign("g0"),
                own("a", 1, "True", "It holds.", "now")
            ]
        );
        assert_eq!(
            (daemon.writes("route", "conflict"), daemon.writes("route", "written")),
            (3, 1)
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn our_entry_that_another_one_spoils_is_mended_and_not_fought_for() {
    with(route(1, &[]), |server, daemon| async move {
        daemon.publish(holds(1));
        sleep(LOOK_EVERY * 2).await;
        let begun = server.patches().len();
        for _ in 0..100 {
            server.change(|objects| objects.change(PATH, |object| object["status"]["parents"] = json!([])));
            sleep(Duration::from_millis(100)).await;
        }
        sleep(SAME_AFTER * 2).await;
        assert_eq!(shown(&server), [own("a", 1, "True", "It holds.", "now")]);
        let patches = server.patches().len() - begun;
        assert!((5..=12).contains(&patches), "{patches} writes within 12 s");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn our_entries_go_with_the_parent_and_only_ours() {
    let foreign = entry("example.net/other", "a", 1, "True", "Mine.", THEN);
    let both = [own("a", 1, "True", "It holds.", THEN), foreign.clone()];
    with(route(1, &both), |server, daemon| async move {
        daemon.publish(Content::default());
        sleep(REMOVED_AFTER / 2).await;
        assert_eq!(server.requests().len(), 0, "it may be needed yet");
        sleep(REMOVED_AFTER).await;
        assert_eq!(parents(&server), [foreign]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_never_written_over_a_newer_object_or_another_of_its_name() {
    // the new one of the name gets its own entries, once the watch has shown it
    for (generation, uid, patches) in [(2, "u", 0), (1, "another", 1)] {
        with(route(1, &[]), |server, daemon| async move {
            // it changes before we read it, and the watch is behind
            server.hook(move |seen, objects| {
                if seen.line == format!("GET {PATH}") {
                    objects.change(PATH, |object| {
                        object["metadata"]["generation"] = json!(generation);
                        object["metadata"]["uid"] = json!(uid);
                    });
                }
                None
            });
            daemon.publish(holds(1));
            sleep(LOOK_EVERY * 3).await;
            assert_eq!(server.patches().len(), patches);
            assert_eq!(daemon.writes("route", "gone"), 1);
            assert!(
                !server
                    .requests()
                    .get(1)
                    .is_some_and(|seen| seen.line.starts_with("PATCH")),
                "{uid}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn troubles_are_tried_again_and_the_last_state_is_written() {
    for (code, result) in [(403, "forbidden"), (500, "failed"), (429, "throttled")] {
        with(route(1, &[]), |server, daemon| async move {
            server.hook(move |seen, _| {
                let is_ours = !seen.line.contains(LEASES);
                is_ours.then(|| Answer::Status(code, None, json!({"kind": "Status", "code": code, "message": "no"})))
            });
            daemon.publish(content([("r", verdict(1, &["a"], &accepted(false, "Not yet.")))]));
            sleep(Duration::from_secs(300)).await;
            let tries = server.requests().len();
            assert!((10..=20).contains(&tries), "{code}: {tries} tries within 300 s");
            assert_eq!(daemon.writes("route", result), tries as u64);
            daemon.publish(holds(1));
            server.hook(|_, _| None);
            sleep(Duration::from_secs(60)).await;
            assert_eq!(shown(&server), [own("a", 1, "True", "It holds.", "now")], "{code}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_stays_under_the_rate_and_the_last_one_holds() {
    with(route(1, &[]), |server, daemon| async move {
        let names: Vec<&'static str> = (0..50).map(|index| &*format!("r{index}").leak()).collect();
        for name in &names {
            let path = PATH.trim_end_matches('r').to_owned() + name;
            let mut object = route(1, &[]);
            object["metadata"]["name"] = json!(name);
            server.change(|objects| objects.put(&path, object));
        }
        let begun = Instant::now();
        for change in 0..1000 {
            let message = format!("Change {change}.");
            daemon.publish(content(
                names
                    .iter()
                    .map(|name| (*name, verdict(1, &["a"], &accepted(true, &message)))),
            ));
            sleep(Duration::from_millis(10)).await;
        }
        let storm = begun.elapsed();
        let during = server.requests();
        let allowed = storm.div_duration_f64(TOKEN_EVERY) + f64::from(TOKENS_MAX);
        println!(
            "1,000 changes of 50 routes in {storm:?}: {} requests, {allowed} are allowed",
            during.len()
        );
        for (number, seen) in (1_u32..).zip(&during) {
            let allowed = seen.at.duration_since(begun).div_duration_f64(TOKEN_EVERY) + f64::from(TOKENS_MAX);
            assert!(
                f64::from(number) <= allowed + f64::from(REQUESTS),
                "{number} requests, {allowed} are allowed"
            );
        }
        sleep(Duration::from_secs(10)).await;
        for name in names {
            let path = PATH.trim_end_matches('r').to_owned() + name;
            let object = server.object(&path).unwrap();
            assert_eq!(
                object["status"]["parents"][0]["conditions"][0]["message"], "Change 999.",
                "{name}"
            );
        }
        let after = server.requests().len();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(server.requests().len(), after);
    })
    .await;
}

#[test]
fn the_server_of_these_tests_refuses_what_is_outdated() {
    let server = Server::new();
    server.change(|objects| objects.put(PATH, route(1, &[])));
    server.change(|objects| objects.delete(PATH));
    assert_eq!(server.object(PATH), None);
    let claims = server.claims();
    assert!(
        !claims
            .borrow()
            .contains_key(&(Kind::HttpRoute, ObjectRef::new("shop", "r")))
    );
}
