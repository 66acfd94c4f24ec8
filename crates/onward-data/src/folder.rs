//! Folders of images by class: `FOLDER/CLASS/IMAGE.png`, with `train/` and `test/` above them or not.

use crate::detect::Split;
use crate::error::{Error, Result, dataset, most_unpacked};
use image::{ColorType, DynamicImage, ImageError, ImageReader, Limits};
use onward::{Dataset, Shape, Values};
use std::path::{Path, PathBuf};

/// Names of the folder with the test images.
const TEST: [&str; 3] = ["test", "val", "valid"];

/// True where `folder` holds folders with images, or `train/` does.
pub fn is(folder: &Path) -> bool {
    let root = Some(folder.join("train")).filter(|train| train.is_dir()).unwrap_or(folder.to_owned());
    let classes = shown(&root).unwrap_or_default();
    classes.iter().any(|class| class.is_dir() && shown(class).is_ok_and(|files| files.iter().any(|f| is_image(f))))
}

/// The images of a folder.
pub fn read(folder: &Path) -> Result<Split> {
    if !folder.join("train").is_dir() {
        let (train, note) = read_classes(folder, None)?;
        return Ok(Split { train, test: None, note });
    }
    let (train, note) = read_classes(&folder.join("train"), None)?;
    let test = TEST.iter().map(|name| folder.join(name)).find(|test| test.is_dir());
    let test = test.map(|test| read_classes(&test, Some(&train))).transpose()?;
    Ok(Split { train, test: test.map(|(test, _)| test), note })
}

/// The images of each class folder, and a note of folders that have none; `like`: another split, whose classes and shape these
/// must have.
fn read_classes(root: &Path, like: Option<&Dataset>) -> Result<(Dataset, Option<String>)> {
    let (mut folders, mut empty) = (Vec::new(), Vec::new());
    for folder in shown(root)?.into_iter().filter(|path| path.is_dir()) {
        match images_below(&folder, &mut Err)? {
            images if images.is_empty() => empty.push(name(&folder)),
            images => folders.push((folder, images)),
        }
    }
    let names: Vec<String> = match like {
        Some(like) => like.classes().to_vec(),
        None => folders.iter().map(|(folder, _)| name(folder)).collect(),
    };
    let mut shape = like.map(|like| (like.shape(), PathBuf::from("the training images")));
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (folder, images) in &folders {
        let Some(class) = names.iter().position(|known| *known == name(folder)) else {
            return Err(Error::new(folder, format!("no such class among the training images: they have {names:?}")));
        };
        for path in images {
            let image = open(path)?;
            let found = shape_of(&image);
            let (expected, first) = shape.get_or_insert_with(|| (found, path.clone()));
            if found != *expected {
                let problem = format!("it is {found} (channels×height×width), but {} is {expected}", first.display());
                return Err(Error::new(path, problem));
            }
            push(&image, &mut pixels);
            labels.push(class as u32);
        }
    }
    let Some((shape, _)) = shape.filter(|_| !labels.is_empty()) else {
        return Err(Error::new(root, "found no PNG or JPEG images in its folders"));
    };
    let note =
        (!empty.is_empty()).then(|| format!("left out folders without a PNG or JPEG image: {}", empty.join(", ")));
    Ok((dataset(root, shape, Values::Bytes(pixels), labels, names)?, note))
}

/// The images in a folder and the folders below it, by name, without what is hidden. Links to folders are not followed: they may lead back.
///
/// # Errors
/// What `unread` makes of a folder that cannot be read; where it answers `Ok`, that folder is left out.
pub fn images_below(folder: &Path, unread: &mut dyn FnMut(Error) -> Result<()>) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    let entries = shown(folder).or_else(|error| unread(error).map(|()| Vec::new()))?;
    for path in entries {
        if path.symlink_metadata().is_ok_and(|entry| entry.is_dir()) {
            images.extend(images_below(&path, unread)?);
        } else if is_image(&path) {
            images.push(path);
        }
    }
    Ok(images)
}

