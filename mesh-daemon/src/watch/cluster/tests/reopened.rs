//! When a watch goes on from where it was and when it lists again: silence, early ends, server errors; and that nodes do not ask together.

use std::time::Duration;

use super::{
    super::{client::READ_TIMEOUT, patience::Patience},
    server::{
        Answer, FIRST_PAGE, PATIENCE, STREAM, Then, answer, end_of_list, error, event, page, refused, says, says_with,
    },
};

/// So long that a random part of it is longer than any test.
const AGES: Duration = Duration::from_secs(1_000_000_000);
/// Longer than a loopback connection takes to say what it must not.
const STILL: Duration = Duration::from_millis(300);

#[test]
fn a_stream_that_fails_is_followed_by_pages_once() {
    let broken: [(Answer, &[&str]); 3] = [
        (
            answer(STREAM, [event("ADDED", "a", 3), error(500)].concat(), Then::Hang),
            &["listing", "listed a", "failed server_error"],
        ),
        (refused(STREAM, 504), &["listing", "failed server_error"]),
        (refused(STREAM, 410), &["listing", "failed refused"]),
    ];
    for (first, said) in broken {
        let answers = vec![
            first,
            refused(FIRST_PAGE, 500),
            refused(STREAM, 500),
            answer(FIRST_PAGE, page(&[], 4, ""), Then::End),
            answer(&["resourceVersion=4"], error(410), Then::Hang),
            answer(STREAM, end_of_list(9), Then::Hang),
        ];
        let rest = [
            "listing",
            "failed server_error",
            "listing",
            "failed server_error",
            "listing",
            "complete",
            "up",
            "listing",
            "complete",
        ];
        says(answers, &[said, &rest].concat());
    }
    // pages would fare no better
    says(
        vec![
            refused(STREAM, 401),
            refused(STREAM, 404),
            refused(STREAM, 429),
            answer(STREAM, error(403), Then::Hang),
            answer(STREAM, "", Then::Cut),
            answer(STREAM, end_of_list(9), Then::Hang),
        ],
        &[
            "listing",
            "failed unauthorized",
            "listing",
            "failed not_found",
            "listing",
            "failed too_many_requests",
            "listing",
            "failed forbidden",
            "listing",
            "failed disconnected",
            "listing",
            "complete",
        ],
    );
}

#[test]
fn two_silent_watches_are_followed_by_a_list() {
    says(
        vec![
            answer(STREAM, end_of_list(3), Then::Hang),
            answer(&["resourceVersion=3"], event("BOOKMARK", "", 4), Then::Hang),
            answer(&["resourceVersion=4"], "", Then::Hang),
            answer(STREAM, end_of_list(2), Then::Hang),
        ],
        &["listing", "complete", "up", "up", "listing", "complete"],
    );
    // something on the way ends them before they are silent for long enough
    says(
        vec![
            answer(STREAM, end_of_list(3), Then::CutLate),
            answer(&["resourceVersion=3"], "", Then::CutLate),
            answer(&["resourceVersion=3"], "", Then::CutLate),
            answer(STREAM, end_of_list(2), Then::Hang),
        ],
        &[
            "listing",
            "complete",
            "failed disconnected",
            "up",
            "failed disconnected",
            "up",
            "failed disconnected",
            "listing",
            "complete",
        ],
    );
}

#[test]
fn silence_is_noticed_before_the_client_ends_the_connection() {
    assert!(READ_TIMEOUT > Patience::default().silent + STILL);
}

#[test]
fn watches_that_end_at_once_are_a_failure_until_one_lasts() {
    says(
        vec![
            answer(STREAM, end_of_list(3), Then::End),
            answer(&["resourceVersion=3"], "", Then::End),
            answer(&["resourceVersion=3"], event("ADDED", "a", 4), Then::End),
            answer(&["resourceVersion=4"], "", Then::Hang),
        ],
        &[
            "listing",
            "complete",
            "up",
            "failed cut_short",
            "applied a",
            "failed cut_short",
            "up",
        ],
    );
}

#[test]
fn server_errors_without_a_line_in_between_are_followed_by_a_list() {
    let errors = |version: &'static [&'static str], times| (0..times).map(move |_| refused(version, 503));
    let mut answers = vec![answer(STREAM, end_of_list(3), Then::End)];
    answers.extend(errors(&["resourceVersion=3"], 2));
    answers.push(answer(&["resourceVersion=3"], event("ADDED", "a", 4), Then::Cut));
    answers.extend(errors(&["resourceVersion=4"], 3));
    answers.push(answer(STREAM, end_of_list(9), Then::Hang));
    says(
        answers,
        &[
            "listing",
            "complete",
            "failed server_error",
            "failed server_error",
            "up",
            "applied a",
            "failed disconnected",
            "failed server_error",
            "failed server_error",
            "failed server_error",
            "listing",
            "complete",
        ],
    );
}

#[test]
fn nodes_do_not_ask_together() {
    let first_list = Patience {
        first_list: AGES,
        ..PATIENCE
    };
    says_with(first_list, Vec::new(), &[], STILL);
    let reopened = Patience {
        reopened: AGES,
        short: Duration::ZERO,
        ..PATIENCE
    };
    let back = [end_of_list(90), event("BOOKMARK", "", 20)].concat();
    for (ends, still) in [
        // a server that goes down, one that was restored, one that is silent
        (answer(STREAM, end_of_list(3), Then::End), STILL),
        (answer(STREAM, back, Then::Hang), STILL),
        (answer(STREAM, end_of_list(3), Then::Hang), PATIENCE.silent + STILL),
    ] {
        says_with(reopened, vec![ends], &["listing", "complete"], still);
    }
}

#[test]
fn a_bookmark_without_a_version_leaves_the_place_as_it_is() {
    let bookmark = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{}}}\n";
    says(
        vec![
            answer(STREAM, [end_of_list(5), bookmark.to_owned()].concat(), Then::End),
            answer(&["resourceVersion=5"], event("ADDED", "a", 6), Then::Hang),
        ],
        &["listing", "complete", "up", "applied a"],
    );
    // the end of a list without one is no end
    let end = end_of_list(5).replace("\"resourceVersion\":\"5\",", "");
    says(
        vec![
            answer(STREAM, end, Then::Hang),
            answer(FIRST_PAGE, page(&[], 6, ""), Then::End),
        ],
        &["listing", "failed garbled", "listing", "complete"],
    );
}

#[test]
fn answers_of_another_kind_are_no_empty_lists() {
    let another = r#"{"kind":"Status","metadata":{"resourceVersion":"2000"}}"#;
    let configmap = event("MODIFIED", "a", 7).replace("\"metadata\"", "\"kind\":\"ConfigMap\",\"metadata\"");
    says(
        vec![
            refused(STREAM, 422),
            answer(FIRST_PAGE, another, Then::End),
            answer(FIRST_PAGE, page(&["a"], 6, ""), Then::End),
            answer(&["resourceVersion=6"], configmap, Then::Hang),
            answer(FIRST_PAGE, page(&["a"], 8, ""), Then::End),
        ],
        &[
            "listing",
            "failed garbled",
            "listing",
            "listed a",
            "complete",
            "up",
            "failed garbled",
            "listing",
            "listed a",
        ],
    );
}
