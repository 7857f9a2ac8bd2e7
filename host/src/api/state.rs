//! `/v1/streams/{name}/state`: what the plugins of a stream keep.
//!
//! | route | answer |
//! |---|---|
//! | `GET …/state` | the tables, with what is stored of them |
//! | `DELETE …/state?all=true` | how many entries went: of all tables |
//! | `GET …/state/{transform}/{table}` | a page of entries, and where the next one begins; with `key` or `key_base64` those of one key |
//! | `DELETE …/state/{transform}/{table}` | how many entries went: of this table |

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::{Extension, Json};
use base64::Engine as _;
use serde_json::Value;

use super::access::Caller;
use super::dead_letters::decoded;
use super::error::ApiError;
use super::{Host, Shared};
use crate::pipeline::{
    EntriesWanted, PAGE_ENTRIES_MAX, PlaceOf, StateDeskError, StateRequest, TableName, read_cursor,
};

/// Entries of a page unless the client asks for another number.
const PAGE_ENTRIES: usize = 100;

type Answer = Result<Json<Value>, ApiError>;

/// A query, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    key: Option<Vec<u8>>,
    prefix: Vec<u8>,
    after: Option<PlaceOf>,
    limit: Option<usize>,
    all: bool,
}

fn refuse(message: String) -> ApiError {
    ApiError::Query { message }
}

impl Query {
    fn parse(raw: Option<&str>) -> Result<Query, ApiError> {
        let mut query = Query::default();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let text = decoded(text).ok_or_else(|| refuse(format!("{name}: bad percent-encoding")))?;
            match name {
                "key" => query.key = Some(text.into_bytes()),
                "key_base64" => {
                    let bytes = base64::engine::general_purpose::STANDARD.decode(&text);
                    query.key = Some(bytes.map_err(|_| refuse(format!("key_base64 {text:?} is no base64")))?);
                }
                "prefix" => query.prefix = text.into_bytes(),
                "after" => {
                    let after = read_cursor(&text);
                    query.after = Some(
                        after.ok_or_else(|| refuse(format!("after {text:?} is no \"next\" of a page")))?,
                    );
                }
                "limit" => {
                    let limit = text.parse().ok().filter(|limit| (1..=PAGE_ENTRIES_MAX).contains(limit));
                    let wrong = || format!("limit {text:?}: expected a number from 1 to {PAGE_ENTRIES_MAX}");
                    query.limit = Some(limit.ok_or_else(|| refuse(wrong()))?);
                }
                "all" => query.all = text == "true",
                _ => {
                    return Err(refuse(format!(
                        "there is no parameter {name:?}, expected key, key_base64, prefix, after, limit or all"
                    )));
                }
            }
        }
        Ok(query)
    }
}

async fn ask<H: Host>(shared: &Shared<H>, caller: Caller, stream: String, request: StateRequest) -> Answer {
    Ok(Json(shared.host.state(caller.tenant, stream, request).await.map_err(ApiError::state)?))
}

pub(super) async fn tables<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(stream): Path<String>,
) -> Answer {
    ask(&shared, caller, stream, StateRequest::Tables).await
}

pub(super) async fn entries<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path((stream, transform, table)): Path<(String, String, String)>,
    RawQuery(raw): RawQuery,
) -> Answer {
    let Query { key, prefix, after, limit, all: _ } = Query::parse(raw.as_deref())?;
    let (of, limit) = (TableName { transform, table }, limit.unwrap_or(PAGE_ENTRIES));
    let wanted = EntriesWanted { of, key, prefix, after, limit };
    ask(&shared, caller, stream, StateRequest::Entries(wanted)).await
}

pub(super) async fn drop_all<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(stream): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answer {
    if !Query::parse(raw.as_deref())?.all {
        return Err(refuse("which table? Name one, or give all=true".to_owned()));
    }
    ask(&shared, caller, stream, StateRequest::Drop(None)).await
}

pub(super) async fn drop_table<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path((stream, transform, table)): Path<(String, String, String)>,
) -> Answer {
    ask(&shared, caller, stream, StateRequest::Drop(Some(TableName { transform, table }))).await
}

impl ApiError {
    fn state(error: StateDeskError) -> ApiError {
        let message = crate::pipeline::with_causes(&error);
        match error {
            StateDeskError::NoStream { .. } => ApiError::NotFound { code: "no_stream", message },
            StateDeskError::NoTable { .. } => ApiError::NotFound { code: "no_table", message },
            StateDeskError::Failed { .. } | StateDeskError::Drop(_) => ApiError::Failed { message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_taken_apart_or_refused_by_name() {
        let query = Query::parse(Some("prefix=a%20b&limit=7&after=Awdr")).unwrap();
        assert_eq!(
            query,
            Query {
                prefix: b"a b".to_vec(),
                limit: Some(7),
                after: Some((3, 7, b"k".to_vec())),
                ..Query::default()
            }
        );
        assert_eq!(Query::parse(Some("key_base64=AP8%3D")).unwrap().key, Some(vec![0, 255]));
        for wrong in ["colour=red", "limit=0", "limit=10001", "after=%23", "key_base64=%23", "key=%f"] {
            assert!(matches!(Query::parse(Some(wrong)), Err(ApiError::Query { .. })), "{wrong}");
        }
    }
}
