//! `GET /v1/streams/{name}/sample`: the next records of a stream, before and after its transforms.
//!
//! It owns the query; it refuses more records, and a longer wait, than a look needs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::{Extension, Json};

use super::access::Caller;
use super::error::ApiError;
use super::{Host, Shared};
use crate::pipeline::{SAMPLE_RECORDS_MAX, SAMPLE_WAIT_MAX, SampleError, SampledSlice};

/// Unless the client asks for something else.
const RECORDS: usize = 10;
const WAIT: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Query {
    records: usize,
    wait: Duration,
}

impl Query {
    fn parse(raw: Option<&str>) -> Result<Query, ApiError> {
        let refuse = |message: String| ApiError::Query { message };
        let mut query = Query { records: RECORDS, wait: WAIT };
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "records" => {
                    let records = text.parse().ok().filter(|n| (1..=SAMPLE_RECORDS_MAX).contains(n));
                    let expected = || refuse(format!("records {text:?}: expected 1 to {SAMPLE_RECORDS_MAX}"));
                    query.records = records.ok_or_else(expected)?;
                }
                "wait" => {
                    let most = SAMPLE_WAIT_MAX.as_secs();
                    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok().filter(|n| *n <= most);
                    let expected = || refuse(format!("wait {text:?}: expected whole seconds, 0s to {most}s"));
                    query.wait = Duration::from_secs(seconds.ok_or_else(expected)?);
                }
                _ => return Err(refuse(format!("there is no parameter {name:?}, expected records or wait"))),
            }
        }
        Ok(query)
    }
}

pub(super) async fn sample<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(stream): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Json<SampledSlice>, ApiError> {
    let Query { records, wait } = Query::parse(raw.as_deref())?;
    match shared.host.sample(caller.tenant, stream, records, wait).await {
        Ok(slice) => Ok(Json(slice)),
        Err(error @ SampleError::NoStream { .. }) => {
            Err(ApiError::NotFound { code: "no_stream", message: error.to_string() })
        }
        Err(error @ SampleError::TooMany) => Err(ApiError::Conflict { message: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_has_defaults_and_bounds() {
        assert_eq!(Query::parse(None).unwrap(), Query { records: 10, wait: Duration::from_secs(10) });
        let query = Query::parse(Some("records=3&wait=30s")).unwrap();
        assert_eq!(query, Query { records: 3, wait: Duration::from_secs(30) });
        for wrong in ["records=0", "records=101", "records=x", "wait=61s", "wait=5m", "limit=3"] {
            let refused = Query::parse(Some(wrong)).unwrap_err();
            assert!(
                matches!(&refused, ApiError::Query { message } if message.contains("expected")),
                "{wrong}"
            );
        }
    }
}
