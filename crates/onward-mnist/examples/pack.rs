//! Makes the embedded files from the four published IDX files:
//! `cargo run --release -p onward-mnist --example pack -- FOLDER`.
//!
//! It refuses files that are not, byte for byte, the published ones. The result is a fixed function of them.

use lzma_rust2::{Lzma2Options, Lzma2Writer};
use onward_mnist::{FILES, WINDOW};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder =
        PathBuf::from(std::env::args_os().nth(1).ok_or("usage: pack FOLDER, with the four raw IDX files in it")?);
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    for ((name, size, parts), checksum) in FILES.into_iter().zip(CHECKSUMS) {
        let raw = std::fs::read(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let found = sha256(&raw);
        if raw.len() != size || found != checksum {
            return Err(format!("{name}: found SHA-256 {found}, expected {checksum}: not the published file").into());
        }
        for (part, bytes) in raw.chunks(size.div_ceil(parts.len())).enumerate() {
            let mut options = Lzma2Options::with_preset(9);
            let lzma = &mut options.lzma_options;
            (lzma.dict_size, lzma.lc, lzma.lp, lzma.pb) = (WINDOW, 4, 0, 0);
            let mut writer = Lzma2Writer::new(Vec::new(), options);
            writer.write_all(bytes)?;
            let packed = writer.finish()?;
            println!("{name}, part {part}: {} to {} bytes", bytes.len(), packed.len());
            std::fs::write(to.join(format!("{name}.{part}.lzma2")), packed)?;
        }
    }
    Ok(())
}

include!("checksums.in");
