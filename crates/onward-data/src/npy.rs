//! NPY and NPZ: NumPy's arrays. Samples are `(N, D)`, `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`, labels `(N)`.

use crate::detect::Split;
use crate::error::{Error, Result, dataset, most_unpacked, numbered};
use onward::{Dataset, Shape, Values};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;
use zip::result::ZipError;

/// Names of samples and labels in an archive: for training, and for the test.
const TRAIN: [(&str, &str); 5] =
    [("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y"), ("images", "labels"), ("arr_0", "arr_1")];
const TEST: [(&str, &str); 2] = [("x_test", "y_test"), ("test_images", "test_labels")];

/// A header longer than this is no header.
const LONGEST_HEADER: u32 = 1 << 16;

/// An array file: samples without labels.
pub fn read(path: &Path) -> Result<Dataset> {
    let file = File::open(path).map_err(Error::unread(path))?;
    samples(path, array(path, "the array", BufReader::new(file), u64::MAX)?, None)
}

/// An archive of arrays, with a test split where it has one.
pub fn read_archive(path: &Path) -> Result<Split> {
    let file = File::open(path).map_err(Error::unread(path))?;
    let most = most_unpacked(file.metadata().map_err(Error::unread(path))?.len());
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|error| Error::new(path, format!("it is not a whole NPZ archive: {error}")))?;
    let mut find = |name: &str| match archive.by_name(&format!("{name}.npy")) {
        Ok(entry) => array(path, name, entry, most).map(Some),
        Err(ZipError::FileNotFound) => Ok(None),
        Err(error) => Err(Error::new(path, format!("its array `{name}` could not be read: {error}"))),
    };
    let mut first = |pairs: &[(&str, &str)]| {
        for (x, y) in pairs {
            if let Some(x) = find(x)? {
                return samples(path, x, find(y)?).map(Some);
            }
        }
        Ok(None)
    };
    match (first(&TRAIN)?, first(&TEST)?) {
        (Some(train), test) => Ok(Split::whole(train, test)),
        (None, _) => {
            let names: Vec<_> = archive.file_names().flatten().map(|name| name.into_owned()).collect();
            Err(Error::new(path, format!("it holds {names:?}, expected `x` and `y`, or `x_train` and `y_train`")))
        }
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

/// What an array's header says.
#[derive(Debug)]
pub(crate) struct Header {
    /// Its extents.
    pub dims: Vec<usize>,
    /// Its elements.
    pub element: Element,
}

/// An element's type; all are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    U1,
    U2,
    U4,
    I1,
    I2,
    I4,
    I8,
    F4,
    F8,
}

impl Element {
    /// Bytes in an element.
    pub(crate) fn size(self) -> usize {
        match self {
            Element::U1 | Element::I1 => 1,
            Element::U2 | Element::I2 => 2,
            Element::U4 | Element::I4 | Element::F4 => 4,
            Element::I8 | Element::F8 => 8,
        }
    }

    /// An element as a number.
    ///
    /// # Panics
    /// Where `bytes` are not of its size.
    pub(crate) fn read(self, bytes: &[u8]) -> f64 {
        macro_rules! number {
            ($type:ty) => {
                <$type>::from_le_bytes(bytes.try_into().expect("an element's size")) as f64
            };
        }
        match self {
            Element::U1 => number!(u8),
            Element::U2 => number!(u16),
            Element::U4 => number!(u32),
            Element::I1 => number!(i8),
            Element::I2 => number!(i16),
            Element::I4 => number!(i32),
            Element::I8 => number!(i64),
            Element::F4 => number!(f32),
            Element::F8 => number!(f64),
        }
    }
}

/// How long the header is that starts with these bytes, 8 at least, as far as they tell: where it is longer than they are, ask
/// again with so many.
pub(crate) fn header_length(start: &[u8]) -> Result<usize, String> {
    let [0x93, b'N', b'U', b'M', b'P', b'Y', version @ 1..=3, _, ref more @ ..] = *start else {
        return Err(format!("its first bytes are {:02x?}: not in NPY format", &start[..start.len().min(8)]));
    };
    let bytes = if version == 1 { 2 } else { 4 };
    let Some(found) = more.get(..bytes) else { return Ok(8 + bytes) };
    let mut length = [0; 4];
    length[..bytes].copy_from_slice(found);
    let length = u32::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err(format!("its header claims {length} bytes, expected at most {LONGEST_HEADER}"));
    }
    Ok(8 + bytes + length as usize)
}

