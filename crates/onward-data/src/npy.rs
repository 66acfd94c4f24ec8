//! NPY and NPZ: NumPy's arrays. Samples are `(N, D)`, `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`, labels `(N)`.

use crate::detect::Split;
use crate::error::{Error, Result, dataset, numbered};
use npyz::{DType, NpyFile, Order, TypeChar};
use onward::{Dataset, Shape, Values};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// Names of samples and labels in an archive: for training, and for the test.
const TRAIN: [(&str, &str); 5] =
    [("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y"), ("images", "labels"), ("arr_0", "arr_1")];
const TEST: [(&str, &str); 2] = [("x_test", "y_test"), ("test_images", "test_labels")];

/// An array file: samples without labels.
pub fn read(path: &Path) -> Result<Dataset> {
    let file = File::open(path).map_err(Error::unread(path))?;
    let length = file.metadata().map_err(Error::unread(path))?.len();
    let mut reader = BufReader::new(file);
    let npy =
        NpyFile::new(&mut reader).map_err(|error| Error::new(path, format!("it is not in NPY format: {error}")))?;
    let size = npy.dtype().num_bytes().unwrap_or(0) as u64;
    let dims = npy.shape().to_vec();
    drop(npy);
    let header = reader.stream_position().map_err(Error::unread(path))?;
    let total = dims.iter().try_fold(size, |n, &dim| n.checked_mul(dim));
    if total != Some(length - header) {
        let problem = format!("its header claims {dims:?} of {size} bytes each, but {} bytes follow", length - header);
        return Err(Error::new(path, problem));
    }
    reader.rewind().map_err(Error::unread(path))?;
    let npy = NpyFile::new(reader).map_err(|error| Error::new(path, format!("it is not in NPY format: {error}")))?;
    samples(path, array(path, "the array", npy)?, None)
}

/// An archive of arrays, with a test split where it has one.
pub fn read_archive(path: &Path) -> Result<Split> {
    let mut archive = npyz::npz::NpzArchive::open(path)
        .map_err(|error| Error::new(path, format!("it is not a whole NPZ archive: {error}")))?;
    let names: Vec<String> = archive.array_names().map(String::from).collect();
    let mut get = |(x, y): (&str, &str)| -> Result<Option<Dataset>> {
        let mut find = |name: &str| match archive.by_name(name) {
            Ok(Some(file)) => array(path, name, file).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(Error::new(path, format!("its array `{name}` could not be read: {error}"))),
        };
        match (find(x)?, find(y)?) {
            (Some(x), y) => samples(path, x, y).map(Some),
            (None, _) => Ok(None),
        }
    };
    let mut first = |pairs: &[(&str, &str)]| pairs.iter().find_map(|pair| get(*pair).transpose()).transpose();
    let (train, test) = (first(&TRAIN)?, first(&TEST)?);
    match train {
        Some(train) => Ok(Split { train, test }),
        None => Err(Error::new(path, format!("it holds {names:?}, expected `x` and `y`, or `x_train` and `y_train`"))),
    }
}

struct Array {
    dims: Vec<usize>,
    numbers: Numbers,
}

enum Numbers {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
    Whole(Vec<i64>),
}

