//! A part of a slice and one process: what is sent, what it asks for meanwhile, and what it answers.

use std::io;
use std::time::{Duration, Instant};

use wasmill_state::StateError;

use super::answer::{Asked, Rows};
use super::columns::columns;
use super::going::Going;
use super::messages::{Answer, Request, Run};
use super::process::Process;
use super::remote::{Remote, impossible, log};
use super::requests;
use super::state::{self, Unchanged};
use crate::report::SliceReport;

/// What one process did: the report, the rows, and whether the transforms have more to do at the watermark.
pub(super) type Done = (SliceReport, Vec<Rows>, bool);

/// Why a process did not do it.
pub(super) enum Broken {
    /// By the process.
    Process(io::Error),
    /// By the state that it asked for or changed.
    State(StateError),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Process(error)
    }
}

impl From<Unchanged> for Broken {
    fn from(unchanged: Unchanged) -> Broken {
        match unchanged {
            Unchanged::Impossible => Broken::Process(impossible()),
            Unchanged::State(error) => Broken::State(error),
        }
    }
}

impl Remote {
    /// Sends a part to a process, and takes what comes back until it is done.
    pub(super) fn exchange(
        &self,
        process: &mut Process,
        asked: &Asked<'_>,
        going: &mut Going<'_, '_>,
        before: Duration,
    ) -> Result<Done, Broken> {
        let Going { options, times, held, check, sent, .. } = going;
        let mut request = Run {
            chain: self.chain,
            slice: asked.slice.id,
            stream_seed: asked.slice.stream_seed,
            require_json: options.require_json,
            byte_routes: options.byte_routes,
            waited: sent.waited(),
            inputs: Vec::with_capacity(asked.parts.len()),
            clock: asked.clock,
            keeps: held.as_ref().map(|held| held.shown(asked.chain, check.is_some())),
        };
        // Payloads go as they are; everything else is copied into one buffer behind each.
        let mut payloads: Vec<&[u8]> = Vec::with_capacity(asked.parts.len());
        let mut rest: Vec<Vec<u8>> = Vec::with_capacity(asked.parts.len());
        for part in asked.parts {
            let Some(input) = asked.slice.inputs.get(part.input) else { continue };
            let times = times.as_ref().and_then(|times| times.rows.get(part.input));
            let (head, payload, columns) = columns(input, &part.rows, times).ok_or_else(impossible)?;
            request.inputs.push(head);
            payloads.push(payload);
            rest.push(columns);
        }
        let body: Vec<&[u8]> =
            payloads.iter().zip(&rest).flat_map(|(payload, rest)| [*payload, rest.as_slice()]).collect();
        let chunks = u32::try_from(asked.chunks().max(1)).unwrap_or(u32::MAX);
        let of_chunks = self.each_chunk.saturating_mul(chunks);
        let end = Instant::now() + self.chunk_max + of_chunks + self.wait_max;
        sent.begin();
        process.send(&Request::Run(request), &body, end)?;
        let (mut rows, mut came, mut lines) = (Vec::new(), (0, 0), 0);
        let mut room = asked.rows_max();
        let mut alive = Instant::now() + self.chunk_max;
        loop {
            let (answer, body) = process.receive(end.min(alive))?;
            match answer {
                Answer::Rows(head) => {
                    let some = Rows::read(head, body, asked).ok_or_else(impossible)?;
                    room = room.checked_sub(some.bytes()).ok_or_else(impossible)?;
                    came = (came.0 + some.count(), came.1 + some.payload_bytes());
                    rows.push(some);
                }
                Answer::Http(ask) => {
                    let waited = sent.waited();
                    requests::answer(process, asked, ask, &body, sent, end).ok_or_else(impossible)??;
                    // To ask is no sign that anything is done.
                    alive += sent.waited().saturating_sub(waited);
                    continue;
                }
                Answer::State(ask) => {
                    let held = held.as_mut().ok_or_else(impossible)?;
                    let answered = held.answer(&ask, &body).ok_or_else(impossible)?;
                    let (answer, body) = answered.map_err(Broken::State)?;
                    // It takes of the guests' time, as a call does in the host: who asks without end is ended.
                    process.send(&answer, &[&body], end.min(alive))?;
                    continue;
                }
                Answer::Check { route } => {
                    let check = check.as_mut().filter(|_| (route as usize) < asked.outputs);
                    let answer = state::checked(&mut **check.ok_or_else(impossible)?, route, &body);
                    process.send(&answer, &[], end.min(alive))?;
                    continue;
                }
                Answer::Done(report) => {
                    let used = process.cpu().saturating_sub(before);
                    let (letters, changes) =
                        body.split_at_checked(report.letter_bytes as usize).ok_or_else(impossible)?;
                    let owed = report.owed;
                    let report = asked.report(*report, letters, came, used).ok_or_else(impossible)?;
                    match held {
                        Some(held) if report.unrunnable.is_none() => held.change(changes)?,
                        _ if changes.is_empty() => {}
                        _ => return Err(impossible().into()),
                    }
                    return Ok((report, rows, owed));
                }
                said if log(&asked.chain.steps, &said, &mut lines) => {}
                _ => return Err(impossible().into()),
            }
            alive = Instant::now() + self.chunk_max;
        }
    }
}
