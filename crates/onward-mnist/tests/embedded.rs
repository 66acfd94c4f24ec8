//! What is embedded is the published data, and small.

use onward_mnist::{FILES, file};
use sha2::{Digest, Sha256};

include!("../examples/checksums.in");

#[test]
fn the_published_files_come_back() {
    for (n, checksum) in CHECKSUMS.into_iter().enumerate() {
        assert_eq!(sha256(&file(n)), checksum, "{}", FILES[n].0);
    }
}

#[test]
fn all_of_it_is_under_ten_megabytes() {
    let bytes: usize = FILES.iter().flat_map(|(_, _, parts)| parts.iter()).map(|part| part.len()).sum();
    assert!(bytes < 10_000_000, "{bytes} bytes");
}

#[test]
fn images_and_labels_belong_together() {
    let train = onward_mnist::train();
    assert_eq!((train.len(), train.classes().len()), (60_000, 10));
    assert_eq!(train.labels()[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    let mut pixels = vec![0.0; 784];
    train.read(0, &mut pixels);
    assert_eq!(pixels.iter().filter(|p| **p > 0.0).count(), 166);
    assert_eq!(pixels[5 * 28 + 12], 3.0 / 255.0);
}
