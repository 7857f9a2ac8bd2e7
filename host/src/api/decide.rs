//! `POST /v1/streams/{name}/decide`: what becomes of records, while the client waits.
//!
//! It owns the query, the deadline, and the verdicts as JSON. The records are stored as a push stores them, and nothing is
//! answered before they are, unless the stream's definition says so; past the deadline the client gets what the stream's definition says, and the records go on.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use tokio::time::Instant;
use wasmill_ingest::RecordBatch;

use super::access::Caller;
use super::error::ApiError;
use super::producer::Claim;
use super::push::OnItsWay;
use super::source::{self, Pushed};
use super::{ApiLimits, Host, Shared, push};
use crate::pipeline::{Answer, Decider, Verdict};

/// Records of one request: somebody waits for all of them.
const RECORDS_MAX: u32 = 1000;
/// Bytes of the rows that an answer shows.
const ROWS_BYTES_MAX: usize = 8 << 20;

pub(super) async fn decide<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let stream = shared.host.stream(&caller.tenant, &name);
    let stream = stream.map_err(|why| ApiError::absent(why, name.clone()))?;
    let source = source::of(&*stream, &name, source::asked(raw.as_deref())?)?;
    let Some(decider) = shared.host.decider(&caller.tenant, &name) else {
        let message = format!(
            "stream {name:?} answers nobody who waits: a table \"decide\" in its definition lets it, if only an empty one"
        );
        return Err(ApiError::NotNow { code: "no_decisions", message });
    };
    if Claim::of(&headers)?.is_some() {
        let reason =
            "a request that waits for its answer takes no Wasmill-Producer: what was answered before is not \
                      kept; push the records, or send them again as new ones"
                .to_owned();
        return Err(ApiError::Producer { reason });
    }
    let deadline = deadline(raw.as_deref(), decider.deadline)?;
    let limits = ApiLimits { max_records: shared.limits.max_records.min(RECORDS_MAX), ..shared.limits };
    let _until_answered = shared.host.quota(&caller.tenant).enter()?;
    let put = |batch, on_its_way: OnItsWay| {
        let (asking, ticket) = decider.ask();
        let batch = RecordBatch { early: decider.reads_early, ..batch };
        // That ends with the receipt, whether or not anybody waits here then, and not with the answer.
        let answer = stream.decide(batch, ticket, move |refused| on_its_way.end(refused));
        async {
            let answer = answer.await;
            drop(asking);
            answer
        }
    };
    let answered = push::store(&shared, &caller, source, (&headers, body), None, limits, put);
    match tokio::time::timeout_at(began + deadline, answered).await {
        Ok(Ok(Some(Some(answer)))) => {
            decider.answered();
            Ok(json(told(&answer, decider.durable)))
        }
        // Without records there is nothing to wait for.
        Ok(Ok(None)) => Ok(json(told(&Answer::default(), decider.durable))),
        Ok(Err(refused)) => Err(refused),
        Ok(Ok(Some(None))) | Err(_) => {
            decider.fell_back();
            fallback(&decider, deadline)
        }
    }
}

/// The shorter of what the client and the stream's definition say.
fn deadline(raw: Option<&str>, most: Duration) -> Result<Duration, ApiError> {
    let mut deadline = None;
    for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        if name == "source" {
            continue;
        }
        if name != "deadline_ms" {
            let message = format!("there is no parameter {name:?}, expected deadline_ms or source");
            return Err(ApiError::Query { message });
        }
        let asked = text.parse().ok().map(Duration::from_millis);
        let asked = asked.filter(|asked| !asked.is_zero() && *asked <= most).ok_or_else(|| {
            let message =
                format!("deadline_ms {text:?}: expected 1 to {}, as the stream says", most.as_millis());
            ApiError::Query { message }
        })?;
        if deadline.replace(asked).is_some() {
            return Err(ApiError::Query { message: "deadline_ms twice: expected one".to_owned() });
        }
    }
    Ok(deadline.unwrap_or(most))
}

