//! The transform's config, with the order of assignments and renames kept.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// Assignments and the like of one transform.
const ENTRIES_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// `name = expression`, from first to last.
    #[serde(default)]
    pub(crate) set: Assignments,
    /// Old name to new name.
    #[serde(default)]
    pub(crate) rename: Pairs,
    #[serde(default)]
    pub(crate) remove: Vec<String>,
    pub(crate) select: Option<Vec<String>>,
}

/// `"a = 1"`, `["a = 1", "b = a + 1"]` or `{"a": "1", "b": "a + 1"}`.
#[derive(Debug, Default)]
pub(crate) struct Assignments(pub(crate) Vec<String>);

/// `{"old": "new"}` in the order in which it was written.
#[derive(Debug, Default)]
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

fn pairs<'de, A: MapAccess<'de>>(mut map: A) -> Result<Vec<(String, String)>, A::Error> {
    let mut pairs = Vec::new();
    while let Some(pair) = map.next_entry()? {
        pairs.push(pair);
        if pairs.len() > ENTRIES_MAX {
            return Err(serde::de::Error::custom(format!("more than {ENTRIES_MAX} entries")));
        }
    }
    Ok(pairs)
}

struct AssignmentsVisitor;

impl<'de> Visitor<'de> for AssignmentsVisitor {
    type Value = Assignments;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`name = expression`, a list of them, or a table of names and expressions")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Assignments, E> {
        Ok(Assignments(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Assignments, A::Error> {
        let mut assignments = Vec::new();
        while let Some(assignment) = list.next_element()? {
            assignments.push(assignment);
            if assignments.len() > ENTRIES_MAX {
                return Err(serde::de::Error::custom(format!("more than {ENTRIES_MAX} entries")));
            }
        }
        Ok(Assignments(assignments))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Assignments, A::Error> {
        let joined = pairs(map)?.into_iter().map(|(name, expression)| format!("{name} = {expression}"));
        Ok(Assignments(joined.collect()))
    }
}

impl<'de> Deserialize<'de> for Assignments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AssignmentsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table of old and new names")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pairs, A::Error> {
        pairs(map).map(Pairs)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}
