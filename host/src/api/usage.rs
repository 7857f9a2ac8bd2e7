//! `GET /v1/usage`: what a tenant, its streams or its plugins have used, by time.
//!
//! As a page of JSON, which says where the next one begins; or as NDJSON (`format=ndjson`, or `Accept:
//! application/x-ndjson`), an object a line, for as long as there are any. An operator may ask for another tenant, and as
//! NDJSON for all.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::mpsc;
use wasmill_tenant::TenantName;

use super::access::Caller;
use super::dead_letters::decoded;
use super::error::ApiError;
use super::{Host, Shared};
use crate::pipeline::stats::wall_clock_ns;
use crate::pipeline::{
    UsageBy, UsageError, UsagePage, UsageQuery, UsageReader, moment_text, parse_moment, usage_span,
};

/// Rows of a page unless the client asks for another number.
const PAGE_ROWS: usize = 1000;
const PAGE_ROWS_MAX: usize = 10_000;
/// Rows that are read at a time for NDJSON; two times as many wait for a client that reads slowly.
const LINES_ROWS: usize = 2000;
const NDJSON: &str = "application/x-ndjson";

#[derive(Debug)]
struct Asked {
    query: UsageQuery,
    ndjson: bool,
    limit: usize,
    tenant: Option<String>,
}

fn refuse(message: String) -> ApiError {
    ApiError::Query { message }
}

fn parse(raw: Option<&str>, now: i64) -> Result<Asked, ApiError> {
    let seconds = |name: &str, text: &str| {
        let moment = parse_moment(text, now).map_err(|why| refuse(format!("{name}: {why}")))?;
        Ok::<_, ApiError>(u64::try_from(moment.div_euclid(1_000_000_000)).unwrap_or(0))
    };
    let (mut from, mut to) = (None, None);
    let mut asked = Asked {
        query: UsageQuery { from: 0, to: 0, by: UsageBy::Stream, seconds: 3600 },
        ndjson: false,
        limit: PAGE_ROWS,
        tenant: None,
    };
    for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let text = decoded(text)
            .ok_or_else(|| refuse(format!("{name} {text:?}: after `%` expected two hex digits, of UTF-8")))?;
        match name {
            "from" => from = Some(seconds("from", &text)?),
            "to" => to = Some(seconds("to", &text)?),
            "by" => {
                asked.query.by = match text.as_str() {
                    "tenant" => UsageBy::Tenant,
                    "stream" => UsageBy::Stream,
                    "plugin" => UsageBy::Plugin,
                    _ => return Err(refuse(format!("by {text:?}: expected tenant, stream or plugin"))),
                }
            }
            "interval" => {
                let span = usage_span(&text);
                asked.query.seconds =
                    span.ok_or_else(|| refuse(format!("interval {text:?}: expected minute, hour or day")))?;
            }
            "format" => {
                asked.ndjson = match text.as_str() {
                    "ndjson" => true,
                    "json" => false,
                    _ => return Err(refuse(format!("format {text:?}: expected json or ndjson"))),
                }
            }
            "limit" => {
                let number = text.parse().ok().filter(|n| (1..=PAGE_ROWS_MAX).contains(n));
                asked.limit =
                    number.ok_or_else(|| refuse(format!("limit {text:?}: expected 1 to {PAGE_ROWS_MAX}")))?;
            }
            "tenant" => asked.tenant = Some(text),
            _ => {
                return Err(refuse(format!(
                    "there is no parameter {name:?}, expected from, to, by, interval, format, limit or tenant"
                )));
            }
        }
    }
    // This moment is in a span that counts.
    let now_s = u64::try_from(now / 1_000_000_000).unwrap_or(0) + 1;
    asked.query.to = to.unwrap_or(now_s);
    asked.query.from = from.unwrap_or_else(|| asked.query.to.saturating_sub(24 * 3600));
    if asked.query.from >= asked.query.to {
        return Err(refuse("from is not before to".to_owned()));
    }
    Ok(asked)
}

/// Whose usage it is about; `None`: of all.
fn of(caller: &Caller, keys: bool, asked: &Asked) -> Result<Option<TenantName>, ApiError> {
    let Some(named) = &asked.tenant else { return Ok(Some(caller.tenant.clone())) };
    // Without keys everybody may do everything.
    let operator = caller.scopes.is_operator() || !keys;
    if named == "*" && operator {
        if !asked.ndjson {
            return Err(refuse(
                "tenant *: of all tenants there is no page, expected format=ndjson".to_owned(),
            ));
        }
        return Ok(None);
    }
    match TenantName::new(named) {
        Ok(name) if operator || name == caller.tenant => Ok(Some(name)),
        _ => Err(ApiError::NotFound {
            code: "no_tenant",
            message: format!("there is no tenant {:?}", named.chars().take(65).collect::<String>()),
        }),
    }
}

