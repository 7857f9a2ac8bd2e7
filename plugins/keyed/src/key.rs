//! Keys made of a record's fields, as bytes that can be taken apart again.
//!
//! For each field a tag (0 missing, 1 null, 2 JSON text, 3 unescaped text), and for the last two a length of two
//! bytes (little-endian) and the bytes. Texts are compared unescaped, everything else by its JSON text: `1` and `1.0`
//! are two keys. Keys longer than [`KEY_BYTES`] are refused.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use wasmill_sdk::path::Path;
use wasmill_sdk::{Cell, Chunk, Field, Setup, Text, TextColumn};

/// Most bytes of a key.
pub const KEY_BYTES: usize = 1024;
/// Most fields of a key.
pub const FIELDS_MAX: usize = 16;

/// What one field gave to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The record did not have the field.
    Missing,
    /// It was null.
    Null,
    /// Its JSON text: a number, a boolean, an array or an object.
    Json(&'a [u8]),
    /// Its text, unescaped.
    Text(&'a [u8]),
}

/// The fields that make up a key.
#[derive(Debug, Default)]
pub struct By {
    fields: Vec<(Field, Vec<String>)>,
}

/// The keys of a chunk, each once.
#[derive(Debug, Default)]
pub struct Keys {
    /// The different keys, in the order in which they were met.
    pub keys: Vec<Vec<u8>>,
    /// The group of each of them.
    pub groups: Vec<u8>,
    /// The key of each row by its number, or why it has none.
    pub of_row: Vec<Result<u32, &'static str>>,
}

impl By {
    /// Declares the fields.
    pub fn new(paths: &[Path], setup: &mut Setup) -> Result<Self, String> {
        if paths.len() > FIELDS_MAX {
            return Err(format!("config: `by` has {} fields, at most {FIELDS_MAX} are allowed", paths.len()));
        }
        Ok(Self { fields: paths.iter().map(|path| (setup.field(&path.0), path.0.clone())).collect() })
    }

    /// The paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.fields.iter().map(|(_, path)| path.as_slice())
    }

    /// The keys of all rows; `groups` are their key groups.
    pub fn read(&self, rows: &Chunk<'_>, groups: &[u8]) -> Keys {
        let columns: Vec<(Text, Option<Text>)> = self
            .fields
            .iter()
            .map(|(field, _)| {
                let text = rows.text(*field);
                // Few keys are anything but texts; the others are asked for only then.
                let raw = text.states().contains(&2).then(|| rows.raw_json(*field));
                (text, raw)
            })
            .collect();
        let mut keys = Keys::default();
        let hasher = DefaultHashBuilder::default();
        let mut known: HashTable<(u64, u32)> = HashTable::with_capacity(rows.len());
        keys.of_row.reserve(rows.len());
        let mut key = Vec::new();
        for row in 0..rows.len() {
            key.clear();
            for (text, raw) in &columns {
                push(&mut key, part(text, raw.as_ref(), row));
            }
            let group = groups.get(row).copied().unwrap_or(0);
            let of_row = if key.len() > KEY_BYTES {
                Err("the fields of its key (`by`) have more than 1024 bytes")
            } else {
                let hash = hasher.hash_one(key.as_slice());
                let is =
                    |known: &(u64, u32)| keys.keys.get(known.1 as usize).is_some_and(|known| *known == key);
                if let Some((_, number)) = known.find(hash, is) {
                    if keys.groups.get(*number as usize) == Some(&group) {
                        Ok(*number)
                    } else {
                        Err("the fields of the transform's `key` must be among those of `by`")
                    }
                } else {
                    let number = u32::try_from(keys.keys.len()).unwrap_or(u32::MAX);
                    known.insert_unique(hash, (hash, number), |(hash, _)| *hash);
                    keys.keys.push(key.clone());
                    keys.groups.push(group);
                    Ok(number)
                }
            };
            keys.of_row.push(of_row);
        }
        keys
    }

    /// Writes the fields of `keys` into `rows`, one key per row.
    pub fn write<'k>(&self, rows: &Chunk<'_>, keys: impl Iterator<Item = &'k [u8]>) {
        let keys: Vec<Vec<Part<'_>>> = keys.map(|key| parts(key).collect()).collect();
        for (at, (field, _)) in self.fields.iter().enumerate() {
            let mut column = TextColumn::new();
            let of = |key: &Vec<Part<'k>>| key.get(at).copied().unwrap_or(Part::Missing);
            // The last write of a field is the one that counts: a column is written whole, in one of two ways.
            if keys.iter().all(|key| matches!(of(key), Part::Text(_) | Part::Missing)) {
                for key in &keys {
                    match of(key) {
                        Part::Text(value) => column.push_bytes(value),
                        _ => column.push_missing(),
                    }
                }
                rows.set_text(*field, &column);
                continue;
            }
            for key in &keys {
                match of(key) {
                    Part::Text(value) => {
                        quote(value, column.buffer());
                        column.finish();
                    }
                    Part::Json(value) => column.push_bytes(value),
                    Part::Null => column.push_null(),
                    Part::Missing => column.push_missing(),
                }
            }
            rows.set_raw(*field, &column);
        }
    }
}

/// Appends a text as a JSON string.
pub fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// The cell of a text column, with the JSON text of what is none.
#[must_use]
pub fn part<'a>(text: &'a Text, raw: Option<&'a Text>, row: usize) -> Part<'a> {
    match text.cell(row) {
        Cell::Value(value) => Part::Text(value),
        Cell::Null => Part::Null,
        Cell::Missing => Part::Missing,
        Cell::Other => raw.and_then(|raw| raw.get(row)).map_or(Part::Missing, Part::Json),
    }
}

fn push(key: &mut Vec<u8>, part: Part<'_>) {
    let (tag, bytes) = match part {
        Part::Missing => return key.push(0),
        Part::Null => return key.push(1),
        Part::Json(bytes) => (2, bytes),
        Part::Text(bytes) => (3, bytes),
    };
    key.push(tag);
    // A longer value makes the key too long to be used, whatever its length says.
    key.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
    key.extend_from_slice(bytes);
}

/// The parts of a key.
pub fn parts(mut key: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let (tag, rest) = key.split_first()?;
        key = rest;
        if *tag < 2 {
            return Some(if *tag == 0 { Part::Missing } else { Part::Null });
        }
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        key = rest;
        Some(if *tag == 2 { Part::Json(bytes) } else { Part::Text(bytes) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_are_what_was_pushed() {
        let all = [Part::Text(b"a"), Part::Missing, Part::Json(b"1.0"), Part::Null, Part::Text(b"")];
        let mut key = Vec::new();
        for part in all {
            push(&mut key, part);
        }
        assert_eq!(parts(&key).collect::<Vec<_>>(), all);
    }

    #[test]
    fn keys_that_look_alike_are_different() {
        let key = |parts: &[Part<'_>]| {
            let mut key = Vec::new();
            parts.iter().for_each(|part| push(&mut key, *part));
            key
        };
        assert_ne!(key(&[Part::Text(b"ab"), Part::Text(b"")]), key(&[Part::Text(b"a"), Part::Text(b"b")]));
        assert_ne!(key(&[Part::Text(b"1")]), key(&[Part::Json(b"1")]));
        assert_ne!(key(&[Part::Missing]), key(&[Part::Null]));
    }

    #[test]
    fn quote_gives_json() {
        for text in ["", "a\"b\\c", "\u{1}\n\u{1f}ü"] {
            let mut out = Vec::new();
            quote(text.as_bytes(), &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
