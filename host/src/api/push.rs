//! `POST /v1/streams/{name}/records`.
//!
//! It owns the quotas of what arrives, opening and splitting a body, and the receipt as JSON. Nothing of a refused request is stored. A request that
//! its producer numbered is stored once, however often it is sent; see `producer`.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::{Extension, Json};
use bytes::Bytes;
use wasmill_encode::Encoding;
use wasmill_ingest::{
    Append as _, AppendError, BodyLimits, Framing, Position, Receipt, RecordBatch, SplitBody, split_body,
};

use super::access::Caller;
use super::bodies::Held;
use super::error::ApiError;
use super::producer::Claim;
use super::source;
use super::{ApiLimits, Host, Shared};
use crate::pipeline::Admission;

/// Bodies from this size on are opened and split off the async threads.
const BLOCKING_BYTES_MIN: usize = 64 << 10;

pub(super) async fn push<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<serde_json::Value>, ApiError> {
    let stream = shared.host.stream(&caller.tenant, &name);
    let stream = stream.map_err(|why| ApiError::absent(why, name.clone()))?;
    let source = source::of(&*stream, &name, source::asked(query.as_deref())?)?;
    let claim = Claim::of(&headers)?;
    let is_numbered = claim.is_some();
    let limits = shared.limits;
    let _on_its_way = shared.host.quota(&caller.tenant).enter()?;
    let put = |batch, on_its_way: OnItsWay| {
        let receipt = stream.append(batch);
        async {
            let receipt = receipt.await;
            on_its_way.end(receipt.as_ref().err());
            receipt
        }
    };
    let Some(receipt) = store(&shared, &caller, source, (&headers, body), claim, limits, put).await? else {
        return Ok(Json(serde_json::json!({ "records": 0 })));
    };
    let mut answer = serde_json::json!({
        "records": receipt.count,
        "first_offset": receipt.first_offset,
        "last_offset": last_offset(&receipt),
    });
    if is_numbered {
        answer["duplicate"] = receipt.duplicate.into();
    }
    Ok(Json(answer))
}

fn last_offset(receipt: &Receipt) -> u64 {
    receipt.first_offset + u64::from(receipt.count.saturating_sub(1))
}

/// What a request holds until its records have a receipt: memory of its body, and of quotas what it is to use.
pub(super) struct OnItsWay {
    admission: Admission,
    _body: Held,
}

impl OnItsWay {
    /// It has its receipt, or is refused.
    pub(super) fn end(self, refused: Option<&AppendError>) {
        match refused {
            // Of the unknown nobody knows what has become of it.
            None | Some(AppendError::Unknown) => {}
            Some(_) => self.admission.refused(),
        }
    }
}

/// Has `put` store the records of a request, which has entered, as those of a source, within the caller's quotas; `None` if it has
/// none.
pub(super) async fn store<H: Host, T, F: Future<Output = Result<T, AppendError>>>(
    shared: &Shared<H>,
    caller: &Caller,
    source: Option<Position>,
    (headers, body): (&HeaderMap, Body),
    claim: Option<Claim>,
    limits: ApiLimits,
    put: impl FnOnce(RecordBatch, OnItsWay) -> F,
) -> Result<Option<T>, ApiError> {
    let content_type = once(headers, header::CONTENT_TYPE)?;
    let framing = Framing::of_content_type(&content_type)?;
    let content_encoding = once(headers, header::CONTENT_ENCODING)?;
    let encoding = Encoding::from_header(&content_encoding)
        .ok_or(ApiError::ContentEncoding { found: content_encoding })?;
    let grows = encoding != Encoding::Identity;
    let quota = shared.host.quota(&caller.tenant);
    // What can be known before the body is read is decided before it is.
    let mut admission = quota.admit(body.size_hint().exact().unwrap_or(0))?;
    let (body, held) = shared.bodies.read(&quota, body, limits.max_body, grows, limits.read_timeout).await?;
    let limits = ApiLimits { max_body: quota.body_max(limits.max_body), ..limits };
    let bytes = body.len();
    let small = bytes < BLOCKING_BYTES_MIN;
    let open = move || {
        let split = open(encoding, framing, body, &limits)?;
        let numbered = claim.map(|claim| claim.on(&split));
        Ok::<_, ApiError>((split, numbered))
    };
    let opened = if small {
        open()
    } else {
        tokio::task::spawn_blocking(open).await.map_err(|_| ApiError::BrokenBody)?
    };
    let (split, numbered) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // It has cost what a good one costs.
            admission.waste(bytes as u64);
            return Err(error);
        }
    };
    if split.ends.is_empty() {
        return Ok(None);
    }
    admission.settle(split.ends.len() as u64, split.payload.len() as u64)?;
    let SplitBody { payload, ends, .. } = split;
    let batch = RecordBatch { payload, ends, arrival: now(), source, numbered, early: false };
    // Once queued it is stored, also if this request is given up meanwhile.
    admission.hand_over();
    Ok(Some(put(batch, OnItsWay { admission, _body: held }).await?))
}

/// The value of a header that must not be there twice: which of two is meant nobody knows. Empty without one.
pub(super) fn once(headers: &HeaderMap, name: HeaderName) -> Result<String, ApiError> {
    let mut values = headers.get_all(&name).iter();
    let value = values.next().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if values.next().is_some() {
        return Err(ApiError::HeaderTwice { name: name.to_string() });
    }
    Ok(value.unwrap_or_default())
}

fn open(
    encoding: Encoding,
    framing: Framing,
    body: Bytes,
    limits: &ApiLimits,
) -> Result<SplitBody, ApiError> {
    let body = match encoding {
        Encoding::Identity => body,
        Encoding::Gzip | Encoding::Zstd => {
            let cap = usize::try_from(limits.max_body).unwrap_or(usize::MAX);
            let mut opened = Vec::new();
            wasmill_encode::decompress(encoding, &body, cap, &mut opened).map_err(ApiError::decode)?;
            opened.into()
        }
    };
    let limits = BodyLimits { max_record: limits.max_record, max_records: limits.max_records };
    Ok(split_body(framing, body, &limits)?)
}

/// Nanoseconds since the Unix epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::io::AsyncWriteExt;
    use wasmill_tenant::Quotas as Limits;

    use super::super::tests::{Fake, NDJSON, connect};
    use super::*;
    use crate::pipeline::{Past, Quotas};

    #[tokio::test]
    async fn client_that_goes_away_before_its_receipt_has_used_its_quota() {
        let started = Instant::now();
        let quota = Quotas::default().set("team", &Limits { bytes_per_second: Some(9), ..Limits::default() });
        let fake = Arc::new(Fake { quota: Some(Arc::clone(&quota)), holds: true, ..Fake::default() });
        let (server, mut socket) = connect(&fake).await;
        let head = format!(
            "POST /v1/streams/access/records HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n{NDJSON}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(b"{}\n{}\n{}\n").await.unwrap();
        let gone = async {
            while fake.count() < 3 {
                tokio::task::yield_now().await;
            }
            assert_eq!(quota.requests(), 1);
            drop(socket);
            while quota.requests() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
        // A hundred seconds more than there is, as long as what was queued is not given back.
        quota.admit(0).unwrap().waste(900);
        let refusal = quota.admit(1).unwrap_err();
        let Past::Now { retry_after } = refusal.why else { panic!("{refusal}") };
        assert!(retry_after + started.elapsed() > Duration::from_millis(99_500), "{retry_after:?}");
        server.abort();
    }
}
