//! Records in lines of text: CSV here, and what CSV and JSON have in common.

use super::columns::{Layout, Role};
use super::{Format, Item, LONGEST, Next, Record, Records, excerpt, note, take_number};
use crate::error::Result;
use std::borrow::Cow;
use std::io::Read;

/// What a number that is not there is written as.
const MISSING: [&str; 6] = ["", "?", "na", "n/a", "null", "none"];

/// Memory and state of a CSV parser.
#[derive(Debug)]
pub(super) struct Text {
    csv: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
}

impl Text {
    pub(super) fn new(delimiter: u8) -> Self {
        let csv = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Text { csv, fields: Vec::new(), ends: Vec::new() }
    }

    /// Splits a line; answers how many fields there are.
    fn split(&mut self, line: &[u8]) -> Result<usize, &'static str> {
        use csv_core::ReadRecordResult::{End, InputEmpty, OutputEndsFull, OutputFull, Record};
        self.csv.reset();
        self.fields.resize(line.len().max(64), 0);
        let (mut read, mut written, mut count) = (0, 0, 0);
        let mut ended = false;
        loop {
            if self.ends.len() == count {
                self.ends.resize(count + 64, 0);
            }
            let input = if ended { &b"\n"[..] } else { &line[read..] };
            let (state, r, w, e) = self.csv.read_record(input, &mut self.fields[written..], &mut self.ends[count..]);
            if !ended {
                read += r;
            }
            (written, count) = (written + w, count + e);
            match state {
                Record => return Ok(count),
                End => return Ok(0),
                InputEmpty if ended => return Err("a quote is not closed"),
                // The last line may lack its end.
                InputEmpty => ended = true,
                OutputFull => self.fields.resize(self.fields.len() + 64, 0),
                OutputEndsFull => self.ends.resize(self.ends.len() + 64, 0),
            }
        }
    }

    /// Field `n` of the line that was split last.
    fn field(&self, n: usize) -> &[u8] {
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        self.fields[start..self.ends[n]].trim_ascii()
    }
}

impl<R: Read> Records<R> {
    pub(super) fn next_line(&mut self, record: &mut Record) -> Result<Next> {
        loop {
            match self.read_line()? {
                Item::Whole | Item::Cut => {}
                Item::Stalled => return Ok(Next::Stalled),
                Item::End => return Ok(Next::End),
                Item::TooLong => {
                    self.line += 1;
                    self.item.clear();
                    return Ok(Next::Skipped(format!("line {}: longer than {LONGEST} bytes", self.line)));
                }
            }
            self.line += 1;
            let mut line = std::mem::take(&mut self.item);
            let next = match line.trim_ascii() {
                [] => Ok(None),
                text if self.format == Format::Json => self.json(text, record).map(Some),
                _ => self.csv(&line, record),
            };
            line.clear();
            self.item = line;
            if let Some(next) = next? {
                return Ok(next);
            }
        }
    }

