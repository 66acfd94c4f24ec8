//! Every reader on whole files made here, and on everything that can be wrong with them.

use flate2::write::GzEncoder;
use onward::{Dataset, Shape, Values};
use onward_data::{Kind, images_below, open, read_images};
use proptest::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

fn idx(dims: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|dim| file.extend(dim.to_be_bytes()));
    file.extend(bytes);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An NPY file: version 1, C order.
fn npy(dtype: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

fn png(path: &Path, width: u32, height: u32, colour: bool) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    if colour {
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 7])).save(path).unwrap();
    } else {
        image::GrayImage::from_fn(width, height, |x, y| image::Luma([(10 * y + x) as u8])).save(path).unwrap();
    }
}

fn put(folder: &TempDir, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, contents).unwrap();
    path
}

#[track_caller]
fn refused(path: &Path, expected: &str) {
    let error = open(path).expect_err("it should be refused").to_string();
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    assert!(error.contains(&*path.file_name().unwrap().to_string_lossy()), "{error:?} does not name the file");
}

fn bytes(data: &Dataset) -> &[u8] {
    let Values::Bytes(bytes) = data.values() else { panic!("expected bytes") };
    bytes
}

fn floats(data: &Dataset) -> &[f32] {
    let Values::Floats(floats) = data.values() else { panic!("expected floats") };
    floats
}

#[test]
fn idx_folders_raw_and_zipped() {
    let folder = tempdir().unwrap();
    put(&folder, "train-images-idx3-ubyte", idx(&[3, 1, 2], &[1, 2, 3, 4, 5, 6]));
    put(&folder, "train-labels-idx1-ubyte.gz", gzip(&idx(&[3], &[0, 2, 1])));
    put(&folder, "t10k-images.idx3-ubyte.gz", gzip(&idx(&[1, 1, 2], &[9, 8])));
    put(&folder, "t10k-labels.idx1-ubyte", idx(&[1], &[2]));
    let loaded = open(folder.path()).unwrap();
    assert_eq!(loaded.kind, Kind::Idx);
    assert_eq!((loaded.train.shape(), bytes(&loaded.train)), (Shape::image(1, 1, 2), &[1, 2, 3, 4, 5, 6][..]));
    assert_eq!((loaded.train.labels(), loaded.train.classes().len()), (&[0, 2, 1][..], 3));
    assert_eq!(loaded.test.unwrap().labels(), [2]);
    let alone = open(&folder.path().join("train-images-idx3-ubyte")).unwrap();
    assert!(alone.train.labels().is_empty(), "raw images have no raw labels beside them");
    let labels = folder.path().join("t10k-labels.idx1-ubyte");
    assert!(open(&labels).unwrap_err().problem.contains("expected images"));
}

#[test]
fn idx_refusals() {
    let folder = tempdir().unwrap();
    let image = idx(&[2, 1, 2], &[1, 2, 3, 4]);
    refused(&put(&folder, "short", &image[..image.len() - 1]), "claims [2, 1, 2], which takes 20 bytes, but it has 19");
    refused(&put(&folder, "long", [&image[..], &[7]].concat()), "but it has 21");
    refused(&put(&folder, "header", &image[..9]), "ends within its header");
    refused(&put(&folder, "absurd", idx(&[u32::MAX; 4], &[])), "a size that a file can have");
    refused(&put(&folder, "huge", idx(&[u32::MAX, 1, 1], &[0; 9])), "but it has 25");
    refused(&put(&folder, "empty-set", idx(&[0, 1, 2], &[])), "a size that a file can have");
    refused(&put(&folder, "floats", [0, 0, 0x0d, 3, 0, 0, 0, 1]), "0d");
    refused(&put(&folder, "zipped-short", gzip(&image[..image.len() - 1])), "4 bytes, but only 3 follow");
    refused(&put(&folder, "zipped-long", gzip(&[&image[..], &[7; 99]].concat())), "but more 5 follow");
    refused(&put(&folder, "zipped-huge", gzip(&idx(&[u32::MAX, 1000, 1000], &[1, 2, 3]))), "holds at most 67108864");
    let zipped = gzip(&image);
    refused(&put(&folder, "zipped-cut", &zipped[..zipped.len() - 9]), "cut short");
    refused(&put(&folder, "one-dimension", idx(&[4], &[1, 2, 3, 4])), "as labels have");

    put(&folder, "train-images-idx3-ubyte", &image);
    put(&folder, "train-labels-idx1-ubyte", idx(&[3], &[0, 1, 2]));
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("it has 3 labels") && error.contains("has 2 images"), "{error}");
    put(&folder, "train-labels-idx1-ubyte", idx(&[2, 1], &[0, 1]));
    assert!(open(folder.path()).unwrap_err().to_string().contains("2 dimensions, expected 1 for labels"));
}