/// Image files as samples of `shape`: colour is added or taken away as needed, and with `resize` so is size. What is
/// transparent is white.
///
/// # Errors
/// Where a file cannot be read or is no PNG or JPEG image, or has another size; where there are none.
pub fn read_images(files: &[PathBuf], shape: Shape, resize: bool) -> Result<Dataset> {
    let Some(first) = files.first() else { return Err(Error::new(Path::new("."), "there are no images to read")) };
    let mut pixels = Vec::new();
    for path in files {
        let mut image = open(path)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        if (height, width) != (shape.height, shape.width) {
            if !resize {
                let problem = format!(
                    "it is {height}×{width} (height×width), the network expects {}×{}; --resize would scale it",
                    shape.height, shape.width
                );
                return Err(Error::new(path, problem));
            }
            let filter = image::imageops::FilterType::Triangle;
            image = image.resize_exact(shape.width as u32, shape.height as u32, filter);
        }
        let image = match shape.channels {
            1 => DynamicImage::ImageLuma8(image.to_luma8()),
            3 => DynamicImage::ImageRgb8(image.to_rgb8()),
            4 => DynamicImage::ImageRgba8(image.to_rgba8()),
            other => {
                return Err(Error::new(path, format!("an image has 1, 3 or 4 channels, the network expects {other}")));
            }
        };
        push(&image, &mut pixels);
    }
    dataset(first, shape, Values::Bytes(pixels), Vec::new(), Vec::new())
}

fn open(path: &Path) -> Result<DynamicImage> {
    let length = path.metadata().map_err(Error::unread(path))?.len();
    let mut reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(Error::unread(path))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(most_unpacked(length));
    reader.limits(limits);
    let image = reader.decode().map_err(|error| match error {
        ImageError::Limits(_) => Error::new(path, format!("it is too large for an image of {length} bytes: {error}")),
        _ => Error::new(path, format!("it is no whole PNG or JPEG image: {error}")),
    })?;
    let color = image.color();
    let image = if color.has_alpha() { on_white(&image) } else { image };
    Ok(match color {
        ColorType::L8 | ColorType::Rgb8 => image,
        _ if color.has_color() => DynamicImage::ImageRgb8(image.to_rgb8()),
        _ => DynamicImage::ImageLuma8(image.to_luma8()),
    })
}

/// What shows of an image that is transparent in places: what lies under it is taken for white, as paper is.
fn on_white(image: &DynamicImage) -> DynamicImage {
    let mut image = image.to_rgba8();
    for pixel in image.pixels_mut() {
        let [.., alpha] = pixel.0.map(u32::from);
        pixel.0 = pixel.0.map(|x| ((u32::from(x) * alpha + 255 * (255 - alpha)) / 255) as u8);
        pixel.0[3] = 255;
    }
    DynamicImage::ImageRgba8(image)
}

fn shape_of(image: &DynamicImage) -> Shape {
    let channels = usize::from(image.color().channel_count());
    Shape::image(channels, image.height() as usize, image.width() as usize)
}

/// Interleaved pixels as channel planes.
fn push(image: &DynamicImage, pixels: &mut Vec<u8>) {
    let (bytes, channels) = (image.as_bytes(), usize::from(image.color().channel_count()));
    for channel in 0..channels {
        pixels.extend(bytes.iter().skip(channel).step_by(channels));
    }
}

/// Whether a path is a file that is named as an image.
pub fn is_image(path: &Path) -> bool {
    let end = path.extension().map(|end| end.to_string_lossy().to_lowercase());
    path.is_file() && matches!(end.as_deref(), Some("png" | "jpg" | "jpeg"))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a folder holds, by name, without what is hidden: caches, and what other systems note beside each image.
fn shown(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = entries(folder)?;
    paths.retain(|path| !name(path).starts_with('.'));
    Ok(paths)
}

/// What a folder holds, by name.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::unread(folder))?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>();
    if let Ok(paths) = &mut paths {
        paths.sort();
    }
    paths.map_err(Error::unread(folder))
}
