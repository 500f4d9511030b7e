//! One of each family over IPv4 and IPv6, with HTTP/1.1, HTTP/2 and gRPC, whose callers are told in their own words.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use mesh_tests::{
    client::{self, Answer, Load, Version},
    shop::{Shop, WEB4, WEB6},
};
use serde_json::{Value, json};

use super::{Held, REASON, WELL, ask_counted, forget, obey, one_server};

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tongue {
    Http1,
    Http2,
    Grpc,
}

impl Tongue {
    fn load(self, target: SocketAddr) -> Load {
        match self {
            Self::Http1 => Load::fresh(Version::Http1, target),
            Self::Http2 => Load::fresh(Version::Http2, target),
            Self::Grpc => Load::grpc(target),
        }
    }

    /// A server that is unavailable.
    fn unavailable(self) -> Value {
        match self {
            Self::Grpc => json!({"grpc_status": 14}),
            Self::Http1 | Self::Http2 => json!({"status": 503}),
        }
    }

    /// The mesh answers for this reason, as the client understands it.
    fn is_told(self, answer: &Answer, reason: &str, status: u16, grpc: u8) -> Result<()> {
        let told = match self {
            Self::Grpc => answer.status == 200 && answer.grpc_status() == Some(grpc),
            Self::Http1 | Self::Http2 => answer.status == status,
        };
        ensure!(told && answer.header(REASON) == reason, "{self:?} {reason}: {answer:?}");
        Ok(())
    }

    fn is_well(self, answer: &Answer) -> Result<()> {
        let grpc = (self == Self::Grpc).then_some(0);
        ensure!(
            answer.status == 200 && answer.grpc_status() == grpc,
            "{self:?}: {answer:?}"
        );
        Ok(())
    }
}

fn each(story: impl Fn(&Shop, Tongue, SocketAddr) -> Result<()>) {
    one_server(|shop| {
        for target in [WEB4, WEB6] {
            for tongue in [Tongue::Http1, Tongue::Http2, Tongue::Grpc] {
                story(shop, tongue, target)?;
                shop.behave("web-1", &WELL())?;
                forget(shop)?;
            }
        }
        Ok(())
    });
}

#[test]
fn timeout() {
    each(|shop, tongue, target| {
        obey(shop, &["timeout: {request: 200ms}"])?;
        shop.behave("web-1", &json!({"delay_ms": 60_000, "times": 1}))?;
        let answer = client::ask(&shop.client.netns, &tongue.load(target))?;
        tongue.is_told(&answer, "timeout", 504, 4)?;
        tongue.is_well(&client::ask(&shop.client.netns, &tongue.load(target))?)
    });
}

#[test]
fn retry() {
    each(|shop, tongue, target| {
        obey(shop, &["retry: {retryOn: [gateway-error, unavailable], backoff: 0s}"])?;
        let mut once = tongue.unavailable();
        once["times"] = json!(1);
        shop.behave("web-1", &once)?;
        let (answer, served) = ask_counted(shop, &tongue.load(target))?;
        ensure!(served == 2, "{tongue:?}: {served}");
        tongue.is_well(&answer)
    });
}

#[test]
fn breaker() {
    each(|shop, tongue, target| {
        obey(
            shop,
            &["circuitBreaker: {failureThreshold: 2, timeout: 1h, failureOn: [5xx, unavailable]}"],
        )?;
        shop.behave("web-1", &tongue.unavailable())?;
        for _ in 0..2 {
            let answer = client::ask(&shop.client.netns, &tongue.load(target))?;
            ensure!(answer.header(REASON).is_empty(), "{tongue:?}: {answer:?}");
        }
        let (answer, served) = ask_counted(shop, &tongue.load(target))?;
        ensure!(served == 0, "{tongue:?}: it was asked");
        tongue.is_told(&answer, "circuit_open", 503, 14)
    });
}

#[test]
fn limit() {
    each(|shop, tongue, target| {
        obey(shop, &["limits: {maxRequests: 1}"])?;
        let held = Held::begin(shop, target)?;
        let answer = client::ask(&shop.client.netns, &tongue.load(target))?;
        tongue.is_told(&answer, "max_requests", 503, 14)?;
        held.end()
    });
}
