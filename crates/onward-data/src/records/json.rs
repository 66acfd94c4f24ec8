//! Records in lines of JSON: an object, or an array.

use super::columns::{LABEL_NAMES, LabelColumn, Layout, Role};
use super::text::place;
use super::{Next, Record, Records, excerpt, note, take_number};
use crate::error::Result;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Read;

impl<R: Read> Records<R> {
    pub(super) fn json(&mut self, text: &[u8], record: &mut Record) -> Result<Next> {
        let skipped =
            |line: u64, error: String| Ok(Next::Skipped(format!("line {line}: {error}: \"{}\"", excerpt(text))));
        if self.layout.is_none() {
            let first: serde_json::Value = match serde_json::from_slice(text) {
                Ok(first) => first,
                Err(error) => return skipped(self.line, json_problem(&error)),
            };
            let (names, named) = match &first {
                serde_json::Value::Object(fields) => (self.keys(text, fields), true),
                serde_json::Value::Array(fields) => ((1..=fields.len()).map(|n| n.to_string()).collect(), false),
                _ => return skipped(self.line, "found neither an object nor an array".into()),
            };
            self.layout = Some(self.columns.layout(names, named).or_else(|problem| self.refuse(problem))?);
        }
        let Some(layout) = &self.layout else { unreachable!("it was found above") };
        record.clear(self.line, layout.features.len());
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let read = Fields { record, layout }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        if let Err(error) = read {
            return skipped(self.line, json_problem(&error));
        }
        let bad = record.values.iter().filter(|x| x.is_nan()).count() as u32;
        let absent = bad.saturating_sub(record.faults.total());
        if absent > 0 {
            record.faults.missing += absent;
            let feature = record.values.iter().position(|x| x.is_nan()).unwrap_or(0);
            note(record, layout, feature, || "is missing".into());
        }
        Ok(Next::Record)
    }

    /// The keys of an object that are columns, in the order in which they stand: those with numbers, those that are asked for,
    /// whether they are there or not (a label may come late), and the label.
    fn keys(&self, text: &[u8], fields: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
        let is_label =
            |name: &str| self.columns.label == LabelColumn::Auto && LABEL_NAMES.contains(&name.to_lowercase().as_str());
        let mut names = in_order(text);
        names.retain(|name| fields.get(name).is_some_and(serde_json::Value::is_number) || is_label(name));
        if self.columns.label == LabelColumn::Auto && !names.iter().any(|name| is_label(name)) {
            names.push("label".into());
        }
        for asked in self.columns.asked().filter(|asked| asked.parse::<usize>().is_err()) {
            if !names.iter().any(|name| name == asked) {
                names.push(asked.to_owned());
            }
        }
        names
    }
}

/// A JSON error without its position, which is of no use within a line.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// The keys of an object, in the order in which they stand.
fn in_order(text: &[u8]) -> Vec<String> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
            let (mut keys, mut seen) = (Vec::new(), HashSet::new());
            while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if seen.insert(key.clone()) {
                    keys.push(key);
                }
            }
            Ok(keys)
        }
    }
    serde_json::Deserializer::from_slice(text).deserialize_map(Keys).unwrap_or_default()
}

/// Reads an object or an array into a record.
struct Fields<'a> {
    record: &'a mut Record,
    layout: &'a Layout,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Keys mostly come in the same order.
        let (names, mut expected) = (&self.layout.names, 0);
        while let Some(Key(key)) = map.next_key()? {
            let here = names.get(expected).is_some_and(|name| *name == key);
            let column = if here { Some(expected) } else { self.layout.by_name.get(&*key).copied() };
            match column.map(|column| (column, self.layout.roles[column])) {
                Some((column, role)) => {
                    expected = column + 1;
                    map.next_value_seed(Field { record: &mut *self.record, layout: self.layout, role })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let expected = self.layout.roles.len();
        for (n, role) in self.layout.roles.iter().enumerate() {
            let field = Field { record: &mut *self.record, layout: self.layout, role: *role };
            if fields.next_element_seed(field)?.is_none() {
                return Err(A::Error::custom(format!("found {n} fields, expected {expected}")));
            }
        }
        match fields.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom(format!("found more than {expected} fields"))),
            None => Ok(()),
        }
    }
}

/// A key, borrowed where it can be.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Reads one value into its place.
struct Field<'a> {
    record: &'a mut Record,
    layout: &'a Layout,
    role: Role,
}

impl Field<'_> {
    fn number(self, x: f64) {
        use std::fmt::Write;
        match self.role {
            Role::Feature(feature) => take_number(self.record, self.layout, feature, x),
            Role::Label => {
                self.record.has_label = true;
                self.record.label.clear();
                let _ = write!(self.record.label, "{x}");
            }
            Role::Id => {
                self.record.id.clear();
                let _ = write!(self.record.id, "{x}");
            }
            Role::Ignored => {}
        }
    }
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E>(self, x: f64) -> Result<(), E> {
        self.number(x);
        Ok(())
    }

    fn visit_i64<E>(self, x: i64) -> Result<(), E> {
        self.number(x as f64);
        Ok(())
    }

    fn visit_u64<E>(self, x: u64) -> Result<(), E> {
        self.number(x as f64);
        Ok(())
    }

    fn visit_bool<E>(self, x: bool) -> Result<(), E> {
        match self.role {
            Role::Feature(_) => self.number(f64::from(u8::from(x))),
            role => place(self.record, self.layout, role, if x { "true" } else { "false" }),
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        if let Role::Feature(_) = self.role {
            self.number(f64::NAN);
        }
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        place(self.record, self.layout, self.role, text.trim());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while fields.next_element::<IgnoredAny>()?.is_some() {}
        place(self.record, self.layout, self.role, "[…]");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        place(self.record, self.layout, self.role, "{…}");
        Ok(())
    }
}
