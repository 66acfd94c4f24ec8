//! IDX: MNIST's own format, raw or gzipped.
//!
//! Two zero bytes, the type (8: unsigned bytes), the number of dimensions, each dimension as a big-endian 32-bit number,
//! then the bytes.

use crate::error::{Error, Result, dataset, most_unpacked, numbered};
use flate2::read::GzDecoder;
use onward::{Dataset, Shape, Values};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// One IDX file.
struct Idx {
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

/// Images and labels of one split.
pub fn read(images: &Path, labels: Option<&Path>) -> Result<Dataset> {
    let Idx { dims, bytes } = read_file(images)?;
    let shape = match dims[1..] {
        [] => return Err(Error::new(images, "it has one dimension, as labels have; expected images")),
        [n] => Shape::features(n),
        [height, width] => Shape::image(1, height, width),
        [channels, height, width] => Shape::image(channels, height, width),
        _ => return Err(Error::new(images, format!("it has {} dimensions, expected 2 to 4", dims.len()))),
    };
    let (labels, classes) = match labels {
        None => (Vec::new(), Vec::new()),
        Some(path) => {
            let labels = read_file(path)?;
            if labels.dims.len() != 1 {
                return Err(Error::new(
                    path,
                    format!("it has {} dimensions, expected 1 for labels", labels.dims.len()),
                ));
            }
            if labels.dims[0] != dims[0] {
                let problem =
                    format!("it has {} labels, but {} has {} images", labels.dims[0], images.display(), dims[0]);
                return Err(Error::new(path, problem));
            }
            numbered(path, labels.bytes.into_iter().map(u64::from))?
        }
    };
    dataset(images, shape, Values::Bytes(bytes), labels, classes)
}

fn read_file(path: &Path) -> Result<Idx> {
    let file = File::open(path).map_err(Error::unread(path))?;
    let length = file.metadata().map_err(Error::unread(path))?.len();
    let mut reader = BufReader::new(file);
    let zipped = is_gzip(path)?;
    match zipped {
        true => parse(path, &mut GzDecoder::new(reader), None, most_unpacked(length)),
        false => parse(path, &mut reader, Some(length), length),
    }
}

pub(crate) fn is_gzip(path: &Path) -> Result<bool> {
    let mut magic = [0; 2];
    let read = File::open(path).and_then(|mut file| file.read(&mut magic)).map_err(Error::unread(path))?;
    Ok(read == 2 && magic == [0x1f, 0x8b])
}

/// `length`: of the whole file, where it is known. `most`: that it may have at all.
fn parse(path: &Path, reader: &mut dyn Read, length: Option<u64>, most: u64) -> Result<Idx> {
    let short =
        |error: std::io::Error| Error::new(path, format!("it ends within its header, or cannot be read: {error}"));
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(short)?;
    let [0, 0, 8, count @ 1..=4] = magic else {
        let problem =
            format!("its first bytes are {magic:02x?}, expected [00, 00, 08, 01 to 04]: an IDX file of bytes");
        return Err(Error::new(path, problem));
    };
    let mut dims = Vec::new();
    for _ in 0..count {
        let mut dim = [0; 4];
        reader.read_exact(&mut dim).map_err(short)?;
        dims.push(u32::from_be_bytes(dim) as usize);
    }
    let size = dims.iter().try_fold(1u64, |size, &dim| size.checked_mul(dim as u64));
    let header = 4 + 4 * u64::from(count);
    let (Some(size), true) = (size, dims[0] > 0) else {
        return Err(Error::new(path, format!("its header claims {dims:?}, expected a size that a file can have")));
    };
    if let Some(length) = length
        && length != header + size
    {
        let problem = format!("its header claims {dims:?}, which takes {} bytes, but it has {length}", header + size);
        return Err(Error::new(path, problem));
    }
    if size > most {
        let problem = format!("its header claims {dims:?}: {size} bytes, but a file of its size holds at most {most}");
        return Err(Error::new(path, problem));
    }
    // A compressed file may claim anything: memory grows only with what really comes out of it.
    let mut bytes = Vec::new();
    let read = reader.take(size + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::new(path, format!("it is damaged or cut short: {error}")))?;
    if bytes.len() as u64 != size {
        let more = if bytes.len() as u64 > size { "more" } else { "only" };
        let found = bytes.len() as u64;
        return Err(Error::new(path, format!("its header claims {dims:?}: {size} bytes, but {more} {found} follow")));
    }
    Ok(Idx { dims, bytes })
}

/// The files of one split in a folder: images, and labels where there are any.
pub fn find(folder: &Path, split: &[&str]) -> Option<(PathBuf, Option<PathBuf>)> {
    let find = |kind: &str, dims: &[u8]| {
        split
            .iter()
            .flat_map(|split| {
                dims.iter().flat_map(move |dim| {
                    ["-", "."].into_iter().flat_map(move |dot| {
                        ["", ".gz"].map(|end| folder.join(format!("{split}-{kind}{dot}idx{dim}-ubyte{end}")))
                    })
                })
            })
            .find(|path| path.is_file())
    };
    Some((find("images", &[3, 2, 4])?, find("labels", &[1])))
}

/// The labels that go with a file of images, by its name.
pub fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let labels = ["3", "2", "4"]
        .iter()
        .fold(name.replace("images", "labels"), |name, dims| name.replace(&format!("idx{dims}"), "idx1"));
    let path = images.with_file_name(&labels);
    (labels != name && path.is_file()).then_some(path)
}
