//! All of MNIST, embedded: 60,000 training and 10,000 test images of handwritten digits, 28×28 grey pixels.
//!
//! ```
//! let test = onward_mnist::test();
//! assert_eq!((test.len(), test.shape().to_string()), (10_000, "1×28×28".into()));
//! assert_eq!(test.labels()[..5], [7, 2, 1, 0, 4]);
//! ```
//!
//! The crate's README says where the data comes from and under what licence; `examples/pack.rs` makes the embedded files
//! from the four published ones.

use lzma_rust2::Lzma2Reader;
use onward::{Dataset, Shape, Values};
use std::io::Read;

/// The window that the embedded files were compressed with.
#[doc(hidden)]
pub const WINDOW: u32 = 1 << 26;

/// The published files, by name: their size, and what is embedded of them. The training images are in three parts, so
/// that they can be decoded side by side.
#[doc(hidden)]
pub const FILES: [(&str, usize, &[&[u8]]); 4] = [
    (
        "train-images-idx3-ubyte",
        16 + 60_000 * 784,
        &[
            include_bytes!("../data/train-images-idx3-ubyte.0.lzma2"),
            include_bytes!("../data/train-images-idx3-ubyte.1.lzma2"),
        ],
    ),
    ("train-labels-idx1-ubyte", 8 + 60_000, &[include_bytes!("../data/train-labels-idx1-ubyte.0.lzma2")]),
    ("t10k-images-idx3-ubyte", 16 + 10_000 * 784, &[include_bytes!("../data/t10k-images-idx3-ubyte.0.lzma2")]),
    ("t10k-labels-idx1-ubyte", 8 + 10_000, &[include_bytes!("../data/t10k-labels-idx1-ubyte.0.lzma2")]),
];

/// The 60,000 training images, `1×28×28`, with labels 0 to 9.
pub fn train() -> Dataset {
    dataset(0)
}

/// The 10,000 test images, `1×28×28`, with labels 0 to 9.
pub fn test() -> Dataset {
    dataset(2)
}

/// Published file `n` of [`FILES`], byte for byte.
#[doc(hidden)]
pub fn file(n: usize) -> Vec<u8> {
    let (name, size, parts) = FILES[n];
    let decode = |part: &[u8]| {
        let mut bytes = Vec::with_capacity(size / parts.len() + 16);
        Lzma2Reader::new(part, WINDOW, None).read_to_end(&mut bytes).map(|_| bytes)
    };
    let decoded: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.iter().map(|part| scope.spawn(move || decode(part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("decoding does not panic")).collect()
    });
    let bytes: std::io::Result<Vec<_>> = decoded.into_iter().collect();
    let bytes = bytes.map(|parts| parts.concat()).unwrap_or_default();
    assert_eq!(bytes.len(), size, "the embedded {name} is damaged: build the crate again");
    bytes
}

fn dataset(images: usize) -> Dataset {
    let labels = file(images + 1)[8..].iter().map(|&label| u32::from(label)).collect();
    let mut pixels = file(images);
    pixels.drain(..16);
    let classes = (0..10).map(|digit| digit.to_string()).collect();
    Dataset::new(Shape::image(1, 28, 28), Values::Bytes(pixels), labels, classes).expect("tested against its checksums")
}
