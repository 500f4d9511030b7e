//! A server that does what servers do, good and bad, answer by answer; the watch of one kind against it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::timeout,
};

use super::super::{
    client::Server,
    kind::{Said, watch},
    patience::Patience,
};
use crate::{task, watch::objects::Kind};

/// Far more than any case takes; only a broken build waits so long.
const HANG_GUARD: Duration = Duration::from_secs(30);
/// After this a connection is cut late: well before a watch takes it for silent.
const IDLE: Duration = Duration::from_millis(1400);
/// Far more than a loopback connection takes on a loaded machine, and short enough to be waited for.
pub(super) const PATIENCE: Patience = Patience {
    stalled: Duration::from_secs(2),
    silent: Duration::from_secs(2),
    short: Duration::from_secs(2),
    first_wait: Duration::from_millis(5),
    first_list: Duration::from_millis(5),
    reopened: Duration::from_millis(5),
    absent: Duration::from_millis(5),
};

/// What the server does with one request.
pub(super) struct Answer {
    /// What the request's target must contain.
    pub(super) asked: &'static [&'static str],
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The answer ends as it should.
    End,
    /// Nothing more comes, and the connection stays.
    Hang,
    /// The connection ends in the middle.
    Cut,
    /// It does so after a while, as where a load balancer takes it for idle.
    CutLate,
}

pub(super) const STREAM: &[&str] = &[
    "watch=true",
    "sendInitialEvents=true",
    "resourceVersionMatch=NotOlderThan",
    "allowWatchBookmarks=true",
];
pub(super) const FIRST_PAGE: &[&str] = &["/api/v1/pods?", "limit=500"];

pub(super) fn answer(asked: &'static [&'static str], body: impl Into<String>, then: Then) -> Answer {
    let body = body.into();
    Answer {
        asked,
        status: 200,
        body,
        then,
    }
}

pub(super) fn refused(asked: &'static [&'static str], status: u16) -> Answer {
    let body = format!(r#"{{"kind":"Status","code":{status},"message":"no","reason":""}}"#);
    Answer {
        status,
        ..answer(asked, body, Then::End)
    }
}

pub(super) fn event(event: &str, name: &str, version: u64) -> String {
    format!(
        "{{\"type\":\"{event}\",\"object\":{{\"metadata\":{{\"name\":\"{name}\",\"resourceVersion\":\"{version}\"}}}}}}\n"
    )
}

pub(super) fn end_of_list(version: u64) -> String {
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\",\"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}}}}}}\n"
    )
}

pub(super) fn error(code: u16) -> String {
    format!("{{\"type\":\"ERROR\",\"object\":{{\"kind\":\"Status\",\"code\":{code},\"message\":\"gone\"}}}}\n")
}