    /// `None`: a line of names.
    fn csv(&mut self, line: &[u8], record: &mut Record) -> Result<Option<Next>> {
        if self.header.as_ref().is_some_and(|(header, _)| header == line) {
            // The same names again: another file, or another sender.
            return Ok(None);
        }
        let skipped = |problem: String| Ok(Some(Next::Skipped(problem)));
        let count = match self.text.split(line) {
            Ok(count) => count,
            Err(problem) => return skipped(format!("line {}: {problem}: \"{}\"", self.line, excerpt(line))),
        };
        if self.layout.is_none() {
            let byte_order_mark = self.text.field(0).starts_with(b"\xef\xbb\xbf");
            if self.header.is_none() && (byte_order_mark || self.is_header(count)) {
                self.header = Some((line.to_owned(), count));
                let names = (0..count).map(|n| {
                    let field = self.text.field(n);
                    let name = if n == 0 { field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field) } else { field };
                    String::from_utf8_lossy(name.trim_ascii()).trim_matches('"').to_owned()
                });
                let names = names.collect();
                self.layout = Some(self.columns.layout(names, true).or_else(|problem| self.refuse(problem))?);
                return Ok(None);
            }
            let names = (1..=count).map(|n| n.to_string()).collect();
            let layout = self.columns.layout(names, false).or_else(|problem| self.refuse(problem))?;
            self.must_be_numbers(&layout)?;
            self.layout = Some(layout);
        }
        let Some(mut layout) = self.layout.take() else { unreachable!("it was found above") };
        let names = self.header.as_mut().map_or(0, |(_, names)| std::mem::take(names));
        if names > 0 && (names..=names + 1).contains(&count) {
            if count > names {
                // One field more than names: the first is the row's name, as R writes it.
                layout.roles.insert(0, Role::Ignored);
                layout.names.insert(0, "row".into());
            }
            self.must_be_numbers(&layout)?;
        }
        let expected = layout.roles.len();
        if count != expected {
            self.layout = Some(layout);
            return skipped(format!(
                "line {}: found {count} fields, expected {expected}: \"{}\"",
                self.line,
                excerpt(line)
            ));
        }
        record.clear(self.line, layout.features.len());
        for (n, role) in layout.roles.iter().enumerate() {
            match String::from_utf8_lossy(self.text.field(n)) {
                Cow::Borrowed(text) => place(record, &layout, *role, text),
                Cow::Owned(text) => place(record, &layout, *role, &text),
            }
        }
        self.layout = Some(layout);
        Ok(Some(Next::Record))
    }

    /// Whether the fields are names: the columns are asked for by names among them, or a field that should be a number is
    /// none.
    fn is_header(&self, count: usize) -> bool {
        let fields: Vec<Cow<'_, str>> = (0..count).map(|n| String::from_utf8_lossy(self.text.field(n))).collect();
        let is_number = |text: &str| is_missing(text) || text.parse::<f64>().is_ok();
        let last = usize::from(self.columns.label == super::LabelColumn::Auto && count > 1);
        let asked =
            self.columns.asked().any(|name| name.parse::<usize>().is_err() && fields.iter().any(|f| *f == name));
        let all_text = fields.iter().all(|field| !is_number(field));
        asked
            || all_text
            || (self.columns.asked().next().is_none() && !fields[..count - last].iter().all(|f| is_number(f)))
    }

    /// Refuses columns that were not asked for and hold no numbers: a stream of nothing but malformed records.
    fn must_be_numbers(&self, layout: &Layout) -> Result<()> {
        let features = |role: &Role| matches!(role, Role::Feature(_)) && self.columns.features.is_empty();
        for (n, _) in layout.roles.iter().enumerate().filter(|(_, role)| features(role)) {
            let text = String::from_utf8_lossy(self.text.field(n));
            if !is_missing(&text) && text.parse::<f64>().is_err() {
                let (line, name) = (self.line, layout.names[n].escape_debug());
                return self.refuse(format!(
                    "line {line}: column `{name}` holds \"{}\", expected a number: leave the column out, or name the features",
                    excerpt(text.as_bytes())
                ));
            }
        }
        Ok(())
    }
}

pub(crate) fn is_missing(text: &str) -> bool {
    MISSING.iter().any(|missing| text.eq_ignore_ascii_case(missing))
}

pub(super) fn place(record: &mut Record, layout: &Layout, role: Role, text: &str) {
    match role {
        Role::Feature(feature) => match text.parse::<f64>() {
            Ok(x) => take_number(record, layout, feature, x),
            Err(_) if is_missing(text) => take_number(record, layout, feature, f64::NAN),
            Err(_) => {
                record.faults.malformed += 1;
                note(record, layout, feature, || format!("is \"{}\", expected a number", excerpt(text.as_bytes())));
            }
        },
        Role::Label if !is_missing(text) => {
            record.has_label = true;
            record.label.clear();
            record.label.push_str(text);
        }
        Role::Id => {
            record.id.clear();
            record.id.push_str(text);
        }
        Role::Label | Role::Ignored => {}
    }
}
