//! Figures: SVG as plotters draws it, in marker colours that the page's style sheet replaces, so that one figure does in
//! light and in dark.

use super::html::escape;
use plotters::prelude::*;
use std::fmt::Write;

/// What a line or an area stands for decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Positive samples.
    Positive,
    /// Negative samples.
    Negative,
    /// One of many, in order: layers, readouts, runs.
    Nth(usize),
    /// A level to compare with.
    Level,
}

/// Names of lines at most: from there on their looks repeat.
const KEYS: usize = 2 * COLOURS;

/// Colours for one of many before they repeat, dashed; `page.css` has as many.
const COLOURS: usize = 6;

impl Ink {
    /// The colour's number in `page.css`, and whether the line is dashed.
    fn number(self) -> (u8, bool) {
        match self {
            Ink::Positive => (0, false),
            Ink::Negative => (1, false),
            Ink::Nth(n) => ((n % COLOURS) as u8, n / COLOURS % 2 == 1),
            Ink::Level => (6, true),
        }
    }

    /// The colour that stands for it until the style sheet is applied.
    fn marker(self) -> RGBColor {
        let (number, dashed) = self.number();
        RGBColor(1, u8::from(dashed), number)
    }

    fn class(self) -> String {
        let (number, dashed) = self.number();
        format!("c{number}{}", if dashed { " dashed" } else { "" })
    }
}

const TEXT: RGBColor = RGBColor(2, 0, 0);
const GRID: RGBColor = RGBColor(2, 0, 1);

/// Drawn at twice the size at which it is shown: plotters' coordinates are whole numbers.
const SIZE: (u32, u32) = (880, 460);

/// A named line.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub ink: Ink,
    /// x and y; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Lines over the epochs.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    pub title: &'a str,
    /// What the vertical axis counts, in.
    pub unit: &'a str,
    pub series: Vec<Series>,
}

impl Lines<'_> {
    /// The figure; empty where there is nothing to draw.
    pub fn html(&self) -> String {
        let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite() && x.abs() < 1e30 && y.abs() < 1e30;
        let points = || self.series.iter().flat_map(|series| &series.points).filter(finite);
        if points().next().is_none() {
            return String::new();
        }
        let (low_x, high_x) = span(points().map(|(x, _)| *x));
        let (low, high) = span(points().map(|(_, y)| *y));
        // From zero, unless that would leave little to see.
        let low = if low >= 0.0 && low < 0.6 * high { 0.0 } else { low };
        let (low, high) = match high > low {
            true => (low, high + 0.05 * (high - low)),
            // Shares, counts and errors that are always 0 are never below.
            false if low == 0.0 => (0.0, 1.0),
            false => (low - 0.5, high + 0.5),
        };
        let (low_x, high_x) = if high_x > low_x { (low_x, high_x) } else { (low_x - 0.5, high_x + 0.5) };
        let svg = draw(self.title, |root| {
            let mut chart = axes(root).build_cartesian_2d(low_x..high_x, low..high)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .axis_style(GRID)
                .label_style(label())
                .x_labels(6)
                .y_labels(5)
                .x_label_formatter(&|x| if x.fract().abs() < 1e-6 { format!("{x:.0}") } else { String::new() })
                .y_label_formatter(&|y| number(*y, high - low))
                .draw()?;
            let few = self.series.iter().all(|series| series.points.len() <= 12);
            let most = (ALL_POINTS / self.series.len().max(1)).clamp(SOME_POINTS, POINTS);
            for series in &self.series {
                let style = series.ink.marker().stroke_width(3);
                let points = outlined(series.points.iter().filter(finite).copied().collect(), most);
                if few && series.ink != Ink::Level {
                    let dots = points.iter().map(|&point| Circle::new(point, 5, series.ink.marker().filled()));
                    chart.draw_series(dots)?;
                }
                chart.draw_series(LineSeries::new(points, style))?;
            }
            Ok(())
        });
        let mut keys: Vec<_> = self.series.iter().map(|series| (&series.name[..], series.ink)).collect();
        keys.dedup();
        figure(self.title, self.unit, &keys, &svg)
    }
}

/// Points that a line has at most: more than the figure has pixels are only weight.
const POINTS: usize = 800;
/// Points of all lines of a figure, as long as each has some.
const ALL_POINTS: usize = 8_000;
const SOME_POINTS: usize = 40;

