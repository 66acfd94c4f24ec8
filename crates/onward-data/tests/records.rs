//! Records as they come: whole, in pieces, late, broken and hostile.

use onward_data::records::{Columns, Faults, Format, LabelColumn, Next, Record, Records};
use proptest::prelude::*;
use std::io::{ErrorKind, Read};

const CSV: Format = Format::Csv(b',');

/// Input in pieces: bytes, or an error.
struct Pieces(std::collections::VecDeque<Result<Vec<u8>, ErrorKind>>);

impl Pieces {
    fn new<const N: usize>(pieces: [Result<&[u8], ErrorKind>; N]) -> Self {
        Pieces(pieces.into_iter().map(|piece| piece.map(<[u8]>::to_vec)).collect())
    }
}

impl Read for Pieces {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        match self.0.pop_front() {
            None => Ok(0),
            Some(Err(kind)) => Err(kind.into()),
            Some(Ok(mut bytes)) => {
                let take = bytes.len().min(to.len());
                to[..take].copy_from_slice(&bytes[..take]);
                bytes.drain(..take);
                if !bytes.is_empty() {
                    self.0.push_front(Ok(bytes));
                }
                Ok(take)
            }
        }
    }
}

/// What a stream comes to: `values label`, what was skipped, and the error that ended it, if one did.
fn all(format: Format, columns: &Columns, input: impl Read) -> Vec<String> {
    let mut records = Records::new("stream", input, format, columns.clone());
    let (mut record, mut lines) = (Record::default(), Vec::new());
    loop {
        match records.next(&mut record) {
            Ok(Next::Record) => {
                let values: Vec<String> = record.values.iter().map(f32::to_string).collect();
                let label = if record.has_label { format!(" {}", record.label) } else { String::new() };
                let id = if record.id.is_empty() { String::new() } else { format!(" #{}", record.id) };
                lines.push(format!("{}{label}{id}", values.join(" ")));
            }
            Ok(Next::Skipped(problem)) => lines.push(format!("skipped: {problem}")),
            Ok(Next::Stalled) => lines.push("stalled".into()),
            Ok(Next::End) => return lines,
            Err(error) => {
                lines.push(format!("error: {error}"));
                return lines;
            }
        }
    }
}

fn auto() -> Columns {
    Columns { label: LabelColumn::Auto, ..Columns::default() }
}

fn named(label: &str, features: &[&str]) -> Columns {
    Columns {
        label: LabelColumn::Named(label.into()),
        features: features.iter().map(ToString::to_string).collect(),
        ..Columns::default()
    }
}

#[test]
fn csv_as_people_write_it() {
    let cases: [(&str, Columns, &[&str]); 12] = [
        ("a,b,class\n1,2,up\n3,4,down\n", auto(), &["1 2 up", "3 4 down"]),
        ("1,2,up\r\n3,4,down", auto(), &["1 2 up", "3 4 down"]),
        ("1,2\n\n  \n3,4\n", Columns::default(), &["1 2", "3 4"]),
        ("\u{feff}a,b\n1,2\n", named("b", &[]), &["1 2"]),
        ("a,b,c\n1,\"2\",\"say \"\"hi\"\", you\"\n", named("c", &["b", "a"]), &["2 1 say \"hi\", you"]),
        // As R writes it: no name for the rows' names.
        (
            "\"date\",\"t\",\"class\"\n\"1\",2015-02-04,23.5,0\n\"2\",2015-02-05,24,1\n",
            Columns { ignore: vec!["date".into()], ..auto() },
            &["23.5 0", "24 1"],
        ),
        // Another file comes after the first.
        ("a,b\n1,2\na,b\n3,4\n", Columns::default(), &["1 2", "3 4"]),
        // A label that comes late, and one that never comes.
        ("a,class\n1,\n2,NA\n3,x\n", auto(), &["1", "2", "3 x"]),
        ("id,a,class\ns1,1,up\n", Columns { id: Some("id".into()), ..auto() }, &["1 up #s1"]),
        ("1,2,3,x\n", named("4", &["3", "1"]), &["3 1 x"]),
        (
            "a,b\n1,2,3,4\n5,6\n",
            Columns::default(),
            &["skipped: line 2: found 4 fields, expected 2: \"1,2,3,4\"", "5 6"],
        ),
        ("", auto(), &[]),
    ];
    for (text, columns, expected) in cases {
        assert_eq!(all(CSV, &columns, text.as_bytes()), expected, "{text:?}");
    }
    assert_eq!(all(Format::Csv(b';'), &auto(), &b"1;2;up\n"[..]), ["1 2 up"]);
}