impl Header {
    /// Understands a header, from its first byte to its last.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = &bytes[if bytes[6] == 1 { 10 } else { 12 }..];
        let unclear = || format!("its header cannot be understood: {}", String::from_utf8_lossy(text).trim());
        let text = std::str::from_utf8(text).map_err(|_| unclear())?;
        let kind = after(text, "descr").and_then(|rest| rest.strip_prefix(['\'', '"'])?.split(['\'', '"']).next());
        let shape = after(text, "shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next());
        let (Some(kind), Some(shape)) = (kind, shape) else { return Err(unclear()) };
        let parts = shape.split(',').map(str::trim).filter(|part| !part.is_empty());
        let dims: Vec<usize> = parts.map(|part| part.parse().map_err(|_| unclear())).collect::<Result<_, _>>()?;
        if dims.len() > 1 && after(text, "fortran_order").is_some_and(|rest| rest.starts_with("True")) {
            return Err("it is in Fortran order; save it with numpy.ascontiguousarray".into());
        }
        let (order, code) = kind.split_at_checked(1).ok_or_else(unclear)?;
        if order == ">" {
            return Err(format!("its elements are big-endian ({kind}); save it with astype('{code}')"));
        }
        let element = match code {
            "u1" => Element::U1,
            "u2" => Element::U2,
            "u4" => Element::U4,
            "i1" => Element::I1,
            "i2" => Element::I2,
            "i4" => Element::I4,
            "i8" => Element::I8,
            "f4" => Element::F4,
            "f8" => Element::F8,
            _ => return Err(format!("its elements are {kind}; expected u1, u2, u4, i1 to i8, f4 or f8")),
        };
        Ok(Header { dims, element })
    }
}

/// Reads one array of at most `most` bytes. Memory grows with what is really there, whatever the header claims.
fn array(path: &Path, name: &str, mut reader: impl Read, most: u64) -> Result<Array> {
    let refuse = |problem: String| Error::new(path, format!("{name}: {problem}"));
    let cut = |error: std::io::Error| refuse(format!("it is cut short or damaged: {error}"));
    let mut start = Vec::new();
    let mut length = 8;
    while start.len() < length {
        let at = start.len();
        start.resize(length, 0);
        reader.read_exact(&mut start[at..]).map_err(cut)?;
        length = header_length(&start).map_err(refuse)?;
    }
    let Header { dims, element } = Header::parse(&start).map_err(refuse)?;
    let total = dims.iter().try_fold(element.size(), |n, &dim| n.checked_mul(dim)).filter(|&n| n < usize::MAX);
    let Some(total) = total else { return Err(refuse(format!("its header claims {dims:?}: too large for any file"))) };
    if total as u64 > most {
        return Err(refuse(format!("its header claims {dims:?}: {total} bytes, but its archive holds at most {most}")));
    }
    let mut bytes = Vec::new();
    reader.take(total as u64 + 1).read_to_end(&mut bytes).map_err(cut)?;
    if bytes.len() != total {
        let more = if bytes.len() > total { "more than" } else { "only" };
        let found = bytes.len().min(total);
        return Err(refuse(format!(
            "its header claims {dims:?} of {} bytes each, but {more} {found} bytes follow",
            element.size()
        )));
    }
    macro_rules! all {
        ($type:ty, $wrap:expr, $to:ty) => {
            $wrap(bytes.as_chunks().0.iter().map(|b| <$type>::from_le_bytes(*b) as $to).collect())
        };
    }
    let numbers = match element {
        Element::U1 => Numbers::Bytes(bytes),
        Element::U2 => all!(u16, Numbers::Whole, i64),
        Element::U4 => all!(u32, Numbers::Whole, i64),
        Element::I1 => all!(i8, Numbers::Whole, i64),
        Element::I2 => all!(i16, Numbers::Whole, i64),
        Element::I4 => all!(i32, Numbers::Whole, i64),
        Element::I8 => all!(i64, Numbers::Whole, i64),
        Element::F4 => all!(f32, Numbers::Floats, f32),
        Element::F8 => all!(f64, Numbers::Floats, f32),
    };
    Ok(Array { dims, numbers })
}

/// What follows `'key':` in a header, which is a Python dictionary.
fn after<'t>(header: &'t str, key: &str) -> Option<&'t str> {
    let at = header.find(&format!("'{key}'"))? + key.len() + 2;
    Some(header[at..].trim_start().strip_prefix(':')?.trim_start())
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
            if dims != [count] {
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
