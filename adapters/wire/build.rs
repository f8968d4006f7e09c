//! Compiles the gRPC contract with protox: no `protoc` to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    println!("cargo:rerun-if-changed=build.rs");
    let files = protox::compile(
        ["strongroom/v1/storage.proto", "strongroom/v1/ledger.proto"],
        ["../../proto"],
    )?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".strongroom.v1")
        .compile_fds(files)?;
    Ok(())
}
