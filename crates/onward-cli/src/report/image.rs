//! Pictures as the page carries them: PNG within the text.

use crate::picture::shrink;
use base64::{Engine, engine::general_purpose::STANDARD};
use onward::pass::{Activity, Inputs};
use onward::settings::LabelPlace;
use onward::tensor::Tensors;
use onward::{Layer, Network, Shape};

/// Pixels to a side at most; larger samples are shrunk.
const SIDE: usize = 96;

/// `<img>` of one sample. `x: (shape)`; what is at `low` is black, at `high` white. Plain features are bars.
pub fn sample(shape: Shape, x: &[f32], (low, high): (f32, f32), alt: &str) -> String {
    let unit = |x: f32| ((x - low) / (high - low).max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
    let x: Vec<f32> = x.iter().map(|&x| unit(x)).collect();
    if shape.height == 1 && shape.channels == 1 {
        let (bars, height) = (shrink(&x, (1, shape.width), (1, shape.width.min(SIDE))), 24);
        let pixels = (0..height).flat_map(|row| {
            let above = 1.0 - (row as f32 + 0.5) / height as f32;
            bars.iter().map(move |&bar| if bar > above { 230 } else { 40 })
        });
        return img(bars.len(), height, 1, pixels.collect(), "", alt);
    }
    let (height, width) = (shape.height.min(SIDE), shape.width.min(SIDE));
    let planes: Vec<Vec<f32>> = x
        .chunks_exact(shape.height * shape.width)
        .map(|plane| shrink(plane, (shape.height, shape.width), (height, width)))
        .collect();
    img(width, height, colours(shape), interleaved(&planes, width * height), "", alt)
}

/// Units that are shown, and how many stand in a row.
const UNITS: usize = 60;
const ABREAST: usize = 12;

/// `<img>` of what the first layer's units look for, as in the paper's figure 2: their weights to the pixels, less the
/// random ones that they started from, each unit's scaled by its largest; and how many units are shown. `None` where the
/// samples are no images, or nothing was learned.
pub fn fields(network: &Network) -> Option<(String, usize)> {
    let shape = network.shape();
    let layer = &network.stages().first()?.layer;
    let (inputs, outputs, classes) = (layer.inputs(), layer.outputs(), network.classes());
    if shape.height < 2 || shape.width < 2 || shape.height.max(shape.width) > SIDE {
        return None;
    }
    let mut recipe = network.recipe().clone();
    recipe.network.layers.truncate(1);
    let start = Network::new(recipe, shape, network.class_names()).ok()?;
    let mut learned = weights(&**layer)?;
    learned.iter_mut().zip(weights(&*start.stages()[0].layer)?).for_each(|(w, start)| *w -= start);
    if learned.iter().all(|w| *w == 0.0) {
        return None;
    }
    // Where the label replaces pixels, what is learned there is no picture.
    let (before, label) = match network.recipe().network.label {
        LabelPlace::Replace => (0, classes),
        LabelPlace::Prepend => (classes, 0),
        LabelPlace::Top | LabelPlace::None => (0, 0),
    };
    let units = outputs.min(UNITS);
    let rows = units.div_ceil(ABREAST);
    let (width, height) = (ABREAST * (shape.width + 1) - 1, rows * (shape.height + 1) - 1);
    let channels = colours(shape);
    let mut pixels = vec![128; width * height * 3];
    for i in 0..units {
        let unit = i * outputs / units;
        let mut field = learned.get(unit * inputs..(unit + 1) * inputs)?.get(before..before + shape.len())?.to_vec();
        field.iter_mut().take(label).for_each(|w| *w = 0.0);
        let most = field.iter().fold(f32::MIN_POSITIVE, |most, w| most.max(w.abs()));
        let plane = shape.height * shape.width;
        for at in 0..plane {
            let (row, column) = (
                i / ABREAST * (shape.height + 1) + at / shape.width,
                i % ABREAST * (shape.width + 1) + at % shape.width,
            );
            let colour = match channels {
                3 => [0, 1, 2].map(|channel| level(field[channel * plane + at] / most)),
                _ => signed(field[at] / most),
            };
            pixels[3 * (row * width + column)..][..3].copy_from_slice(&colour);
        }
    }
    let alt = format!("the weights of {units} units of the first layer");
    Some((img(width, height, 3, pixels, "montage", &alt), units))
}

/// Multiplications that may be spent on asking a layer for its weights.
const AFFORDABLE: f64 = 1e10;

/// The weights `(O, I)` of any layer; `None` where it would take long to find them.
fn weights(layer: &dyn Layer) -> Option<Vec<f32>> {
    let (inputs, outputs) = (layer.inputs(), layer.outputs());
    if let Ok(weights) = Tensors(&layer.tensors()).f32("weight", &[outputs, inputs]) {
        return Some(weights.to_vec());
    }
    (2.0 * inputs as f64 * layer.parameters() as f64 <= AFFORDABLE).then(|| asked(layer))
}

/// The weights `(O, I)` of a layer of whatever kind, asked one input at a time: alone, far above all biases, once with each
/// sign to get past the ReLU.
fn asked(layer: &dyn Layer) -> Vec<f32> {
    const FAR: f32 = 1e6;
    const AT_ONCE: usize = 128;
    let (inputs, outputs) = (layer.inputs(), layer.outputs());
    let mut weights = vec![0.0; outputs * inputs];
    let mut y = Activity::default();
    for from in (0..inputs).step_by(AT_ONCE) {
        let n = AT_ONCE.min(inputs - from);
        let mut values = vec![0.0; 2 * n * inputs];
        for i in 0..n {
            values[i * inputs + from + i] = FAR;
            values[(n + i) * inputs + from + i] = -FAR;
        }
        let scale = vec![1.0; 2 * n];
        y.resize(2 * n, outputs);
        layer.forward(&Inputs::plain(&values, inputs, &scale), &mut y);
        for i in 0..n {
            for (o, (plus, minus)) in y.row(i).iter().zip(y.row(n + i)).enumerate() {
                weights[o * inputs + from + i] = (plus - minus) / FAR;
            }
        }
    }
    weights
}

/// −1 to 1 as black to white.
fn level(w: f32) -> u8 {
    (127.5 + 127.5 * w) as u8
}

/// −1 to 1 as orange, over white, to blue.
fn signed(w: f32) -> [u8; 3] {
    let end = if w < 0.0 { [209.0, 87.0, 11.0] } else { [11.0, 107.0, 176.0] };
    end.map(|end: f32| (255.0 + (end - 255.0) * w.abs().min(1.0)) as u8)
}

fn colours(shape: Shape) -> usize {
    if shape.channels == 3 { 3 } else { 1 }
}

/// Planes of 0 to 1 as bytes: three of them as colours, others as their mean.
fn interleaved(planes: &[Vec<f32>], pixels: usize) -> Vec<u8> {
    let byte = |x: f32| (255.0 * x).round() as u8;
    match planes {
        [r, g, b] => (0..pixels).flat_map(|i| [byte(r[i]), byte(g[i]), byte(b[i])]).collect(),
        _ => (0..pixels).map(|i| byte(planes.iter().map(|p| p[i]).sum::<f32>() / planes.len() as f32)).collect(),
    }
}

fn img(width: usize, height: usize, channels: usize, pixels: Vec<u8>, class: &str, alt: &str) -> String {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(if channels == 3 { png::ColorType::Rgb } else { png::ColorType::Grayscale });
    encoder.set_compression(png::Compression::Fast);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.expect("an image of these extents fits into memory");
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let alt = super::html::escape(alt);
    format!(
        "<img{class} width=\"{width}\" height=\"{height}\" alt=\"{alt}\" src=\"data:image/png;base64,{}\">",
        STANDARD.encode(&file)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pixels of the picture in an `<img>`.
    fn decode(img: &str) -> (u32, u32, Vec<u8>) {
        let text = img.split("base64,").nth(1).unwrap().split('"').next().unwrap();
        let bytes = STANDARD.decode(text).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn pictures_show_the_values() {
        let image = sample(Shape::image(1, 2, 2), &[0.0, 1.0, 0.5, 2.0], (0.0, 1.0), "a \"b\"");
        assert_eq!(decode(&image), (2, 2, vec![0, 255, 128, 255]));
        assert!(image.contains("alt=\"a &quot;b&quot;\""));
        let colour = sample(Shape::image(3, 1, 2), &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0], (0.0, 1.0), "");
        assert_eq!(decode(&colour), (2, 1, vec![255, 0, 0, 0, 0, 255]));
        let (width, height, bars) = decode(&sample(Shape::features(2), &[0.0, 1.0], (0.0, 1.0), ""));
        assert_eq!((width, height), (2, 24));
        assert!(bars.chunks(2).all(|row| row == [40, 230]));
    }

    #[test]
    fn a_layer_can_be_asked_for_its_weights() {
        let names = ["a", "b"].map(String::from);
        let mut recipe = onward::Recipe::default();
        recipe.network.layers = vec![7.into()];
        let network = Network::new(recipe, Shape::features(150), &names).unwrap();
        let layer = &*network.stages()[0].layer;
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(asked(layer).iter().zip(&weights(layer).unwrap()).all(near));
    }

    #[test]
    fn fields_are_the_weights() {
        assert_eq!([signed(0.0), signed(1.0), signed(-1.0)], [[255; 3], [11, 107, 176], [209, 87, 11]]);
        let names = ["a", "b"].map(String::from);
        let mut recipe = onward::Recipe::default();
        recipe.network.layers = vec![5.into()];
        recipe.training.batch = 2;
        let shape = Shape::image(1, 4, 3);
        let values = onward::Values::Floats((0..24).map(|i| (i * 7 % 5) as f32).collect());
        let data = onward::Dataset::new(shape, values, vec![0, 1], names.to_vec()).unwrap();
        let mut trainer = onward::Trainer::new(recipe.clone(), &data).unwrap();
        assert!(fields(trainer.network()).is_none(), "nothing is learned yet");
        trainer.fit(&data, &mut |_: onward::Event<'_>, _: &onward::Trainer| onward::Flow::Stop).unwrap();
        let (image, units) = fields(trainer.network()).unwrap();
        let (width, height, pixels) = decode(&image);
        assert_eq!((units, width, height), (5, 12 * 4 - 1, 4));
        assert_eq!(pixels[..6], [255; 6], "the label's two inputs are left out");
        // The largest weight of each unit is in full colour.
        let full = pixels.chunks(3).filter(|p| *p == [11, 107, 176] || *p == [209, 87, 11]).count();
        assert!(full >= 5, "{full}");
        assert!(fields(&Network::new(recipe, Shape::features(12), &names).unwrap()).is_none());
    }
}
