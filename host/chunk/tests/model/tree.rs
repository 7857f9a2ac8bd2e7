//! A JSON document as a tree that keeps the order of members and duplicate keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::rows::Rng;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        struct TreeVisitor;
        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Int(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(i64::try_from(value).map_or(Tree::Float(value as f64), Tree::Int))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }
        deserializer.deserialize_any(TreeVisitor)
    }
}

const KEYS: &[&str] = &["a", "b", "c", "d", "e", "f.g", "longer-than-eight", "longer-than-nine"];
const TEXTS: &[&str] =
    &["", "x", "quote\"", "line\nfeed", "é€😀", "back\\slash", "plain text of some length", "\u{1}"];

/// An object most of the time.
pub(crate) fn random(rng: &mut Rng, depth: usize) -> Tree {
    if rng.below(12) > 0 { object(rng, depth) } else { value(rng, depth) }
}

fn object(rng: &mut Rng, depth: usize) -> Tree {
    Tree::Object(
        (0..rng.below(6)).map(|_| (KEYS[rng.below(KEYS.len())].to_string(), value(rng, depth - 1))).collect(),
    )
}

pub(crate) fn text(rng: &mut Rng) -> String {
    TEXTS[rng.below(TEXTS.len())].to_string()
}

pub(crate) fn value(rng: &mut Rng, depth: usize) -> Tree {
    match rng.below(if depth == 0 { 6 } else { 9 }) {
        0 => Tree::Null,
        1 => Tree::Bool(rng.below(2) == 0),
        2 => Tree::Int(rng.below(2000) as i64 - 1000),
        3 => Tree::Float(rng.below(2000) as f64 / 8.0),
        4 | 5 => Tree::Text(text(rng)),
        6 => Tree::Array((0..rng.below(3)).map(|_| value(rng, depth - 1)).collect()),
        _ => object(rng, depth),
    }
}

impl Tree {
    /// As JSON, with random spaces and escapes.
    pub(crate) fn write(&self, rng: &mut Rng, out: &mut Vec<u8>) {
        let space = |rng: &mut Rng, out: &mut Vec<u8>| {
            if rng.below(6) == 0 {
                out.push(b" \n\t\r"[rng.below(4)]);
            }
        };
        space(rng, out);
        match self {
            Tree::Null => out.extend_from_slice(b"null"),
            Tree::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Tree::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Tree::Float(value) => out.extend_from_slice(format!("{value:?}").as_bytes()),
            Tree::Text(text) => write_text(text, rng, out),
            Tree::Array(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(rng, out);
                }
                space(rng, out);
                out.push(b']');
            }
            Tree::Object(members) => {
                out.push(b'{');
                space(rng, out);
                for (at, (key, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                        space(rng, out);
                    }
                    write_text(key, rng, out);
                    space(rng, out);
                    out.push(b':');
                    value.write(rng, out);
                }
                space(rng, out);
                out.push(b'}');
            }
        }
        space(rng, out);
    }

    /// What a path reads: the last occurrence at every level.
    pub(crate) fn read(&self, path: &[&str]) -> Option<&Tree> {
        let Some((key, rest)) = path.split_first() else { return Some(self) };
        let Tree::Object(members) = self else { return None };
        members.iter().rev().find(|(known, _)| known == key)?.1.read(rest)
    }

    /// `None` removes. An error: a value on the way is no object.
    pub(crate) fn edit(&mut self, path: &[&str], new: Option<&Tree>) -> Result<(), ()> {
        let Tree::Object(members) = self else { return if new.is_some() { Err(()) } else { Ok(()) } };
        let (key, rest) = path.split_first().unwrap();
        let read = members.iter().rposition(|(known, _)| known == key);
        if let (Some(read), Some(new)) = (read, new) {
            if rest.is_empty() {
                members[read].1 = new.clone();
            } else {
                members[read].1.edit(rest, Some(new))?;
            }
        }
        let mut at = 0;
        members.retain_mut(|(known, value)| {
            at += 1;
            if known != key || (new.is_some() && Some(at - 1) == read) {
                return true;
            }
            if !rest.is_empty() {
                value.edit(rest, None).unwrap();
            }
            !rest.is_empty()
        });
        if let (None, Some(new)) = (read, new) {
            let value = rest
                .iter()
                .rev()
                .fold(new.clone(), |value, key| Tree::Object(vec![(key.to_string(), value)]));
            members.push((key.to_string(), value));
        }
        Ok(())
    }
}

fn write_text(text: &str, rng: &mut Rng, out: &mut Vec<u8>) {
    if rng.below(5) > 0 {
        out.extend_from_slice(serde_json::to_string(text).unwrap().as_bytes());
        return;
    }
    out.push(b'"');
    for unit in text.encode_utf16() {
        out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
    }
    out.push(b'"');
}
