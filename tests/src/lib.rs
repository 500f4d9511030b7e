//! Weft's test bench: nodes and pods in network namespaces, a stand-in for kube-proxy, real clients and servers, and the demo that is made
//! of them.

pub mod announce;
pub mod bench;
pub mod client;
pub mod conformance;
pub mod daemon;
pub mod demo;
pub mod ear;
pub mod golden;
pub mod hooks;
pub mod kube_proxy;
pub mod kubernetes;
pub mod load;
pub mod manifests;
pub mod metrics;
pub mod missing;
pub mod process;
pub mod scale;
pub mod shop;
pub mod tcp;
pub mod tools;
