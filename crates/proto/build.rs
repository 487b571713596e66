//! Generates the control plane's messages and services; `protox` needs no `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/forebay.proto");
    let descriptors = protox::compile(["proto/forebay.proto"], ["proto"])?;
    // What must not be seen in logs has a Debug of its own.
    tonic_prost_build::configure().bytes(".").skip_debug(["forebay.v1.DirectHttp"]).compile_fds(descriptors)?;
    Ok(())
}
