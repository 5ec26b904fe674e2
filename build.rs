//! Lets the program find libtorch where it was linked against it, and tell which compiler made it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_MINDSEYE_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
    let rustc = std::env::var("RUSTC").expect("cargo tells which compiler");
    let version = Command::new(rustc).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    println!("cargo::rustc-env=MINDSEYE_RUSTC={}", String::from_utf8_lossy(&version).trim());
    for name in ["TARGET", "PROFILE"] {
        println!("cargo::rustc-env=MINDSEYE_{name}={}", std::env::var(name).expect("cargo sets it"));
    }
}
