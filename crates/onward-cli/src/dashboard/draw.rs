//! A dashboard drawn on an area of any size. What is wanted most comes first: in a small window the rest is left out.

use super::state::{Curve, Dashboard, Mood};
use onward::events::LayerReport;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

const POSITIVE: Color = Color::LightBlue;
const NEGATIVE: Color = Color::Yellow;
/// Of curves, in order; the first are those of `report.html`, as far as terminals have them.
const COLOURS: [Color; 6] =
    [Color::LightBlue, Color::Yellow, Color::LightGreen, Color::LightMagenta, Color::LightCyan, Color::LightRed];
const SOFT: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Rows that a figure takes at least, and columns.
const FIGURE: (u16, u16) = (6, 36);

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, dashboard: &Dashboard) {
    let area = frame.area();
    let width = usize::from(area.width);
    let numbers = wrapped(&dashboard.numbers(), width);
    let layers = dashboard.layers();
    // Title, progress, keys; then numbers; then layers; what is left over is for figures.
    let mut left = area.height.saturating_sub(3);
    let mut take = |wanted: usize, at_most: u16| {
        let rows = (wanted.min(usize::from(u16::MAX)) as u16).min(at_most).min(left);
        left -= rows;
        rows
    };
    let numbers_rows = take(numbers.len(), 3);
    let message_rows = take(usize::from(!dashboard.message.is_empty()), u16::from(area.height > 7));
    let most = if left_for_figures(area, numbers_rows + message_rows) { area.height / 3 } else { u16::MAX };
    let layers_rows = take(if layers.is_empty() { 0 } else { layers.len() + 1 }, most);
    let figures_rows = if left >= FIGURE.0 { left } else { 0 };

    let rows = [1, 1, numbers_rows, figures_rows, layers_rows];
    let mut constraints: Vec<Constraint> = rows.iter().map(|rows| Constraint::Length(*rows)).collect();
    constraints.extend([Constraint::Fill(1), Constraint::Length(message_rows), Constraint::Length(1)]);
    // Where there is room for one line alone, it is the title; for two, the progress.
    if area.height < 3 {
        constraints[7] = Constraint::Length(0);
    }
    let rows = Layout::vertical(constraints).split(area);
    frame.render_widget(Paragraph::new(title(dashboard, width)), rows[0]);
    frame.render_widget(Paragraph::new(progress(dashboard, width)), rows[1]);
    frame.render_widget(Paragraph::new(numbers.into_iter().map(Line::from).collect::<Vec<_>>()), rows[2]);
    figures(frame, dashboard, rows[3]);
    frame.render_widget(Paragraph::new(table(dashboard, layers, rows[4])), rows[4]);
    frame.render_widget(Paragraph::new(cut(&dashboard.message, width)), rows[6]);
    frame.render_widget(Paragraph::new(keys(dashboard, width)), rows[7]);
}

/// Whether there is room for figures below `above` rows of text, so that layers must not take everything.
fn left_for_figures(area: Rect, above: u16) -> bool {
    area.width >= FIGURE.1 && area.height >= 3 + above + FIGURE.0 + 3
}

/// What it is, and how it is at the right.
fn title(dashboard: &Dashboard, width: usize) -> Line<'static> {
    let mood = dashboard.mood.text();
    let colour = match dashboard.mood {
        Mood::Training | Mood::Evaluating | Mood::Finished => Color::LightGreen,
        Mood::Waiting | Mood::Paused | Mood::Stopping | Mood::Stopped => Color::Yellow,
        Mood::Died | Mood::Failed => Color::LightRed,
    };
    let name = cut(&dashboard.heading.name, width.saturating_sub(mood.len() + 1));
    let gap = width.saturating_sub(columns(&name) + mood.len());
    Line::from(vec![Span::styled(name, BOLD), Span::raw(" ".repeat(gap)), Span::styled(mood, BOLD.fg(colour))])
}

