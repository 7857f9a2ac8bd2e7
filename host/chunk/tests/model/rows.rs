//! The model of a chunk: rows with documents, and random turns on model and chunk alike.

use std::sync::Arc;

use wasmill_chunk::{
    Cells, Chunk, ChunkLimits, Column, FinishOptions, Floats, Input, Ints, Layout, RowsId, Verdicts, state,
};

use crate::tree::{self, Tree};

pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end as u64) as usize
    }
}

#[derive(Clone, Debug)]
struct Row {
    input: Option<usize>,
    /// `None`: not JSON.
    tree: Option<Tree>,
    text: Vec<u8>,
    key: Option<Vec<u8>>,
}

/// What a turn does to the rows of one group.
#[derive(Clone, Default)]
struct Plan {
    clear: Vec<bool>,
    payloads: Vec<Option<Vec<u8>>>,
    /// Per slot and row: operation and value.
    fields: Vec<Option<Vec<(u8, Tree)>>>,
    keys: Option<Vec<Option<Vec<u8>>>>,
    keep: Vec<bool>,
    fails: Vec<bool>,
}

const PLAIN: &[&[&str]] =
    &[&["a"], &["b"], &["c", "d"], &["c", "e"], &["f.g"], &["longer-than-eight"], &["d", "d", "d"]];
const OVERLAPPING: &[&[&str]] = &[&["a"], &["c"], &["c", "d"], &["a", "a"], &["b"], &["e"]];
/// What is read by one of them may be written by the other.
const TWICE: &[&[&str]] = &[&["b"], &["a"], &["b"], &["e", "x"], &["a"], &["e", "y"]];

/// Objects with several members, which are made where they are missing, in another order than that of their members.
const NESTED: &[&[&str]] = &[
    &["c", "a"],
    &["e", "d", "a"],
    &["b"],
    &["e", "a"],
    &["c", "d", "e"],
    &["e", "d", "b"],
    &["c", "d", "\"x"],
    &["c", "e"],
    &["e", "c", "d", "a"],
];

fn parse(text: &[u8]) -> Option<Tree> {
    serde_json::from_str(std::str::from_utf8(text).ok()?).ok()
}

fn payload(rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0 => b"not json".to_vec(),
        1 => vec![b'"', 0xff, b'"'],
        2 | 3 => b"{}".to_vec(),
        _ => {
            let mut text = Vec::new();
            tree::random(rng, 3).write(rng, &mut text);
            text
        }
    }
}

