//! Fills an API server: many requests at once, each as the component that a real cluster has for it, so that `managedFields` are real.

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::{Method, Request};
use kube::Client;
use serde_json::Value;

use super::objects;

/// Requests under way at once: the API server's own limit for writes is 200, and two cores are busy with fewer.
const AT_ONCE: usize = 24;

/// One request that must succeed.
struct Write {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Value,
}

/// Creates nodes, namespaces, pods with their status, Services and EndpointSlices.
///
/// # Errors
/// If the API server refuses one.
pub(super) async fn fill(client: &Client) -> Result<()> {
    let cluster_wide = objects::nodes()
        .into_iter()
        .map(|node| create("/api/v1/nodes", "kubelet", node));
    let namespaces = objects::namespaces().into_iter();
    write(
        client,
        cluster_wide.chain(namespaces.map(|namespace| create("/api/v1/namespaces", "kubectl", namespace))),
    )
    .await?;
    let pods = 0..objects::NODES * objects::PODS_PER_NODE;
    write(
        client,
        pods.clone()
            .map(|number| in_namespace("/api/v1", "pods", "kube-controller-manager", objects::pod(number))),
    )
    .await?;
    write(client, pods.map(pod_status)).await?;
    let services = 0..objects::SERVICES;
    write(
        client,
        services
            .clone()
            .map(|number| in_namespace("/api/v1", "services", "helm", objects::service(number))),
    )
    .await?;
    let group = "/apis/discovery.k8s.io/v1";
    write(
        client,
        services.map(|number| {
            in_namespace(
                group,
                "endpointslices",
                "kube-controller-manager",
                objects::slice(number),
            )
        }),
    )
    .await
}

/// Replaces the status of one object, or a part of it, by a merge patch (RFC 7396).
///
/// # Errors
/// If the API server refuses.
pub async fn merge_patch(client: &Client, path: &str, body: Value) -> Result<()> {
    send(
        client,
        Write {
            method: Method::PATCH,
            path: path.to_owned(),
            content_type: "application/merge-patch+json",
            body,
        },
    )
    .await
}

/// Creates objects of one collection.
///
/// # Errors
/// If the API server refuses one.
pub async fn create_all(client: &Client, collection: &str, objects: Vec<Value>) -> Result<()> {
    write(
        client,
        objects.into_iter().map(|object| create(collection, "kubectl", object)),
    )
    .await
}

fn in_namespace(group: &str, plural: &str, manager: &str, object: Value) -> Write {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    create(&format!("{group}/namespaces/{namespace}/{plural}"), manager, object)
}

fn create(collection: &str, manager: &str, body: Value) -> Write {
    Write {
        method: Method::POST,
        path: format!("{collection}?fieldManager={manager}"),
        content_type: "application/json",
        body,
    }
}

fn pod_status(number: u16) -> Write {
    let namespace = objects::namespace_name(number / objects::ENDPOINTS_PER_SERVICE);
    Write {
        method: Method::PATCH,
        path: format!(
            "/api/v1/namespaces/{namespace}/pods/{}/status?fieldManager=kubelet",
            objects::pod_name(number)
        ),
        content_type: "application/strategic-merge-patch+json",
        body: objects::pod_status(number),
    }
}

async fn write(client: &Client, writes: impl Iterator<Item = Write>) -> Result<()> {
    stream::iter(writes.map(|write| send(client, write)))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn send(client: &Client, write: Write) -> Result<()> {
    let Write {
        method,
        path,
        content_type,
        body,
    } = write;
    let request = Request::builder()
        .method(method.clone())
        .uri(&path)
        .header("content-type", content_type);
    let answer: Result<Value, _> = client.request(request.body(serde_json::to_vec(&body)?)?).await;
    answer.map(drop).with_context(|| format!("{method} {path}"))
}
