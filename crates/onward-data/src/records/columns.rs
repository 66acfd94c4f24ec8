//! Which column of a record is what.

use std::collections::HashMap;

/// The columns asked for, each by its name or by its number, from 1.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// The features, in this order; empty: all columns that are nothing else.
    pub features: Vec<String>,
    /// The label.
    pub label: LabelColumn,
    /// What names a record.
    pub id: Option<String>,
    /// Columns that are left out.
    pub ignore: Vec<String>,
    /// What values of a column may be; the empty name stands for every column that has no range of its own.
    pub ranges: Vec<(String, f64, f64)>,
}

/// Where the label is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LabelColumn {
    /// Nowhere.
    #[default]
    None,
    /// In the column named `label`, `class` or `target`; in the last one, where columns have no names.
    Auto,
    /// In this column.
    Named(String),
}

/// How the refusal of records begins in which [`LabelColumn::Auto`] finds no label.
pub const NO_LABEL: &str = "no column is named `label`, `class` or `target`";

pub(super) const LABEL_NAMES: [&str; 3] = ["label", "class", "target"];

/// What a column is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    Feature(usize),
    Label,
    Id,
    Ignored,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub low: f64,
    pub high: f64,
}

/// What each column is.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// By column.
    pub roles: Vec<Role>,
    /// The columns' names, or their numbers.
    pub names: Vec<String>,
    /// Where each name is first.
    pub by_name: HashMap<String, usize>,
    /// The features' names `(F)`.
    pub features: Vec<String>,
    /// What their values may be `(F)`.
    pub ranges: Vec<Range>,
}

impl Columns {
    /// Every name or number that is asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = &str> {
        let label = match &self.label {
            LabelColumn::Named(name) => Some(name),
            LabelColumn::None | LabelColumn::Auto => None,
        };
        let ranges = self.ranges.iter().map(|(name, ..)| name).filter(|name| !name.is_empty());
        let all = self.features.iter().chain(label).chain(&self.id).chain(&self.ignore).chain(ranges);
        all.map(String::as_str)
    }

    /// Finds the columns among those that there are. `named`: whether they have names.
    ///
    /// # Errors
    /// What is asked for and is not there.
    pub(super) fn layout(&self, names: Vec<String>, named: bool) -> Result<Layout, String> {
        let mut by_name = HashMap::new();
        for (column, name) in names.iter().enumerate() {
            by_name.entry(name.clone()).or_insert(column);
        }
        let find = |wanted: &str| -> Result<usize, String> {
            let by_name = by_name.get(wanted).copied();
            let number = wanted.parse::<usize>().ok().filter(|n| (1..=names.len()).contains(n));
            by_name.or(number.map(|n| n - 1)).ok_or_else(|| match named {
                true => format!("there is no column `{wanted}`; there are {}", listed(&names)),
                false => format!("there is no column `{wanted}`; there are {}, without names", names.len()),
            })
        };
        let mut roles: Vec<Option<Role>> = vec![None; names.len()];
        let mut set = |column: usize, role: Role| match roles[column] {
            Some(_) => Err(format!("column `{}` cannot be two things", names[column])),
            None => {
                roles[column] = Some(role);
                Ok(())
            }
        };
        for name in &self.ignore {
            set(find(name)?, Role::Ignored)?;
        }
        if let Some(id) = &self.id {
            set(find(id)?, Role::Id)?;
        }
        match &self.label {
            LabelColumn::None => {}
            LabelColumn::Named(name) => set(find(name)?, Role::Label)?,
            LabelColumn::Auto if named => {
                let label = names.iter().position(|name| LABEL_NAMES.contains(&name.to_lowercase().as_str()));
                let label = label.ok_or_else(|| {
                    format!("{NO_LABEL}: say which one holds the label; there are {}", listed(&names))
                })?;
                set(label, Role::Label)?;
            }
            LabelColumn::Auto => {
                let last = names.len().checked_sub(1).ok_or("there are no columns")?;
                set(last, Role::Label)?;
            }
        }
        for (feature, name) in self.features.iter().enumerate() {
            set(find(name)?, Role::Feature(feature))?;
        }
        let mut count = self.features.len();
        if self.features.is_empty() {
            for role in roles.iter_mut().filter(|role| role.is_none()) {
                *role = Some(Role::Feature(count));
                count += 1;
            }
        }
        if count == 0 {
            return Err(format!("no columns are left for features; there are {}", listed(&names)));
        }
        let roles: Vec<Role> = roles.into_iter().map(|role| role.unwrap_or(Role::Ignored)).collect();
        let mut features = vec![String::new(); count];
        let mut ranges = vec![Range { low: f64::NEG_INFINITY, high: f64::INFINITY }; count];
        for (_, low, high) in self.ranges.iter().filter(|(name, ..)| name.is_empty()) {
            ranges.fill(Range { low: *low, high: *high });
        }
        for (column, role) in roles.iter().enumerate() {
            if let Role::Feature(feature) = role {
                features[*feature] = names[column].clone();
            }
        }
        for (name, low, high) in self.ranges.iter().filter(|(name, ..)| !name.is_empty()) {
            let Role::Feature(feature) = roles[find(name)?] else {
                return Err(format!("column `{name}` has a range, but is no feature"));
            };
            ranges[feature] = Range { low: *low, high: *high };
        }
        Ok(Layout { roles, names, by_name, features, ranges })
    }
}

/// The first few names.
fn listed(names: &[String]) -> String {
    let mut text: String =
        names.iter().take(12).map(|name| format!("`{}`", name.escape_debug())).collect::<Vec<_>>().join(", ");
    if names.len() > 12 {
        text.push_str(&format!(" and {} more", names.len() - 12));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_are_found_by_name_and_by_number() {
        let columns = Columns {
            features: names(&["hum", "1"]),
            label: LabelColumn::Named("state".into()),
            ranges: vec![("".into(), 0.0, 1.0), ("hum".into(), 0.0, 100.0)],
            ..Columns::default()
        };
        let layout = columns.layout(names(&["temp", "hum", "state", "x"]), true).unwrap();
        assert_eq!(layout.roles, [Role::Feature(1), Role::Feature(0), Role::Label, Role::Ignored]);
        assert_eq!(layout.features, ["hum", "temp"]);
        assert_eq!(layout.ranges.iter().map(|range| range.high).collect::<Vec<_>>(), [100.0, 1.0]);
    }

    #[test]
    fn what_is_left_is_a_feature() {
        let columns = Columns { label: LabelColumn::Auto, ignore: names(&["date"]), ..Columns::default() };
        let layout = columns.layout(names(&["date", "a", "Class", "b"]), true).unwrap();
        assert_eq!(layout.roles, [Role::Ignored, Role::Feature(0), Role::Label, Role::Feature(1)]);
        let layout = columns.layout(names(&["1", "2", "3"]), false);
        assert_eq!(layout.unwrap_err(), "there is no column `date`; there are 3, without names");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |columns: Columns| columns.layout(names(&["a", "b"]), true).unwrap_err();
        let auto = Columns { label: LabelColumn::Auto, ..Columns::default() };
        assert!(refused(auto).contains("say which one holds the label; there are `a`, `b`"));
        let twice = Columns { id: Some("a".into()), ignore: names(&["a"]), ..Columns::default() };
        assert_eq!(refused(twice), "column `a` cannot be two things");
        let none = Columns { ignore: names(&["a", "2"]), ..Columns::default() };
        assert!(refused(none).contains("no columns are left"));
        let far = Columns { ignore: names(&["3"]), ..Columns::default() };
        assert!(refused(far).contains("no column `3`"));
    }
}
