//! The SDK names a function of the host without saying where it is imported from; linkers refuse that unless told.

fn main() {
    println!("cargo::rustc-link-arg=--import-undefined");
    println!("cargo::rerun-if-changed=build.rs");
}