#[test]
fn cifar_folders_and_refusals() {
    let folder = tempdir().unwrap();
    let record = |label: u8, pixel: u8| [&[label][..], &[pixel; 3072]].concat();
    for n in 1..=5 {
        put(&folder, &format!("data_batch_{n}.bin"), [record(n, n), record(0, 9)].concat());
    }
    put(&folder, "test_batch.bin", record(9, 1));
    put(&folder, "batches.meta.txt", "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
    let loaded = open(folder.path()).unwrap();
    assert_eq!((loaded.kind, loaded.train.len(), loaded.train.shape()), (Kind::Cifar, 10, Shape::image(3, 32, 32)));
    assert_eq!(loaded.train.labels(), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]);
    assert_eq!(loaded.test.unwrap().classes()[9], "truck");
    let hundred = open(&put(&folder, "fine.bin", [&[19, 99][..], &[5; 3072]].concat())).unwrap();
    assert_eq!((hundred.train.labels(), hundred.train.classes().len()), (&[99][..], 100));

    refused(&put(&folder, "label.bin", record(10, 0)), "record 0 has label 10, expected 0 to 9");
    refused(&put(&folder, "cut.bin", &record(1, 0)[..3000]), "expected IDX");
    put(&folder, "data_batch_3.bin", &record(1, 1)[..3000]);
    assert!(open(folder.path()).unwrap_err().to_string().contains("3000 bytes, expected a multiple of 3073"));
}

#[test]
fn samples_without_labels_are_read_where_the_shape_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let two = |name, text: &str| onward_data::open_samples(&put(&folder, name, text), Shape::features(2));
    let plain = two("plain.csv", "x,y\n1,2\n3,4\n").unwrap();
    assert_eq!((plain.values(), plain.labels()), (&Values::Floats(vec![1.0, 2.0, 3.0, 4.0]), &[][..]));
    let labelled = two("labelled.csv", "1,2,a\n3,4,b\n").unwrap();
    assert_eq!((labelled.values(), labelled.labels()), (plain.values(), &[0, 1][..]));
    let refused = two("three.csv", "1,2,3,a\n").unwrap_err().to_string();
    assert!(refused.ends_with("three.csv: its samples are 1×1×3, expected 1×1×2"), "{refused}");
    assert_eq!(two("to-label.csv", "x,y,label\n1,2,\n3,4,\n").unwrap().len(), 2);
    let one = put(&folder, "single.csv", "1\n2\n");
    assert_eq!(onward_data::open_samples(&one, Shape::features(1)).unwrap().len(), 2);
}

