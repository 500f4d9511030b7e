//! What the tests' API server needs for this: objects with statuses, a Lease, and a watch that shows our entries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::super::tests::api::{Answer, Api, Seen};
use crate::{
    ids::ObjectRef,
    watch::{
        claims::{self, Claims},
        objects::Kind,
    },
};

/// Where the Lease is.
pub(super) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/weft-system/leases";

/// Something that happens at a request, before it is answered.
type Hook = Box<dyn FnMut(&Seen, &mut Objects) -> Option<Answer> + Send>;

/// Objects by path.
#[derive(Default)]
pub(super) struct Objects {
    objects: BTreeMap<String, Value>,
    version: u64,
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) api: Api,
    objects: Arc<Mutex<Objects>>,
    hook: Arc<Mutex<Hook>>,
    claims: watch::Sender<Arc<Claims>>,
}

impl Server {
    pub(super) fn new() -> Self {
        let server = Self {
            api: Api::new(BTreeMap::new()),
            objects: Arc::default(),
            hook: Arc::new(Mutex::new(Box::new(|_, _| None))),
            claims: watch::Sender::default(),
        };
        let own = server.clone();
        server.api.rule(move |seen| own.answer(seen));
        server
    }

    /// What happens at each request from now on.
    pub(super) fn hook(&self, hook: impl FnMut(&Seen, &mut Objects) -> Option<Answer> + Send + 'static) {
        *self.hook.lock().unwrap() = Box::new(hook);
    }

    pub(super) fn claims(&self) -> watch::Receiver<Arc<Claims>> {
        self.claims.subscribe()
    }

    /// Changes objects as others do, and shows it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Objects)) {
        change(&mut self.objects.lock().unwrap());
        self.show();
    }

    pub(super) fn object(&self, path: &str) -> Option<Value> {
        self.objects.lock().unwrap().objects.get(path).cloned()
    }

    /// Writes to routes and policies so far.
    pub(super) fn patches(&self) -> Vec<Seen> {
        let mut seen = self.api.seen();
        seen.retain(|seen| seen.line.starts_with("PATCH"));
        seen
    }

    /// Requests so far, but for those about the Lease.
    pub(super) fn requests(&self) -> Vec<Seen> {
        let mut seen = self.api.seen();
        seen.retain(|seen| !seen.line.contains(LEASES));
        seen
    }

    fn answer(&self, seen: &Seen) -> Answer {
        let mut objects = self.objects.lock().unwrap();
        let hooked = self.hook.lock().unwrap()(seen, &mut objects);
        let answer = hooked.unwrap_or_else(|| objects.answer(seen));
        drop(objects);
        self.show();
        answer
    }

    /// As the watch does.
    fn show(&self) {
        let objects = self.objects.lock().unwrap();
        let claims: Claims = objects.objects.iter().filter_map(claim).collect();
        drop(objects);
        self.claims.send_if_modified(|shown| {
            let is_new = **shown != claims;
            *shown = Arc::new(claims);
            is_new
        });
    }
}

fn claim((path, object): (&String, &Value)) -> Option<((Kind, ObjectRef), claims::Claim)> {
    let kind = match path {
        path if path.contains("/httproutes/") => Kind::HttpRoute,
        path if path.contains("/trafficpolicies/") => Kind::TrafficPolicy,
        _ => return None,
    };
    let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    let name = ObjectRef::new(text("namespace"), text("name"));
    Some(((kind, name), claims::of(kind, object)?))
}

impl Objects {
    /// Creates or replaces one.
    pub(super) fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object);
    }

    pub(super) fn change(&mut self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.objects[path].clone();
        change(&mut object);
        self.put(path, object);
    }

    pub(super) fn delete(&mut self, path: &str) {
        self.objects.remove(path);
    }

    fn answer(&mut self, seen: &Seen) -> Answer {
        let (method, target) = seen.line.split_once(' ').unwrap();
        let path = target.split('?').next().unwrap();
        let no = |code, reason| Answer::Status(code, None, json!({"kind": "Status", "code": code, "message": reason}));
        if method == "POST" {
            let path = format!("{path}/{}", seen.body["metadata"]["name"].as_str().unwrap());
            if self.objects.contains_key(&path) {
                return no(409, "AlreadyExists");
            }
            self.put(&path, seen.body.clone());
            return Answer::Status(201, None, self.objects[&path].clone());
        }
        let path = path.trim_end_matches("/status");
        let Some(object) = self.objects.get(path).cloned() else {
            return no(404, "not found");
        };
        if method != "GET" && seen.body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return no(409, "the object has been modified");
        }
        match method {
            "PUT" => self.put(path, seen.body.clone()),
            "PATCH" => self.change(path, |object| merge(object, &seen.body)),
            _ => {}
        }
        Answer::Status(200, None, self.objects[path].clone())
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in fields {
        merge(&mut target[field.as_str()], value);
    }
}
