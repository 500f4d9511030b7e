//! The proxy over loopback, before a small server that answers a list and a watch.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Request as HttpRequest, Response, body::Frame, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use bytes::Bytes;

use super::{Chaos, Effect, Rule};
use crate::{bench::wait_for, daemon::HANG_GUARD};

/// What the small server lists.
const LIST: &str = "{\"kind\":\"PodList\",\"items\":[]}";
/// What it says first in each watch.
const EVENT: &str = "{\"type\":\"BOOKMARK\"}\n";

/// A server of Pods: the list is short, the watch says one line and stays open. It ends with its thread's runtime.
struct Upstream {
    addr: SocketAddr,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Upstream {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! { () = serve(listener) => {}, _ = stopped => {} }
            });
        });
        Self { addr, _stop: stop }
    }
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(|request: HttpRequest<hyper::body::Incoming>| async move {
            let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let first = stream::iter([Bytes::from_static(if watch { EVENT } else { LIST }.as_bytes())]);
            let rest = if watch {
                stream::pending().left_stream()
            } else {
                stream::empty().right_stream()
            };
            let body = StreamBody::new(first.chain(rest).map(|data| Ok::<_, std::io::Error>(Frame::data(data))));
            Ok::<_, std::io::Error>(Response::new(body))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// A client that comes through the proxy.
struct Bench {
    chaos: Chaos,
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
    _upstream: Upstream,
}

impl Bench {
    fn start() -> Self {
        let upstream = Upstream::start();
        let config = |addr| {
            let mut config = kube::Config::new(format!("http://{addr}").parse().unwrap());
            config.default_retry = false;
            config
        };
        let chaos = Chaos::start(None, (Ipv4Addr::LOCALHOST, 0).into(), config(upstream.addr)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime
            .block_on(async { kube::Client::try_from(config(chaos.addr())) })
            .unwrap();
        Self {
            chaos,
            runtime,
            client,
            _upstream: upstream,
        }
    }

    /// Status, `Retry-After` and body of a request, the latter as far as it came, and whether it ended in order.
    fn get(&self, path: &str) -> Result<(u16, Option<String>, String, bool)> {
        let request = HttpRequest::get(path).body(kube::client::Body::empty())?;
        self.runtime.block_on(async {
            let response = self.client.send(request).await?;
            let status = response.status().as_u16();
            let retry_after = response
                .headers()
                .get("retry-after")
                .map(|value| value.to_str().unwrap().to_owned());
            let (mut text, mut in_order) = (String::new(), true);
            let mut body = response.into_body().into_data_stream();
            loop {
                match body.try_next().await {
                    Ok(Some(data)) => text += &String::from_utf8(data.to_vec())?,
                    Ok(None) => break,
                    Err(_) => {
                        in_order = false;
                        break;
                    }
                }
            }
            Ok((status, retry_after, text, in_order))
        })
    }

    fn list(&self) -> Result<(u16, Option<String>, String, bool)> {
        self.get("/api/v1/pods?limit=500")
    }

    /// What a watch says until it ends, while `strike` is called after its first line.
    fn watched(&self, strike: impl FnOnce(&Chaos)) -> (String, bool) {
        let request = HttpRequest::get("/api/v1/pods?watch=true")
            .body(kube::client::Body::empty())
            .unwrap();
        self.runtime.block_on(async {
            let mut body = self.client.send(request).await.unwrap().into_body().into_data_stream();
            let mut text = String::from_utf8(body.try_next().await.unwrap().unwrap().to_vec()).unwrap();
            strike(&self.chaos);
            let rest = tokio::time::timeout(HANG_GUARD, async {
                loop {
                    match body.try_next().await {
                        Ok(Some(data)) => text += std::str::from_utf8(&data).unwrap(),
                        Ok(None) => return true,
                        Err(_) => return false,
                    }
                }
            });
            let in_order = rest.await.unwrap();
            (text, in_order)
        })
    }
}

#[test]
fn without_rules_everything_passes_and_is_written_down() {
    let bench = Bench::start();
    let start = Instant::now();
    assert_eq!(bench.list().unwrap(), (200, None, LIST.to_owned(), true));
    let requests = bench.chaos.log().requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].limit(), requests[0].status), (Some(500), Some(200)));
    assert_eq!(
        bench.chaos.log().counts_since(start),
        [("list pods".to_owned(), 1)].into()
    );
    assert_eq!(bench.chaos.log().busiest(start, Duration::from_secs(10)), 1);
}