#[test]
fn csv_files_and_refusals() {
    let folder = tempdir().unwrap();
    let named = open(&put(&folder, "named.csv", "x,class,y\n1,b,2\n3,a,-4e1\n")).unwrap().train;
    assert_eq!((floats(&named), named.labels()), (&[1.0, 2.0, 3.0, -40.0][..], &[1, 0][..]));
    assert_eq!(named.classes(), ["a", "b"]);
    let last = open(&put(&folder, "last.csv", "1, 2, 10\n3, 4, 9\n5, 6, 10\n")).unwrap().train;
    assert_eq!((last.classes(), last.labels()), (&["9".to_string(), "10".into()][..], &[1, 0, 1][..]));

    let numbered = open(&put(&folder, "numbered.csv", ",0,1,2\n0,5.5,3,a\n1,4,3.5,b\n")).unwrap().train;
    assert_eq!((numbered.len(), numbered.shape().len(), numbered.classes().len()), (2, 3, 2));
    refused(&put(&folder, "missing.csv", "5.1,?,1.4,a\n4.9,3.0,1.4,b\n"), "line 1, column 2: found \"?\"");
    refused(&put(&folder, "unlabelled.csv", "x,label\n1,a\n2, \n"), "line 3, column 2: found no label");
    refused(&put(&folder, "headless.csv", "1,\n2,a\n"), "line 1, column 2: found no label");
    refused(&put(&folder, "nan.csv", "x,label\n1,a\nNaN,b\n"), "line 3, column 1: found \"NaN\"");
    refused(&put(&folder, "text.csv", "x,label\n1,a\noops,b\n"), "line 3, column 1: found \"oops\"");
    refused(&put(&folder, "inf.csv", "1,a\n1e999,b\n"), "found \"1e999\"");
    refused(&put(&folder, "ragged.csv", "x,label\n1,a\n1,2,b\n"), "line 3 has 3 columns, expected 2");
    refused(&put(&folder, "one.csv", "x\n1\n"), "has 1 column");
    refused(&put(&folder, "none.csv", "x,label\n"), "no samples");
    refused(&put(&folder, "bytes.csv", b"1,\xff\xfe\n2,b\n"), "not UTF-8");
    let regression: String = (0..3000).map(|n| format!("1,{n}.5\n")).collect();
    refused(&put(&folder, "regression.csv", regression), "3000 different values");
}

#[test]
fn numpy_files_and_refusals() {
    let folder = tempdir().unwrap();
    let le = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let read = open(&put(&folder, "a.npy", npy("<f4", "(2, 3)", &le(&[1., 2., 3., 4., 5., 6.])))).unwrap();
    assert_eq!((read.kind, read.train.shape(), floats(&read.train)[4]), (Kind::Npy, Shape::features(3), 5.0));
    let grey = open(&put(&folder, "b.npy", npy("|u1", "(1, 2, 2)", &[1, 2, 3, 4]))).unwrap().train;
    assert_eq!((grey.shape(), bytes(&grey)), (Shape::image(1, 2, 2), &[1, 2, 3, 4][..]));
    let colour = open(&put(&folder, "c.npy", npy("|u1", "(1, 1, 2, 3)", &[1, 2, 3, 4, 5, 6]))).unwrap().train;
    assert_eq!((colour.shape(), bytes(&colour)), (Shape::image(3, 1, 2), &[1, 4, 2, 5, 3, 6][..]));

    refused(
        &put(&folder, "short.npy", npy("<f4", "(9, 3)", &le(&[1.0]))),
        "claims [9, 3] of 4 bytes each, but only 4 bytes follow",
    );
    refused(
        &put(&folder, "absurd.npy", npy("<f4", "(4000000000, 4000000000, 4000000000)", &[])),
        "too large for any file",
    );
    refused(&put(&folder, "huge.npy", npy("<f8", "(1000000000000,)", &[0; 8])), "only 8 bytes follow");
    refused(&put(&folder, "nan.npy", npy("<f4", "(1, 2)", &le(&[0.0, f32::NAN]))), "NaN");
    refused(&put(&folder, "text.npy", npy("<U3", "(1, 2)", &[0; 24])), "elements are");
    refused(&put(&folder, "flat.npy", npy("<f4", "(2,)", &le(&[0.0; 2]))), "expected 2 to 4 dimensions");
    refused(&put(&folder, "long.npy", npy("|u1", "(1, 2)", &[0; 3])), "more than 2 bytes follow");
    refused(&put(&folder, "header.npy", &npy("<f4", "(2,)", &[])[..20]), "cut short");
    refused(&put(&folder, "big-endian.npy", npy(">f4", "(1, 2)", &[0; 8])), "astype('f4')");
    refused(&put(&folder, "negative.npy", npy("<f4", "(-1, 2)", &[0; 8])), "cannot be understood");
    refused(&put(&folder, "long-header.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), "at most 65536");
    refused(&put(&folder, "archive.npz", b"PK\x03\x04 and nothing more"), "not a whole NPZ archive");
}

#[test]
fn numpy_archives() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("d.npz");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let arrays: [(&str, &str, &[u8]); 4] = [
        ("x_train", "(2, 1, 2)", &[1, 2, 3, 4]),
        ("y_train", "(2,)", &[1, 0]),
        ("x_test", "(1, 1, 2)", &[5, 6]),
        ("y_test", "(1,)", &[1]),
    ];
    for (name, shape, values) in arrays {
        archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&npy("|u1", shape, values)).unwrap();
    }
    archive.finish().unwrap();
    let loaded = open(&path).unwrap();
    assert_eq!((loaded.kind, loaded.train.labels(), bytes(&loaded.train)), (Kind::Npz, &[1, 0][..], &[1, 2, 3, 4][..]));
    assert_eq!(loaded.test.unwrap().labels(), [1]);
}

