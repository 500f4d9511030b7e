//! Weft's node daemon. The modules stand in the order of their floors: a file may use a module only if it is on a lower floor or its own
//! room. Data flows one way: `watch` → `model` → { `bpf`, `proxy` }; only facts flow back. ARCHITECTURE.md tells the story.

// floor 0: words that every room speaks
pub mod ids;
pub mod drain;
pub mod print;
pub mod ready;
pub mod task;
pub mod telemetry;
// floor 1: what the administrator asked for
pub mod config;
// floor 2: the brain, pure
pub mod model;
// floor 3: borders; these two never see each other
pub mod watch;
pub mod bpf;
// floor 4: one connection, told as a story
pub mod proxy;
// floor 5: what people look at
pub mod admin;
pub mod cli;
// floor 6: wiring and nothing else
pub mod app;
