//! A WASI preview 1 program as a plugin: for every chunk it runs anew from `_start` to its end, with one record a line
//! on standard input and one line a record on standard output.
//!
//! An empty line drops its record. Any other number of lines, an exit code but 0, or a trap fails the chunk. With
//! `mapping = "free"` the lines are rows of their own, and records have no verdicts but that they were read.

use memchr::memchr;
use serde::Deserialize;
use wasmill_chunk::{Chunk, ColumnRef, RowsId};
use wasmtime::{InstancePre, Store};
use wasmtime_wasi::I32Exit;

use super::answer::Answer;
use super::preview1::Preview1;
use super::{Door, Speaker, State, Usage, config, host};
use crate::fault::{PluginFault, fault_of, reason_of};
use crate::instance::{Call, Guest, Phase, guard, guest};
use crate::limits::{ARGUMENT_BYTES_MAX, Limits};
use crate::step::Step;

/// The environment variable that holds the transform's whole config.
const CONFIG: &str = "WASMILL_CONFIG";

/// What of the config is the door's own; the program sees all of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    mapping: Mapping,
    /// The program's arguments behind its name.
    args: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mapping {
    #[default]
    OneToOne,
    Free,
}

pub(super) struct Command {
    pre: InstancePre<Guest>,
    /// Between two runs.
    guest: Option<Guest>,
    mapping: Mapping,
    limits: Limits,
    counts_fuel: bool,
    usage: Usage,
    /// A buffer.
    input: Vec<u8>,
}

impl Command {
    pub(super) fn start(step: &Step, pre: &InstancePre<Guest>) -> Result<Command, PluginFault> {
        let own: Config = config(step, Door::Command)?;
        let texts = own.args.iter().chain([&step.config]);
        let bytes: usize = texts.clone().map(|text| text.len() + 1).sum();
        if bytes > ARGUMENT_BYTES_MAX {
            let message = format!("config of {bytes} bytes; a command takes {ARGUMENT_BYTES_MAX}");
            return Err(PluginFault::Returned { message });
        }
        if let Some(text) = texts.clone().find(|text| text.contains('\0')) {
            let message = format!("config holds a zero byte, which no argument of a command can: {text:?}");
            return Err(PluginFault::Returned { message: reason_of(message) });
        }
        let preview1 =
            Preview1::new(step.name_seed).with_texts(&own.args, vec![format!("{CONFIG}={}", step.config)]);
        Ok(Command {
            pre: pre.clone(),
            guest: Some(guest(step, Some(State::new(preview1)))),
            mapping: own.mapping,
            limits: step.limits.clone(),
            counts_fuel: step.engine.fuel(),
            usage: Usage::default(),
            input: Vec::new(),
        })
    }

    /// Runs the program over `input`; what it wrote.
    fn run(&mut self, input: Vec<u8>, call: Call) -> Result<(Vec<u8>, Vec<u8>), PluginFault> {
        let lost = || PluginFault::Host { message: "the state of a command was lost".to_owned() };
        let mut guest = self.guest.take().ok_or_else(lost)?;
        guest.begin_call(Phase::Process, call);
        guest.limiter.begin_instance();
        let door = guest.door.as_mut().ok_or_else(lost)?;
        door.memory = None;
        door.preview1.feed(input, self.limits.output_bytes);
        let mut store = guard(self.pre.module().engine(), guest, self.counts_fuel)?;
        let ended = self.execute(&mut store);
        let fuel = self.usage.fuel;
        self.usage = Usage::of(&store, self.usage.memory_at_start);
        self.usage.fuel = self.usage.fuel.saturating_add(fuel);
        let mut guest = store.into_data();
        let stderr = guest.end_call();
        let result = match ended {
            Ok(()) => {
                let door = guest.door.as_mut().ok_or_else(lost)?;
                Ok(door.preview1.take())
            }
            Err(error) => Err(match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) if !guest.limiter.refused => {
                    let line = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                    let colon = if line.is_empty() { "" } else { ": " };
                    PluginFault::Returned { message: reason_of(format!("exit code {code}{colon}{line}")) }
                }
                _ => fault_of(&error, &guest, &stderr),
            }),
        };
        self.guest = Some(guest);
        result
    }

    fn execute(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        let instance = self.pre.instantiate(&mut *store)?;
        let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
        match start.call(&mut *store, ()) {
            Err(error) if matches!(error.downcast_ref(), Some(I32Exit(0))) => Ok(()),
            result => result,
        }
    }
}

impl Speaker for Command {
    fn process(&mut self, chunk: &mut Chunk, call: Call) -> Result<(), PluginFault> {
        let mut answer = Answer::new(&self.limits);
        let mut input = std::mem::take(&mut self.input);
        input.clear();
        let payloads = chunk.payloads(RowsId::MAIN).map_err(host)?;
        let rows = u32::try_from(payloads.len()).unwrap_or(u32::MAX);
        let sent = lines_of(payloads, &mut input, &mut answer)?;
        if rows > 0 && sent.is_empty() {
            return answer.stage(chunk, rows);
        }
        let (output, input) = self.run(input, call)?;
        self.input = input;
        if self.mapping == Mapping::Free {
            for line in lines(&output).filter(|line| !line.is_empty()) {
                answer.put(0, line)?;
            }
            return answer.stage_fresh(chunk, rows);
        }
        let wrote = lines(&output).count();
        if wrote != sent.len() {
            let (lines, records) = (counted(wrote, "line"), counted(sent.len(), "record"));
            let message = format!(
                "wrote {lines} for {records}; a command writes one line for each, an empty one to drop it"
            );
            return Err(PluginFault::BadOutput { message });
        }
        for (&row, line) in sent.iter().zip(lines(&output)) {
            if !line.is_empty() {
                answer.put(row, line)?;
            }
        }
        answer.stage(chunk, rows)
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}

/// One line a record; returns which rows have one. A record that is no line fails.
fn lines_of(
    payloads: ColumnRef<'_>,
    input: &mut Vec<u8>,
    answer: &mut Answer,
) -> Result<Vec<u32>, PluginFault> {
    let mut sent = Vec::with_capacity(payloads.len());
    for (row, payload) in (0..).zip(payloads.iter()) {
        if memchr(b'\n', payload).is_some() {
            answer.fail(row, "the record holds a newline, and a command reads one record a line")?;
            continue;
        }
        sent.push(row);
        input.extend_from_slice(payload);
        input.push(b'\n');
    }
    Ok(sent)
}

/// The lines of a text, of which the last may lack its end.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..end)?;
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(line)
    })
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_end_with_or_without_a_newline_and_may_be_empty() {
        let split = |text: &'static str| {
            lines(text.as_bytes()).map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(split("a\nb\n"), ["a", "b"]);
        assert_eq!(split("a\nb"), ["a", "b"]);
        assert_eq!(split("\n\nb"), ["", "", "b"]);
        assert_eq!(split("a\n\n"), ["a", ""]);
        assert_eq!(split("\n"), [""]);
        assert_eq!(split(""), [""; 0]);
    }
}