#[test]
fn answers_that_stand_in_for_the_servers() {
    let bench = Bench::start();
    let status = |code, retry_after| Rule::all(Effect::Status { code, retry_after });
    bench.chaos.set([status(429, Some(3)).every(2)]);
    let answer = bench.list().unwrap();
    assert_eq!((answer.0, answer.1.as_deref()), (429, Some("3")));
    assert_eq!(bench.list().unwrap().0, 200);
    assert_eq!(bench.list().unwrap().0, 429);
    bench.chaos.set([Rule::all(Effect::Forbidden).of("pods").times(1)]);
    let (code, _, text, _) = bench.list().unwrap();
    assert!(
        code == 403 && text.contains("cannot list resource \\\"pods\\\" in API group \\\"\\\""),
        "{text}"
    );
    assert_eq!(bench.list().unwrap().0, 200);
    bench.chaos.set([Rule::all(Effect::Forbidden).of("services")]);
    assert_eq!(bench.list().unwrap().0, 200);
    bench.chaos.set([Rule::all(Effect::Gone).but_watches()]);
    let (code, _, text, _) = bench.list().unwrap();
    assert!(code == 410 && text.contains("Expired"), "{text}");
    bench.chaos.set([Rule::all(Effect::RefuseStreaming)]);
    assert_eq!(bench.list().unwrap().0, 200);
    let (code, _, text, _) = bench.get("/api/v1/pods?watch=true&sendInitialEvents=true").unwrap();
    assert!(code == 422 && text.contains("sendInitialEvents is forbidden"), "{text}");
    bench.chaos.clear();
    assert_eq!(bench.list().unwrap().0, 200);
}

#[test]
fn bodies_are_cut_and_drip() {
    let bench = Bench::start();
    for in_order in [true, false] {
        bench.chaos.set([Rule::all(Effect::Cut { after: 7, in_order })]);
        assert_eq!(bench.list().unwrap(), (200, None, LIST[..7].to_owned(), in_order));
    }
    bench.chaos.set([Rule::all(Effect::Drip(Duration::from_millis(2)))]);
    let start = Instant::now();
    assert_eq!(bench.list().unwrap(), (200, None, LIST.to_owned(), true));
    assert!(start.elapsed() > Duration::from_millis(2) * 25, "{:?}", start.elapsed());
}

#[test]
fn an_open_watch_is_ended_expired_cut_and_reset() {
    let bench = Bench::start();
    assert_eq!(bench.watched(Chaos::close_watches), (EVENT.to_owned(), true));
    let (text, in_order) = bench.watched(Chaos::expire_watches);
    assert!(
        in_order && text.contains("\"ERROR\"") && text.contains("410") && text.ends_with('\n'),
        "{text}"
    );
    assert_eq!(bench.watched(Chaos::reset_connections), (EVENT.to_owned(), false));
}

#[test]
fn what_stalls_goes_on_when_the_rule_ends() {
    let bench = Bench::start();
    bench.chaos.set([Rule::all(Effect::Stall)]);
    std::thread::scope(|scope| {
        let list = scope.spawn(|| bench.list().unwrap());
        wait_for("the request", HANG_GUARD, || {
            Ok((!bench.chaos.log().requests().is_empty()).then_some(()))
        })
        .unwrap();
        assert_eq!(bench.chaos.log().requests()[0].status, None);
        bench.chaos.clear();
        assert_eq!(list.join().unwrap().0, 200);
    });
}

#[test]
fn refused_until_cleared() {
    let bench = Bench::start();
    assert_eq!(bench.list().unwrap().0, 200);
    bench.chaos.refuse();
    let addr = bench.chaos.addr();
    // a request may still meet the listener that is about to close
    wait_for("a refused connection", HANG_GUARD, || {
        Ok(std::net::TcpStream::connect(addr).is_err().then_some(()))
    })
    .unwrap();
    assert!(bench.list().is_err());
    bench.chaos.clear();
    wait_for("an answer", HANG_GUARD, || Ok(Some(bench.list()?.0))).unwrap();
}