pub(super) fn page(names: &[&str], version: u64, next: &str) -> String {
    let items: Vec<_> = names
        .iter()
        .map(|name| format!(r#"{{"metadata":{{"name":"{name}"}}}}"#))
        .collect();
    format!(
        r#"{{"kind":"PodList","metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{}]}}"#,
        items.join(",")
    )
}

/// Gives these answers, and checks that the watch of Pods says these words.
pub(super) fn says(answers: Vec<Answer>, expected: &[&str]) {
    says_with(PATIENCE, answers, expected, Duration::ZERO);
}

/// The same with another patience, and checks that nothing more is said for a while.
pub(super) fn says_with(patience: Patience, answers: Vec<Answer>, expected: &[&str], still: Duration) {
    says_of(Kind::Pod, patience, answers, expected, still);
}

/// The same of another kind.
pub(super) fn says_of(kind: Kind, patience: Patience, answers: Vec<Answer>, expected: &[&str], still: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let done = async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = kube::Config::new(url.parse().unwrap());
        config.default_retry = false;
        let server = Server {
            client: kube::Client::try_from(config).unwrap(),
            url: url.into(),
            streams: Cell::new(true),
        };
        let answers = Rc::new(RefCell::new(VecDeque::from(answers)));
        let wrong = Rc::new(RefCell::new(Vec::new()));
        let serving = task::scoped("server", serve(listener, Rc::clone(&answers), Rc::clone(&wrong)));
        let mut events = watch(Rc::new(server), kind, patience);
        let mut said = Vec::new();
        while said.len() < expected.len() {
            match timeout(HANG_GUARD, events.next()).await {
                Ok(Some((_, event))) => said.push(word(&event)),
                _ => break,
            }
        }
        if !still.is_zero() {
            let more = timeout(still, events.next()).await;
            assert!(more.is_err(), "{said:?}, and then {more:?}");
        }
        drop((events, serving));
        assert_eq!(*wrong.borrow(), [""; 0], "after {said:?}");
        assert_eq!(said, expected);
        assert!(
            answers.borrow().is_empty(),
            "{} answers were not asked for",
            answers.borrow().len()
        );
    };
    LocalSet::new().block_on(&runtime, done);
}

fn word(said: &Said) -> String {
    match said {
        Said::Listing => "listing".to_owned(),
        Said::Listed(raw) => format!("listed {}", raw.meta("name")),
        Said::Complete { .. } => "complete".to_owned(),
        Said::Absent => "absent".to_owned(),
        Said::Applied(raw) => format!("applied {}", raw.meta("name")),
        Said::Deleted(raw) => format!("deleted {}", raw.meta("name")),
        Said::Up => "up".to_owned(),
        Said::Failed(trouble) => format!("failed {}", trouble.reason),
    }
}

async fn serve(listener: TcpListener, answers: Rc<RefCell<VecDeque<Answer>>>, wrong: Rc<RefCell<Vec<String>>>) {
    let mut held = Vec::new();
    loop {
        let Ok((mut connection, _)) = listener.accept().await else {
            return;
        };
        let target = target(&mut connection).await;
        let Some(answer) = answers.borrow_mut().pop_front() else {
            // the watch goes on beyond what the case looks at
            held.push(connection);
            continue;
        };
        for part in answer.asked.iter().filter(|part| !target.contains(**part)) {
            wrong.borrow_mut().push(format!("{target} lacks {part}"));
        }
        let length = answer.body.len() + usize::from(answer.then != Then::End);
        let head = match answer.then {
            Then::End | Then::Cut | Then::CutLate => format!("content-length: {length}\r\n"),
            Then::Hang => String::new(),
        };
        let head = format!("HTTP/1.1 {} -\r\nconnection: close\r\n{head}\r\n", answer.status);
        let text = [head.as_bytes(), answer.body.as_bytes()].concat();
        let _ = connection.write_all(&text).await;
        match answer.then {
            Then::Hang => held.push(connection),
            Then::CutLate => tokio::time::sleep(IDLE).await,
            Then::End | Then::Cut => {}
        }
    }
}

/// Reads a request's head; its target.
async fn target(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8(head).unwrap();
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_list_streams_and_changes_follow_from_where_it_ended() {
    let body = [
        event("ADDED", "a", 3),
        event("ADDED", "b", 1),
        end_of_list(5),
        event("MODIFIED", "b", 6),
        event("DELETED", "a", 7),
        event("BOOKMARK", "", 9),
    ];
    says(
        vec![
            answer(STREAM, body.concat(), Then::End),
            answer(
                &["watch=true", "resourceVersion=9", "timeoutSeconds="],
                event("ADDED", "c", 10),
                Then::End,
            ),
            answer(&["resourceVersion=10"], "", Then::Hang),
        ],
        &[
            "listing",
            "listed a",
            "listed b",
            "complete",
            "applied b",
            "deleted a",
            "up",
            "applied c",
            // two that ended at once
            "failed cut_short",
            "up",
        ],
    );
}

#[test]
fn a_server_that_does_not_stream_is_listed_in_pages() {
    for code in [400, 422] {
        says(
            vec![
                refused(STREAM, code),
                answer(FIRST_PAGE, page(&["a", "b"], 4, "more"), Then::End),
                answer(&["limit=500", "continue=more"], page(&["c"], 4, ""), Then::End),
                answer(
                    &["watch=true", "resourceVersion=4", "allowWatchBookmarks=true"],
                    error(410),
                    Then::End,
                ),
                // it is not asked again
                answer(FIRST_PAGE, page(&["c"], 8, ""), Then::End),
            ],
            &[
                "listing", "listed a", "listed b", "listed c", "complete", "up", "listing", "listed c", "complete",
            ],
        );
    }
}

#[test]
fn history_that_is_gone_is_listed_again() {
    let first = [event("ADDED", "a", 3), end_of_list(3), error(410)].concat();
    says(
        vec![
            answer(STREAM, first, Then::Hang),
            answer(STREAM, end_of_list(9), Then::End),
            refused(&["resourceVersion=9"], 410),
        ],
        &["listing", "listed a", "complete", "listing", "complete", "listing"],
    );
    // a page's token that is too old
    says(
        vec![
            refused(STREAM, 422),
            answer(FIRST_PAGE, page(&["a"], 4, "more"), Then::End),
            refused(&["continue=more"], 410),
            answer(FIRST_PAGE, page(&["b"], 9, ""), Then::End),
        ],
        &["listing", "listed a", "listing", "listed b", "complete"],
    );
    // a server that was restored from a backup: its versions are older than ours
    let back = [end_of_list(90), event("BOOKMARK", "", 20)].concat();
    says(
        vec![
            answer(STREAM, back, Then::Hang),
            answer(STREAM, end_of_list(20), Then::Hang),
        ],
        &["listing", "complete", "listing", "complete"],
    );
}

#[test]
fn refusals_are_told_and_tried_again() {
    says(
        vec![
            refused(STREAM, 403),
            refused(STREAM, 500),
            // pages may do where streaming does not
            answer(FIRST_PAGE, page(&["a"], 3, ""), Then::End),
            refused(&["resourceVersion=3"], 403),
            answer(&["resourceVersion=3"], "", Then::Hang),
        ],
        &[
            "listing",
            "failed forbidden",
            "listing",
            "failed server_error",
            "listing",
            "listed a",
            "complete",
            "failed forbidden",
            "up",
        ],
    );
}

#[test]
fn json_cut_in_half_loses_nothing() {
    let half = |whole: String| whole[..whole.len() / 2].to_owned();
    says(
        vec![
            answer(
                STREAM,
                [event("ADDED", "a", 3), half(event("ADDED", "b", 4))].concat(),
                Then::End,
            ),
            refused(FIRST_PAGE, 503),
            answer(STREAM, event("ADDED", "a", 3), Then::End),
            refused(FIRST_PAGE, 503),
            answer(
                STREAM,
                [event("ADDED", "a", 3), end_of_list(5), half(event("ADDED", "b", 6))].concat(),
                Then::End,
            ),
            // the watch goes on before the half object
            answer(
                &["resourceVersion=5"],
                [event("ADDED", "b", 6), half(event("ADDED", "c", 7))].concat(),
                Then::Cut,
            ),
            answer(&["resourceVersion=6"], "{\"type\":\n", Then::End),
        ],
        &[
            "listing",
            "listed a",
            "failed cut_short",
            "listing",
            "failed server_error",
            "listing",
            "listed a",
            "failed cut_short",
            "listing",
            "failed server_error",
            "listing",
            "listed a",
            "complete",
            "failed cut_short",
            "up",
            "applied b",
            "failed disconnected",
            "up",
            "failed cut_short",
            "listing",
        ],
    );
    says(
        vec![
            refused(STREAM, 422),
            answer(FIRST_PAGE, half(page(&["a", "b"], 3, "")), Then::End),
            answer(FIRST_PAGE, page(&[], 3, ""), Then::Cut),
            answer(FIRST_PAGE, page(&[], 3, ""), Then::End),
        ],
        &[
            "listing",
            "failed cut_short",
            "listing",
            "failed disconnected",
            "listing",
            "complete",
        ],
    );
}

#[test]
fn what_is_no_json_is_listed_again() {
    says(
        vec![
            answer(STREAM, "<html>\n", Then::End),
            answer(FIRST_PAGE, page(&[], 5, ""), Then::End),
            answer(&["resourceVersion=5"], "{]\n", Then::Hang),
        ],
        &[
            "listing",
            "failed garbled",
            "listing",
            "complete",
            "up",
            "failed garbled",
            "listing",
        ],
    );
}

#[test]
fn a_list_that_stalls_is_given_up_and_asked_for_in_pages() {
    says(
        vec![
            answer(
                STREAM,
                [event("ADDED", "a", 3), "{\"type\":\"ADD".to_owned()].concat(),
                Then::Hang,
            ),
            answer(FIRST_PAGE, "{\"kind\":", Then::Hang),
            refused(STREAM, 500),
            answer(FIRST_PAGE, page(&["a"], 3, ""), Then::End),
            // silent: opened again from where it was
            answer(&["watch=true", "resourceVersion=3"], "", Then::Hang),
            answer(&["watch=true", "resourceVersion=3"], error(410), Then::End),
            // and streaming is tried again
            answer(STREAM, end_of_list(9), Then::Hang),
        ],
        &[
            "listing",
            "listed a",
            "failed timeout",
            "listing",
            "failed timeout",
            "listing",
            "failed server_error",
            "listing",
            "listed a",
            "complete",
            "up",
            "up",
            "listing",
            "complete",
        ],
    );
}

#[test]
fn a_large_object_comes_whole() {
    let large = "x".repeat(3 << 19);
    let large = format!(
        "{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"a\",\"annotations\":{{\"large\":\"{large}\"}}}}}}}}\n"
    );
    says(
        vec![answer(
            STREAM,
            [large, event("ADDED", "b", 2), end_of_list(2)].concat(),
            Then::Hang,
        )],
        &["listing", "listed a", "listed b", "complete"],
    );
}
