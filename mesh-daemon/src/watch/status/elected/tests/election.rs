//! Several candidates before an API server: who follows whom, and what is let go. The clock turns by itself while all wait.

use std::time::Duration;

use serde_json::json;
use tokio::{
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{
    super::{
        LOOK_EVERY,
        candidate::{LEASE_DURATION, LOOK_EVERY_MIN, RENEW_EVERY, TERM},
    },
    accepted, content,
    daemon::{Daemon, ELECTED, PATH, PATIENCE, holds, route, shown, with},
    own,
    server::{LEASES, Server},
    verdict,
};
use crate::watch::status::tests::api::Answer;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/weft-system/leases/weft-status";

#[tokio::test(start_paused = true)]
async fn nobody_stands_before_every_list_is_complete() {
    let body = async {
        let server = Server::new();
        let daemon = Daemon::start(&server, "n1");
        daemon.nodes.send_replace(0);
        sleep(ELECTED * 10).await;
        assert_eq!(server.api.seen().len(), 0);
        daemon.nodes.send_replace(1);
        sleep(ELECTED).await;
        assert!(daemon.leads());
    };
    LocalSet::new().run_until(body).await;
}

#[tokio::test(start_paused = true)]
async fn one_of_many_writes_and_a_dead_one_is_followed() {
    let body = async {
        let server = Server::new();
        server.change(|objects| objects.put(PATH, route(1, &[])));
        let mut daemons: Vec<_> = ["n1", "n2", "n3"].map(|node| Daemon::start(&server, node)).into();
        for daemon in &daemons {
            daemon.publish(holds(1));
        }
        sleep(ELECTED).await;
        assert_eq!(server.patches().len(), 1);
        let leader = daemons.iter().position(Daemon::leads).unwrap();
        assert_eq!(daemons.iter().filter(|daemon| daemon.leads()).count(), 1);
        // as kill -9: nothing is let go
        drop(daemons.remove(leader));
        server.change(|objects| objects.change(PATH, |object| object["metadata"]["generation"] = json!(2)));
        for daemon in &daemons {
            daemon.publish(holds(2));
        }
        let died = Instant::now();
        while !daemons.iter().any(Daemon::leads) {
            sleep(Duration::from_millis(10)).await;
        }
        println!("a successor leads after {:?}", died.elapsed());
        assert!(died.elapsed() >= LEASE_DURATION - RENEW_EVERY - Duration::from_secs(1));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(shown(&server), [own("a", 2, "True", "It holds.", "now")]);
        assert_eq!(server.patches().len(), 2);
    };
    LocalSet::new().run_until(body).await;
}

/// As a tool that labels everything does, or another one's server-side apply: that says nothing about the holder.
#[tokio::test(start_paused = true)]
async fn a_lease_that_others_touch_is_not_a_holder_that_lives() {
    with(route(1, &[]), |server, daemon| async move {
        let mut next = Daemon::start(&server, "n2");
        sleep(ELECTED).await;
        assert!(daemon.leads() && !next.leads());
        // as kill -9: nothing is let go
        drop(daemon);
        let died = Instant::now();
        let mut touched = 0;
        while !next.leads() {
            assert!(died.elapsed() < LEASE_DURATION * 3, "nobody leads");
            touched += 1;
            let labels = json!({"n": touched.to_string()});
            server.change(|objects| objects.change(LEASE, |lease| lease["metadata"]["labels"] = labels));
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(server.object(LEASE).unwrap()["spec"]["leaseTransitions"], 1);
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_finds_what_the_last_one_left_undone() {
    with(route(1, &[]), |server, mut daemon| async move {
        server.hook(|seen, _| seen.line.starts_with("PATCH").then_some(Answer::Silence));
        daemon.publish(holds(1));
        sleep(LOOK_EVERY * 2).await;
        daemon.stop().await;
        server.hook(|_, _| None);
        let next = Daemon::start(&server, "n2");
        next.publish(holds(1));
        sleep(ELECTED).await;
        assert!(next.leads());
        assert_eq!(shown(&server), [own("a", 1, "True", "It holds.", "now")]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_lets_the_lease_go_and_the_next_look_takes_it() {
    with(route(1, &[]), |server, mut daemon| async move {
        let held = server.object(LEASE).unwrap();
        assert!(
            held["spec"]["holderIdentity"].as_str().unwrap().starts_with("n1_"),
            "{held}"
        );
        assert_eq!(held["spec"]["leaseDurationSeconds"], 15);
        let mut next = Daemon::start(&server, "n2");
        sleep(ELECTED).await;
        assert!(daemon.leads() && !next.leads());
        daemon.stop().await;
        assert_eq!(server.object(LEASE).unwrap()["spec"].get("holderIdentity"), None);
        let stopped = Instant::now();
        while !next.leads() {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(stopped.elapsed() <= LOOK_EVERY_MIN.mul_f64(1.25) + Duration::from_millis(10));
        assert_eq!(server.object(LEASE).unwrap()["spec"]["leaseTransitions"], 1);
        // a follower has nothing to let go
        let mut third = Daemon::start(&server, "n3");
        sleep(ELECTED).await;
        third.stop().await;
        assert!(next.leads());
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_under_way_at_the_end_is_no_reason_to_keep_the_lease() {
    with(route(1, &[]), |server, mut daemon| async move {
        // taken in, and never answered
        server.hook(|seen, objects| {
            let is_renewal = seen.line.starts_with("PUT");
            is_renewal.then(|| {
                objects.change(LEASE, |lease| {
                    lease["spec"]["renewTime"] = seen.body["spec"]["renewTime"].clone();
                });
                Answer::Silence
            })
        });
        sleep(RENEW_EVERY + Duration::from_secs(1)).await;
        server.hook(|_, _| None);
        assert!(daemon.leads());
        daemon.stop().await;
        assert_eq!(server.object(LEASE).unwrap()["spec"].get("holderIdentity"), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_falls_silent_ends_the_term_in_time_and_with_it_what_is_under_way() {
    with(route(1, &[]), |server, daemon| async move {
        daemon.publish(holds(1));
        sleep(LOOK_EVERY * 2).await;
        server.hook(|_, _| Some(Answer::Silence));
        let silent = Instant::now();
        daemon.publish(content([("r", verdict(1, &["a"], &accepted(false, "It does not.")))]));
        sleep(TERM + Duration::from_secs(4)).await;
        assert!(!daemon.leads(), "after {:?}", silent.elapsed());
        let asked = server.requests().len();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(server.requests().len(), asked, "who does not lead writes nothing");
        server.hook(|_, _| None);
        sleep(Duration::from_secs(240)).await;
        assert!(daemon.leads());
        assert_eq!(shown(&server), [own("a", 1, "False", "It does not.", "now")]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_namespace_or_right_is_asked_for_ever_more_rarely() {
    for (code, result) in [(404, 0), (403, 0)] {
        let body = async {
            let server = Server::new();
            server.hook(move |seen, _| {
                let is_lease = seen.line.contains(LEASES);
                is_lease.then(|| Answer::Status(code, None, json!({"kind": "Status", "code": code, "message": "no"})))
            });
            let daemon = Daemon::start(&server, "n1");
            sleep(PATIENCE).await;
            let asked = server.api.seen().len();
            assert!((30..200).contains(&asked), "{code}: asked {asked} times within an hour");
            assert_eq!(daemon.metric("weft_status_leader "), result);
            server.hook(|_, _| None);
            sleep(Duration::from_secs(130)).await;
            assert!(daemon.leads(), "{code}");
        };
        LocalSet::new().run_until(body).await;
    }
}
