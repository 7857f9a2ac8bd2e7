//! The `unpack` plugin: one record in, the records that it carries out.
//!
//! Steps run in the order of the config, each on what the one before made of a record: decompression, envelopes of
//! CloudWatch Logs, aggregates of the Kinesis Producer Library, JSON objects and delimited pieces one after the other.
//! All of a record passes or none of it: a record with a fault in one piece is failed whole, with the step and the place.
//! What may come of one record is bounded in bytes and in records.

mod cloudwatch;
mod config;
mod decompress;
mod delimited;
mod json;
mod kpl;
mod pieces;

use wasmill_sdk::{Chunk, Plugin, Setup, TextColumn};

use crate::config::{Config, Limits};
use crate::pieces::{Label, Pieces};

/// The attribute that a KPL record's explicit hash key becomes.
const HASH_KEY: &str = "explicit_hash_key";
/// What a chunk of several records makes at most before the host is asked to cut it: it refuses more in one call anyway,
/// and a guest's memory holds it twice while it grows.
const CHUNK_BYTES: usize = 12 << 20;
const TOO_MUCH: &str = "the records of this chunk become too large together";

/// One step.
enum Step {
    Decompress(decompress::Decompress),
    CloudwatchLogs(cloudwatch::CloudwatchLogs),
    Kpl,
    Json(json::Json),
    Delimited(Box<delimited::Delimited>),
    Append(Vec<u8>),
}

impl Step {
    /// Appends what comes of one piece to `out`. `names` holds what labels point to.
    fn run(
        &self,
        limits: &Limits,
        piece: &[u8],
        label: Label,
        names: &mut Vec<String>,
        out: &mut Pieces,
    ) -> Result<(), String> {
        match self {
            Step::Decompress(step) => step.run(limits, piece, label, out),
            Step::CloudwatchLogs(step) => step.run(limits, piece, label, out),
            Step::Kpl => kpl::run(limits, piece, label, names, out),
            Step::Json(step) => step.run(limits, piece, label, out),
            Step::Delimited(step) => step.run(limits, piece, label, out),
            Step::Append(text) => out.push(limits, label, &[piece, text]),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Step::Decompress(_) => "decompress",
            Step::CloudwatchLogs(_) => "cloudwatch_logs",
            Step::Kpl => "kpl",
            Step::Json(_) => "json",
            Step::Delimited(_) => "delimited",
            Step::Append(_) => "append",
        }
    }
}

/// What leaves, a cell for each row; a record of which nothing leaves has one row that is not kept.
#[derive(Default)]
struct Leaving {
    sources: Vec<u32>,
    keep: Vec<u8>,
    payloads: TextColumn,
    keys: TextColumn,
    hash_keys: TextColumn,
    /// Some row has a key of its own.
    keyed: bool,
    hash_keyed: bool,
}

impl Leaving {
    fn clear(&mut self) {
        self.sources.clear();
        self.keep.clear();
        self.payloads.clear();
        self.keys.clear();
        self.hash_keys.clear();
        (self.keyed, self.hash_keyed) = (false, false);
    }

    fn push(&mut self, source: u32, payload: Option<&[u8]>, label: Label, names: &[String]) {
        let name = |at: Option<u32>| at.and_then(|at| names.get(at as usize)).map(String::as_bytes);
        let (key, hash_key) = (name(label.key), name(label.hash_key));
        self.sources.push(source);
        self.keep.push(1);
        self.payloads.push_option(payload);
        self.keys.push_option(key);
        self.hash_keys.push_option(hash_key);
        self.keyed |= key.is_some();
        self.hash_keyed |= hash_key.is_some();
    }

    fn push_nothing(&mut self, source: u32) {
        self.push(source, None, Label::default(), &[]);
        if let Some(keep) = self.keep.last_mut() {
            *keep = 0;
        }
    }

    fn write(&self, rows: &Chunk<'_>) {
        rows.set_payloads(&self.payloads);
        if self.keyed {
            rows.set_keys(&self.keys);
        }
        if self.hash_keyed {
            rows.set_attributes(HASH_KEY, &self.hash_keys);
        }
        rows.keep(&self.keep);
    }
}

/// The plugin.
pub struct Unpack {
    steps: Vec<Step>,
    limits: Limits,
    current: Pieces,
    next: Pieces,
    names: Vec<String>,
    leaving: Leaving,
}

impl Unpack {
    /// Runs the steps over one record; what came of it is in `current`.
    fn unpack(&mut self, payload: &[u8]) -> Result<(), String> {
        self.names.clear();
        self.current.start(payload);
        for step in &self.steps {
            self.next.clear();
            for (piece, label) in self.current.iter() {
                step.run(&self.limits, piece, label, &mut self.names, &mut self.next)
                    .map_err(|reason| format!("{}: {reason}", step.name()))?;
            }
            std::mem::swap(&mut self.current, &mut self.next);
        }
        Ok(())
    }
}

impl Plugin for Unpack {
    fn configure(config: &str, _setup: &mut Setup) -> Result<Self, String> {
        let (steps, limits) = wasmill_sdk::config::read::<Config>(config)?.steps()?;
        Ok(Self {
            steps,
            limits,
            current: Pieces::default(),
            next: Pieces::default(),
            names: Vec::new(),
            leaving: Leaving::default(),
        })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let payloads = rows.payloads();
        let (mut several, mut bytes) = (false, 0);
        self.leaving.clear();
        for (row, payload) in payloads.iter().enumerate() {
            let source = u32::try_from(row).map_err(|_| TOO_MUCH)?;
            if let Err(reason) = self.unpack(payload) {
                rows.fail(row, &reason);
                self.leaving.push_nothing(source);
                continue;
            }
            bytes += self.current.bytes();
            if bytes > CHUNK_BYTES && payloads.len() > 1 {
                return Err(TOO_MUCH.to_owned());
            }
            match self.current.len() {
                0 => self.leaving.push_nothing(source),
                count => several |= count > 1,
            }
            for (piece, label) in self.current.iter() {
                // What did not change is not written.
                let changed = (piece != payload).then_some(piece);
                self.leaving.push(source, changed, label, &self.names);
            }
        }
        if several {
            // All rows are derived, so that records stay in their order.
            let derived = rows.derive(&self.leaving.sources);
            self.leaving.write(&derived);
            rows.emit(derived);
        } else {
            self.leaving.write(rows);
        }
        Ok(())
    }
}

wasmill_sdk::export!(Unpack);