/// A bar, its share and its epoch.
fn progress(dashboard: &Dashboard, width: usize) -> Line<'static> {
    let share = dashboard.share().unwrap_or(0.0);
    let mut text = format!(" {:>3.0} %", (100.0 * share).floor());
    if width >= 32 {
        text.push_str(&format!("  {}", dashboard.epoch()));
    }
    let cells = width.saturating_sub(columns(&text));
    let full = ((cells as f64 * share).floor() as usize).min(cells);
    Line::from(vec![
        Span::styled("━".repeat(full), Style::new().fg(POSITIVE)),
        Span::styled("─".repeat(cells - full), SOFT),
        Span::raw(text),
    ])
}

/// Keys and what they do; where that is too long, keys and their first letters' words are cut at the end.
fn keys(dashboard: &Dashboard, width: usize) -> Line<'static> {
    let keys = dashboard.keys();
    let long: usize = keys.iter().map(|(key, what)| key.len() + what.len() + 3).sum();
    let gap = if long <= width + 2 { "  " } else { " " };
    let mut spans = Vec::new();
    for (key, what) in keys {
        spans.push(Span::styled(key, BOLD));
        spans.push(Span::styled(format!(" {what}{gap}"), SOFT));
    }
    Line::from(spans)
}

/// Items in as few lines as they fit into.
fn wrapped(items: &[String], width: usize) -> Vec<String> {
    const GAP: &str = "   ";
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if columns(line) + GAP.len() + columns(item) <= width => {
                line.push_str(GAP);
                line.push_str(item);
            }
            _ => lines.push(cut(item, width)),
        }
    }
    lines
}

/// As many of these curves side by side as fit.
fn figures(frame: &mut Frame<'_>, dashboard: &Dashboard, area: Rect) {
    if area.height < FIGURE.0 {
        return;
    }
    let all = [
        ("validation error, %", dashboard.errors()),
        ("loss, nats", dashboard.loss()),
        ("wrong pairs, %", dashboard.wrong_pairs()),
    ];
    let mut shown: Vec<_> = all.into_iter().filter(|(_, curves)| !curves.is_empty()).collect();
    shown.truncate(usize::from(area.width / FIGURE.1).max(1));
    let places = Layout::horizontal(shown.iter().map(|_| Constraint::Fill(1))).split(area);
    for ((name, curves), place) in shown.iter().zip(places.iter()) {
        figure(frame, name, curves, *place);
    }
}

fn figure(frame: &mut Frame<'_>, name: &str, curves: &[Curve], area: Rect) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let span = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (low_x, high_x) = span(&mut points().map(|(x, _)| *x));
    let (low, high) = span(&mut points().map(|(_, y)| *y));
    // From zero, unless that would leave little to see.
    let low = if low >= 0.0 && low < 0.6 * high { 0.0 } else { low };
    let (low, high) = if high > low { (low, high) } else { (low, low + 1.0) };
    let (low_x, high_x) = if high_x > low_x { (low_x, high_x) } else { (low_x - 0.5, low_x + 0.5) };

    let mut title = vec![Span::styled(format!(" {name}"), BOLD)];
    let mut room = usize::from(area.width).saturating_sub(name.len() + 5);
    if curves.len() > 1 {
        for (n, curve) in curves.iter().enumerate() {
            let key = format!("  {}", curve.name);
            match room.checked_sub(columns(&key)) {
                Some(rest) => room = rest,
                None => break,
            }
            title.push(Span::styled(key, Style::new().fg(COLOURS[n % COLOURS.len()])));
        }
    }
    title.push(Span::raw(" "));
    let data = curves.iter().enumerate().map(|(n, curve)| {
        // A single epoch is a dot.
        let graph = if curve.points.len() > 1 { GraphType::Line } else { GraphType::Scatter };
        let style = Style::new().fg(COLOURS[n % COLOURS.len()]);
        Dataset::default().marker(Marker::Braille).graph_type(graph).style(style).data(&curve.points)
    });
    let label = |y: f64| if high - low >= 10.0 { format!("{y:.0}") } else { format!("{y:.2}") };
    let (first, last) = if high_x - low_x < 1.0 { (low_x, high_x) } else { (low_x.ceil(), high_x.floor()) };
    let epoch = |x: f64| if x.fract() == 0.0 { format!("{x:.0}") } else { format!("{x:.1}") };
    let chart = Chart::new(data.collect())
        .block(Block::bordered().border_style(SOFT).title(Line::from(title)))
        .legend_position(None)
        .x_axis(Axis::default().style(SOFT).bounds([low_x, high_x]).labels([epoch(first), epoch(last)]))
        .y_axis(Axis::default().style(SOFT).bounds([low, high]).labels([label(low), label(high)]));
    frame.render_widget(chart, area);
}

