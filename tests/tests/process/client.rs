//! The client for pods: what it sends arrives, and what it prints is what came back.

use std::{
    io::{Read, Write},
    process::{Command, Output},
};

use mesh_tests::load::Report;

use crate::{
    bench::{refusing, run},
    http,
};

/// Runs the client beside the server's thread.
async fn client(args: &[&str]) -> Output {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_weft-client"))
            .args(args)
            .output()
            .unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn report(args: &[&str]) -> Report {
    let output = client(args).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn as_many_requests_and_connections_as_asked_for() {
    run(async {
        for (more, connections) in [
            (&[][..], 1),
            (&["--fresh"], 20),
            (&["--http2"], 1),
            (&["--http2", "--concurrency", "4"], 4),
        ] {
            let (address, seen) = http::echo().await;
            if more.contains(&"--concurrency") {
                // or one of its threads may have sent all of them before another has begun
                seen.hold_until.set(connections);
            }
            let url = format!("http://{address}/");
            let report = report(&[&[&url, "--requests", "20"], more].concat()).await;
            assert_eq!((report.sent, report.failed), (20, 0), "{more:?}: {report:?}");
            // the server echoes the body, and there is none
            assert_eq!(report.by_body, [(String::new(), 20)].into(), "{more:?}");
            assert!(report.p50_us <= report.p99_us && report.p50_us.is_some(), "{report:?}");
            assert_eq!(
                (seen.requests.get(), seen.connections.get()),
                (20, connections),
                "{more:?}"
            );
        }
    });
}

#[test]
fn a_duration_ends_it_too() {
    run(async {
        let (address, seen) = http::echo().await;
        let report = report(&[&format!("http://{address}/"), "--duration", "50ms"]).await;
        assert!(report.sent > 0 && report.failed == 0, "{report:?}");
        assert_eq!(u64::try_from(seen.requests.get()).unwrap(), report.sent);
    });
}

#[test]
fn failures_are_counted_by_their_text() {
    run(async {
        let report = report(&[&format!("http://{}/", refusing()), "--requests", "3"]).await;
        assert_eq!(
            (report.sent, report.failed, report.errors.len()),
            (3, 3, 1),
            "{report:?}"
        );
        assert!(
            report
                .errors
                .iter()
                .all(|(text, count)| text.contains("refused") && *count == 3),
            "{report:?}"
        );
    });
}

#[test]
fn an_echo_is_checked() {
    run(async {
        for (answer, good) in [(&b"hello\n"[..], true), (b"hullo\n", false)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 6]).unwrap();
                stream.write_all(answer).unwrap();
            });
            let output = client(&["connect", &address]).await;
            assert_eq!(output.status.success(), good, "{output:?}");
            server.join().unwrap();
        }
    });
}
