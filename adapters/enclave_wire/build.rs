//! Compiles what enclaves say to each other with protox: no `protoc` to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    println!("cargo:rerun-if-changed=build.rs");
    let files = protox::compile(["strongroom/v1/custody.proto"], ["../../proto"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    // They carry secrets: src/secrets.rs prints them without.
    let package = ".strongroom.custody.v1";
    config.skip_debug(["Release", "HoldShare", "Shown"].map(|name| format!("{package}.{name}")));
    config.compile_fds(files)?;
    Ok(())
}
