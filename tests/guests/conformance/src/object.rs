//! A JSON object whose values stay as they were written, until they are set.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};

pub(crate) struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    pub(crate) fn read(text: &[u8]) -> Option<Object> {
        serde_json::from_slice(text).ok()
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut text = String::from("{");
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(key).expect("a key is a string"));
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        text.into_bytes()
    }

    /// Replaces in place, or appends.
    pub(crate) fn set(&mut self, key: &str, value: &impl serde::Serialize) {
        let value = to_raw_value(value).expect("numbers and text can be written");
        match self.0.iter_mut().find(|(its, _)| its == key) {
            Some((_, place)) => *place = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    fn get<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Option<T> {
        let (_, value) = self.0.iter().rev().find(|(its, _)| its == key)?;
        serde_json::from_str(value.get()).ok()
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.get(key)
    }

    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        self.get(key)
    }

    /// A number without a fraction, however it is written.
    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        let whole = |number: &f64| number.fract() == 0.0 && number.abs() < 9e15;
        self.get(key).or_else(|| self.number(key).filter(whole).map(|number| number as i64))
    }

    pub(crate) fn inner(&self, key: &str) -> Option<Object> {
        self.get(key)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
