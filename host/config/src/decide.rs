//! Checks of a stream's `decide` table.

use std::time::Duration;

use crate::raw;
use crate::resolve::Resolver;
use crate::settings::{Decide, DecideAnswer, Source, StreamSource};

/// Longest wait for what becomes of a record.
const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// JSON text of what a client gets instead.
const FALLBACK_BYTES_MAX: usize = 64 << 10;

pub(crate) fn decide(
    resolver: &mut Resolver<'_>,
    stream: &str,
    sources: &[StreamSource],
    decide: raw::Decide,
) -> Decide {
    if sources.iter().all(|of| of.source != Source::Http) {
        let message = "\"decide\" wants a source of type \"http\": nobody waits for records that the host reads by itself";
        resolver.problem(&format!("{stream}.decide"), message);
    }
    let deadline = decide.deadline.0;
    if !(Duration::from_millis(1)..=DEADLINE_MAX).contains(&deadline) {
        resolver.problem(&format!("{stream}.decide.deadline"), "\"deadline\" must be from 1ms to 60s");
    }
    let text = decide.fallback.as_ref().map(serde_json::to_string);
    let bytes = text.map_or(0, |text| text.map_or(usize::MAX, |text| text.len()));
    if bytes > FALLBACK_BYTES_MAX {
        let message =
            format!("\"fallback\" takes {bytes} bytes as JSON, expected at most {FALLBACK_BYTES_MAX}");
        resolver.problem(&format!("{stream}.decide.fallback"), message);
    }
    let answer = match decide.answer {
        raw::Answer::Durable => DecideAnswer::Durable,
        raw::Answer::Computed => DecideAnswer::Computed,
        raw::Answer::Early => DecideAnswer::Early,
    };
    Decide { deadline, answer, fallback: decide.fallback }
}
