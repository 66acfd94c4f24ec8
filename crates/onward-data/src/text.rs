//! Texts: the next character, to be told from the ten before it (paper, section 5 and its draft).
//!
//! A text is brought to an alphabet of 30 symbols, `a` to `z`, the space, `,`, `;` and `.`, and cut into strings of 100. The
//! sample of each place in a string but the first ten is the window of ten symbols before it, one-hot: `1×10×30`; its label is
//! the symbol there. The last tenth of the strings is the test set.
//!
//! Capitals become small letters, `æ` and `œ` two letters, `:` a semicolon, `!` and `?` a full stop, dashes and whatever else
//! is white a space; of spaces one after another only the first stays. Every other character is left out, and counted.

use crate::detect::Split;
use crate::error::{Error, Result, dataset};
use onward::{Dataset, Shape, Values};
use std::collections::BTreeMap;
use std::path::Path;

const ALPHABET: &[u8; SYMBOLS] = b"abcdefghijklmnopqrstuvwxyz ,;.";
const SYMBOLS: usize = 30;
const WINDOW: usize = 10;
const STRING: usize = 100;

/// Longest file that is read: its samples take 270 times its length.
const MOST_BYTES: u64 = 4_000_000;

/// Whether a file named `.txt` is one: not where a line near its start is a line of a table, with a number before its first
/// comma.
pub fn is(start: &[u8]) -> bool {
    let table = |line: &str| line.split_once(',').is_some_and(|(field, _)| field.trim().parse::<f32>().is_ok());
    !String::from_utf8_lossy(start).lines().take(2).any(table)
}

/// The windows of a text, and what was left out of it.
pub fn read(path: &Path, length: u64) -> Result<Split> {
    if length > MOST_BYTES {
        let problem = format!("it has {length} bytes, expected a text of at most {MOST_BYTES}: cut it into parts");
        return Err(Error::new(path, problem));
    }
    let bytes = std::fs::read(path).map_err(Error::unread(path))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(path, format!("byte {at} is not UTF-8 text: save it as UTF-8 first"))
    })?;
    let (symbols, outside) = symbols(&text);
    let strings: Vec<&[u8]> = symbols.chunks_exact(STRING).collect();
    let test = strings.len() / 10;
    if test == 0 {
        let found = symbols.len();
        let problem = format!("it has {found} characters of the alphabet, expected {} at least", 10 * STRING);
        return Err(Error::new(path, problem));
    }
    let (train, test) = strings.split_at(strings.len() - test);
    Ok(Split { train: windows(path, train)?, test: Some(windows(path, test)?), note: note(&outside) })
}

/// A text in symbols of the alphabet, by their number, and how often each character outside of it was found.
fn symbols(text: &str) -> (Vec<u8>, BTreeMap<char, u64>) {
    const SPACE: u8 = 26;
    let number = |c: char| ALPHABET.iter().position(|symbol| char::from(*symbol) == c).map(|at| at as u8);
    let (mut symbols, mut outside) = (Vec::new(), BTreeMap::new());
    for c in text.chars().flat_map(char::to_lowercase) {
        let mapped = match c {
            'æ' => "ae",
            'œ' => "oe",
            ':' => ";",
            '!' | '?' => ".",
            '-' | '–' | '—' => " ",
            c if c.is_whitespace() => " ",
            c => match number(c) {
                Some(symbol) => {
                    symbols.push(symbol);
                    continue;
                }
                None => {
                    *outside.entry(c).or_insert(0) += 1;
                    continue;
                }
            },
        };
        for symbol in mapped.chars().filter_map(number) {
            if symbol != SPACE || symbols.last().is_some_and(|last| *last != SPACE) {
                symbols.push(symbol);
            }
        }
    }
    (symbols, outside)
}

/// What was left out, in a sentence: the most frequent ones by name.
fn note(outside: &BTreeMap<char, u64>) -> Option<String> {
    let mut counts: Vec<_> = outside.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let named = counts.iter().take(5).map(|(c, count)| format!("{} ({count})", c.escape_debug()));
    let more = if counts.len() > 5 { format!(" and {} others", counts.len() - 5) } else { String::new() };
    let all: u64 = outside.values().sum();
    let listed = named.collect::<Vec<_>>().join(", ");
    (all > 0).then(|| format!("left out {all} characters outside the alphabet (a to z, space , ; .): {listed}{more}"))
}

/// A sample for each symbol of each string that has a window before it.
fn windows(path: &Path, strings: &[&[u8]]) -> Result<Dataset> {
    let samples = strings.len() * (STRING - WINDOW);
    let (mut values, mut labels) = (vec![0; samples * WINDOW * SYMBOLS], Vec::with_capacity(samples));
    let windows = strings.iter().flat_map(|string| string.windows(WINDOW + 1));
    for (window, to) in windows.zip(values.chunks_exact_mut(WINDOW * SYMBOLS)) {
        for (symbol, one_hot) in window.iter().zip(to.chunks_exact_mut(SYMBOLS)) {
            one_hot[usize::from(*symbol)] = 255;
        }
        labels.push(window[WINDOW].into());
    }
    let names = ALPHABET.iter().map(|symbol| match symbol {
        b' ' => "space".into(),
        symbol => char::from(*symbol).to_string(),
    });
    dataset(path, Shape::image(1, WINDOW, SYMBOLS), Values::Bytes(values), labels, names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_become_symbols_or_are_counted() {
        let written =
            |text: &str| symbols(text).0.iter().map(|s| char::from(ALPHABET[usize::from(*s)])).collect::<String>();
        assert_eq!(written("The Fox,\n\n  and—the  GRAPES!"), "the fox, and the grapes.");
        assert_eq!(written(" Æsop: why?\t"), "aesop; why. ", "nothing white at the start");
        let (_, outside) = symbols("“Sirrah,” 1 it’s; ø“");
        assert_eq!(outside, BTreeMap::from([('“', 2), ('”', 1), ('1', 1), ('’', 1), ('ø', 1)]));
        let found = note(&outside).unwrap();
        assert!(found.starts_with("left out 6 characters outside the alphabet"), "{found}");
        assert!(found.contains("“ (2), "), "{found}");
        assert_eq!(note(&BTreeMap::new()), None);
    }

    #[test]
    fn tables_are_no_texts() {
        assert!(is(b"THE FOX AND THE GRAPES\nA hungry Fox, one day, saw"));
        assert!(!is(b"width,length\n3.5,2\n") && !is(b"1,2,0\n3,4,1\n"));
    }
}