pub(super) async fn usage<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let mut asked = parse(raw.as_deref(), wall_clock_ns())?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    asked.ndjson |=
        accepts.split(',').any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == NDJSON));
    match of(&caller, shared.access.keys, &asked)? {
        Some(tenant) if !asked.ndjson => page(&shared, &caller, tenant.to_string(), asked).await,
        tenant => Ok(lines(&shared, &caller, tenant.map(|tenant| tenant.to_string()), asked.query)),
    }
}

fn reader(caller: &Caller, waits: bool) -> UsageReader {
    UsageReader { tenant: caller.tenant.to_string(), waits }
}

async fn page<H: Host>(
    shared: &Shared<H>,
    caller: &Caller,
    tenant: String,
    asked: Asked,
) -> Result<Response, ApiError> {
    let page = shared.host.usage(tenant, asked.query, asked.limit, reader(caller, false)).await;
    let UsagePage { rows, next } = page.map_err(|error| match error {
        UsageError::TooMany => ApiError::TooManyReads,
        error @ UsageError::Failed { .. } => ApiError::Failed { message: error.to_string() },
    })?;
    let next =
        next.map(|seconds| moment_text(i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000)));
    Ok(Json(json!({ "usage": rows, "next": next })).into_response())
}

/// Page by page, so that nothing but memory is held while the client reads. `None`: of all tenants.
fn lines<H: Host>(
    shared: &Arc<Shared<H>>,
    caller: &Caller,
    tenant: Option<String>,
    query: UsageQuery,
) -> Response {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let (host, reader) = (Arc::clone(&shared.host), reader(caller, true));
    tokio::spawn(async move {
        if let Err(error) = send_lines(&*host, &reader, tenant, query, &sender).await {
            tracing::warn!(%error, "an export of usage breaks off");
            // The answer does, too, so that it is not taken for the whole.
            drop(sender.send(Err(std::io::Error::other(error))).await);
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(stream)).into_response()
}

async fn send_lines<H: Host>(
    host: &H,
    reader: &UsageReader,
    tenant: Option<String>,
    query: UsageQuery,
    sender: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> Result<(), UsageError> {
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => host.usage_tenants().await?,
    };
    for tenant in tenants {
        let mut next = Some(query.from);
        while let Some(from) = next {
            let query = UsageQuery { from, ..query.clone() };
            let page = host.usage(tenant.clone(), query, LINES_ROWS, reader.clone()).await?;
            next = page.next;
            let text: String = page.rows.iter().map(|row| format!("{row}\n")).collect();
            drop(page.rows);
            // A client that has gone wants no more.
            if !text.is_empty() && sender.send(Ok(text.into())).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;

    #[test]
    fn query_has_defaults_and_bounds() {
        let asked = parse(None, NOW).unwrap();
        assert_eq!((asked.query.to, asked.query.to - asked.query.from), (1_700_000_001, 86_400));
        assert_eq!((asked.query.by, asked.query.seconds, asked.limit), (UsageBy::Stream, 3600, 1000));
        let asked = parse(
            Some("from=2023-11-14T00%3A00%3A00Z&to=now&by=plugin&interval=minute&format=ndjson&tenant=%2A"),
            NOW,
        )
        .unwrap();
        assert_eq!(
            (asked.query.from, asked.query.to, asked.query.seconds),
            (1_699_920_000, 1_700_000_000, 60)
        );
        assert_eq!(
            (asked.query.by, asked.ndjson, asked.tenant.as_deref()),
            (UsageBy::Plugin, true, Some("*"))
        );
        for wrong in [
            "from=x",
            "to=-5",
            "by=digest",
            "interval=week",
            "format=csv",
            "limit=0",
            "limit=10001",
            "form=1",
            "tenant=%zz",
            "from=now&to=now",
            "from=-1h&to=-2h",
        ] {
            assert!(matches!(parse(Some(wrong), NOW), Err(ApiError::Query { .. })), "{wrong}");
        }
    }
    #[tokio::test]
    async fn lines_are_whole_though_they_are_read_page_by_page() {
        let get = async |query: &str| {
            let head = format!("GET /v1/usage?from=1970-01-01T00:00:00Z&{query} HTTP/1.1");
            super::super::tests::request(&Arc::default(), &head, b"").await
        };
        let all = get("format=ndjson&tenant=*").await;
        for n in 0..3 {
            for tenant in ["default", "team.removed-7"] {
                let line = format!("{{\"by\":\"Stream\",\"n\":{n},\"tenant\":\"{tenant}\"}}\n");
                assert_eq!(all.matches(&line).count(), 1, "{all}");
            }
        }
        let full = Arc::new(super::super::tests::Fake { holds: true, ..Default::default() });
        let refused = super::super::tests::request(&full, "GET /v1/usage HTTP/1.1", b"").await.to_lowercase();
        assert!(refused.starts_with("http/1.1 429") && refused.contains("too_many_reads"), "{refused}");
        assert!(refused.contains("retry-after: 1"), "{refused}");
        let page = get("").await;
        assert!(page.contains("\"next\":\"1970-01-01T00:00:05Z\"") && !page.contains("\"n\":2"), "{page}");
    }
}
