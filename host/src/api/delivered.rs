//! `POST /v1/streams/{name}/firehose`: where Amazon Data Firehose delivers to, as to any HTTP endpoint.
//!
//! Its access key is a key of the tenant, with the scope `push`. A request is stored once, however often it is sent: its id is
//! a producer of its own, known for ten minutes at the least. Everything is answered in the form that Firehose reads, what is
//! refused, too; and nothing with 413, upon which Firehose drops the records: 400 makes it try again, and keep them in its
//! bucket in the end. Common attributes must be what they should, and are not stored.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use wasmill_encode::Encoding;
use wasmill_firehose::endpoint::{
    ACCESS_KEY_HEADER, COMMON_ATTRIBUTES_HEADER, CONTENT_TYPE, Delivery, REQUEST_ID_HEADER, answer,
    common_attributes_of,
};
use wasmill_firehose::wire::Records;
use wasmill_ingest::{Append, AppendError, RecordBatch};

use super::access::Caller;
use super::error::ApiError;
use super::push::{now, once};
use super::{ApiLimits, Host, Shared, now_ms, producer, source};

pub(super) const PATH: &str = "/v1/streams/{name}/firehose";
/// Bodies from this size on are opened off the async threads.
const BLOCKING_BYTES_MIN: usize = 64 << 10;
/// Of a refusal in the form of other routes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Of an id that is repeated in an answer.
const REQUEST_ID_BYTES_MAX: usize = 128;

pub(super) async fn deliver<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let limits = shared.limits;
    let stream = shared.host.stream(&caller.tenant, &name);
    let stream = stream.map_err(|why| ApiError::absent(why, name.clone()))?;
    let source = source::of(&*stream, &name, source::asked(query.as_deref())?)?;
    let found = once(&headers, header::CONTENT_TYPE)?;
    if !found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(CONTENT_TYPE) {
        let reason = format!("content type {found:?} instead of {CONTENT_TYPE}");
        return Err(ApiError::Corrupt { reason });
    }
    let content_encoding = once(&headers, header::CONTENT_ENCODING)?;
    let encoding = Encoding::from_header(&content_encoding)
        .ok_or(ApiError::ContentEncoding { found: content_encoding })?;
    let id = once(&headers, HeaderName::from_static(REQUEST_ID_HEADER))?;
    let attributes = once(&headers, HeaderName::from_static(COMMON_ATTRIBUTES_HEADER))?;
    if !attributes.is_empty() {
        common_attributes_of(&attributes).map_err(|wrong| ApiError::Corrupt { reason: wrong.to_string() })?;
    }

    let grows = encoding != Encoding::Identity;
    let quota = shared.host.quota(&caller.tenant);
    let _on_its_way = quota.enter()?;
    // What can be known before the body is read is decided before it is.
    let mut admission = quota.admit(body.size_hint().exact().unwrap_or(0))?;
    let (body, _held) = shared.bodies.read(&quota, body, limits.max_body, grows, limits.read_timeout).await?;
    let limits = ApiLimits { max_body: quota.body_max(limits.max_body), ..limits };
    let bytes = body.len();
    let open = move || open(encoding, &body, &id, &limits);
    let opened = if bytes < BLOCKING_BYTES_MIN {
        open()
    } else {
        tokio::task::spawn_blocking(open).await.map_err(|_panicked| ApiError::BrokenBody)?
    };
    let Delivery { request_id, records, timestamp: _ } = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // It has cost what a good one costs.
            admission.waste(bytes as u64);
            return Err(error);
        }
    };
    let Records { bytes: payload, ends } = records;
    admission.settle(ends.len() as u64, payload.len() as u64)?;
    let numbered = Some(producer::once(&request_id, &payload, &ends));
    let batch = RecordBatch { payload: payload.into(), ends, arrival: now(), source, numbered, early: false };
    // Once queued it is stored, also if this request is given up meanwhile.
    admission.hand_over();
    match stream.append(batch).await {
        Ok(_receipt) => Ok(respond(StatusCode::OK, answer(&request_id, now_ms(), None))),
        // What has become of it nobody knows.
        Err(AppendError::Unknown) => Err(AppendError::Unknown.into()),
        Err(refused) => {
            admission.refused();
            Err(refused.into())
        }
    }
}

fn open(encoding: Encoding, body: &Bytes, id: &str, limits: &ApiLimits) -> Result<Delivery, ApiError> {
    let mut opened = Vec::new();
    let body: &[u8] = match encoding {
        Encoding::Identity => body,
        Encoding::Gzip | Encoding::Zstd => {
            let cap = usize::try_from(limits.max_body).unwrap_or(usize::MAX);
            wasmill_encode::decompress(encoding, body, cap, &mut opened).map_err(ApiError::decode)?;
            &opened
        }
    };
    let corrupt = |reason: String| ApiError::Corrupt { reason };
    let delivery = Delivery::parse(body, Some(id).filter(|id| !id.is_empty()))
        .map_err(|wrong| corrupt(wrong.to_string()))?;
    let longest = delivery.records.iter().map(<[u8]>::len).max().unwrap_or(0);
    if longest as u64 > limits.max_record {
        let max = limits.max_record;
        return Err(corrupt(format!("a record has {longest} bytes, and this host takes at most {max}")));
    }
    if delivery.records.len() as u64 > u64::from(limits.max_records) {
        let (found, max) = (delivery.records.len(), limits.max_records);
        return Err(corrupt(format!("{found} records, and this host takes at most {max} at a time")));
    }
    Ok(delivery)
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

/// Around everything else of this route: the access key is the caller's key, and refusals have the form of the protocol.
pub(super) async fn in_form(mut request: Request, next: Next) -> Response {
    let headers = request.headers_mut();
    let id = headers.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let id: String = id.chars().take(REQUEST_ID_BYTES_MAX).collect();
    let mut keys = headers.get_all(ACCESS_KEY_HEADER).iter();
    // Which of two is meant nobody knows.
    let key = keys.next().filter(|_| keys.next().is_none()).cloned();
    headers.remove(ACCESS_KEY_HEADER);
    if let Some(key) = key.filter(|_| !headers.contains_key(header::AUTHORIZATION)) {
        let bearer = [b"Bearer ", key.as_bytes()].concat();
        if let Ok(mut bearer) = HeaderValue::from_bytes(&bearer) {
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
    }
    let response = next.run(request).await;
    if response.status() == StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let part = |name: &str| told["error"][name].as_str().unwrap_or_default();
    let message = format!("{}: {}", part("code"), part("message"));
    if parts.status == StatusCode::PAYLOAD_TOO_LARGE {
        parts.status = StatusCode::BAD_REQUEST;
    }
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(answer(&id, now_ms(), Some(&message))))
}

#[cfg(test)]
mod tests;
