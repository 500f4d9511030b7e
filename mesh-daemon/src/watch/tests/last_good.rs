//! A manifest directory's policies: the last valid spec holds on while the file says something that does not hold.

use std::{fs, path::Path, time::Duration};

use prometheus::Registry;
use tokio::{sync::watch, time::timeout};

use crate::{
    ids::{NodeName, ObjectRef},
    ready::Readiness,
    watch::{Echo, Metrics, Options, Source, origin::Origin},
};

/// Far more than any change takes; only a broken build waits so long.
const HANG_GUARD: Duration = Duration::from_secs(30);

fn write(dir: &Path, threshold: i64, rest: &str) {
    let text = format!(
        "{{apiVersion: weft.mesh/v1alpha1, kind: TrafficPolicy, metadata: {{name: p, namespace: shop}},
          spec: {{targetRefs: [{{name: web}}], circuitBreaker: {{failureThreshold: {threshold}}}}}}}\n{rest}"
    );
    // replaced at once: half a file is another story
    fs::write(dir.join("p.new"), text).unwrap();
    fs::rename(dir.join("p.new"), dir.join("p.yaml")).unwrap();
}

/// The threshold that holds, and whether the last spec does; none without a policy.
fn told(origin: &Origin) -> Option<(Option<u32>, bool)> {
    let policy = origin.objects().policies.get(&ObjectRef::new("shop", "p"))?;
    let breaker = policy
        .valid
        .as_ref()
        .and_then(|valid| valid.spec.circuit_breaker.as_ref());
    Some((
        breaker.map(|breaker| breaker.failure_threshold),
        policy.invalid.is_none(),
    ))
}

async fn until(origin: &mut Origin, expected: Option<(Option<u32>, bool)>) {
    while told(origin) != expected {
        let changed = timeout(HANG_GUARD, origin.changed()).await;
        assert!(changed.is_ok(), "waited for {expected:?}, last was {:?}", told(origin));
    }
}

#[tokio::test]
async fn a_file_that_does_not_hold_keeps_the_last_valid_spec() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 5, "");
    let options = Options {
        node: NodeName("n1".into()),
        pod_cidrs: Vec::new(),
        debounce_after: Duration::ZERO,
        debounce_max: Duration::ZERO,
    };
    let source = Source::Manifests(dir.path().to_owned());
    let metrics = Metrics::new(&Registry::new());
    let echo = Echo {
        snapshots: watch::channel(None).1,
        acks: watch::channel(None).1,
    };
    let opened = Origin::open(source, Vec::new(), &options, echo, &Readiness::default(), &metrics).await;
    let mut origin = opened.unwrap();
    assert_eq!(told(&origin), Some((Some(5), true)));
    write(dir.path(), 0, "");
    until(&mut origin, Some((Some(5), false))).await;
    // read again with a change elsewhere, and wrong in another way
    write(
        dir.path(),
        0,
        "---\n{apiVersion: v1, kind: Namespace, metadata: {name: other}}",
    );
    while origin.objects().namespaces.is_empty() {
        assert!(timeout(HANG_GUARD, origin.changed()).await.is_ok());
    }
    until(&mut origin, Some((Some(5), false))).await;
    write(dir.path(), 7, "");
    until(&mut origin, Some((Some(7), true))).await;
    // nothing is remembered once the object was gone
    fs::remove_file(dir.path().join("p.yaml")).unwrap();
    until(&mut origin, None).await;
    write(dir.path(), -1, "");
    until(&mut origin, Some((None, false))).await;
}
