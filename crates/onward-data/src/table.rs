//! CSV: a sample a line, numbers, and a label: the column named `label`, `class` or `target`, or the last one.

use crate::error::{Error, Result, dataset};
use crate::records::is_missing;
use onward::{Dataset, Shape, Values};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::Path;

const LABEL_NAMES: [&str; 3] = ["label", "class", "target"];

/// The samples of a file. A file of `features` columns, none of which is named as the label, has no labels.
pub fn read(path: &Path, features: Option<usize>) -> Result<Dataset> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| Error::new(path, format!("it could not be read: {error}")))?;
    let (mut values, mut labels): (Vec<f32>, Vec<u32>) = Default::default();
    // The classes, in the order in which they are found.
    let mut found: HashMap<String, u32> = HashMap::new();
    let (mut width, mut label_column) = (0, None);
    for (n, record) in reader.records().enumerate() {
        let record = record.map_err(|error| Error::new(path, refusal(&error)))?;
        let line = record.position().map_or(n as u64 + 1, csv::Position::line);
        if n == 0 {
            width = record.len();
            if width < 2 && features != Some(width) {
                return Err(Error::new(path, format!("line {line} has {width} column, expected numbers and a label")));
            }
            let named = record.iter().position(|name| LABEL_NAMES.contains(&name.to_lowercase().as_str()));
            label_column = named.or((features != Some(width)).then(|| width - 1));
            // A number that is missing is no name.
            let is_name = |field: &str| field.parse::<f32>().is_err() && !is_missing(field);
            // As a table with numbered columns has it that was written with its row names.
            let is_numbered = record.get(0) == Some("")
                && record.iter().skip(1).enumerate().all(|(n, field)| *field == n.to_string());
            let is_header =
                is_numbered || record.iter().enumerate().any(|(c, field)| Some(c) != label_column && is_name(field));
            if is_header || named.is_some() {
                continue;
            }
        }
        for (column, field) in record.iter().enumerate() {
            if Some(column) == label_column {
                // What is only to be labelled may have none.
                if field.is_empty() && features.is_none() {
                    let problem = format!(
                        "line {line}, column {}: found no label, expected one in each line: fill it in, or remove the line",
                        column + 1
                    );
                    return Err(Error::new(path, problem));
                }
                let new = found.len() as u32;
                let class = found.get(field).copied().unwrap_or_else(|| *found.entry(field.to_owned()).or_insert(new));
                labels.push(class);
                continue;
            }
            match field.parse::<f32>() {
                Ok(value) if value.is_finite() => values.push(value),
                _ => {
                    let problem =
                        format!("line {line}, column {}: found \"{field}\", expected a finite number", column + 1);
                    return Err(Error::new(path, problem));
                }
            }
        }
    }
    if found.len() > 1000 && found.len() * 2 > labels.len() {
        let problem = format!(
            "column {} should hold labels, but has {} different values in {} lines: name the label's column `label`",
            label_column.map_or(0, |column| column + 1),
            found.len(),
            labels.len()
        );
        return Err(Error::new(path, problem));
    }
    let mut classes: Vec<(String, u32)> = found.into_iter().collect();
    classes.sort_by(|(a, _), (b, _)| by_number(a, b));
    let mut sorted = vec![0; classes.len()];
    (0u32..).zip(&classes).for_each(|(class, (_, found))| sorted[*found as usize] = class);
    let indices = labels.iter().map(|label| sorted[*label as usize]).collect();
    let classes = classes.into_iter().map(|(name, _)| name).collect();
    let features = width.saturating_sub(usize::from(label_column.is_some())).max(1);
    dataset(path, Shape::features(features), Values::Floats(values), indices, classes)
}

/// Numbers first, by their size, then what is none.
fn by_number(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

fn refusal(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} has {len} columns, expected {expected_len} as in the first line")
        }
        csv::ErrorKind::Utf8 { pos, .. } => {
            format!("line {} is not UTF-8 text: is this a CSV file?", pos.as_ref().map_or(0, csv::Position::line))
        }
        _ => format!("it could not be read: {error}"),
    }
}