#[test]
fn fields_that_are_no_numbers_are_counted_and_said() {
    let columns = Columns { ranges: vec![("t".into(), -40.0, 85.0)], ..auto() };
    let text = "t,u,class\n20,5,a\nabc,5,a\n,?,a\n99,inf,a\n1e39,nan,a\n-40,85,a\n";
    let mut records = Records::new("stream", text.as_bytes(), CSV, columns);
    let mut record = Record::default();
    let mut found = Vec::new();
    while records.next(&mut record).unwrap() == Next::Record {
        let Faults { missing, malformed, out_of_range } = record.faults;
        assert_eq!(record.values.iter().filter(|x| x.is_nan()).count() as u32, record.faults.total());
        found.push((missing, malformed, out_of_range, record.problem.clone()));
    }
    assert_eq!(records.features(), ["t", "u"]);
    let expected = [
        (0, 0, 0, ""),
        (0, 1, 0, "line 3: t is \"abc\", expected a number"),
        (2, 0, 0, "line 4: t is missing"),
        (0, 0, 2, "line 5: t is 99, expected -40 to 85"),
        (1, 0, 1, "line 6: t is 1000000000000000000000000000000000000000, expected -40 to 85"),
        (0, 0, 0, ""),
    ];
    assert_eq!(found, expected.map(|(a, b, c, text)| (a, b, c, text.to_owned())));
}

#[test]
fn columns_that_cannot_be_are_refused_at_once() {
    let refused = |text: &str, columns: Columns| all(CSV, &columns, text.as_bytes()).join("|");
    assert_eq!(
        refused("date,a\n2015-02-04,1\n", Columns::default()),
        "error: stream: line 2: column `date` holds \"2015-02-04\", expected a number: leave the column out, or name the features"
    );
    assert!(refused("a,b\n1,2\n", auto()).contains("say which one holds the label; there are `a`, `b`"));
    assert!(refused("a,b\n1,2\n", named("c", &[])).contains("there is no column `c`"));
    assert!(refused("a\n1\n", named("a", &[])).contains("no columns are left"));
    assert!(refused("1,2\n", named("3", &[])).contains("there are 2, without names"));
}

