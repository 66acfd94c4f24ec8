//! Which classes are taken for which.

use onward::Evaluation;
use std::fmt::Write;

/// Classes or pairs that are listed as the worst.
pub const WORST: usize = 5;

/// The confusion matrix, or the worst classes where it has too many for lines of `columns` characters; then the pairs
/// that are confused most.
pub fn text(evaluation: &Evaluation, classes: &[String], columns: usize) -> String {
    let mut text = table(evaluation, classes, columns).unwrap_or_else(|| worst_classes(evaluation, classes));
    let pairs: Vec<String> = worst_pairs(evaluation, WORST)
        .into_iter()
        .map(|(i, j, count)| format!("{} as {} ×{count}", classes[i], classes[j]))
        .collect();
    if !pairs.is_empty() {
        let _ = writeln!(text, "most often: {}", pairs.join(", "));
    }
    text
}

/// The confusion matrix in at most `columns` characters a line; `None` where it has too many classes for that.
///
/// Rows are the true classes, columns what the network found.
fn table(evaluation: &Evaluation, classes: &[String], columns: usize) -> Option<String> {
    let confusion = &evaluation.confusion;
    let names: Vec<String> = classes.iter().enumerate().map(|(i, name)| row_name(i, name)).collect();
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let name_width = widest(&mut names.iter().map(|name| name.chars().count())).max(HEADING.len());
    let most = confusion.iter().flatten().max()?;
    let cell = widest(&mut [*most, classes.len() as u64].iter().map(|n| n.to_string().len())).max(2) + 1;
    if name_width + cell * classes.len() + ERROR_WIDTH > columns {
        return None;
    }
    let mut text = format!("{HEADING:name_width$}");
    for class in 0..classes.len() {
        let _ = write!(text, "{class:>cell$}");
    }
    let _ = writeln!(text, "{:>ERROR_WIDTH$}", "error");
    for (i, (row, name)) in confusion.iter().zip(&names).enumerate() {
        let _ = write!(text, "{name:name_width$}");
        for &count in row {
            let count = if count == 0 { "·".to_owned() } else { count.to_string() };
            let _ = write!(text, "{count:>cell$}");
        }
        let error = class_error(evaluation, i).map_or("-".to_owned(), |error| format!("{error:.1} %"));
        let _ = writeln!(text, "{error:>ERROR_WIDTH$}");
    }
    Some(text)
}

const HEADING: &str = "true \\ found";
const ERROR_WIDTH: usize = 9;

/// `7`, or `9 Ankle boot` where the class has a name besides its number; cut where it is long.
fn row_name(class: usize, name: &str) -> String {
    let short =
        if name.chars().count() > 20 { name.chars().take(19).chain(['…']).collect() } else { name.to_owned() };
    if name == class.to_string() { short } else { format!("{class} {short}") }
}

/// A line for each of the classes with the highest errors.
fn worst_classes(evaluation: &Evaluation, classes: &[String]) -> String {
    let error = |class: &usize| class_error(evaluation, *class).unwrap_or(0.0);
    let mut worst: Vec<usize> = (0..classes.len()).collect();
    worst.sort_by(|a, b| error(b).total_cmp(&error(a)));
    worst.truncate(WORST);
    let mut text = format!("{} classes are too many for a matrix; the worst:\n", classes.len());
    for class in worst {
        let _ = writeln!(text, "{:>7.1} %  {}", error(&class), row_name(class, &classes[class]));
    }
    text
}

/// Wrong labels of a class in per cent; `None` where it has no samples.
pub fn class_error(evaluation: &Evaluation, class: usize) -> Option<f64> {
    let row = &evaluation.confusion[class];
    let total = row.iter().sum::<u64>();
    (total > 0).then(|| 100.0 * (total - row[class]) as f64 / total as f64)
}

/// The pairs (true, found, how often) that are confused most, at most `n`.
pub fn worst_pairs(evaluation: &Evaluation, n: usize) -> Vec<(usize, usize, u64)> {
    let rows = evaluation.confusion.iter().enumerate();
    let pairs = rows.flat_map(|(i, row)| row.iter().enumerate().map(move |(j, &count)| (i, j, count)));
    let mut pairs: Vec<_> = pairs.filter(|&(i, j, count)| i != j && count > 0).collect();
    pairs.sort_by_key(|&(.., count)| std::cmp::Reverse(count));
    pairs.truncate(n);
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        Evaluation { samples: 10, errors: 4, confusion: vec![vec![5, 1, 0], vec![3, 1, 0], vec![0, 0, 0]] }
    }

    #[test]
    fn shows_counts_and_errors() {
        let classes = ["0", "boot", "2"].map(String::from);
        let expected = "true \\ found  0  1  2    error\n\
                        0             5  1  ·   16.7 %\n\
                        1 boot        3  1  ·   75.0 %\n\
                        2             ·  ·  ·        -\n";
        assert_eq!(table(&evaluation(), &classes, 80).unwrap(), expected);
        assert_eq!(text(&evaluation(), &classes, 30), format!("{expected}most often: boot as 0 ×3, 0 as boot ×1\n"));
        assert_eq!(
            text(&evaluation(), &classes, 29),
            "3 classes are too many for a matrix; the worst:\n   75.0 %  1 boot\n   16.7 %  0\n    0.0 %  2\n\
             most often: boot as 0 ×3, 0 as boot ×1\n"
        );
    }

    #[test]
    fn worst_pairs_come_first() {
        assert_eq!(worst_pairs(&evaluation(), 5), [(1, 0, 3), (0, 1, 1)]);
        assert_eq!(worst_pairs(&evaluation(), 1).len(), 1);
    }
}
