//! Routes that come, change and go under load.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{Background, Load, Version},
    daemon::HANG_GUARD,
    shop::Shop,
};

use super::{RULE, WEB, add_service, apply, ask, delete, routed};

/// Changes of the route.
const CHANGES: usize = 24;

/// A route that leads everything to a Service, or answers by it.
fn route(name: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web}}]
  rules:
    - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: {name}}}]}}}}]
      backendRefs: [{{name: {name}, port: 80}}]
"
    )
}

/// Waits until a series that was started is answered.
fn runs(load: &Background) -> Result<()> {
    wait_for("the load", HANG_GUARD, || Ok((load.tally().sent > 9).then_some(())))
}

/// Changes the route again and again; each change holds for new requests at once.
fn change(shop: &Shop) -> Result<()> {
    for number in 0..CHANGES {
        let (name, pod) = [("one", "web-1"), ("two", "web-2"), ("", "")][number % 3];
        if name.is_empty() {
            delete(shop, "web")?;
        } else {
            apply(shop, &route(name))?;
        }
        for version in [Version::Http1, Version::Http2] {
            let answer = ask(shop, &Load::fresh(version, WEB[0]))?;
            ensure!(
                answer.header(RULE) == name && answer.text().starts_with(pod),
                "not by {name:?}: {answer:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_change_under_load_loses_no_request() {
    routed(|shop| {
        add_service(shop, "one", 1, &["web-1"])?;
        add_service(shop, "two", 2, &["web-2"])?;
        let loads = [
            Load::reused(Version::Http1, WEB[0]),
            Load::fresh(Version::Http1, WEB[1]),
            Load::reused(Version::Http2, WEB[1]),
            Load {
                reuse: true,
                ..Load::grpc(WEB[0])
            },
        ];
        let running: Vec<_> = loads
            .into_iter()
            .map(|load| Background::start(&shop.client.netns, load))
            .collect::<Result<_>>()?;
        running.iter().try_for_each(runs)?;
        change(shop)?;
        for load in running {
            let tally = load.stop()?;
            crate::all_answered(&tally)?;
            let pods: BTreeSet<_> = tally.by_body.keys().collect();
            ensure!(pods.len() == 3, "{} requests met {pods:?} only", tally.sent);
        }
        Ok(())
    });
}