fn fallback(decider: &Decider, deadline: Duration) -> Result<Response, ApiError> {
    let Some(fallback) = &decider.fallback else {
        let message = format!(
            "no answer within {deadline:?}: the records may be stored, and are run and delivered then; \"fallback\" in the \
             stream's \"decide\" would be the answer"
        );
        return Err(ApiError::Late { message });
    };
    Ok(json(serde_json::json!({ "fallback": true, "answer": fallback }).to_string()))
}

fn json(text: String) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The verdicts as JSON.
fn told(answer: &Answer, durable: bool) -> String {
    let mut text = format!("{{\"fallback\":false,\"durable\":{durable},\"records\":[");
    let (mut first, mut bytes) = (true, 0);
    answer.each(|offset, verdict, rows| {
        if !std::mem::take(&mut first) {
            text.push(',');
        }
        let word = match verdict {
            Verdict::Kept => "kept",
            Verdict::Dropped => "dropped",
            Verdict::Failed(_) => "failed",
        };
        // Writing into a string cannot fail.
        let _written = write!(text, "{{\"offset\":{offset},\"verdict\":\"{word}\"");
        if let Verdict::Failed(reason) = verdict {
            let _written = write!(text, ",\"reason\":{}", serde_json::Value::from(reason));
        }
        let mut opened = false;
        for (output, row) in rows {
            text.push_str(if std::mem::replace(&mut opened, true) { "," } else { ",\"rows\":[" });
            let _written = write!(text, "{{\"output\":{}", serde_json::Value::from(output));
            bytes += row.len();
            if bytes <= ROWS_BYTES_MAX {
                push_row(&mut text, row);
            } else {
                text.push_str(",\"omitted\":true");
            }
            text.push('}');
        }
        text.push_str(if opened { "]}" } else { "}" });
    });
    text.push_str("]}");
    text
}

/// As JSON where it is, as text where it is that, else in Base64.
fn push_row(text: &mut String, row: &[u8]) {
    let _written = match (serde_json::from_slice::<&RawValue>(row), std::str::from_utf8(row)) {
        (Ok(value), _) => write!(text, ",\"record\":{}", value.get()),
        (Err(_), Ok(plain)) => write!(text, ",\"text\":{}", serde_json::Value::from(plain)),
        (Err(_), Err(_)) => write!(text, ",\"base64\":\"{}\"", STANDARD.encode(row)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_is_the_streams_unless_the_client_wants_less() {
        let most = Duration::from_millis(200);
        assert_eq!(deadline(None, most).unwrap(), most);
        assert_eq!(deadline(Some("source=a"), most).unwrap(), most);
        assert_eq!(deadline(Some("deadline_ms=20"), most).unwrap(), Duration::from_millis(20));
        for wrong in [
            "deadline_ms=5&deadline_ms=6",
            "deadline_ms=0",
            "deadline_ms=201",
            "deadline_ms=",
            "deadline_ms=1s",
            "deadline=5",
        ] {
            let refused = deadline(Some(wrong), most).unwrap_err();
            assert!(
                matches!(&refused, ApiError::Query { message } if message.contains("expected")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn told_rows_are_json_text_or_base64_and_reasons_are_escaped() {
        let rows: [(i64, u32, &str); 3] =
            [(7, 0, "{\"score\": 0.5}"), (7, 1, "plain \"text\""), (9, 0, "\u{7f}")];
        let answer = Answer::of(7, 9, &["main", "alarm"], &rows, &[(8, "bad \"value\"")]);
        let told: serde_json::Value = serde_json::from_str(&told(&answer, true)).unwrap();
        let expected = serde_json::json!({ "fallback": false, "durable": true, "records": [
            { "offset": 7, "verdict": "kept", "rows": [
                { "output": "main", "record": { "score": 0.5 } }, { "output": "alarm", "text": "plain \"text\"" }
            ] },
            { "offset": 8, "verdict": "failed", "reason": "bad \"value\"" },
            { "offset": 9, "verdict": "kept", "rows": [{ "output": "main", "text": "\u{7f}" }] },
        ] });
        assert_eq!(told, expected);
        let mut text = String::new();
        push_row(&mut text, &[0xff, 0xfe]);
        assert_eq!(text, ",\"base64\":\"//4=\"");
    }
}
