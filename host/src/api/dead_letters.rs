//! `/v1/streams/{name}/dead-letters`: list, show, replay and purge.
//!
//! | route | answer |
//! |---|---|
//! | `GET …/dead-letters` | a page of letters and where the next one begins |
//! | `GET …/dead-letters/{number}` | one letter |
//! | `POST …/dead-letters/replay` | what became of up to `limit` letters, and where the next request goes on |
//! | `DELETE …/dead-letters` | how many were removed; needs a condition, or `all=true` |
//! | `DELETE …/dead-letters/{number}` | the same of one |
//!
//! Conditions are in the query (`number`, `stage`, `at`, `source`, `from_offset`, `to_offset`, `older_than`, `newer_than`,
//! `reason`). It owns their parsing and the shape of the answers; every page is bounded by the program behind it.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::{Extension, Json};
use serde_json::Value;

use super::access::Caller;
use super::error::ApiError;
use super::{Host, Shared};
use crate::pipeline::dead_letters::Filter;
use crate::pipeline::stats::wall_clock_ns;
use crate::pipeline::{LettersError, PAGE_LETTERS_MAX, Wanted};

/// Letters of a page unless the client asks for another number.
const PAGE_LETTERS: usize = 100;
/// Letters that one request replays unless the client asks for another number.
const REPLAY_LETTERS: usize = 10_000;

/// What a client asks of a stream's dead letters.
#[derive(Debug)]
pub enum LettersRequest {
    Page(Wanted),
    Get(u64),
    Remove(Filter),
    Replay { wanted: Wanted, plugins: Vec<String> },
}

/// A query, taken apart.
#[derive(Debug, Default)]
struct Query {
    filter: Filter,
    after: u64,
    limit: Option<usize>,
    plugins: Vec<String>,
    all: bool,
}

impl Query {
    fn parse(raw: Option<&str>, now: i64) -> Result<Query, ApiError> {
        let mut query = Query::default();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let text = decoded(text).ok_or_else(|| refuse(format!("{name}: bad percent-encoding")))?;
            let number = || text.parse().map_err(|_| refuse(format!("{name} {text:?} is no number")));
            match name {
                "after" => query.after = number()?,
                "limit" => match number()? {
                    0 => return Err(refuse("limit 0 is too small, expected at least 1".to_owned())),
                    limit => query.limit = Some(usize::try_from(limit).unwrap_or(usize::MAX)),
                },
                "plugin" => query.plugins.push(text),
                "all" => query.all = text == "true",
                _ => {
                    if !query.filter.set(name, &text, now).map_err(refuse)? {
                        return Err(refuse(format!(
                            "there is no parameter {name:?}, expected number, stage, at, source, from_offset, \
                             to_offset, older_than, newer_than, reason, after, limit, plugin or all"
                        )));
                    }
                }
            }
        }
        Ok(query)
    }

    fn wanted(self, limit: usize) -> Wanted {
        Wanted { filter: self.filter, after: self.after, limit: self.limit.unwrap_or(limit) }
    }
}

fn refuse(message: String) -> ApiError {
    ApiError::Query { message }
}

/// `+` and `%XX`.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

type Answer = Result<Json<Value>, ApiError>;

async fn ask<H: Host>(shared: &Shared<H>, caller: Caller, stream: String, request: LettersRequest) -> Answer {
    Ok(Json(shared.host.dead_letters(caller.tenant, stream, request).await.map_err(ApiError::letters)?))
}

pub(super) async fn list<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(stream): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answer {
    let wanted = Query::parse(raw.as_deref(), wall_clock_ns())?.wanted(PAGE_LETTERS);
    if wanted.limit > PAGE_LETTERS_MAX {
        return Err(refuse(format!(
            "limit {} is too large, expected at most {PAGE_LETTERS_MAX}",
            wanted.limit
        )));
    }
    ask(&shared, caller, stream, LettersRequest::Page(wanted)).await
}

pub(super) async fn get<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path((stream, number)): Path<(String, String)>,
) -> Answer {
    ask(&shared, caller, stream, LettersRequest::Get(number_of(&number)?)).await
}

pub(super) async fn remove_one<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path((stream, number)): Path<(String, String)>,
) -> Answer {
    let number = number_of(&number)?;
    // So that a number that is none is told.
    let _letter = ask(&shared, caller.clone(), stream.clone(), LettersRequest::Get(number)).await?;
    let filter = Filter { numbers: Some(vec![(number, number)]), ..Filter::default() };
    ask(&shared, caller, stream, LettersRequest::Remove(filter)).await
}

pub(super) async fn remove<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(stream): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answer {
    let query = Query::parse(raw.as_deref(), wall_clock_ns())?;
    if query.filter.is_empty() && !query.all {
        return Err(refuse("which letters? Give a condition, or all=true".to_owned()));
    }
    ask(&shared, caller, stream, LettersRequest::Remove(query.filter)).await
}

pub(super) async fn replay<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(stream): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), wall_clock_ns())?;
    let plugins = std::mem::take(&mut query.plugins);
    ask(&shared, caller, stream, LettersRequest::Replay { wanted: query.wanted(REPLAY_LETTERS), plugins })
        .await
}

fn number_of(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_no_number| refuse(format!("{text:?} is no number of a dead letter")))
}

impl ApiError {
    fn letters(error: LettersError) -> ApiError {
        let message = crate::pipeline::with_causes(&error);
        match error {
            LettersError::NoStream { .. } => ApiError::NotFound { code: "no_stream", message },
            LettersError::NoLetter { .. } => ApiError::NotFound { code: "no_dead_letter", message },
            LettersError::Plugin(_) => refuse(message),
            LettersError::Busy { .. } => ApiError::Conflict { message },
            LettersError::Unsettled { .. }
            | LettersError::Replay(_)
            | LettersError::Store(_)
            | LettersError::Interrupted(_) => ApiError::Failed { message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_taken_apart_or_refused_by_name() {
        let query =
            Query::parse(Some("stage=encode&reason=a%20b+c&after=7&plugin=p%40sha256%3A0"), 0).unwrap();
        assert_eq!((query.after, query.filter.reason.as_deref()), (7, Some("a b c")));
        assert_eq!(query.plugins, ["p@sha256:0"]);
        for wrong in [
            "colour=red",
            "after=x",
            "limit=0",
            "number=0",
            "number=9-7",
            "from_offset=9&to_offset=3",
            "reason=%f",
            "reason=%ff",
            "stage=parse",
        ] {
            assert!(matches!(Query::parse(Some(wrong), 0), Err(ApiError::Query { .. })), "{wrong}");
        }
    }
}
