//! Fills what the admin socket shows: of objects from the published snapshot, of endpoints from the data path.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    admin::{NoView, Views},
    config::Subject,
    model::{self, Snapshot},
    proxy,
};

type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// Reads them when it is asked.
pub(super) fn of(snapshots: Snapshots, shared: Arc<proxy::Shared>) -> Views {
    let dumped = snapshots.clone();
    Views {
        snapshot: Box::new(move || dump(&dumped)),
        look: Box::new(move |subject| look(subject, &snapshots, &shared)),
    }
}

fn look(subject: &Subject, snapshots: &Snapshots, shared: &proxy::Shared) -> Result<String, NoView> {
    let snapshot = snapshots.borrow().clone().ok_or(NoView::NotYet)?;
    match subject {
        Subject::Routes => json(&model::routes_view(&snapshot, None)?),
        Subject::RoutesIn(namespace) => json(&model::routes_view(&snapshot, None)?.of_namespace(namespace)),
        Subject::RoutesOf(service) => json(&model::routes_view(&snapshot, Some(service))?),
        Subject::Endpoints(service) => json(&shared.endpoints(service)?),
        Subject::Policy(service) => json(&model::policy_view(&snapshot, service)?),
        Subject::Policies => json(&model::policies_view(&snapshot, None)),
        Subject::PoliciesIn(namespace) => json(&model::policies_view(&snapshot, Some(namespace))),
    }
}

fn json(view: &impl Serialize) -> Result<String, NoView> {
    Ok(serde_json::to_string_pretty(view)? + "\n")
}

fn dump(snapshots: &Snapshots) -> String {
    match &*snapshots.borrow() {
        Some(snapshot) => format!("generation {}\n{}", snapshot.generation, model::dump(&snapshot.content)),
        None => "no snapshot yet\n".to_owned(),
    }
}
