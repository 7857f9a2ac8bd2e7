//! The `redact` plugin: masks, drops, hashes or replaces personal data, in whole fields or where patterns find it.
//!
//! It fails closed. A field that a rule names is written back in every record that has it, changed or not, so that
//! an earlier duplicate of the same key cannot slip through; values of other types than strings, and what is nested
//! in arrays and objects, are searched too; after a change the finders look again. What it refuses: see `plan`.

pub mod act;
pub mod config;
pub mod find;
pub mod json;
pub mod keyed;
pub mod plan;

use act::{Outcome, Redactor};
use config::{Config, Payload};
use plan::Scope;
use wasmill_sdk::{Cell, Chunk, Field, Plugin, Setup, Text, TextColumn, is_json, is_object};

/// The configured plugin.
pub struct Redact {
    scope: Scope,
    redactor: Redactor,
    column: TextColumn,
    /// Per row whether it has any of the fields.
    seen: Vec<bool>,
}

impl Plugin for Redact {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        let (scope, redactor) = plan::plan(&config, setup)?;
        Ok(Self { scope, redactor, column: TextColumn::new(), seen: Vec::new() })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let Self { scope, redactor, column, seen } = self;
        match scope {
            Scope::Fields(fields) => {
                seen.clear();
                seen.resize(rows.len(), false);
                for (field, rules) in fields {
                    redact_field(rows, *field, rules, redactor, column, seen);
                }
                refuse_other_than_objects(rows, seen);
            }
            Scope::Payload(mode, rules) => redact_payload(rows, *mode, rules, redactor, column),
        }
        Ok(())
    }
}

fn redact_field(
    rows: &Chunk<'_>,
    field: Field,
    rules: &[usize],
    redactor: &mut Redactor,
    column: &mut TextColumn,
    seen: &mut [bool],
) {
    let text = rows.text(field);
    let others = text.states().contains(&2).then(|| rows.raw_json(field));
    column.clear();
    for (row, seen) in seen.iter_mut().enumerate() {
        let cell = text.cell(row);
        *seen |= cell != Cell::Missing;
        match cell {
            // Also where the last of several parents lacks the field: an earlier one may have it.
            Cell::Missing => column.push_remove(),
            Cell::Null => column.push_null(),
            Cell::Value(value) => {
                let kept = match redactor.value(value, rules, false) {
                    Outcome::Removed => {
                        column.push_remove();
                        continue;
                    }
                    Outcome::Same => value,
                    Outcome::Changed => redactor.result(),
                };
                match &others {
                    None => column.push_bytes(kept),
                    Some(_) => {
                        json::quote(kept, column.buffer());
                        column.finish();
                    }
                }
            }
            Cell::Other => redact_other(others.as_ref(), row, rules, redactor, column),
        }
    }
    match others {
        None => rows.set_text(field, column),
        Some(_) => rows.set_raw(field, column),
    }
}

/// In a record that is no JSON object every field is missing, and nobody knows what it hides: it fails. Payloads are
/// only looked at where a record has none of the fields.
fn refuse_other_than_objects(rows: &Chunk<'_>, seen: &[bool]) {
    if seen.iter().all(|seen| *seen) {
        return;
    }
    let payloads = rows.payloads();
    for (row, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
        if !is_object(payloads.get(row)) {
            rows.fail(row, "the record is not a JSON object");
        }
    }
}

/// A number, boolean, array or object, as JSON text.
fn redact_other(
    others: Option<&Text>,
    row: usize,
    rules: &[usize],
    redactor: &mut Redactor,
    column: &mut TextColumn,
) {
    let Some(value) = others.and_then(|others| others.get(row)) else {
        column.push_remove();
        return;
    };
    let nested = matches!(value.first(), Some(b'{' | b'['));
    if nested && !redactor.takes_whole(rules) {
        json::rewrite(value, column.buffer(), &mut |value, out| replaced(redactor, value, rules, out));
        column.finish();
        return;
    }
    match redactor.value(value, rules, nested) {
        Outcome::Removed => column.push_remove(),
        Outcome::Same => column.push_bytes(value),
        Outcome::Changed => {
            json::quote(redactor.result(), column.buffer());
            column.finish();
        }
    }
}

/// Appends what becomes of a value within JSON; `false` if it stays.
fn replaced(redactor: &mut Redactor, value: &[u8], rules: &[usize], out: &mut Vec<u8>) -> bool {
    let changed = redactor.value(value, rules, false) == Outcome::Changed;
    if changed {
        out.extend_from_slice(redactor.result());
    }
    changed
}

fn redact_payload(
    rows: &Chunk<'_>,
    mode: Payload,
    rules: &[usize],
    redactor: &mut Redactor,
    column: &mut TextColumn,
) {
    let payloads = rows.payloads();
    column.clear();
    for (row, payload) in payloads.iter().enumerate() {
        match mode {
            Payload::Text => match redactor.value(payload, rules, false) {
                Outcome::Same => column.push_missing(),
                _ => column.push_bytes(redactor.result()),
            },
            Payload::Json => {
                if !is_json(payload) {
                    // Nobody knows what a broken record hides.
                    rows.fail(row, "the payload is not JSON");
                    column.push_missing();
                    continue;
                }
                let changed = json::rewrite(payload, column.buffer(), &mut |value, out| {
                    replaced(redactor, value, rules, out)
                });
                if changed {
                    column.finish();
                } else {
                    column.push_missing();
                }
            }
        }
    }
    rows.set_payloads(column);
}

wasmill_sdk::export!(Redact);
