//! One row of JSON straight into columns, without a tree of it in between.
//!
//! A row that does not fit is noticed in the middle, when some columns already have a value of it: the caller cuts the
//! row's columns back to their earlier length. serde_json finds the structure; scalars are taken as they are written.

use std::collections::HashSet;
use std::fmt::{self, Formatter};

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::column::{Column, Data, end};
use crate::convert::{ROW_BYTES_MAX, Reason};
use crate::keys::Keys;
use crate::plan::{Node, Shape};
use crate::scalar::{Token, Unfit, push, shown};
use crate::timestamp::Formats;

/// Maps of up to so many keys are searched for repeated ones without a table.
const FEW_KEYS: usize = 8;

/// What is kept from row to row, and what is known of the one at hand.
pub(crate) struct State<'f> {
    formats: &'f Formats,
    scratch: String,
    /// Bytes that the row takes in memory.
    spent: u64,
    reason: Option<Reason>,
}

impl<'f> State<'f> {
    pub(crate) fn new(formats: &'f Formats) -> State<'f> {
        State { formats, scratch: String::new(), spent: 0, reason: None }
    }

    fn spend<E: Error>(&mut self, bytes: u64) -> Result<(), E> {
        self.spent += bytes;
        if self.spent > ROW_BYTES_MAX {
            return Err(self.refuse(Reason::TooLarge));
        }
        Ok(())
    }

    /// Keeps the reason; the error only carries the way out.
    fn refuse<E: Error>(&mut self, reason: Reason) -> E {
        self.reason = Some(reason);
        E::custom("refused")
    }

    fn unfit<E: Error>(&mut self, node: &Node, found: impl Into<String>) -> E {
        self.refuse(Reason::Unfit {
            field: node.path.clone(),
            expected: node.expected.clone(),
            found: found.into(),
        })
    }
}

/// Appends a row to the columns; the bytes that it takes there. A row that is refused leaves no trace.
pub(crate) fn append(
    root: &Node,
    columns: &mut Column,
    state: &mut State<'_>,
    row: &[u8],
) -> Result<u64, Reason> {
    if row.len() as u64 > ROW_BYTES_MAX {
        return Err(Reason::TooLarge);
    }
    let before = columns.len();
    (state.spent, state.reason) = (root.width, None);
    let mut json = serde_json::Deserializer::from_slice(row);
    let read = Place { node: root, column: columns, state }.deserialize(&mut json).and_then(|()| json.end());
    read.map(|()| state.spent).map_err(|error| {
        columns.truncate(before);
        state.reason.take().unwrap_or_else(|| Reason::NotJson(error.to_string()))
    })
}

/// Where the value that comes next goes.
struct Place<'a, 'f> {
    node: &'a Node,
    column: &'a mut Column,
    state: &'a mut State<'f>,
}

impl Place<'_, '_> {
    fn scalar<E: Error>(self, json: &str) -> Result<(), E> {
        let Place { node, column, state } = self;
        let Shape::Scalar(scalar) = node.shape else { return Err(state.unfit(node, shown(json))) };
        let token = Token::of(json);
        if matches!(token, Token::Null) && !node.required {
            column.push_null();
            return Ok(());
        }
        match push(column, scalar, token, state.formats) {
            Ok(bytes) => state.spend(bytes),
            Err(Unfit::Value) => Err(state.unfit(node, shown(json))),
            Err(Unfit::Json(error)) => Err(state.refuse(Reason::NotJson(error.to_string()))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.node.shape {
            Shape::Scalar(_) => {
                let json: &RawValue = serde::Deserialize::deserialize(deserializer)?;
                self.scalar(json.get())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Place<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node.expected)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.node.required {
            return Err(self.state.unfit(self.node, "null"));
        }
        self.column.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, found: bool) -> Result<(), E> {
        Err(self.state.unfit(self.node, found.to_string()))
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<(), E> {
        Err(self.state.unfit(self.node, found.to_string()))
    }

    fn visit_u64<E: Error>(self, found: u64) -> Result<(), E> {
        Err(self.state.unfit(self.node, found.to_string()))
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<(), E> {
        Err(self.state.unfit(self.node, found.to_string()))
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<(), E> {
        Err(self.state.unfit(self.node, shown(&format!("{found:?}"))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Place { node, column, state } = self;
        let (Shape::List(element), Data::List(ends, elements)) = (&node.shape, &mut column.data) else {
            return Err(state.unfit(node, "an array"));
        };
        while array.next_element_seed(Place { node: element, column: elements, state })?.is_some() {
            state.spend(element.width)?;
        }
        ends.push(end(elements.len()));
        column.mark();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Place { node, column, state } = self;
        let before = column.len();
        match (&node.shape, &mut column.data) {
            (Shape::Struct(keys, nodes), Data::Struct(columns)) => {
                members(keys, nodes, columns, before, state, &mut object)?;
            }
            (Shape::Map(of), Data::Map(ends, keys, values)) => {
                let first = keys.len();
                while let Some(bytes) = object.next_key_seed(MapKey(keys))? {
                    state.spend(4 + bytes + of.width)?;
                    object.next_value_seed(Place { node: of, column: values, state })?;
                }
                if let Some(key) = repeated(keys, first) {
                    return Err(state.unfit(node, format!("the key {} twice", shown(&format!("{key:?}")))));
                }
                ends.push(end(keys.len()));
            }
            _ => return Err(state.unfit(node, "an object")),
        }
        column.mark();
        Ok(())
    }
}

/// Fields of an object, then those that it does not have.
fn members<'de, A: MapAccess<'de>>(
    keys: &Keys,
    nodes: &[Node],
    columns: &mut [Column],
    before: usize,
    state: &mut State<'_>,
    object: &mut A,
) -> Result<(), A::Error> {
    let mut guess = 0;
    while let Some(found) = object.next_key_seed(FieldKey { keys, guess, scratch: &mut state.scratch })? {
        let place = found.and_then(|index| Some((index, nodes.get(index)?, columns.get_mut(index)?)));
        let Some((index, node, column)) = place else {
            object.next_value::<IgnoredAny>()?;
            continue;
        };
        if column.len() > before {
            column.truncate(before);
        }
        object.next_value_seed(Place { node, column, state })?;
        guess = index + 1;
    }
    for (node, column) in nodes.iter().zip(columns) {
        if column.len() > before {
            continue;
        }
        if node.required {
            return Err(state.unfit(node, "nothing"));
        }
        column.push_null();
    }
    Ok(())
}

/// Which field a key fills.
struct FieldKey<'a> {
    keys: &'a Keys,
    guess: usize,
    scratch: &'a mut String,
}

impl<'de> DeserializeSeed<'de> for FieldKey<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldKey<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.keys.find(key, self.guess, self.scratch))
    }
}

/// Appends a key of a map; its bytes.
struct MapKey<'a>(&'a mut Column);

impl<'de> DeserializeSeed<'de> for MapKey<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MapKey<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<u64, E> {
        self.0.push_bytes(key.as_bytes());
        Ok(key.len() as u64)
    }
}

/// A key that is there twice from value `first` on.
fn repeated(keys: &Column, first: usize) -> Option<String> {
    let count = keys.len() - first;
    let key = |index: usize| keys.bytes(first + index);
    let at = if count <= FEW_KEYS {
        (1..count).find(|later| (0..*later).any(|earlier| key(earlier) == key(*later)))
    } else {
        let mut seen = HashSet::with_capacity(count);
        (0..count).find(|index| !seen.insert(key(*index)))
    };
    at.map(|index| String::from_utf8_lossy(key(index)).into_owned())
}