#[test]
fn folders_of_images_and_refusals() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    png(&root.join("train/cat/1.png"), 3, 2, false);
    png(&root.join("train/cat/2.PNG"), 3, 2, false);
    png(&root.join("train/dog/1.png"), 3, 2, false);
    png(&root.join("test/dog/9.png"), 3, 2, false);
    put(&folder, "train/dog/readme.txt", "no image");
    let loaded = open(root).unwrap();
    assert_eq!((loaded.kind, loaded.train.labels()), (Kind::Folder, &[0, 0, 1][..]));
    assert_eq!((loaded.train.shape(), &bytes(&loaded.train)[..6]), (Shape::image(1, 2, 3), &[0, 1, 2, 10, 11, 12][..]));
    assert_eq!(loaded.test.unwrap().labels(), [1]);

    // What is hidden is no class and no image; what is empty is no class, and that is said.
    for name in ["train/.cache", "train/cat/.thumbnails", "train/ants", "train/zebras", "test/zebras"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    put(&folder, "train/.cache/1.png", "not to be read");
    put(&folder, "train/cat/.thumbnails/1.png", "not to be read");
    put(&folder, "train/cat/._1.png", "not to be read");
    put(&folder, "train/ants/readme.txt", "no image");
    let loaded = open(root).unwrap();
    assert_eq!((loaded.train.classes(), loaded.train.len()), (&["cat".to_string(), "dog".into()][..], 3));
    assert_eq!(loaded.note.unwrap(), "left out folders without a PNG or JPEG image: ants, zebras");

    png(&root.join("test/bird/1.png"), 3, 2, false);
    assert!(open(root).unwrap_err().to_string().contains("no such class among the training images"));
    png(&root.join("train/dog/2.png"), 4, 2, false);
    let error = open(&root.join("train")).unwrap_err().to_string();
    assert!(error.contains("it is 1×2×4") && error.contains("1.png is 1×2×3"), "{error}");
    put(&folder, "train/dog/2.png", "not a picture");
    assert!(open(&root.join("train")).unwrap_err().to_string().contains("no whole PNG or JPEG"));

    let colour = root.join("colour.png");
    png(&colour, 3, 2, true);
    let three = read_images(std::slice::from_ref(&colour), Shape::image(3, 2, 3), false).unwrap();
    assert_eq!(bytes(&three), [0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1, 7, 7, 7, 7, 7, 7]);
    let grey = read_images(std::slice::from_ref(&colour), Shape::image(1, 2, 3), false).unwrap();
    assert_eq!(grey.len(), 1);
    let clear = root.join("clear.png");
    image::GrayAlphaImage::from_fn(3, 1, |x, _| image::LumaA([100, [0, 51, 255][x as usize]])).save(&clear).unwrap();
    let on_white = read_images(&[clear], Shape::image(1, 1, 3), false).unwrap();
    assert_eq!(bytes(&on_white), [255, 224, 100]);
    let error = read_images(std::slice::from_ref(&colour), Shape::image(1, 28, 28), false).unwrap_err().to_string();
    assert!(error.contains("it is 2×3") && error.contains("expects 28×28"), "{error}");
    let mut files = images_below(&root.join("train/cat"), &mut Err).unwrap();
    files.push(colour);
    let resized = read_images(&files, Shape::image(1, 28, 28), true).unwrap();
    assert_eq!((resized.len(), resized.shape()), (3, Shape::image(1, 28, 28)));
}

