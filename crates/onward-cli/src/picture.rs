//! Samples as text: for terminals of every kind, and for files.

use onward::{Dataset, Shape};
use std::fmt::Write;

/// What a picture is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Characters of growing weight: anything that shows text can show them.
    Ascii,
    /// Half blocks in the 256 colours of older terminals.
    Palette,
    /// Half blocks in 24-bit colour.
    TrueColour,
}

impl Ink {
    /// The best that standard output can show, by the conventions that terminals announce themselves with.
    pub fn of_stdout() -> Self {
        use std::io::IsTerminal;
        let is = |name: &str| std::env::var(name).unwrap_or_default();
        if !std::io::stdout().is_terminal() || !is("NO_COLOR").is_empty() {
            return Ink::Ascii;
        }
        match (is("COLORTERM").as_str(), is("TERM")) {
            ("truecolor" | "24bit", _) => Ink::TrueColour,
            (_, term) if term.contains("256color") || term.contains("direct") => Ink::Palette,
            _ => Ink::Ascii,
        }
    }
}

/// From black to white.
const RAMP: &[u8] = b" .:-=+*#%@";
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Between two pictures in a row.
const GAP: &str = "  ";

/// Captions that are longer are cut, unless the pictures are wider.
const LONGEST_CAPTION: usize = 16;

/// Draws the samples `which` of `data` in rows of pictures that fit into `columns` characters, each under its caption.
pub fn gallery(data: &Dataset, which: &[usize], captions: &[String], ink: Ink, columns: usize) -> String {
    let (low, high) = range(data, which);
    let width = picture_width(data.shape(), which.len(), columns);
    let caption = captions.iter().map(|caption| caption.chars().count()).max().unwrap_or(0);
    let cell = width.max(caption.min(LONGEST_CAPTION)).min(columns);
    let gap = " ".repeat(cell - width + GAP.len());
    let per_row = ((columns + GAP.len()) / (cell + GAP.len())).max(1);
    let mut x = vec![0.0; data.shape().len()];
    let mut text = String::new();
    for (which, captions) in which.chunks(per_row).zip(captions.chunks(per_row)) {
        let titles: Vec<String> = captions.iter().map(|caption| pad(caption, cell)).collect();
        let pictures: Vec<Vec<String>> = which
            .iter()
            .map(|&n| {
                data.read(n, &mut x);
                x.iter_mut().for_each(|x| *x = ((*x - low) / (high - low)).clamp(0.0, 1.0));
                draw(data.shape(), &x, ink, width)
            })
            .collect();
        let _ = writeln!(text, "{}", titles.join(GAP).trim_end());
        for line in 0..pictures[0].len() {
            let parts: Vec<&str> = pictures.iter().map(|picture| &picture[line][..]).collect();
            let _ = writeln!(text, "{}", parts.join(&gap).trim_end());
        }
        text.push('\n');
    }
    text
}

/// What is drawn as black and as white: 0 and 1, and wider where the samples' values are.
fn range(data: &Dataset, which: &[usize]) -> (f32, f32) {
    let mut x = vec![0.0; data.shape().len()];
    which.iter().fold((0.0, 1.0), |range, &n| {
        data.read(n, &mut x);
        x.iter().fold(range, |(low, high): (f32, f32), &x| (low.min(x), high.max(x)))
    })
}

/// Characters in a line of a picture: what lets four of `n` images stand in a row, as far as that leaves 16.
fn picture_width(shape: Shape, n: usize, columns: usize) -> usize {
    let abreast = if shape.is_plain() { 1 } else { n.clamp(1, 4) };
    let share = (columns + GAP.len()) / abreast;
    shape.width.min(share.saturating_sub(GAP.len()).max(16)).min(columns).max(1)
}

/// The lines of one picture. `x: (shape)`, 0 to 1.
fn draw(shape: Shape, x: &[f32], ink: Ink, width: usize) -> Vec<String> {
    if shape.is_plain() {
        let bars = shrink(x, (1, shape.width), (1, width));
        let level = |x: f32, levels: usize| ((x * levels as f32) as usize).min(levels - 1);
        return vec![match ink {
            Ink::Ascii => bars.iter().map(|&x| char::from(RAMP[level(x, RAMP.len())])).collect(),
            _ => bars.iter().map(|&x| BARS[level(x, BARS.len())]).collect(),
        }];
    }
    // A character is twice as high as it is wide.
    let lines = (shape.height * width).div_ceil(2 * shape.width).max(1);
    let plane = shape.height * shape.width;
    let rows = if ink == Ink::Ascii { lines } else { 2 * lines };
    let planes: Vec<Vec<f32>> =
        x.chunks_exact(plane).map(|x| shrink(x, (shape.height, shape.width), (rows, width))).collect();
    let colour = |row: usize, column: usize| -> [f32; 3] {
        let at = row * width + column;
        match &planes[..] {
            [r, g, b] => [r[at], g[at], b[at]],
            planes => [planes.iter().map(|plane| plane[at]).sum::<f32>() / planes.len() as f32; 3],
        }
    };
    (0..lines)
        .map(|line| match ink {
            Ink::Ascii => (0..width)
                .map(|column| {
                    let [r, g, b] = colour(line, column);
                    let light = 0.299 * r + 0.587 * g + 0.114 * b;
                    char::from(RAMP[((light * RAMP.len() as f32) as usize).min(RAMP.len() - 1)])
                })
                .collect(),
            _ => half_blocks((0..width).map(|column| (colour(2 * line, column), colour(2 * line + 1, column))), ink),
        })
        .collect()
}