/// A line that looks the same with few points, `most` at most: of all that fall together, the lowest and the highest, in
/// their order.
fn outlined(points: Vec<(f64, f64)>, most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points;
    }
    let ends = |part: &[(f64, f64)]| {
        let by = |&a: &usize, &b: &usize| part[a].1.total_cmp(&part[b].1);
        let (low, high) = ((0..part.len()).min_by(by), (0..part.len()).max_by(by));
        let (low, high) = (low.expect("no part is empty"), high.expect("no part is empty"));
        [part[low.min(high)], part[low.max(high)]]
    };
    points.chunks(points.len().div_ceil(most / 2)).flat_map(ends).collect()
}

/// How often values occur: bins of equal width from `low` to `high`.
#[derive(Clone, Debug)]
pub struct Bins<'a> {
    pub name: &'a str,
    pub ink: Ink,
    pub low: f64,
    pub high: f64,
    pub counts: &'a [u32],
}

/// Two or more histograms over each other, on an axis from `from` to `to` with a level marked.
pub fn histograms(title: &str, unit: &str, all: &[Bins<'_>], (from, to): (f64, f64), level: Option<f64>) -> String {
    // An axis without two ends can't be drawn, nor nothing on it.
    if !(from.is_finite() && to.is_finite() && from < to) || all.iter().all(|bins| bins.counts.iter().all(|n| *n == 0))
    {
        return String::new();
    }
    // Densities: epochs whose bins are of other widths stay comparable in shape.
    let steps = |bins: &Bins<'_>| -> Vec<(f64, f64)> {
        let width = (bins.high - bins.low) / bins.counts.len() as f64;
        let total: u32 = bins.counts.iter().sum();
        let edge = |i: usize| bins.low + i as f64 * width;
        let tops = bins.counts.iter().enumerate().flat_map(|(i, &count)| {
            let density = f64::from(count) / (f64::from(total.max(1)) * width);
            [(edge(i), density), (edge(i + 1), density)]
        });
        [(bins.low, 0.0)].into_iter().chain(tops).chain([(bins.high, 0.0)]).collect()
    };
    let outlines: Vec<_> = all.iter().map(steps).collect();
    let top = 1.05 * outlines.iter().flatten().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
    let svg = draw(title, |root| {
        let mut chart = axes(root).build_cartesian_2d(from..to, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_y_axis()
            .axis_style(GRID)
            .label_style(label())
            .x_labels(8)
            .x_label_formatter(&|x| number(*x, to - from))
            .draw()?;
        for (bins, outline) in all.iter().zip(&outlines) {
            chart.draw_series([Polygon::new(outline.clone(), bins.ink.marker().mix(0.35).filled())])?;
            chart.draw_series(LineSeries::new(outline.clone(), bins.ink.marker().stroke_width(2)))?;
        }
        if let Some(level) = level.filter(|level| (from..to).contains(level)) {
            chart.draw_series(LineSeries::new([(level, 0.0), (level, top)], Ink::Level.marker().stroke_width(2)))?;
        }
        Ok(())
    });
    figure(title, unit, &all.iter().map(|bins| (bins.name, bins.ink)).collect::<Vec<_>>(), &svg)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Root<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The SVG of what `paint` draws; a note in its place where it cannot be drawn.
fn draw(title: &str, paint: impl FnOnce(&Root<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    let outcome = {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        paint(&root).and_then(|()| Ok(root.present()?))
    };
    match outcome {
        // Its size is the page's business; its name is for whoever cannot see it.
        Ok(()) => svg.replacen(
            &format!("<svg width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1),
            &format!("<svg role=\"img\" aria-label=\"{}\"", escape(title)),
            1,
        ),
        Err(error) => format!("<p>This figure could not be drawn: {}</p>", escape(&error.to_string())),
    }
}

fn axes<'a, 'b>(root: &'a Root<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(root);
    chart.margin_top(14).margin_right(28).margin_left(4).x_label_area_size(40).y_label_area_size(100);
    chart
}

fn label() -> TextStyle<'static> {
    ("sans-serif", 28).into_font().color(&TEXT)
}

fn figure(title: &str, unit: &str, keys: &[(&str, Ink)], svg: &str) -> String {
    let mut html = format!("<figure><figcaption><b>{}</b> <span class=\"unit\">{}</span>", escape(title), escape(unit));
    if keys.len() > 1 {
        for (name, ink) in keys.iter().take(KEYS) {
            let _ = write!(html, " <span class=\"key {}\">{}</span>", ink.class(), escape(name));
        }
        if let Some(more @ 1..) = keys.len().checked_sub(KEYS) {
            let _ = write!(html, " and {more} more, in the same colours again");
        }
    }
    let _ = writeln!(html, "</figcaption>{svg}</figure>");
    html
}

fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
}

/// A number as short as an axis of this length needs it.
fn number(x: f64, length: f64) -> String {
    let x = if x.abs() < 1e-9 * length { 0.0 } else { x };
    match length {
        _ if x.abs() >= 1e6 || (x != 0.0 && length < 1e-3) => format!("{x:.1e}"),
        length if length >= 8.0 => format!("{x:.0}"),
        length if length >= 0.8 => format!("{x:.1}"),
        length if length >= 0.08 => format!("{x:.2}"),
        _ => format!("{x:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let lines = |points: Vec<(f64, f64)>| {
            let series = vec![Series { name: "<b>".into(), ink: Ink::Nth(7), points }];
            Lines { title: "a & b", unit: "%", series }.html()
        };
        assert_eq!(lines(vec![(1.0, f64::NAN)]), "");
        assert_eq!(lines(vec![]), "");
        let html = lines(vec![(1.0, 2.0), (2.0, f64::INFINITY), (3.0, 1e300), (4.0, 2.0)]);
        assert!(html.contains("aria-label=\"a &amp; b\"") && !html.contains("NaN") && !html.contains("inf"), "{html}");
        // The second of six colours, dashed.
        assert!(html.contains("stroke=\"#010101\""), "{html}");
        assert!(lines(vec![(1.0, 0.0)]).contains("<circle"), "one epoch is a dot");
    }

    #[test]
    fn long_lines_keep_their_outline() {
        let line = |n: usize| (0..n).map(|i| (i as f64, if i == 12_345 { 9.0 } else { (i % 2) as f64 })).collect();
        let short: Vec<(f64, f64)> = line(800);
        assert_eq!(outlined(short.clone(), 800), short);
        let thin = outlined(line(50_000), 800);
        assert_eq!(thin.len(), 800);
        assert_eq!(thin[..2], [(0.0, 0.0), (123.0, 1.0)]);
        assert!(thin.contains(&(12_345.0, 9.0)), "a peak is lost");
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn many_lines_weigh_little() {
        let series = |n: usize| Series {
            name: format!("layer {n}"),
            ink: Ink::Nth(n),
            points: (0..5_000).map(|i| (i as f64, (i % 7) as f64)).collect(),
        };
        let figure = |lines: usize| Lines { title: "t", unit: "", series: (0..lines).map(series).collect() }.html();
        let (ten, hundred) = (figure(10), figure(100));
        // As many points in all, but for what each line needs to be there at all.
        assert!(hundred.len() < 3 * ten.len() / 2, "{} after {}", hundred.len(), ten.len());
        assert!(hundred.contains("layer 11</span> and 88 more") && !ten.contains(" more"));
    }

    #[test]
    fn histograms_are_densities() {
        let bins = |counts| Bins { name: "x", ink: Ink::Positive, low: 0.0, high: 2.0, counts };
        let (a, b) = (
            histograms("t", "", &[bins(&[1, 3])], (0.0, 2.0), None),
            histograms("t", "", &[bins(&[10, 30])], (0.0, 2.0), None),
        );
        assert_eq!(a, b);
        assert!(a.contains("<svg"));
        assert_eq!(histograms("t", "", &[bins(&[0, 0])], (0.0, 2.0), Some(1.0)), "", "nothing counted, nothing drawn");
        assert_eq!(histograms("t", "", &[bins(&[1, 3])], (f64::INFINITY, f64::INFINITY), None), "");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(1234.6, 2000.0), "1235");
        assert_eq!(number(0.5, 1.0), "0.5");
        assert_eq!(number(0.25, 0.1), "0.25");
        assert_eq!(number(2e9, 1e9), "2.0e9");
        assert_eq!(number(1e-18, 1.0), "0.0");
    }
}
