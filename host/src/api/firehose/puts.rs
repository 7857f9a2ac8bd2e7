//! `PutRecord` and `PutRecordBatch`: records become one append.
//!
//! A batch is taken as far as the tenant's quota reaches, and the records behind are told to come again, as clients of
//! Firehose expect it; of one append all is stored or nothing. What becomes of puts is counted for streams that are there.
//!
//! A stream that decompresses takes records of CloudWatch Logs alone. The service knows them by who puts; here they are known
//! by what they are, gzip, and whether they are envelopes is found out by the transform.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use serde_json::Value;
use wasmill_firehose::wire::{
    self, EntryError, Kind, Put, PutRecord, PutRecordBatch, PutRecordBatchReply, PutRecordReply, PutResult,
    RecordId, Refusal,
};
use wasmill_ingest::{Append, AppendError, RecordBatch};

use crate::api::access::Caller;
use crate::api::{Absence, Host, Shared};
use crate::pipeline::firehose_stats::{FirehoseStats, PutStats};
use crate::pipeline::stats::{StreamStats, wall_clock_ns};
use crate::pipeline::{Admission, QuotaRefusal};

/// Bodies from this size on are decoded off the async threads.
const BLOCKING_BYTES_MIN: usize = 64 << 10;
/// How gzip begins: its magic number, and the one method there is.
const GZIP: &[u8] = &[0x1f, 0x8b, 8];
/// As the service says it to those who are too fast.
const SLOW_DOWN: &str = "Slow down.";

/// What is to be stored.
struct Decoded {
    name: String,
    payload: Bytes,
    ends: Vec<u32>,
}

impl From<Put<'_>> for Decoded {
    fn from(put: Put<'_>) -> Decoded {
        Decoded { name: put.name.into_owned(), payload: put.records.bytes.into(), ends: put.records.ends }
    }
}

impl Decoded {
    fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let range = |(start, end): (u32, &u32)| start as usize..*end as usize;
        starts.zip(&self.ends).map(move |record| self.payload.get(range(record)).unwrap_or_default())
    }

    /// The host's bound may be below that of the API.
    fn within(self, max_record: u64) -> Result<Decoded, Refusal> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let longest = starts.zip(&self.ends).map(|(start, end)| u64::from(end - start)).max().unwrap_or(0);
        match longest <= max_record {
            true => Ok(self),
            false => Err(Refusal::invalid(format!(
                "a record has {longest} bytes, and this host takes at most {max_record} (max_record in [http] of its configuration)"
            ))),
        }
    }
}

async fn decoded(
    body: Bytes,
    decode: impl FnOnce(&[u8]) -> Result<Decoded, Refusal> + Send + 'static,
) -> Result<Decoded, Refusal> {
    if body.len() < BLOCKING_BYTES_MIN {
        return decode(&body);
    }
    let done = tokio::task::spawn_blocking(move || decode(&body)).await;
    done.unwrap_or_else(|error| Err(Refusal::new(Kind::InternalFailure, error.to_string())))
}

fn slow_down(refusal: &QuotaRefusal) -> Refusal {
    Refusal::new(Kind::ServiceUnavailable, format!("{SLOW_DOWN} {refusal}"))
}

/// Counts one put. A name that is no stream's is counted nowhere.
struct Tally {
    stream: Option<Arc<StreamStats>>,
    begun: Instant,
}

impl Tally {
    fn of<H: Host>(shared: &Shared<H>, caller: &Caller, name: &str, begun: Instant) -> Tally {
        Tally { stream: shared.host.counted(&caller.tenant, name), begun }
    }

    fn stored(&self, of: fn(&FirehoseStats) -> &PutStats, records: usize, bytes: usize) {
        if let Some(stream) = &self.stream {
            of(&stream.firehose).stored(records as u64, bytes as u64, self.begun.elapsed());
        }
    }

    fn throttled(&self, records: usize) {
        if let Some(stream) = &self.stream {
            stream.firehose.throttled.add(records as u64);
        }
    }
}

