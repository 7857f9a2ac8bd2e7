//! The fields of a chain: the union of what its transforms declared, as columns and as a tree of keys.
//!
//! Owns: the mapping from a transform's slots to columns, the tree that the scanner walks, and the JSON text
//! of each key. Refuses paths that no document within the depth limit can have.

use std::collections::HashMap;

use crate::error::LayoutError;
use crate::text::escape_into;

/// Levels of nesting that count as JSON; deeper documents read as "not JSON". The same as serde_json's.
pub(crate) const DEPTH_MAX: usize = 127;
/// Distinct fields of a chain.
pub(crate) const FIELDS_MAX: usize = 4096;

/// Union of the fields that the transforms of a chain declared, with each transform's own slot numbers.
#[derive(Debug)]
pub struct Layout {
    pub(crate) fields: Vec<Field>,
    /// `[transform][slot]` -> column.
    pub(crate) slots: Vec<Vec<u32>>,
    /// Node 0 is the root object.
    pub(crate) nodes: Vec<Node>,
    /// Spans that a scan fills per row: one per column, then one per inner node.
    pub(crate) spans: usize,
    /// By transform: it declared a path twice.
    twice: Vec<bool>,
}

/// A distinct path of the chain.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) path: Vec<String>,
    /// Spans of the objects on the way, outermost first.
    pub(crate) parents: Vec<u32>,
    /// The path is the start of another one of the chain, or another one is the start of it.
    touches: bool,
    /// `,"key":` of the last key.
    pub(crate) prefix: Vec<u8>,
    /// The same of the keys before it.
    pub(crate) ways: Vec<Vec<u8>>,
    /// For messages: the path joined with dots.
    pub(crate) name: String,
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    keys: Vec<Key>,
    /// Hash -> 1 + index of the first key in its chain; a power of two long.
    table: Vec<u16>,
    /// Column, if a path ends here.
    pub(crate) column: Option<u32>,
    /// Span of the value if it has children; set for inner nodes only.
    pub(crate) span: Option<u32>,
}

#[derive(Debug)]
struct Key {
    head: u64,
    bytes: Vec<u8>,
    node: u32,
    next: u16,
}

impl Layout {
    /// `fields_per_transform[transform][slot]` is a path: object keys, outermost first.
    pub fn new(fields_per_transform: &[Vec<Vec<String>>]) -> Result<Layout, LayoutError> {
        let mut layout = Layout {
            fields: Vec::new(),
            slots: Vec::new(),
            nodes: vec![Node::default()],
            spans: 0,
            twice: Vec::new(),
        };
        let mut columns: HashMap<&[String], u32> = HashMap::new();
        for (transform, paths) in fields_per_transform.iter().enumerate() {
            let (mut slots, mut twice) = (Vec::with_capacity(paths.len()), false);
            for (slot, path) in paths.iter().enumerate() {
                if path.is_empty() {
                    return Err(LayoutError::EmptyPath { transform, slot });
                }
                if path.len() > DEPTH_MAX {
                    return Err(LayoutError::TooDeep { transform, slot, limit: DEPTH_MAX });
                }
                let column = match columns.get(path.as_slice()) {
                    Some(&column) => column,
                    None => {
                        if layout.fields.len() == FIELDS_MAX {
                            return Err(LayoutError::TooMany { limit: FIELDS_MAX });
                        }
                        let column = layout.add(path);
                        columns.insert(path, column);
                        column
                    }
                };
                twice |= slots.contains(&column);
                slots.push(column);
            }
            layout.slots.push(slots);
            layout.twice.push(twice);
        }
        layout.number_inner_nodes();
        Ok(layout)
    }

    /// Number of transforms in the chain.
    pub fn transforms(&self) -> usize {
        self.slots.len()
    }

    fn add(&mut self, path: &[String]) -> u32 {
        let column = self.fields.len() as u32;
        let mut node = 0usize;
        for key in path {
            node = match self.nodes[node].find(key.as_bytes()) {
                Some(child) => child as usize,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].insert(key.as_bytes(), child as u32);
                    child
                }
            };
        }
        self.nodes[node].column = Some(column);
        let mut ways: Vec<Vec<u8>> = path.iter().map(|key| prefix(key)).collect();
        let prefix = ways.pop().unwrap_or_default();
        self.fields.push(Field {
            path: path.to_vec(),
            parents: Vec::new(),
            touches: false,
            prefix,
            ways,
            name: path.join("."),
        });
        column
    }

    fn number_inner_nodes(&mut self) {
        let mut spans = self.fields.len() as u32;
        for node in self.nodes.iter_mut().skip(1).filter(|node| !node.keys.is_empty()) {
            node.span = Some(spans);
            spans += 1;
        }
        self.spans = spans as usize;
        for field in &mut self.fields {
            let mut node = 0usize;
            for (at, key) in field.path.iter().enumerate() {
                let Some(child) = self.nodes[node].find(key.as_bytes()) else { break };
                node = child as usize;
                if at + 1 < field.path.len() {
                    field.parents.extend(self.nodes[node].span);
                    field.touches |= self.nodes[node].column.is_some();
                } else {
                    field.touches |= self.nodes[node].has_children();
                }
            }
        }
    }

    /// Whether what a transform writes to these slots touches another of these writes, or what is known of another path.
    pub(crate) fn touches(&self, transform: usize, slots: impl Iterator<Item = u32> + Clone) -> bool {
        let Some(columns) = self.slots.get(transform) else { return false };
        let column = |slot: u32| columns[slot as usize];
        if slots.clone().any(|slot| self.fields[column(slot) as usize].touches) {
            return true;
        }
        if !self.twice[transform] {
            return false;
        }
        // Of many groups a slot comes many times.
        let mut written: Vec<(u32, u32)> = slots.map(|slot| (column(slot), slot)).collect();
        written.sort_unstable();
        written.dedup();
        written.windows(2).any(|pair| pair[0].0 == pair[1].0)
    }
}

