//! The rules of this room, tried: what each kind becomes, which files count, and what holds while files change.

mod conversion;
mod files;
mod last_good;
mod running;
mod bursts;

/// A Pod as kubectl prints it, trimmed.
fn pod(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: {ip}}}\n"
    )
}