pub(super) async fn record<H: Host>(
    shared: &Shared<H>,
    caller: &Caller,
    body: Bytes,
) -> Result<Vec<u8>, Refusal> {
    let begun = Instant::now();
    let put = decoded(body, |body| Ok(wire::parse::<PutRecord<'_>>(body)?.decode()?.into())).await?;
    let put = put.within(shared.limits.max_record)?;
    let (bytes, encrypted) = (put.payload.len(), admitted(shared, caller, &put)?);
    let tally = Tally::of(shared, caller, &put.name, begun);
    let quota = shared.host.quota(&caller.tenant);
    let throttled = |refusal: QuotaRefusal| {
        tally.throttled(1);
        slow_down(&refusal)
    };
    let mut admission = quota.admit(0).map_err(throttled)?;
    admission.settle(1, bytes as u64).map_err(throttled)?;
    match append(shared, caller, put, admission).await? {
        Ok(append) => {
            tally.stored(|counted| &counted.record, 1, bytes);
            let record_id = RecordId { append, index: 0 };
            Ok(wire::json(&PutRecordReply { record_id, encrypted }))
        }
        Err((EntryError::InternalFailure, message)) => Err(Refusal::new(Kind::InternalFailure, message)),
        Err((EntryError::ServiceUnavailable, message)) => {
            tally.throttled(1);
            Err(Refusal::new(Kind::ServiceUnavailable, message))
        }
    }
}

pub(super) async fn batch<H: Host>(
    shared: &Shared<H>,
    caller: &Caller,
    body: Bytes,
) -> Result<Vec<u8>, Refusal> {
    let begun = Instant::now();
    let put = decoded(body, |body| Ok(wire::parse::<PutRecordBatch<'_>>(body)?.decode()?.into())).await?;
    let mut put = put.within(shared.limits.max_record)?;
    let encrypted = admitted(shared, caller, &put)?;
    let quota = shared.host.quota(&caller.tenant);
    let all = put.ends.len();
    let tally = Tally::of(shared, caller, &put.name, begun);
    let mut admission = quota.admit(0).map_err(|refusal| {
        tally.throttled(all);
        slow_down(&refusal)
    })?;
    let (taken, why) = admission.settle_in_part(&put.ends);
    let mut reply = PutRecordBatchReply { encrypted, results: Vec::with_capacity(all) };
    if taken > 0 {
        put.ends.truncate(taken);
        put.payload.truncate(put.ends.last().map_or(0, |end| *end as usize));
        let (count, bytes) = (u32::try_from(taken).unwrap_or(u32::MAX), put.payload.len());
        reply = match append(shared, caller, put, admission).await? {
            Ok(append) => {
                tally.stored(|counted| &counted.batch, taken, bytes);
                PutRecordBatchReply::stored(encrypted, append, count)
            }
            Err((code, message)) => {
                if code == EntryError::ServiceUnavailable {
                    tally.throttled(taken);
                }
                let failed = || PutResult::Failed { code, message: message.clone() };
                PutRecordBatchReply { encrypted, results: (0..taken).map(|_| failed()).collect() }
            }
        };
    } else {
        // A stream that is not there is said before that it is too much.
        found(shared, caller, &put.name)?;
    }
    tally.throttled(all - taken);
    let code = EntryError::ServiceUnavailable;
    let message = why.map_or_else(String::new, |why| format!("{SLOW_DOWN} {why}"));
    reply.results.extend((taken..all).map(|_| PutResult::Failed { code, message: message.clone() }));
    Ok(wire::json(&reply))
}

fn found<H: Host>(
    shared: &Shared<H>,
    caller: &Caller,
    name: &str,
) -> Result<std::sync::Arc<H::Append>, Refusal> {
    shared.host.stream(&caller.tenant, name).map_err(|absence| match absence {
        Absence::None if shared.host.has_stream(&caller.tenant, name) => Refusal::invalid(format!(
            "Firehose {name} takes no records from clients: its source is another one"
        )),
        Absence::None => Refusal::not_found(name, &shared.host.firehose().account),
        Absence::Changing => {
            Refusal::new(Kind::ServiceUnavailable, format!("Firehose {name} is being changed: try again"))
        }
        Absence::Idle => {
            Refusal::new(Kind::ServiceUnavailable, format!("Firehose {name} does not run at the moment"))
        }
    })
}

/// The outer error: nothing of the request is meant for this stream. The inner one: what each record of it is told.
async fn append<H: Host>(
    shared: &Shared<H>,
    caller: &Caller,
    put: Decoded,
    mut admission: Admission,
) -> Result<Result<u64, (EntryError, String)>, Refusal> {
    let stream = found(shared, caller, &put.name)?;
    let batch = RecordBatch {
        payload: put.payload,
        ends: put.ends,
        arrival: wall_clock_ns(),
        // The protocol has no word for it: of several sources, the first by name.
        source: None,
        numbered: None,
        early: false,
    };
    // Once queued it is stored, also if this request is given up meanwhile.
    admission.hand_over();
    Ok(match stream.append(batch).await {
        Ok(receipt) => Ok(receipt.first_offset),
        // What has become of it nobody knows.
        Err(error @ AppendError::Unknown) => Err((EntryError::InternalFailure, error.to_string())),
        Err(error) => {
            admission.refused();
            Err((EntryError::ServiceUnavailable, format!("{SLOW_DOWN} {error}")))
        }
    })
}

/// Whether the stream was told to encrypt what it stores; it must take such records.
fn admitted<H: Host>(shared: &Shared<H>, caller: &Caller, put: &Decoded) -> Result<bool, Refusal> {
    let Some(origin) = shared.host.origin(&caller.tenant, &put.name) else { return Ok(false) };
    let told = &origin["firehose"];
    if let Some(place) = put.records().position(|record| !record.starts_with(GZIP))
        && decompresses(&told["destination"])
    {
        return Err(Refusal::new(
            Kind::InvalidSource,
            format!(
                "Only requests from CloudWatch Logs are supported when CloudWatch Logs decompression is enabled: record \
                 {place} is not gzip"
            ),
        ));
    }
    Ok(told["encryption"]["status"] == "ENABLED")
}

/// Of a destination as it is stored, under the name of its kind.
fn decompresses(destination: &Value) -> bool {
    let processing = destination
        .as_object()
        .and_then(|kinds| kinds.values().next())
        .map_or(&Value::Null, |members| &members["ProcessingConfiguration"]);
    let mut processors = processing["Processors"].as_array().into_iter().flatten();
    processing["Enabled"] == true && processors.any(|processor| processor["Type"] == "Decompression")
}
