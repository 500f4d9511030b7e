//! What is asked of the running daemon: which Service a word names.

use std::path::Path;

use super::{
    super::{Command, parse},
    host, words, wrong,
};
use crate::{
    config::{OutputFormat, Question, Subject},
    ids::ObjectRef,
};

#[test]
fn a_service_is_named_as_kubectl_does() {
    let of = |namespace: &str| ObjectRef::new(namespace, "web");
    for (line, expected) in [
        ("routes", Subject::Routes),
        ("routes -n shop", Subject::RoutesIn("shop".to_owned())),
        ("routes web", Subject::RoutesOf(of("default"))),
        ("routes shop/web", Subject::RoutesOf(of("shop"))),
        ("endpoints web -n shop", Subject::Endpoints(of("shop"))),
        ("endpoints --namespace=shop web", Subject::Endpoints(of("shop"))),
        ("policy shop/web -n shop", Subject::Policy(of("shop"))),
        ("policy", Subject::Policies),
        ("policy -n shop", Subject::PoliciesIn("shop".to_owned())),
    ] {
        let invocation = parse(words(line), &host()).unwrap();
        let Command::Ask(question) = invocation.command else {
            panic!("{line}");
        };
        assert_eq!(question.subject, expected, "{line}");
        assert_eq!(question.output, OutputFormat::Table);
        assert_eq!(question.admin_socket, Path::new("/run/weft/admin.sock"));
    }
    let json = parse(words("policy web -o json --admin-socket /s"), &host()).unwrap();
    let expected = Question {
        subject: Subject::Policy(of("default")),
        admin_socket: "/s".into(),
        output: OutputFormat::Json,
    };
    assert_eq!(json.command, Command::Ask(Box::new(expected)));
}

#[test]
fn a_question_that_cannot_be_asked_is_refused_in_one_line() {
    for (line, parts) in [
        ("endpoints", &["<SERVICE>"][..]),
        ("endpoints Web", &["\"Web\"", "`web` or `shop/web`"]),
        ("policy shop/a/b", &["\"shop/a/b\"", "namespace/name"]),
        ("policy Shop/web", &["\"Shop\"", "namespace"]),
        ("policy shop/web -n other", &["shop/web", "other", "one namespace"]),
        ("routes shop/web --namespace=other", &["shop/web", "other"]),
        ("endpoints -nother shop/web", &["shop/web", "other"]),
        ("routes -n Shop", &["\"Shop\"", "namespace"]),
        ("routes -o yaml", &["'yaml'", "--output", "table, json"]),
        ("routes --workers 1", &["--workers"]),
    ] {
        let text = wrong(line, &host());
        assert!(!text.contains('\n'), "{line}: {text}");
        for part in parts {
            assert!(text.contains(part), "{line}: {text:?} lacks {part:?}");
        }
    }
}