/// A whole life of a chunk.
pub(crate) fn run(rng: &mut Rng) {
    let pool = match rng.below(8) {
        0 | 1 => OVERLAPPING,
        2 => TWICE,
        3 | 4 => NESTED,
        _ => PLAIN,
    };
    let turns = 1 + rng.below(4);
    let slots: Vec<Vec<&[&str]>> =
        (0..turns).map(|_| pool.iter().copied().filter(|_| rng.below(3) > 0).collect()).collect();
    let fields: Vec<Vec<Vec<String>>> = slots
        .iter()
        .map(|paths| paths.iter().map(|path| path.iter().map(|key| key.to_string()).collect()).collect())
        .collect();
    let mut chunk = Chunk::new(Arc::new(Layout::new(&fields).unwrap()), ChunkLimits::default());
    // A chunk that was used before.
    if rng.below(2) == 0 {
        let mut column = Column::default();
        column.push(br#"{"a":1,"c":{"d":2}}"#);
        let input = Input::of_payloads(7, column.as_ref());
        chunk.begin(&input, 0..1).unwrap();
        chunk.enter(0, 0);
        chunk.apply().unwrap();
    }
    let count = rng.below(6);
    let mut column = Column::default();
    let mut rows = Vec::new();
    for input in 0..count {
        let text = payload(rng);
        column.push(&text);
        rows.push(Row { input: Some(input), tree: parse(&text), text, key: None });
    }
    let input = Input::of_payloads(0, column.as_ref());
    chunk.begin(&input, 0..count).unwrap();
    let mut failed = vec![false; count];
    for (turn, slots) in slots.iter().enumerate() {
        chunk.enter(turn, 0);
        rows = one_turn(rng, &mut chunk, slots, rows, &mut failed);
        assert_eq!(chunk.rows_left() as usize, rows.len());
    }
    let (mut sink, mut verdicts) = (crate::Payloads::default(), Verdicts::default());
    chunk.finish(&FinishOptions::default(), &mut sink, &mut verdicts);
    assert_eq!(sink.0.len(), rows.len());
    for (got, row) in sink.0.iter().zip(&rows) {
        same_text(got, row);
    }
    let failures = failed.iter().filter(|failed| **failed).count();
    assert_eq!(verdicts.failed.iter().filter(|failure| failure.offset >= 0).count(), failures);
    let passed = (0..count).filter(|input| rows.iter().any(|row| row.input == Some(*input))).count();
    assert_eq!(verdicts.passed as usize, passed);
    assert_eq!(verdicts.dropped as usize, count - passed - failures);
}

fn same_text(got: &[u8], row: &Row) {
    match &row.tree {
        Some(tree) => assert_eq!(parse(got).as_ref(), Some(tree), "{}", String::from_utf8_lossy(got)),
        None => assert_eq!(got, row.text),
    }
}

fn one_turn(
    rng: &mut Rng,
    chunk: &mut Chunk,
    slots: &[&[&str]],
    rows: Vec<Row>,
    failed: &mut [bool],
) -> Vec<Row> {
    check_reads(rng, chunk, RowsId::MAIN, slots, &rows);
    let mut groups: Vec<(RowsId, Vec<usize>, Vec<Row>, bool)> = Vec::new();
    for _ in 0..rng.below(5).saturating_sub(2) {
        let sources: Vec<u32> = match rows.len() {
            0 => Vec::new(),
            len => (0..rng.below(4)).map(|_| rng.below(len) as u32).collect(),
        };
        let emit = rng.below(4) > 0;
        if rng.below(4) == 0 {
            let id = chunk.fresh(2).unwrap();
            let row = Row { input: None, tree: Some(Tree::Object(vec![])), text: b"{}".to_vec(), key: None };
            groups.push((id, Vec::new(), vec![row; 2], emit));
        } else {
            let id = chunk.derive(RowsId::MAIN, &sources).unwrap();
            let copies = sources.iter().map(|&row| rows[row as usize].clone()).collect();
            groups.push((id, sources.iter().map(|&row| row as usize).collect(), copies, emit));
        }
    }
    let mut all = vec![(plan(rng, chunk, RowsId::MAIN, slots, &rows), rows.clone(), Vec::new())];
    for (id, sources, copies, emit) in groups {
        check_reads(rng, chunk, id, slots, &copies);
        let plan = plan(rng, chunk, id, slots, &copies);
        if emit {
            chunk.emit(id).unwrap();
            all.push((plan, copies, sources));
        }
    }
    check_reads(rng, chunk, RowsId::MAIN, slots, &rows);
    chunk.apply().unwrap();
    let mut replaced = vec![false; rows.len()];
    for (_, _, sources) in &all {
        sources.iter().for_each(|&row| replaced[row] = true);
    }
    let mut next: Vec<Row> = Vec::new();
    for (group, (plan, mut rows, _)) in all.into_iter().enumerate() {
        for (at, row) in rows.iter_mut().enumerate() {
            let fine = plan.apply(at, row, slots) && !plan.fails[at];
            if !fine {
                if let Some(input) = row.input {
                    failed[input] = true;
                }
            } else if plan.keep[at] && !(group == 0 && replaced[at]) {
                next.push(row.clone());
            }
        }
    }
    next.retain(|row| row.input.is_none_or(|input| !failed[input]));
    next
}

impl Plan {
    /// False: the row fails.
    fn apply(&self, at: usize, row: &mut Row, slots: &[&[&str]]) -> bool {
        if let Some(text) = &self.payloads[at] {
            row.tree = parse(text);
            row.text.clone_from(text);
        } else if self.clear[at] {
            row.tree = Some(Tree::Object(Vec::new()));
        }
        for (slot, path) in slots.iter().enumerate() {
            let Some(cells) = &self.fields[slot] else { continue };
            let (op, value) = &cells[at];
            let new = match op {
                0 => continue,
                1 => Some(&Tree::Null),
                2 => None,
                _ => Some(value),
            };
            let edited = match &mut row.tree {
                Some(tree) => tree.edit(path, new),
                None if new.is_some() => Err(()),
                None => Ok(()),
            };
            if edited.is_err() {
                return false;
            }
        }
        if let Some(keys) = &self.keys {
            row.key.clone_from(&keys[at]);
        }
        true
    }
}

/// Makes a plan and stages it.
fn plan(rng: &mut Rng, chunk: &mut Chunk, id: RowsId, slots: &[&[&str]], rows: &[Row]) -> Plan {
    let len = rows.len();
    let mut plan = Plan {
        clear: vec![false; len],
        payloads: vec![None; len],
        fields: vec![None; slots.len()],
        keys: None,
        keep: vec![true; len],
        fails: vec![false; len],
    };
    if rng.below(4) == 0 {
        let whole = rng.below(2) == 0;
        plan.clear = (0..len).map(|_| whole || rng.below(2) == 0).collect();
        let marks: Vec<u8> = plan.clear.iter().map(|&mark| mark.into()).collect();
        chunk.clear(id, &marks).unwrap();
    }
    if rng.below(4) == 0 {
        let whole = rng.below(3) == 0;
        plan.payloads = (0..len).map(|_| (whole || rng.below(2) == 0).then(|| payload(rng))).collect();
        let mut cells = Cells::default();
        plan.payloads.iter().for_each(|text| cells.push_option(text.as_deref()));
        chunk.set_payloads(id, cells.as_ref()).unwrap();
    }
    for slot in 0..slots.len() {
        if rng.below(2) == 0 {
            plan.fields[slot] = Some(stage_field(rng, chunk, id, slot as u32, len));
        }
    }
    if rng.below(4) == 0 {
        let keys: Vec<Option<Vec<u8>>> =
            (0..len).map(|_| (rng.below(2) == 0).then(|| vec![rng.below(256) as u8])).collect();
        let mut cells = Cells::default();
        keys.iter().for_each(|key| {
            cells.push(if key.is_some() { 3 } else { 2 }, key.as_deref().unwrap_or_default())
        });
        chunk.set_keys(id, cells.as_ref()).unwrap();
        plan.keys = Some(keys);
    }
    if rng.below(3) == 0 {
        plan.keep = (0..len).map(|_| rng.below(3) > 0).collect();
        let marks: Vec<u8> = plan.keep.iter().map(|&mark| mark.into()).collect();
        chunk.keep(id, &marks).unwrap();
    }
    if rng.below(6) == 0 {
        plan.fails = (0..len).map(|_| rng.below(4) == 0).collect();
        let failing: Vec<u32> = (0..len as u32).filter(|&row| plan.fails[row as usize]).collect();
        let mut reasons = Column::default();
        failing.iter().for_each(|_| reasons.push(b"planned"));
        chunk.fail(id, &failing, reasons.as_ref()).unwrap();
    }
    plan
}

fn stage_field(rng: &mut Rng, chunk: &mut Chunk, id: RowsId, slot: u32, len: usize) -> Vec<(u8, Tree)> {
    let all = rng.below(2) == 0;
    let kind = rng.below(4);
    let cells: Vec<(u8, Tree)> = (0..len)
        .map(|_| {
            let op = if all { 3 } else { rng.below(4) as u8 };
            let value = match kind {
                0 => Tree::Text(tree::text(rng)),
                1 => tree::value(rng, 2),
                2 => Tree::Float(rng.below(999) as f64 / 4.0),
                _ => Tree::Int(rng.below(999) as i64),
            };
            (op, value)
        })
        .collect();
    let state: Vec<u8> = cells.iter().map(|(op, _)| *op).collect();
    match kind {
        0 | 1 => {
            let mut given = Cells::default();
            for (op, value) in &cells {
                let mut text = Vec::new();
                match value {
                    _ if *op != 3 => {}
                    Tree::Text(value) if kind == 0 => text.extend_from_slice(value.as_bytes()),
                    value => value.write(rng, &mut text),
                }
                given.push(*op, &text);
            }
            if kind == 0 {
                chunk.set_text(id, slot, given.as_ref()).unwrap();
            } else {
                chunk.set_raw(id, slot, given.as_ref()).unwrap();
            }
        }
        2 => {
            let float = |(_, value): &(u8, Tree)| if let Tree::Float(value) = value { *value } else { 0.0 };
            let given = Floats { state, values: cells.iter().map(float).collect() };
            chunk.set_floats(id, slot, given.as_ref()).unwrap();
        }
        _ => {
            let int = |(_, value): &(u8, Tree)| if let Tree::Int(value) = value { *value } else { 0 };
            let given = Ints { state, values: cells.iter().map(int).collect() };
            chunk.set_ints(id, slot, given.as_ref()).unwrap();
        }
    }
    cells
}

/// Some reads, compared with the model.
fn check_reads(rng: &mut Rng, chunk: &mut Chunk, id: RowsId, slots: &[&[&str]], rows: &[Row]) {
    assert_eq!(chunk.len(id).unwrap() as usize, rows.len());
    if rng.below(4) == 0 {
        let payloads = chunk.payloads(id).unwrap();
        for (at, row) in rows.iter().enumerate() {
            same_text(payloads.get(at), row);
        }
    }
    if rng.below(4) == 0 {
        let keys = chunk.keys(id).unwrap();
        rows.iter().enumerate().for_each(|(at, row)| assert_eq!(keys.get(at), row.key.as_deref()));
    }
    for (slot, path) in slots.iter().enumerate() {
        let slot = slot as u32;
        let found: Vec<Option<&Tree>> =
            rows.iter().map(|row| row.tree.as_ref().and_then(|tree| tree.read(path))).collect();
        match rng.below(6) {
            0 => {
                let cells = chunk.get_text(id, slot).unwrap();
                for (at, found) in found.into_iter().enumerate() {
                    let (state, text) = (cells.state[at], cells.values.get(at));
                    match found {
                        Some(Tree::Text(wanted)) => assert_eq!((state, text), (3, wanted.as_bytes())),
                        found => assert_eq!((state, text), (other(found), &b""[..])),
                    }
                }
            }
            1 => {
                let cells = chunk.get_raw(id, slot).unwrap();
                for (at, found) in found.into_iter().enumerate() {
                    match found {
                        None | Some(Tree::Null) => assert_eq!(cells.state[at], other(found)),
                        found => assert_eq!(parse(cells.get(at).unwrap()).as_ref(), found),
                    }
                }
            }
            2 => {
                let ints = chunk.get_ints(id, slot).unwrap();
                for (at, found) in found.into_iter().enumerate() {
                    let wanted = match found {
                        Some(Tree::Int(value)) => (3, *value),
                        Some(Tree::Float(value)) if value.trunc() == *value => (3, *value as i64),
                        found => (other(found), 0),
                    };
                    assert_eq!((ints.state[at], ints.values[at]), wanted);
                }
            }
            3 => {
                let floats = chunk.get_floats(id, slot).unwrap();
                for (at, found) in found.into_iter().enumerate() {
                    let wanted = match found {
                        Some(Tree::Int(value)) => (3, *value as f64),
                        Some(Tree::Float(value)) => (3, *value),
                        found => (other(found), 0.0),
                    };
                    assert_eq!((floats.state[at], floats.values[at]), wanted);
                }
            }
            _ => {}
        }
    }
}

/// The state of what is not of the type asked for.
fn other(found: Option<&Tree>) -> u8 {
    match found {
        None => state::MISSING,
        Some(Tree::Null) => state::NULL,
        Some(_) => state::OTHER,
    }
}
