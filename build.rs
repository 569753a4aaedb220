//! Compiles `proto/` into Rust and a descriptor set for gRPC reflection, without `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

/// The service of `gwproxy echo grpc`.
const ECHO: &str = "gwproxy/echo/v1/echo.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    // Reflection clients show the comments.
    compiler.include_source_info(true).include_imports(true).open_file(ECHO)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("echo_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    // The client is generic over its transport: it costs nothing where it is not used, and the
    // transport is a dependency of the tests only.
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
