//! What the readouts made of samples, and where they went wrong.

use super::{html, image};
use crate::confusion;
use anyhow::Result;
use onward::{Dataset, Evaluation, Network, Predictions, Readout};
use std::fmt::Write;

/// What one readout made of all samples.
#[derive(Clone, Debug)]
pub struct Judged {
    pub readout: Readout,
    pub predictions: Predictions,
    pub evaluation: Evaluation,
}

impl Judged {
    /// What every readout that the network offers makes of these samples.
    pub fn all(network: &Network, data: &Dataset) -> Result<Vec<Self>> {
        let judge = |readout| {
            let predictions = network.predict(data, readout)?;
            let evaluation = network.compare(data, &predictions)?;
            Ok(Judged { readout, predictions, evaluation })
        };
        network.readouts().into_iter().map(judge).collect()
    }
}

/// Classes of a matrix at most.
const CLASSES: usize = 40;

/// Images of mistakes.
const IMAGES: usize = 24;

/// The confusion matrix of the last readout, and the mistakes that it was surest of.
pub fn section(network: &Network, data: &Dataset, which: &str, judged: &[Judged]) -> String {
    let Some(Judged { readout, predictions, evaluation }) = judged.last() else { return String::new() };
    let classes = network.class_names();
    let mut body = matrix(evaluation, classes);
    let mut wrong: Vec<usize> = match data.classes() == classes {
        true => (0..data.len()).filter(|&n| predictions.label(n) != data.labels()[n]).collect(),
        // Classes of the same names in another order: the counts are right, but labels are not comparable here.
        false => Vec::new(),
    };
    let sure = |n: usize| predictions.row(n)[predictions.label(n) as usize];
    wrong.sort_by(|&a, &b| sure(b).total_cmp(&sure(a)));
    wrong.truncate(IMAGES);
    if !wrong.is_empty() {
        let pictures = wrong.iter().map(|&n| {
            let (label, found) = (&classes[data.labels()[n] as usize], &classes[predictions.label(n) as usize]);
            (n, format!("{label} as {found}, {:.0} %", 100.0 * sure(n)))
        });
        let _ = write!(body, "<p class=\"about\">The mistakes that it was surest of:</p>\n{}", gallery(data, pictures));
    }
    let about = format!(
        "{readout} on {} {which} samples: {} wrong, {:.2} %. Rows are true classes, columns what the network found.",
        crate::progress::grouped(evaluation.samples as u64),
        crate::progress::grouped(evaluation.errors as u64),
        evaluation.error()
    );
    html::section("What it confuses", &html::escape(&about), &body)
}

/// Samples of `data`, each over its caption.
fn gallery(data: &Dataset, pictures: impl Iterator<Item = (usize, String)>) -> String {
    let mut x = vec![0.0; data.shape().len()];
    let mut body = String::from("<div class=\"gallery\">\n");
    for (n, caption) in pictures {
        data.read(n, &mut x);
        body.push_str(&picture(data, &x, &caption));
    }
    body + "</div>\n"
}

/// One sample `x: (shape)` over its caption.
pub fn picture(data: &Dataset, x: &[f32], caption: &str) -> String {
    let range = x.iter().fold((0.0, 1.0), |(low, high): (f32, f32), &x| (low.min(x), high.max(x)));
    let img = image::sample(data.shape(), x, range, caption);
    format!("<figure>{img}<figcaption>{}</figcaption></figure>\n", html::escape(caption))
}

fn matrix(evaluation: &Evaluation, classes: &[String]) -> String {
    let error = |class| confusion::class_error(evaluation, class).map_or("-".into(), |error| format!("{error:.1} %"));
    if classes.len() > CLASSES {
        let text = confusion::text(evaluation, classes, 0);
        return format!("<pre class=\"wide\">{}</pre>\n", html::escape(&text));
    }
    let most = (0..classes.len()).flat_map(|i| (0..classes.len()).map(move |j| (i, j)));
    let most = most.filter(|(i, j)| i != j).map(|(i, j)| evaluation.confusion[i][j]).max().unwrap_or(0).max(1);
    let mut html = String::from("<div class=\"wide\"><table class=\"matrix\">\n<tr><th></th>");
    html.extend(classes.iter().map(|class| format!("<th>{}</th>", html::escape(class))));
    html.push_str("<th>error</th></tr>\n");
    for (i, row) in evaluation.confusion.iter().enumerate() {
        let _ = write!(html, "<tr><th>{}</th>", html::escape(&classes[i]));
        for (j, &count) in row.iter().enumerate() {
            let _ = match count {
                0 => write!(html, "<td class=\"soft\">·</td>"),
                count if i == j => write!(html, "<td class=\"hit\">{count}</td>"),
                count => write!(html, "<td class=\"miss\" style=\"--share:{}\">{count}</td>", 70 * count / most),
            };
        }
        let _ = writeln!(html, "<td>{}</td></tr>", error(i));
    }
    html + "</table></div>\n"
}
