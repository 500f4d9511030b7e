//! Embeds the kernel half: the object that `cargo xtask build-ebpf` made, or an empty stub that the daemon refuses to load.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let object = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../mesh-ebpf/target/weft.o");
    println!("cargo:rerun-if-changed={}", object.display());
    let bytes = if object.exists() {
        fs::read(&object)?
    } else {
        Vec::new()
    };
    fs::write(Path::new(&env::var("OUT_DIR")?).join("weft.o"), bytes)?;
    Ok(())
}