/// One line of upper half blocks: the foreground is the upper pixel, the background the lower one.
fn half_blocks(pixels: impl Iterator<Item = ([f32; 3], [f32; 3])>, ink: Ink) -> String {
    let mut line = String::new();
    let mut current = String::new();
    for (upper, lower) in pixels {
        let codes = format!("\x1b[38;{};48;{}m", code(upper, ink), code(lower, ink));
        if codes != current {
            line.push_str(&codes);
            current = codes;
        }
        line.push('▀');
    }
    line + "\x1b[0m"
}

/// A colour as terminals name it.
fn code(colour: [f32; 3], ink: Ink) -> String {
    let [r, g, b] = colour.map(|x| (x * 255.0).round() as u8);
    if ink == Ink::TrueColour {
        return format!("2;{r};{g};{b}");
    }
    // 16 + a 6×6×6 cube, then 24 greys without black and white.
    let six = |x: f32| (x * 5.0).round() as u32;
    let [x, y, z] = colour;
    let index = if r == g && g == b && (8..=243).contains(&r) {
        232 + u32::from(r - 3) / 10
    } else {
        16 + 36 * six(x) + 6 * six(y) + six(z)
    };
    format!("5;{index}")
}

/// `from: (rows, columns)` in fewer or as many pixels: each is the mean of the area it covers.
pub fn shrink(from: &[f32], (rows, columns): (usize, usize), (to_rows, to_columns): (usize, usize)) -> Vec<f32> {
    let mut to = Vec::with_capacity(to_rows * to_columns);
    for row in cover(rows, to_rows) {
        for column in cover(columns, to_columns) {
            let (mut sum, mut area) = (0.0, 0.0);
            for (r, part) in parts(row) {
                for (c, share) in parts(column) {
                    sum += part * share * from[r.min(rows - 1) * columns + c.min(columns - 1)];
                    area += part * share;
                }
            }
            to.push(sum / area);
        }
    }
    to
}

/// Where each of `to` equal parts of `0..from` starts and ends.
fn cover(from: usize, to: usize) -> impl Iterator<Item = (f32, f32)> {
    let step = from as f32 / to as f32;
    (0..to).map(move |i| (i as f32 * step, (i + 1) as f32 * step))
}

/// The pixels between `start` and `end`, and how much of each lies there.
fn parts((start, end): (f32, f32)) -> impl Iterator<Item = (usize, f32)> {
    let pixels = start as usize..(end.ceil() as usize).max(start as usize + 1);
    pixels.map(move |i| (i, (end.min(i as f32 + 1.0) - start.max(i as f32)).max(1e-6)))
}

/// `text` in exactly `width` characters.
fn pad(text: &str, width: usize) -> String {
    let short: String = match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    };
    format!("{short:width$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use onward::Values;

    fn data(shape: Shape, values: Vec<u8>) -> Dataset {
        Dataset::new(shape, Values::Bytes(values), vec![], vec![]).unwrap()
    }

    #[test]
    fn ascii_shades_follow_the_mean_of_two_rows() {
        let data = data(Shape::image(1, 2, 3), vec![0, 255, 255, 0, 255, 0]);
        assert_eq!(gallery(&data, &[0], &["a".into()], Ink::Ascii, 80), "a\n @+\n\n");
    }

    #[test]
    fn pictures_stand_side_by_side_as_far_as_they_fit() {
        let data = data(Shape::image(1, 2, 2), [[255; 4], [0; 4], [255; 4]].concat());
        let captions = ["one", "2", "3"].map(String::from);
        assert_eq!(gallery(&data, &[0, 1, 2], &captions, Ink::Ascii, 8), "one  2\n@@\n\n3\n@@\n\n");
        let long = "a caption that is long".to_owned();
        assert_eq!(gallery(&data, &[0], &[long], Ink::Ascii, 80), "a caption that …\n@@\n\n");
    }

    #[test]
    fn half_blocks_carry_two_pixels_each() {
        let data = data(Shape::image(1, 2, 2), vec![255, 255, 0, 0]);
        let text = gallery(&data, &[0], &["".into()], Ink::TrueColour, 80);
        assert_eq!(text, "\n\x1b[38;2;255;255;255;48;2;0;0;0m▀▀\x1b[0m\n\n");
        let text = gallery(&data, &[0], &["".into()], Ink::Palette, 80);
        assert_eq!(text, "\n\x1b[38;5;231;48;5;16m▀▀\x1b[0m\n\n");
    }

    #[test]
    fn plain_features_are_bars() {
        let data = Dataset::new(Shape::features(3), Values::Floats(vec![-1.0, 0.0, 1.0]), vec![], vec![]).unwrap();
        assert_eq!(gallery(&data, &[0], &["x".into()], Ink::TrueColour, 80), "x\n▁▅█\n\n");
    }

    #[test]
    fn large_images_shrink_to_the_mean_of_areas() {
        assert_eq!(shrink(&[0.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.0, 0.0], (2, 4), (1, 2)), [0.75, 0.25]);
        assert_eq!(shrink(&[0.0, 3.0, 6.0], (1, 3), (1, 2)), [1.0, 5.0]);
    }
}
