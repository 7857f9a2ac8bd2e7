//! A plugin that is as little deterministic as one can be: what it does with a record is a throw of dice.
//!
//! A payload is a JSON object. The first byte of its name says what may become of the record, so that a checker knows what must.

use std::sync::{Arc, OnceLock};

use wasmill_buffer::testing::FaultyDisk;
use wasmill_chunk::{Cells, Chunk, Column, RowsId};
use wasmill_state::{SliceState, group_of};
use wasmill_transform::{
    Chain, ChainOptions, Engine, EngineOptions, NativeInstance, NullLog, Plugin, TransformSpec,
};

use crate::pipeline::plan::ChainVersion;

/// What may become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    /// Passes.
    Keep,
    /// Is dropped.
    Drop,
    /// Fails.
    Fail,
    /// Passes or is dropped.
    Coin,
    /// Goes to either output.
    Route,
    /// Goes to any of three partitions.
    Partition,
    /// Passes, and so does a copy of it.
    Twice,
}

impl Class {
    pub(super) const ALL: [Class; 7] =
        [Class::Keep, Class::Drop, Class::Fail, Class::Coin, Class::Route, Class::Partition, Class::Twice];

    pub(super) fn letter(self) -> char {
        ['k', 'd', 'f', 'c', 'r', 'p', 't'][self as usize]
    }

    fn of(payload: &[u8]) -> Class {
        let letter = id(payload).first().copied().map_or('k', char::from);
        Class::ALL.into_iter().find(|class| class.letter() == letter).unwrap_or(Class::Keep)
    }
}

/// The table in which it counts how often it has seen a record, if it keeps state.
pub(super) const SEEN: &str = "seen";
/// The key of all records.
pub(super) const ALL: &[u8] = b"*";
/// The field by which records are parted, where the stream has strands.
pub(super) const KEY: &str = "k";
/// The field with the time, milliseconds.
pub(super) const TIME: &str = "t";
/// How many values the first one has, with none at all.
const KEYS: u64 = 7;

/// What a record is called.
pub(super) fn name(class: Class, n: u64) -> String {
    format!("{}{n}", class.letter())
}

/// What a record has in the field by which they are parted; nothing where it has none.
pub(super) fn key_of(n: u64) -> String {
    if n.is_multiple_of(KEYS) { String::new() } else { (n % KEYS).to_string() }
}

/// The key of all records with this one in that field.
pub(super) fn all_of(key: &[u8]) -> Vec<u8> {
    [b"=", key].concat()
}

/// A record with a filler of so many bytes.
pub(super) fn payload(class: Class, n: u64, time: i64, filler: usize) -> String {
    let (name, key, filler) = (name(class, n), key_of(n), "x".repeat(filler));
    let key = if key.is_empty() { key } else { format!(r#""{KEY}":{key},"#) };
    format!(r#"{{"i":"{name}",{key}"{TIME}":{time},"x":"{filler}"}}"#)
}

/// What of a payload stands between two texts.
fn between<'a>(payload: &'a [u8], before: &[u8], after: u8) -> &'a [u8] {
    let begin = payload.windows(before.len()).position(|found| found == before);
    let rest = begin.and_then(|begin| payload.get(begin + before.len()..)).unwrap_or_default();
    rest.split(|byte| *byte == after).next().unwrap_or_default()
}

/// The name in it.
pub(super) fn id(payload: &[u8]) -> &[u8] {
    between(payload, b"\"i\":\"", b'"')
}

fn key(payload: &[u8]) -> &[u8] {
    between(payload, b"\"k\":", b',')
}

struct Dice {
    disk: FaultyDisk,
    fields: Vec<Vec<String>>,
    keeps: bool,
}

/// Its dice are the disk's.
fn dice(disk: &FaultyDisk, keeps: bool) -> Arc<Plugin> {
    let disk = disk.clone();
    let dice = move || Dice { disk: disk.clone(), fields: Vec::new(), keeps };
    Plugin::native("dice", Arc::new(move |_| Ok(Box::new(dice()))))
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE
        .get_or_init(|| Engine::new(EngineOptions { instances_max: 64, ..EngineOptions::default() }).unwrap())
}

/// The chain of it alone.
pub(super) fn chain(disk: &FaultyDisk, keeps: bool, outputs: &[String]) -> ChainVersion {
    let plugin = dice(disk, keeps);
    let spec = TransformSpec::new(plugin.clone(), "{}");
    let chain =
        Chain::build(engine(), vec![spec], outputs, ChainOptions::default(), Arc::new(NullLog)).unwrap();
    ChainVersion::new(1, chain, vec![plugin])
}

impl NativeInstance for Dice {
    fn fields(&self) -> &[Vec<String>] {
        &self.fields
    }

    fn tables(&self) -> Vec<String> {
        if self.keeps { vec![SEEN.to_owned()] } else { Vec::new() }
    }

    /// Counts every record, those included that fail: the host takes that back.
    fn process_keeping(
        &mut self,
        chunk: &mut Chunk,
        state: &mut SliceState,
        tables: &[usize],
    ) -> Result<(), String> {
        if let Some(seen) = tables.first() {
            let payloads = chunk.payloads(RowsId::MAIN).map_err(|misuse| format!("{misuse:?}"))?;
            for payload in payloads.iter() {
                for key in [id(payload), &all_of(key(payload)), ALL] {
                    state.add(*seen, group_of(key), key, 1).map_err(|error| error.to_string())?;
                }
            }
        }
        self.process(chunk)
    }

    fn process(&mut self, chunk: &mut Chunk) -> Result<(), String> {
        let rows = RowsId::MAIN;
        let wrong = |misuse| format!("{misuse:?}");
        let payloads: Vec<Vec<u8>> =
            chunk.payloads(rows).map_err(wrong)?.iter().map(<[u8]>::to_vec).collect();
        let (mut keep, mut routes, mut twice, mut failed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut partition, mut reasons) = (Cells::default(), Column::default());
        for (row, payload) in (0..).zip(&payloads) {
            let class = Class::of(payload);
            let drops = class == Class::Drop || (class == Class::Coin && self.disk.random(2) == 0);
            keep.push(u8::from(!drops));
            routes.push(if class == Class::Route {
                u32::try_from(self.disk.random(2)).unwrap_or(0)
            } else {
                0
            });
            let place = if class == Class::Partition { self.disk.random(3) } else { 0 };
            partition.push_option(Some(place.to_string().as_bytes()));
            match class {
                // Emitted rows replace the one that they come from.
                Class::Twice => twice.extend([row, row]),
                Class::Fail => {
                    failed.push(row);
                    reasons.push(b"said so");
                }
                _ => {}
            }
        }
        if !twice.is_empty() {
            let copies = chunk.derive(rows, &twice).map_err(wrong)?;
            let mut values = Cells::default();
            let mut places = Cells::default();
            for (copy, row) in (0..).zip(&twice) {
                let mark: &[u8] = if copy % 2 == 0 { b"" } else { b"+" };
                values.push_option(Some(&[&payloads[*row as usize][..], mark].concat()));
                places.push_option(Some(b"0"));
            }
            chunk.set_payloads(copies, values.as_ref()).map_err(wrong)?;
            chunk.partition(copies, "place", places.as_ref()).map_err(wrong)?;
            chunk.emit(copies).map_err(wrong)?;
        }
        chunk.partition(rows, "place", partition.as_ref()).map_err(wrong)?;
        chunk.route(rows, &routes).map_err(wrong)?;
        chunk.keep(rows, &keep).map_err(wrong)?;
        chunk.fail(rows, &failed, reasons.as_ref()).map_err(wrong)
    }
}