impl Node {
    pub(crate) fn has_children(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = u32> + '_ {
        self.keys.iter().map(|key| key.node)
    }

    /// The child whose key is `key`; `head` are its first 8 bytes, little-endian, padded with zeros.
    #[inline]
    pub(crate) fn child(&self, head: u64, key: &[u8]) -> Option<u32> {
        let mut at = self.table[self.bucket(head, key.len())];
        while at != 0 {
            let entry = &self.keys[at as usize - 1];
            if entry.head == head
                && entry.bytes.len() == key.len()
                && (key.len() <= 8 || entry.bytes[8..] == key[8..])
            {
                return Some(entry.node);
            }
            at = entry.next;
        }
        None
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        if self.keys.is_empty() { None } else { self.child(head_of(key), key) }
    }

    #[inline]
    fn bucket(&self, head: u64, len: usize) -> usize {
        let hash = (head ^ (len as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 40) as usize & (self.table.len() - 1)
    }

    fn insert(&mut self, key: &[u8], node: u32) {
        self.keys.push(Key { head: head_of(key), bytes: key.to_vec(), node, next: 0 });
        // Sparse, so that most keys that nobody asked for end at an empty bucket.
        self.table = vec![0; (self.keys.len() * 8).next_power_of_two()];
        for at in 0..self.keys.len() {
            let bucket = self.bucket(self.keys[at].head, self.keys[at].bytes.len());
            self.keys[at].next = self.table[bucket];
            self.table[bucket] = at as u16 + 1;
        }
    }
}

/// `,"key":`
fn prefix(key: &str) -> Vec<u8> {
    let mut prefix = b",\"".to_vec();
    escape_into(key.as_bytes(), &mut prefix);
    prefix.extend_from_slice(b"\":");
    prefix
}

/// First 8 bytes, little-endian, padded with zeros.
pub(crate) fn head_of(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(head) => u64::from_le_bytes(*head),
        None => key.iter().rev().fold(0, |head, &byte| head << 8 | u64::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| key.to_string()).collect()
    }

    #[test]
    fn layout_same_path_in_two_transforms_shares_a_column() {
        let layout = Layout::new(&[vec![path(&["a"]), path(&["b", "c"])], vec![path(&["b", "c"])]]).unwrap();
        assert_eq!(layout.slots, [vec![0, 1], vec![1]]);
        assert!(!layout.touches(0, 0..2) && !layout.touches(1, 0..1));
        assert_eq!(layout.fields[1].parents, [2]);
    }

    #[test]
    fn writes_touch_where_a_path_starts_another_or_is_written_twice() {
        let chain = [
            vec![path(&["a"]), path(&["c"]), path(&["a.b"])],
            vec![path(&["d", "x"]), path(&["a", "b"]), path(&["d", "y"])],
            vec![path(&["e"]), path(&["c"]), path(&["e"])],
        ];
        let layout = Layout::new(&chain).unwrap();
        let touches = |transform, slots: &[u32]| layout.touches(transform, slots.iter().copied());
        assert!(touches(0, &[0]) && touches(0, &[1, 0]) && touches(1, &[1]), "a starts a.b");
        assert!(!touches(0, &[1, 2]) && !touches(1, &[0, 2]), "neighbours");
        assert!(touches(2, &[0, 2]), "one path twice");
        assert!(!touches(2, &[0, 1]) && !touches(2, &[2, 2]), "read twice and written by one of both");
        assert!(!touches(0, &[]));
    }

    #[test]
    fn layout_bad_path_is_refused() {
        assert_eq!(
            Layout::new(&[vec![vec![]]]).unwrap_err(),
            LayoutError::EmptyPath { transform: 0, slot: 0 }
        );
        let deep = vec!["x".to_string(); DEPTH_MAX + 1];
        assert!(matches!(Layout::new(&[vec![deep]]), Err(LayoutError::TooDeep { .. })));
    }

    #[test]
    fn node_many_keys_are_all_found() {
        let keys: Vec<String> = (0..500).map(|n| format!("key-number-{n}")).collect();
        let layout = Layout::new(&[keys.iter().map(|key| vec![key.clone()]).collect()]).unwrap();
        for (n, key) in keys.iter().enumerate() {
            let node = layout.nodes[0].find(key.as_bytes()).unwrap();
            assert_eq!(layout.nodes[node as usize].column, Some(n as u32));
        }
        assert_eq!(layout.nodes[0].find(b"key-number-500"), None);
        assert_eq!(layout.nodes[0].find(b""), None);
    }
}
