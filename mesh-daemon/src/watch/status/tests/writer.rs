//! The running writer before an API server: paths and bodies, refusals, troubles, bursts. The clock turns by itself while all wait.

use std::{future::Future, time::Duration};

use k8s_openapi::jiff::Timestamp;
use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{
    super::{
        bucket::{TOKEN_EVERY, TOKENS_MAX},
        exchange::{Trouble, WRITE_TIMEOUT},
        ledger::{LASTING, PAUSE_MAX, SHOWN_WITHIN, SPREAD_MAX},
        log::{Log, News},
        run,
        write::{Object, Outcome},
    },
    INTERFACE, ack,
    api::{Answer, Api, OBJECT_UID, Seen},
    aside, locals, object,
};
use crate::{
    ids::NodeName,
    model::{Ack, Capture, NotCaptured},
    task,
    watch::Metrics,
};

const POD: &str = "shop/web";
const CAPTURED: Capture = Capture::Captured(INTERFACE);
const NOT_LABELLED: Capture = Capture::Not(NotCaptured::NotLabelled);

struct Running {
    api: Api,
    acks: watch::Sender<Option<Ack>>,
    registry: Registry,
    _task: task::Scoped<()>,
}

impl Running {
    fn apply(&self, applied: Ack) {
        self.acks.send_replace(Some(applied));
    }

    fn writes(&self, object: &str, result: &str) -> u64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let sample = format!("weft_status_writes_total{{object=\"{object}\",result=\"{result}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&sample));
        count.map_or(0, |count| count.parse().unwrap())
    }

    fn pending(&self) -> String {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("weft_status_pending "));
        count.unwrap().to_owned()
    }
}

/// With the writer before an API server that has these pods.
async fn with<F: Future<Output = ()>>(pods: &[&str], test: impl FnOnce(Running) -> F) {
    let body = async {
        let api = Api::new(locals(pods));
        let (acks, seen) = watch::channel(None);
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        let writer = run(api.client(), NodeName("n1".into()), seen, api.watch(), metrics);
        test(Running {
            api,
            acks,
            registry,
            _task: task::scoped("status", writer),
        })
        .await;
    };
    LocalSet::new().run_until(body).await;
}

fn status(code: u16, body: Value) -> impl Fn(&Seen) -> Answer {
    move |_| Answer::Status(code, None, body.clone())
}

