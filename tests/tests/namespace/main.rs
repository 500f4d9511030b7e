//! The namespace ring: a real kernel, nodes and pods as network namespaces, real clients and servers. Needs root and BPF.

mod bench;
