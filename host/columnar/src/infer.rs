//! A schema of a sample of rows.

use std::collections::HashMap;
use std::fmt::{self, Formatter};

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::keys::Rules;
use crate::options::Names;
use crate::schema::{Field, NAME_BYTES_MAX, Schema, SchemaError, Type};

/// What is nested deeper is text.
const INFERRED_DEPTH_MAX: usize = 16;

/// What was seen in one place.
#[derive(Debug)]
enum Seen {
    Null,
    Boolean,
    Integer,
    Number,
    /// Text, or things of different kinds.
    Text,
    List(Box<Seen>),
    Object(Object),
}

/// Fields in the order in which they first came.
#[derive(Debug, Default)]
struct Object {
    fields: Vec<(String, Seen)>,
    index: HashMap<String, usize>,
}

impl Schema {
    /// The schema that takes every row of a sample, nothing in it required.
    ///
    /// What differs from row to row is widened: whole numbers and others to `double`; objects to one that has the
    /// fields of all; arrays by their elements; anything else that differs to `string`, which takes any value as its
    /// JSON text. Whole numbers are `int64`, beyond its range `double`. `null` fits all; what was never anything else, an
    /// empty array's elements, an object without fields, and what is nested deeper than 16 levels are `string`.
    /// Text is `string`, also if it looks like a time: what one sample shows the next row need not keep. An object is
    /// always a `struct`. Columns come in the order of their first row and are named by the rules of `names`: in
    /// lower case, with underscores, by the key that stands for a column. Rows that are no JSON objects, and keys that
    /// are empty or too long for a name, are passed over.
    ///
    /// The sample's size bounds the memory. Pin the result by its text. It is refused where no row has a field or
    /// where there are too many.
    pub fn infer<R: AsRef<[u8]>>(
        rows: impl IntoIterator<Item = R>,
        names: &Names,
    ) -> Result<Schema, SchemaError> {
        let mut all = Object::default();
        for row in rows {
            let mut json = serde_json::Deserializer::from_slice(row.as_ref());
            let seen = Look { depth: 0, names }.deserialize(&mut json);
            if let (Ok(Seen::Object(object)), Ok(())) = (seen, json.end()) {
                all.widen(object);
            }
        }
        if all.fields.is_empty() {
            return Err(SchemaError::Empty);
        }
        Schema::new(all.fields())
    }
}

impl Object {
    fn add(&mut self, name: String, seen: Seen) {
        match self.index.get(&name).and_then(|index| self.fields.get_mut(*index)) {
            Some((_, known)) => known.widen(seen),
            None => {
                self.index.insert(name.clone(), self.fields.len());
                self.fields.push((name, seen));
            }
        }
    }

    fn widen(&mut self, other: Object) {
        other.fields.into_iter().for_each(|(name, seen)| self.add(name, seen));
    }

    fn fields(self) -> Vec<Field> {
        self.fields.into_iter().map(|(name, seen)| Field::new(name, seen.kind())).collect()
    }
}

impl Seen {
    fn widen(&mut self, other: Seen) {
        *self = match (std::mem::replace(self, Seen::Null), other) {
            (Seen::Null, seen) | (seen, Seen::Null) => seen,
            (Seen::Boolean, Seen::Boolean) => Seen::Boolean,
            (Seen::Integer, Seen::Integer) => Seen::Integer,
            (Seen::Integer | Seen::Number, Seen::Integer | Seen::Number) => Seen::Number,
            (Seen::List(mut one), Seen::List(other)) => {
                one.widen(*other);
                Seen::List(one)
            }
            (Seen::Object(mut one), Seen::Object(other)) => {
                one.widen(other);
                Seen::Object(one)
            }
            _ => Seen::Text,
        };
    }

    fn kind(self) -> Type {
        match self {
            Seen::Boolean => Type::Boolean,
            Seen::Integer => Type::Int64,
            Seen::Number => Type::Double,
            Seen::List(element) => Type::list(Field::new("", element.kind())),
            Seen::Object(object) if !object.fields.is_empty() => Type::Struct(object.fields()),
            Seen::Null | Seen::Text | Seen::Object(_) => Type::String,
        }
    }
}

/// Looks at the value that comes next.
#[derive(Clone, Copy)]
struct Look<'a> {
    depth: usize,
    names: &'a Names,
}

impl Look<'_> {
    fn inside(self) -> Self {
        Look { depth: self.depth + 1, ..self }
    }

    /// The field that a key fills.
    fn field(self, key: String) -> String {
        let rules = Rules::of(self.names);
        let mut scratch = String::new();
        let name = rules.apply(&key, &mut scratch).to_owned();
        let own = self.names.keys.iter().filter(|_| self.depth == 0);
        let mut own = own.filter(|(_, spelled)| rules.apply(spelled, &mut scratch) == name);
        own.next().map_or(name, |(column, _)| column.clone())
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Seen, E> {
        Ok(Seen::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::Boolean)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Integer)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Seen, E> {
        Ok(if i64::try_from(number).is_ok() { Seen::Integer } else { Seen::Number })
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Number)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Seen, E> {
        Ok(Seen::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Seen, A::Error> {
        let mut all = Seen::Null;
        while let Some(element) = array.next_element_seed(self.inside())? {
            all.widen(element);
        }
        Ok(if self.depth >= INFERRED_DEPTH_MAX { Seen::Text } else { Seen::List(Box::new(all)) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Seen, A::Error> {
        let mut object = Object::default();
        while let Some(key) = members.next_key::<String>()? {
            let seen = members.next_value_seed(self.inside())?;
            let name = self.field(key);
            if !name.is_empty() && name.len() <= NAME_BYTES_MAX {
                object.add(name, seen);
            }
        }
        Ok(if self.depth >= INFERRED_DEPTH_MAX { Seen::Text } else { Seen::Object(object) })
    }
}
