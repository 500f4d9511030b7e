//! `/healthz` and `/readyz`, for the kubelet's probes and for people, in the form that kube-apiserver gives them.

use std::fmt::Write;

use hyper::StatusCode;

use super::http::{Get, Reply};
use crate::ready::{Readiness, State};

const PATHS: &str = "/healthz         200 while the daemon lives\n/readyz          200 once it is ready, and not draining\n\
                     /readyz?verbose  the same, with everything that readiness asks for\n";

/// Answers a request to the health port.
pub(super) fn answer(get: &Get, readiness: &Readiness, draining: bool) -> Option<Reply> {
    match get.path.as_str() {
        "/" => Some(Reply::text(PATHS)),
        "/healthz" => Some(Reply::text("ok\n")),
        "/readyz" => Some(ready(&readiness.items(), draining, is_verbose(&get.query))),
        _ => None,
    }
}

fn ready(items: &[(String, State)], draining: bool, verbose: bool) -> Reply {
    let pending = items.iter().any(|(_, state)| matches!(state, State::Pending(_)));
    let mut body = String::new();
    for (what, state) in items {
        // writing to a String cannot fail
        let _ = match state {
            State::Pending(None) => writeln!(body, "[-]{what} pending"),
            State::Pending(Some(why)) => writeln!(body, "[-]{what} pending: {why}"),
            State::Ready(None) if verbose => writeln!(body, "[+]{what} ok"),
            State::Ready(Some(note)) if verbose => writeln!(body, "[+]{what} ok, but: {note}"),
            State::Ready(_) => Ok(()),
        };
    }
    let (status, end) = match (draining, pending) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        (false, false) => (StatusCode::OK, "ok\n"),
    };
    body.push_str(end);
    Reply {
        status,
        ..Reply::text(body)
    }
}

fn is_verbose(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair == "verbose" || pair.starts_with("verbose="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_in_words() {
        let pods = || ("list of Pods".to_owned(), State::Ready(None));
        let bpf = || ("BPF programs".to_owned(), State::Pending(None));
        for (items, draining, query, status, body) in [
            (vec![], false, "", 200, "ok\n"),
            (vec![pods()], false, "", 200, "ok\n"),
            (vec![pods()], false, "verbose", 200, "[+]list of Pods ok\nok\n"),
            (
                vec![bpf(), pods()],
                false,
                "",
                503,
                "[-]BPF programs pending\nnot ready\n",
            ),
            (
                vec![bpf(), pods()],
                false,
                "a=b&verbose=1",
                503,
                "[-]BPF programs pending\n[+]list of Pods ok\nnot ready\n",
            ),
            (vec![pods()], true, "", 503, "draining\n"),
            (
                vec![bpf()],
                true,
                "verbosely",
                503,
                "[-]BPF programs pending\ndraining\n",
            ),
        ] {
            let reply = ready(&items, draining, is_verbose(query));
            assert_eq!(
                (reply.status.as_u16(), reply.body.as_str()),
                (status, body),
                "{items:?} {draining} {query}"
            );
        }
    }
}
