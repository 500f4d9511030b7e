//! Embeds the kernel half: the object that `cargo xtask build-ebpf` made, or an empty stub that the daemon refuses to load.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let kernel_half = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../mesh-ebpf");
    let object = kernel_half.join("target/weft.o");
    let built = object.exists();
    // a file that is not there counts as changed, and the daemon would be compiled anew each time: then its folder is watched
    let watched = if built { &object } else { &kernel_half };
    println!("cargo:rerun-if-changed={}", watched.display());
    let bytes = if built { fs::read(&object)? } else { Vec::new() };
    fs::write(Path::new(&env::var("OUT_DIR")?).join("weft.o"), bytes)?;
    Ok(())
}