#[tokio::test(start_paused = true)]
async fn a_captured_pod_gets_its_condition_and_its_event() {
    with(&[POD], |running| async move {
        running.apply(ack(&[(POD, CAPTURED)]));
        let [patch, event] = running.api.wait_for(2).await.try_into().unwrap();
        assert_eq!(
            patch.line,
            "PATCH /api/v1/namespaces/shop/pods/web/status?&fieldManager=weft-mesh-daemon"
        );
        assert_eq!(patch.content_type, "application/strategic-merge-patch+json");
        assert!(patch.accept.contains("as=PartialObjectMetadata"), "{}", patch.accept);
        let mut body = patch.body;
        let time = body["status"]["conditions"][0]["lastTransitionTime"].take();
        let _: Timestamp = time.as_str().unwrap().parse().unwrap();
        let message = "Connections of this pod go through the mesh; nothing needs to be done.";
        let condition = json!({
            "type": "weft.mesh/Captured", "status": "True", "reason": "Captured", "message": message, "lastTransitionTime": null,
        });
        assert_eq!(body, json!({"metadata": {"uid": "uid-web"}, "status": {"conditions": [condition]}}));

        assert_eq!(
            event.line,
            "POST /apis/events.k8s.io/v1/namespaces/shop/events?&fieldManager=weft-mesh-daemon"
        );
        assert_eq!(event.content_type, "application/json");
        let mut body = event.body;
        let time = body["eventTime"].take();
        let _: Timestamp = time.as_str().unwrap().parse().unwrap();
        let name = body["metadata"]["name"].take();
        assert!(name.as_str().unwrap().starts_with("web."), "{name}");
        let regarding = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web", "uid": "uid-web"});
        assert_eq!(
            body,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"namespace": "shop", "name": null},
                "eventTime": null, "type": "Normal", "reason": "Captured", "action": "Capture", "note": message,
                "regarding": regarding, "reportingController": "weft.mesh/mesh-daemon", "reportingInstance": "n1",
            })
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_twice() {
    with(&[POD], |running| async move {
        running.apply(ack(&[(POD, CAPTURED)]));
        running.api.wait_for(2).await;
        for _ in 0..100 {
            running.apply(ack(&[(POD, CAPTURED)]));
            running.api.change(|_| {});
            sleep(SHOWN_WITHIN).await;
        }
        assert_eq!(running.api.seen().len(), 2);
        assert_eq!(
            (
                running.writes("condition", "written"),
                running.writes("event", "written")
            ),
            (1, 1)
        );
        assert_eq!(running.pending(), "0");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_or_another_and_an_event_that_exists_are_no_trouble() {
    let immutable = json!({"kind": "Status", "code": 422, "message": "Pod \"web\" is invalid", "reason": "Invalid", "details": {
        "causes": [{"reason": "FieldValueInvalid", "message": "field is immutable", "field": "metadata.uid"}]}});
    let terminating = json!({"kind": "Status", "code": 403, "message": "it is being terminated", "reason": "Forbidden", "details": {
        "causes": [{"reason": "NamespaceTerminating", "message": "namespace shop is being terminated", "field": "metadata.namespace"}]}});
    for (code, body, of_event) in [
        (
            409,
            json!({"kind": "Status", "code": 409, "message": "AlreadyExists"}),
            "exists",
        ),
        (
            404,
            json!({"kind": "Status", "code": 404, "message": "not found"}),
            "gone",
        ),
        (403, terminating, "gone"),
        (422, immutable, "refused"),
    ] {
        with(&[POD], |running| async move {
            running.api.rule(status(code, body));
            running.apply(ack(&[(POD, CAPTURED)]));
            running.api.wait_for(2).await;
            sleep(SHOWN_WITHIN - Duration::from_secs(1)).await;
            assert_eq!(running.api.seen().len(), 2, "{code}");
            assert_eq!(running.writes("condition", "gone"), 1, "{code}");
            assert_eq!(running.writes("event", of_event), 1, "{code}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn troubles_are_tried_again_with_pauses_and_the_last_state_is_written() {
    for (code, body, result) in [
        (
            403,
            json!({"kind": "Status", "code": 403, "message": "cannot patch resource", "reason": "Forbidden"}),
            "forbidden",
        ),
        (500, json!("not even a Status"), "failed"),
        (503, json!({"kind": "Status", "code": 503, "message": "etcd"}), "failed"),
        (
            401,
            json!({"kind": "Status", "code": 401, "message": "Unauthorized"}),
            "unauthorized",
        ),
    ] {
        with(&[POD], |running| async move {
            running.api.rule(status(code, body));
            running.apply(ack(&[(POD, CAPTURED)]));
            sleep(PAUSE_MAX * 10).await;
            let tries = running.api.seen().len();
            assert!(
                (20..=64).contains(&tries),
                "{code}: {tries} tries of two writes within 10 of the longest pauses"
            );
            assert!(
                running.writes("condition", result) > 0 && running.writes("event", result) > 0,
                "{code}"
            );
            assert_eq!(running.pending(), "2", "{code}");
            running.api.rule(|_| Answer::Done);
            running.api.wait_for(tries + 2).await;
            assert_eq!(
                running.api.pods()[&object(POD)].captured.as_ref().unwrap().status,
                "True",
                "{code}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_server_says_how_long_to_wait() {
    with(&[POD], |running| async move {
        running
            .api
            .rule(|_| Answer::Status(429, Some(70), json!("Too many requests, please try again later.")));
        running.apply(ack(&[(POD, CAPTURED)]));
        let seen = running.api.wait_for(4).await;
        let patches: Vec<_> = seen.iter().filter(|seen| seen.line.starts_with("PATCH")).collect();
        let waited = patches[1].at - patches[0].at;
        assert!((70..72).contains(&waited.as_secs()), "{waited:?}");
        assert!(running.writes("condition", "throttled") > 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_does_not_hold_the_writer_for_ever() {
    with(&[POD], |running| async move {
        running.api.rule(|_| Answer::Silence);
        running.apply(ack(&[(POD, CAPTURED)]));
        running.api.wait_for(1).await;
        sleep(WRITE_TIMEOUT).await;
        running.api.rule(|_| Answer::Done);
        running.api.wait_for(3).await;
        assert_eq!(running.writes("condition", "timeout"), 1);
        assert_eq!(
            running.api.pods()[&object(POD)].captured.as_ref().unwrap().status,
            "True"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_relabels_in_a_second_are_few_writes_and_the_last_one_holds() {
    let pods: Vec<_> = (0..10).map(|number| format!("shop/web-{number}")).collect();
    let pods: Vec<_> = pods.iter().map(String::as_str).collect();
    let pods = &pods;
    with(pods, |running| async move {
        let labelled: Vec<_> = pods.iter().map(|pod| (*pod, CAPTURED)).collect();
        let unlabelled: Vec<_> = pods.iter().map(|pod| (*pod, NOT_LABELLED)).collect();
        let begun = Instant::now();
        for relabel in 0..100 {
            running.apply(ack(if relabel % 2 == 0 { &labelled } else { &unlabelled }));
            sleep(Duration::from_millis(10)).await;
        }
        sleep(SHOWN_WITHIN * 4).await;
        let seen = running.api.seen();
        // as much again as the relabels take, in which tokens go on growing
        let after = TOKEN_EVERY * 10;
        let early = seen.iter().filter(|seen| seen.at < begun + after).count();
        let allowed = TOKENS_MAX as usize + 10;
        assert!(early <= allowed, "{early} writes in {after:?}");
        let events = seen.iter().filter(|seen| seen.line.starts_with("POST")).count();
        assert!(events <= pods.len(), "{events} Events of {} pods", pods.len());
        for (name, pod) in running.api.pods().iter() {
            let reason = pod
                .captured
                .as_ref()
                .map_or("NotEnabled", |captured| captured.reason.as_str());
            assert_eq!(reason, "NotEnabled", "{name}");
        }
        assert_eq!(running.pending(), "0");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_told_once_and_not_if_it_passes() {
    with(&[], |running| async move {
        running.apply(aside(&[("Service", "shop/s"), ("File", "/a.yaml"), ("Node", "n1")]));
        sleep(LASTING - Duration::from_secs(1)).await;
        running.apply(aside(&[("Service", "shop/s"), ("File", "/a.yaml")]));
        sleep((LASTING + SPREAD_MAX) * 10).await;
        let [read, event] = running.api.seen().try_into().unwrap();
        assert_eq!(read.line, "GET /api/v1/namespaces/shop/services/s?&resourceVersion=0");
        assert!(read.accept.contains("as=PartialObjectMetadata"), "{}", read.accept);
        assert_eq!(event.body["type"], "Warning");
        assert_eq!(event.body["reason"], "SetAside");
        assert_eq!(
            event.body["regarding"],
            json!({"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "s", "uid": OBJECT_UID})
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn reads_for_events_count_as_requests() {
    with(&[], |running| async move {
        let names: Vec<_> = (0..100).map(|number| format!("shop/s-{number}")).collect();
        let items: Vec<_> = names.iter().map(|name| ("Service", name.as_str())).collect();
        running.apply(aside(&items));
        let seen = running.api.wait_for(200).await;
        let begun = seen[0].at;
        for (number, seen) in (1_u32..).zip(&seen) {
            let allowed = seen.at.duration_since(begun).div_duration_f64(TOKEN_EVERY) + f64::from(TOKENS_MAX);
            assert!(
                f64::from(number) <= allowed + 0.5,
                "{number} requests, {allowed} are allowed"
            );
        }
        assert_eq!(seen.iter().filter(|seen| seen.line.starts_with("GET")).count(), 100);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_about_an_object_that_cannot_be_read_has_no_uid_and_none_is_about_one_that_is_gone() {
    for (code, requests, result) in [(404, 1, "gone"), (403, 2, "written")] {
        with(&[], |running| async move {
            running.api.rule(move |seen| match seen.line.starts_with("GET") {
                true => Answer::Status(code, None, json!({"kind": "Status", "code": code, "message": "no"})),
                false => Answer::Done,
            });
            running.apply(aside(&[("EndpointSlice", "shop/s-1")]));
            sleep((LASTING + SPREAD_MAX) * 10).await;
            let seen = running.api.seen();
            assert_eq!((seen.len(), running.writes("event", result)), (requests, 1), "{code}");
            if let Some(event) = seen.get(1) {
                assert_eq!(event.body["regarding"].get("uid"), None);
            }
        })
        .await;
    }
}

#[test]
fn each_trouble_is_logged_once_and_its_end() {
    let mut log = Log::default();
    let failed = |name| Outcome::Failed {
        trouble: Trouble {
            name,
            detail: "x".into(),
        },
        retry_after: None,
    };
    let steps = [
        (Object::Event, Outcome::Written, true, None),
        (Object::Event, failed("forbidden"), false, Some(News::Trouble)),
        (Object::Event, failed("forbidden"), false, None),
        (Object::Condition, failed("forbidden"), false, Some(News::Trouble)),
        (Object::Event, failed("timeout"), false, Some(News::Trouble)),
        (Object::Event, Outcome::Exists, false, None),
        (Object::Event, Outcome::Exists, true, Some(News::Well)),
        (Object::Event, Outcome::Written, true, None),
        (Object::Condition, Outcome::Gone, true, Some(News::Well)),
    ];
    for (step, (object, outcome, is_well, expected)) in steps.into_iter().enumerate() {
        assert_eq!(log.news(object, outcome.trouble(), is_well), expected, "step {step}");
    }
}