/// Each layer in a line: goodness of positives and negatives, how far apart they are, and how often in the wrong order.
fn table(dashboard: &Dashboard, layers: &[LayerReport], area: Rect) -> Vec<Line<'static>> {
    let (width, rows) = (usize::from(area.width), usize::from(area.height));
    if rows == 0 || layers.is_empty() {
        return Vec::new();
    }
    let wide = width >= 56;
    let heading = match wide {
        true => format!(
            "{:>5} {:>9} {:>9}  {:<bar$} {:>11}",
            "layer",
            "positive",
            "negative",
            "goodness / threshold",
            "wrong pairs",
            bar = width - 40
        ),
        false => format!("{:>5} {:>8} {:>8} {:>7}", "layer", "pos", "neg", "wrong"),
    };
    let mut lines = vec![Line::styled(cut(&heading, width), SOFT)];
    let fit = if layers.len() < rows { layers.len() } else { rows.saturating_sub(2) };
    let most = layers.iter().map(|layer| dashboard.goodness(layer)).fold(1.0, |most: f64, (p, n)| most.max(p).max(n));
    for layer in &layers[..fit] {
        let (positive, negative) = dashboard.goodness(layer);
        let wrong = format!("{:.1} %", 100.0 * layer.wrong_order);
        let number = |x: f64| if x.abs() < 1e4 { format!("{x:.2}") } else { format!("{x:.1e}") };
        let (p, n) = (number(positive), number(negative));
        if !wide {
            lines.push(Line::from(vec![
                Span::raw(format!("{:>5} ", layer.layer)),
                Span::styled(format!("{p:>8} "), Style::new().fg(POSITIVE)),
                Span::styled(format!("{n:>8}"), Style::new().fg(NEGATIVE)),
                Span::raw(format!(" {wrong:>7}")),
            ]));
            continue;
        }
        let cells = width - 40;
        let length = |x: f64| (x / most * cells as f64).round().clamp(0.0, cells as f64) as usize;
        // Up to the lower of the two both are there; beyond, only the higher one.
        let (both, either) = (length(positive.min(negative)), length(positive.max(negative)));
        let beyond = if positive >= negative { POSITIVE } else { NEGATIVE };
        let below = if positive >= negative { NEGATIVE } else { POSITIVE };
        lines.push(Line::from(vec![
            Span::raw(format!("{:>5} ", layer.layer)),
            Span::styled(format!("{p:>9} "), Style::new().fg(POSITIVE)),
            Span::styled(format!("{n:>9}  "), Style::new().fg(NEGATIVE)),
            Span::styled("▄".repeat(both), Style::new().fg(below)),
            Span::styled("▄".repeat(either - both), Style::new().fg(beyond)),
            Span::raw(" ".repeat(cells - either)),
            Span::raw(format!(" {wrong:>11}")),
        ]));
    }
    if fit < layers.len() && lines.len() < rows {
        lines.push(Line::styled(format!("{:>5} and {} more", "…", layers.len() - fit), SOFT));
    }
    lines
}

/// Columns that a text takes.
fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// The beginning of a text, of so many columns at most; where it is cut, that is to be seen.
fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.into();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if columns(&kept) + columns(c.encode_utf8(&mut [0; 4])) >= width {
            break;
        }
        kept.push(c);
    }
    if width > 0 { kept + "…" } else { kept }
}

#[cfg(test)]
mod tests;
