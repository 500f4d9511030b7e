//! The demo's story on a cluster of its own: the DaemonSet from its image, capture by `kubectl label`, real pods.

use mesh_tests::{demo, kubernetes::cluster::kept::Kept};

#[test]
fn kubectl_alone_captures_pods_that_already_run() {
    let name = format!("p{}cstory", std::process::id());
    let told = demo::tell_on_cluster(&name, false);
    // fine if the story has taken it down itself
    let _ = Kept::named(&name).down();
    told.unwrap_or_else(|error| panic!("{error:#}"));
}
