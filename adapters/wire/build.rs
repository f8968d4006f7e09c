//! Compiles the gRPC contract with protox: no `protoc` to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    println!("cargo:rerun-if-changed=build.rs");
    let files = protox::compile(
        [
            "strongroom/v1/storage.proto",
            "strongroom/v1/ledger.proto",
            "strongroom/v1/keys.proto",
        ],
        ["../../proto"],
    )?;
    // What gateways show to whoever asks for their contract, comments included.
    let mut public = protox::Compiler::new(["../../proto"])?;
    public
        .include_imports(true)
        .include_source_info(true)
        .open_files(["strongroom/v1/keys.proto", "strongroom/v1/ledger.proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("public.binpb"),
        public.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".strongroom.v1")
        .compile_fds(files)?;
    Ok(())
}