#[test]
fn json_lines_as_programs_write_them() {
    let cases: [(&str, Columns, &[&str]); 10] = [
        (r#"{"t": 1.5, "u": -2, "label": "up", "note": "x"}"#, auto(), &["1.5 -2 up"]),
        ("{\"t\":1,\"u\":2}\n{\"u\":4,\"t\":3,\"label\":true}\n", auto(), &["1 2", "3 4 true"]),
        ("[1,2,\"up\"]\n[3,4,null]\n[5,6,7]\n", auto(), &["1 2 up", "3 4", "5 6 7"]),
        ("{\"a\":1,\"b\":\"2.5\"}\n{\"a\":true,\"b\":null}\n", named("c", &["a", "b"]), &["1 2.5", "1 NaN"]),
        (
            "{\"a\":1}\n{\"b\":1}\n{\"a\":[1,[2]]}\n{\"a\":{\"x\":{}}}\n",
            Columns::default(),
            &["1", "NaN", "NaN", "NaN"],
        ),
        (
            "{\"a\":1}\n{\"a\":1\n[]\n7\n{\"a\":2} x\n{\"a\":3}\n",
            Columns::default(),
            &[
                "1",
                "skipped: line 2: EOF while parsing an object: \"{\\\"a\\\":1\"",
                "skipped: line 3: found 0 fields, expected 1: \"[]\"",
                "skipped: line 4: invalid type: integer `7`, expected an object or an array: \"7\"",
                "skipped: line 5: trailing characters: \"{\\\"a\\\":2} x\"",
                "3",
            ],
        ),
        ("{\"a\":1}\n[1,2]\n", Columns::default(), &["1", "skipped: line 2: found more than 1 fields: \"[1,2]\""]),
        (
            "{\"id\":7,\"a\":1}\n{\"id\":7,\"label\":\"late\"}\n",
            Columns { id: Some("id".into()), ..auto() },
            &["1 #7", "NaN late #7"],
        ),
        ("{\"a\":1}\n{\"a\":2,\"a\":\"x\",\"a\":\"y\"}\n", Columns::default(), &["1", "2"]),
        (
            "\"text\"\n{\"a\":1}\n",
            Columns::default(),
            &["skipped: line 1: found neither an object nor an array: \"\\\"text\\\"\"", "1"],
        ),
    ];
    for (text, columns, expected) in cases {
        assert_eq!(all(Format::Json, &columns, text.as_bytes()), expected, "{text:?}");
    }
    let deep = format!("{{\"a\":1}}\n{{\"a\":{}1}}\n{{\"a\":2}}\n", "[".repeat(100_000));
    let lines = all(Format::Json, &Columns::default(), deep.as_bytes());
    assert!(lines[1].starts_with("skipped: line 2: ") && lines[2] == "2", "{lines:?}");
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn arrays_one_after_another() {
    let two = npy("<f4", "2, 3", &floats(&[1.0, 2.0, 0.0, 3.0, f32::NAN, 1.0]));
    let one = npy("|u1", "3,", &[7, 8, 1]);
    let cube = npy("<i2", "1, 1, 3", &[1, 0, 255, 255, 0, 0]);
    let columns = named("3", &[]);
    assert_eq!(
        all(Format::Npy, &columns, &[&two[..], &one, &cube].concat()[..]),
        ["1 2 0", "3 NaN 1", "7 8 1", "1 -1 0"]
    );
    let cases: [(Vec<u8>, &str); 9] = [
        (two[..two.len() - 2].to_vec(), "1 2 0|skipped: a record is cut short: found 10 of its 12 bytes"),
        (two[..two.len() - 12].to_vec(), "1 2 0|skipped: an array is cut short: 1 of its records are not there"),
        (two[..20].to_vec(), "skipped: an array is cut short in its header"),
        ([&two[..], &npy("|u1", "2,", &[1, 2])].concat(), "1 2 0|3 NaN 1|skipped: frame 3: found 2 values, expected 3"),
        (
            b"1,2,3,4,5\n".to_vec(),
            "error: stream: after record 0: its first bytes are [31, 2c, 32, 2c, 33, 2c, 34, 2c]: not in NPY format",
        ),
        (npy(">f4", "3,", &[0; 12]), "error: stream: its elements are big-endian (>f4); save it with astype('f4')"),
        (
            npy("<f4", "2, 99999999999999", &[0; 12]),
            "error: stream: its records have 99999999999999 values, expected 1 to 262144",
        ),
        (npy("<f4", "2, 99999999999999, 99999999999999", &[0; 12]), "too large"),
        (npy("<f4", "5, 0", &[]), "error: stream: its records have 0 values"),
    ];
    for (bytes, expected) in cases {
        let found = all(Format::Npy, &columns, &bytes[..]).join("|");
        assert!(found.contains(expected), "{found}");
    }
    assert_eq!(all(Format::Npy, &Columns::default(), &npy("<f8", "0, 3", &[])[..]), [""; 0]);
}

#[test]
fn raw_numbers() {
    let bytes = floats(&[1.0, 2.0, 5.0, 3.0, f32::INFINITY, f32::NAN]);
    assert_eq!(all(Format::Raw(3), &named("3", &[]), &bytes[..]), ["1 2 5", "3 NaN"]);
    assert_eq!(
        all(Format::Raw(3), &Columns::default(), &bytes[..15]),
        ["1 2 5", "skipped: a record is cut short: found 3 of its 12 bytes"]
    );
    assert!(all(Format::Raw(0), &Columns::default(), &bytes[..])[0].starts_with("error"));
    assert!(all(Format::Raw(1 << 30), &Columns::default(), &bytes[..])[0].starts_with("error"));
}

#[test]
fn a_line_without_end_is_not_kept() {
    let endless = b"1,2\n".chain(std::io::repeat(b'7').take(50 << 20)).chain(&b"\n3,4\n"[..]);
    assert_eq!(all(CSV, &Columns::default(), endless), ["1 2", "skipped: line 2: longer than 1048576 bytes", "3 4"]);
    let cut = b"1,2\n".chain(std::io::repeat(b'"').take(3 << 20));
    assert_eq!(all(CSV, &Columns::default(), cut), ["1 2", "skipped: line 2: longer than 1048576 bytes"]);
    let quote = "1,2\n\"3,4\n5,6\n".as_bytes();
    assert_eq!(
        all(CSV, &Columns::default(), quote),
        ["1 2", "skipped: line 2: a quote is not closed: \"\\\"3,4\"", "5 6"]
    );
    assert_eq!(all(CSV, &Columns::default(), &b"1,2\n\xff\xfe,3\n"[..]), ["1 2", "NaN 3"]);
}

#[test]
fn stalls_and_senders_that_leave_lose_nothing() {
    use ErrorKind::{Interrupted, TimedOut, UnexpectedEof};
    let pieces = [
        Ok(&b"a,b\n1,"[..]),
        Err(TimedOut),
        Ok(b"2\n3,4"),
        Err(UnexpectedEof),
        Ok(b"a,b\n5,6"),
        Err(Interrupted),
        Ok(b"7\n"),
    ];
    assert_eq!(all(CSV, &Columns::default(), Pieces::new(pieces)), ["stalled", "1 2", "3 4", "5 67"]);
    let (first, second) = (floats(&[1.0, 2.0]), floats(&[3.0, 4.0]));
    let pieces = [
        Ok(&first[..5]),
        Err(TimedOut),
        Ok(&first[5..]),
        Err(UnexpectedEof),
        Ok(&second[..3]),
        Err(UnexpectedEof),
        Ok(&second),
    ];
    assert_eq!(
        all(Format::Raw(2), &Columns::default(), Pieces::new(pieces)),
        ["stalled", "1 2", "skipped: a record is cut short: found 3 of its 8 bytes", "3 4"]
    );
    let array = npy("<f4", "2, 2", &floats(&[1.0, 2.0, 3.0, 4.0]));
    let pieces = [
        Ok(&array[..9]),
        Err(TimedOut),
        Ok(&array[9..30]),
        Err(TimedOut),
        Ok(&array[30..]),
        Err(UnexpectedEof),
        Ok(&array[..]),
    ];
    assert_eq!(
        all(Format::Npy, &Columns::default(), Pieces::new(pieces)),
        ["stalled", "stalled", "1 2", "3 4", "1 2", "3 4"]
    );
    let pieces = [Ok(&b"1,2\n"[..]), Err(ErrorKind::PermissionDenied)];
    assert!(all(CSV, &Columns::default(), Pieces::new(pieces))[1].starts_with("error: stream: it could not be read"));
}

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![Just(CSV), Just(Format::Json), Just(Format::Npy), (1usize..5).prop_map(Format::Raw)]
}

/// Bytes that look like something.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let array = npy("<f4", "2, 2", &floats(&[1.0, 2.0, 3.0, 4.0]));
    let words: Vec<Vec<u8>> = [
        "1",
        ",",
        "\n",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ":",
        "\"a\":",
        "{\"a\":1}\n",
        "nan",
        "1e999",
        "a,b\n",
        "1,2\n",
        "\\u0000",
        "\r\n",
        "-",
        "label",
    ]
    .map(|word| word.as_bytes().to_vec())
    .into_iter()
    .chain([array.clone(), array[..9].to_vec(), array[..70].to_vec(), vec![0xff, 0xfe], vec![0xef, 0xbb, 0xbf]])
    .collect();
    let word = prop_oneof![4 => proptest::sample::select(words), 1 => proptest::collection::vec(any::<u8>(), 1..9)];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Nothing panics or hangs, and where the input is cut into pieces makes no difference.
    #[test]
    fn whatever_comes(format in formats(), bytes in hostile(), cuts in proptest::collection::vec(0usize..400, 0..6), auto_label: bool) {
        let columns = if auto_label { auto() } else { Columns::default() };
        let whole = all(format, &columns, &bytes[..]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).filter(|cut| cut[0] < cut[1]).map(|cut| bytes[cut[0]..cut[1]].to_vec());
        let pieces = Pieces(pieces.flat_map(|piece| [Err(ErrorKind::TimedOut), Ok(piece)]).collect());
        let parts: Vec<String> = all(format, &columns, pieces).into_iter().filter(|line| line != "stalled").collect();
        prop_assert_eq!(whole, parts);
    }
}
