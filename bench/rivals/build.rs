//! How the program with uWebSockets is linked. Its objects hold gcc's bytecode, which only gcc's own linker can read.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_UWS").is_none() {
        return;
    }
    for argument in ["-fuse-ld=bfd", "-flto", "-O3", "-lstdc++", "-luv", "-lz", "-lssl", "-lcrypto"] {
        println!("cargo::rustc-link-arg-bin=uws-broadcast={argument}");
    }
}