fn array<R: Read>(path: &Path, name: &str, file: NpyFile<R>) -> Result<Array> {
    let refuse = |problem: String| Error::new(path, format!("{name}: {problem}"));
    let dims = file.shape().to_vec();
    if file.order() != Order::C && dims.len() > 1 {
        return Err(refuse("it is in Fortran order; save it with numpy.ascontiguousarray".into()));
    }
    let dtype = file.dtype();
    let DType::Plain(kind) = &dtype else {
        return Err(refuse("its elements are records; expected plain numbers".into()));
    };
    let size = kind.num_bytes().unwrap_or(1) as u64;
    let total = dims.iter().try_fold(size, |n, &dim| n.checked_mul(dim));
    if total.is_none() {
        return Err(refuse(format!("its header claims {dims:?}: too large for any file")));
    }
    let broken = |error: std::io::Error| refuse(format!("it is cut short or damaged: {error}"));
    // Collected one by one: an archive's claims cost no memory before its contents are there.
    macro_rules! all {
        ($type:ty, $wrap:expr, $convert:expr) => {
            file.data::<$type>()
                .map_err(|error| refuse(format!("it could not be read as {kind}: {error}")))?
                .map(|value| value.map($convert))
                .collect::<std::io::Result<Vec<_>>>()
                .map($wrap)
                .map_err(broken)?
        };
    }
    let numbers = match (kind.type_char(), size) {
        (TypeChar::Uint, 1) => all!(u8, Numbers::Bytes, |v| v),
        (TypeChar::Uint, 2) => all!(u16, Numbers::Whole, i64::from),
        (TypeChar::Uint, 4) => all!(u32, Numbers::Whole, i64::from),
        (TypeChar::Int, 1) => all!(i8, Numbers::Whole, i64::from),
        (TypeChar::Int, 2) => all!(i16, Numbers::Whole, i64::from),
        (TypeChar::Int, 4) => all!(i32, Numbers::Whole, i64::from),
        (TypeChar::Int, 8) => all!(i64, Numbers::Whole, |v| v),
        (TypeChar::Float, 4) => all!(f32, Numbers::Floats, |v| v),
        (TypeChar::Float, 8) => all!(f64, Numbers::Floats, |v| v as f32),
        _ => return Err(refuse(format!("its elements are {kind}; expected u1, u2, u4, i1 to i8, f4 or f8"))),
    };
    let dims: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    Ok(Array { dims: dims.ok_or_else(|| refuse("it is too large for this machine".into()))?, numbers })
}

fn samples(path: &Path, x: Array, y: Option<Array>) -> Result<Dataset> {
    let count = x.dims.first().copied().unwrap_or(0);
    let mut last = 1;
    let shape = match x.dims[..] {
        [_, n] => Shape::features(n),
        [_, height, width] => Shape::image(1, height, width),
        [_, height, width, channels @ (1 | 3 | 4)] => {
            last = channels;
            Shape::image(channels, height, width)
        }
        [_, channels, height, width] => Shape::image(channels, height, width),
        _ => return Err(Error::new(path, format!("its samples have shape {:?}, expected 2 to 4 dimensions", x.dims))),
    };
    let values = match x.numbers {
        Numbers::Bytes(v) => Values::Bytes(channels_first(v, shape, last)),
        Numbers::Floats(v) => Values::Floats(channels_first(v, shape, last)),
        Numbers::Whole(v) => Values::Floats(channels_first(v.into_iter().map(|v| v as f32).collect(), shape, last)),
    };
    let (labels, classes) = match y {
        None => (Vec::new(), Vec::new()),
        Some(Array { dims, numbers }) => {
            if dims.iter().product::<usize>() != count {
                return Err(Error::new(path, format!("its labels have shape {dims:?}, expected ({count},)")));
            }
            let whole = match numbers {
                Numbers::Bytes(v) => v.into_iter().map(i64::from).collect(),
                Numbers::Whole(v) => v,
                Numbers::Floats(_) => return Err(Error::new(path, "its labels are floats, expected whole numbers")),
            };
            if let Some(negative) = whole.iter().find(|label| **label < 0) {
                return Err(Error::new(path, format!("found label {negative}, expected labels from 0")));
            }
            numbered(path, whole.into_iter().map(i64::unsigned_abs))?
        }
    };
    dataset(path, shape, values, labels, classes)
}

/// `(…, H, W, C)` → `(…, C, H, W)`.
fn channels_first<T: Copy>(values: Vec<T>, shape: Shape, channels_last: usize) -> Vec<T> {
    if channels_last == 1 || shape.is_empty() {
        return values;
    }
    let pixels = shape.height * shape.width;
    let image = |v: &[T]| {
        let channels = shape.channels;
        (0..channels)
            .flat_map(|c| (0..pixels).map(move |p| (c, p)))
            .map(|(c, p)| v[p * channels + c])
            .collect::<Vec<T>>()
    };
    values.chunks_exact(shape.len()).flat_map(image).collect()
}