#[test]
fn what_is_no_data_is_described() {
    let folder = tempdir().unwrap();
    refused(&folder.path().join("nothing"), "could not be read");
    let empty = folder.path().join("folder");
    std::fs::create_dir(&empty).unwrap();
    refused(&empty, "found nothing; expected IDX files");
    put(&folder, "folder/a.txt", "x");
    refused(&empty, "found a.txt; expected");
    refused(&put(&folder, "zero", ""), "it is empty");
    refused(&put(&folder, "letter.doc", "Dear all"), "ends in \"doc\"");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"odd\xff"));
        std::fs::create_dir(&odd).unwrap();
        assert!(open(&odd).is_err());
        use std::os::unix::fs::PermissionsExt;
        let closed = put(&folder, "closed.csv", "1,a\n");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
        if std::fs::File::open(&closed).is_err() {
            refused(&closed, "ermission denied");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a file holds, reading it ends in an answer.
    #[test]
    fn nothing_panics(
        kind in 0usize..7,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        random in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let folder = tempdir().unwrap();
        let (name, whole) = match kind {
            0 => ("train-images-idx3-ubyte", idx(&[2, 2, 2], &[1; 8])),
            1 => ("a.gz", gzip(&idx(&[2, 2, 2], &[1; 8]))),
            2 => ("a.csv", b"x,y,label\n1,2,a\n3,4,b\n".to_vec()),
            3 => ("a.npy", npy("<f4", "(2, 2)", &[0; 16])),
            4 => ("a.bin", vec![3; 3073]),
            5 => ("a.npz", [b"PK\x03\x04".to_vec(), npy("|u1", "(2, 2)", &[0; 4])].concat()),
            _ => ("a.csv", random),
        };
        let mut damaged = whole.clone();
        for (at, byte) in changes {
            if !damaged.is_empty() {
                let at = at.index(damaged.len());
                damaged[at] = byte;
            }
        }
        damaged.truncate(cut.index(damaged.len() + 1).max(damaged.len() / 2));
        let _ = open(&put(&folder, name, damaged));
    }
}

#[test]
fn a_text_is_windows_and_what_comes_next() {
    let folder = tempdir().unwrap();
    let text = "The fox, it is said; ".repeat(60) + "“1”";
    let loaded = open(&put(&folder, "fables.txt", &text)).unwrap();
    assert_eq!((loaded.kind, loaded.train.shape()), (Kind::Text, Shape::image(1, 10, 30)));
    // 1,260 symbols are twelve strings of 100, the last one to test on, 90 windows each.
    assert_eq!((loaded.train.len(), loaded.test.unwrap().len()), (990, 90));
    let first: Vec<usize> =
        (0..10).map(|i| bytes(&loaded.train)[i * 30..][..30].iter().position(|b| *b == 255).unwrap()).collect();
    assert_eq!(first, [19, 7, 4, 26, 5, 14, 23, 27, 26, 8], "`the fox, i`");
    let next: Vec<&str> = loaded.train.labels()[..4].iter().map(|l| &*loaded.train.classes()[*l as usize]).collect();
    assert_eq!(next, ["t", "space", "i", "s"]);
    assert_eq!(
        loaded.note.unwrap(),
        "left out 3 characters outside the alphabet (a to z, space , ; .): 1 (1), “ (1), ” (1)"
    );

    refused(&put(&folder, "short.txt", "too short"), "it has 9 characters of the alphabet, expected 1000 at least");
    refused(&put(&folder, "latin.txt", b"caf\xe9 is not UTF-8"), "byte 3 is not UTF-8 text");
    let huge = folder.path().join("huge.txt");
    std::fs::write(&huge, "a")
        .and_then(|()| std::fs::File::options().write(true).open(&huge)?.set_len(1 << 40))
        .unwrap();
    refused(&huge, "expected a text of at most 4000000");
    let table = open(&put(&folder, "table.txt", "a,b\n1,2\n3,4\n")).unwrap();
    assert_eq!(table.kind, Kind::Csv);
}
