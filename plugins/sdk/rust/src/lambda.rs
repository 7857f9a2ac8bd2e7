//! Lambda functions of Amazon Data Firehose as plugins: a chunk is an invocation.
//!
//! Event and answer are those of "Transform source data in Amazon Data Firehose" in its developer guide. Everything
//! in an event comes from the chunk, so that a chunk that is run again gives the function the same.
//!
//! ```
//! use wasmill_sdk::lambda::{Error, KinesisFirehoseEvent, KinesisFirehoseResponse, LambdaEvent};
//!
//! async fn handler(event: LambdaEvent<KinesisFirehoseEvent>) -> Result<KinesisFirehoseResponse, Error> {
//!     let mut response = KinesisFirehoseResponse::default();
//!     for record in event.payload.records {
//!         // ...
//! #       drop(record);
//!     }
//!     Ok(response)
//! }
//! wasmill_sdk::export_lambda!(handler); // in place of `main`
//! ```
//!
//! Any types that serde reads from and writes to the same JSON do instead of those of this module.

mod event;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Waiting, Poll, Wake, Waker};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Chunk, TextColumn, config};

pub use event::{
    Base64Data, KinesisFirehoseEvent, KinesisFirehoseEventRecord, KinesisFirehoseRecordMetadata,
    KinesisFirehoseResponse, KinesisFirehoseResponseRecord, KinesisFirehoseResponseRecordMetadata,
    MillisecondTimestamp,
};

/// RFC 4648, section 4, with all padding.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

const MISSING: &str =
    "Lambda.MissingRecordId: the function answered nothing with the recordId of this record";
const DUPLICATED: &str =
    "Lambda.DuplicatedRecordId: the function answered more than once with the recordId of this record";
const PROCESSING_FAILED: &str = "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record";
const NO_DATA: &str =
    "Lambda.JsonProcessingException: The data field cannot be null when the SourceType is DirectPut";
const NO_RESULT: &str = "Lambda.JsonProcessingException: result is none of Ok, Dropped and ProcessingFailed";
const NO_BASE64: &str = "Lambda.JsonProcessingException: data is not base64";
const NO_KEYS: &str = "Lambda.JsonProcessingException: metadata.partitionKeys is not an object of texts";
const FUNCTION_ERROR: &str = "Lambda.FunctionError: ";

/// What a function may fail with.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a function gets.
#[derive(Clone, Debug)]
pub struct LambdaEvent<T> {
    /// The event.
    pub payload: T,
    /// The invocation.
    pub context: Context,
}

impl<T> LambdaEvent<T> {
    /// Both parts.
    #[must_use]
    pub fn into_parts(self) -> (T, Context) {
        (self.payload, self.context)
    }
}

/// What a function can ask of its invocation, as far as it can be had without AWS and a clock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Context {
    /// The event's `invocation_id`.
    pub request_id: String,
    /// Made of region and name.
    pub invoked_function_arn: String,
    /// Name and version.
    pub env_config: Arc<Config>,
}

/// What a function can ask of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// From the transform's config.
    pub function_name: String,
    /// MiB.
    pub memory: i32,
    /// `$LATEST`
    pub version: String,
    /// `wasmill`
    pub log_stream: String,
    /// Made of the name.
    pub log_group: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    stream_arn: String,
    region: String,
    function_name: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { stream_arn: String::new(), region: String::new(), function_name: "function".to_owned() }
    }
}

/// A function made a plugin: what [`export_lambda`](crate::export_lambda) and [`lambda_plugin`](crate::lambda_plugin)
/// are made of.
pub struct Invoker {
    stream_arn: String,
    region: String,
    function: Arc<Config>,
}

impl Invoker {
    /// Reads the transform's config.
    ///
    /// # Errors
    /// It is none, with what would be right.
    pub fn configure(text: &str) -> Result<Self, String> {
        let Settings { stream_arn, region, function_name } = config::read(text)?;
        let of_arn = stream_arn.split(':').nth(3).unwrap_or_default();
        let found = [region.as_str(), of_arn].into_iter().find(|region| !region.is_empty());
        let region = found.unwrap_or("us-east-1").to_owned();
        let stream_arn = match stream_arn.is_empty() {
            true => format!("arn:aws:firehose:{region}:000000000000:deliverystream/unknown"),
            false => stream_arn,
        };
        let function = Arc::new(Config {
            log_group: format!("/aws/lambda/{function_name}"),
            function_name,
            memory: 64,
            version: "$LATEST".to_owned(),
            log_stream: "wasmill".to_owned(),
        });
        Ok(Self { stream_arn, region, function })
    }

    /// Calls the function once for all rows.
    ///
    /// # Errors
    /// What the function failed with. The host looks for the guilty record.
    pub fn process<In, Out, Failure, Future>(
        &self,
        rows: &Chunk<'_>,
        handler: impl FnOnce(LambdaEvent<In>) -> Future,
    ) -> Result<(), String>
    where
        In: DeserializeOwned,
        Out: Serialize,
        Failure: Into<Error>,
        Future: self::Future<Output = Result<Out, Failure>>,
    {
        if rows.is_empty() {
            return Ok(());
        }
        let (invocation, ids, event) = self.event(rows);
        let context = Context {
            request_id: invocation,
            invoked_function_arn: format!(
                "arn:aws:lambda:{}:000000000000:function:{}",
                self.region, self.function.function_name
            ),
            env_config: self.function.clone(),
        };
        let answered = serde_json::from_value(event)
            .map_err(Error::from)
            .and_then(|payload| ended(handler(LambdaEvent { payload, context }))?.map_err(Into::into))
            .and_then(|answer| serde_json::to_value(answer).map_err(Error::from));
        match answered {
            Ok(answer) => {
                apply(rows, &ids, &answer);
                Ok(())
            }
            Err(error) => Err(format!("{FUNCTION_ERROR}{error}")),
        }
    }

    /// The invocation's id, the records' ids, and the event.
    fn event(&self, rows: &Chunk<'_>) -> (String, Vec<String>, Value) {
        let (offsets, times, payloads) = (rows.offsets(), rows.arrival_times(), rows.payloads());
        let first = offsets.first().copied().unwrap_or_default().cast_unsigned();
        let number = format!("{:016x}{first:016x}", rows.seed());
        let id = format!(
            "{}-{}-{}-{}-{}",
            &number[..8],
            &number[8..12],
            &number[12..16],
            &number[16..20],
            &number[20..]
        );
        // Rows that were derived share an offset.
        let ids: Vec<String> = offsets
            .iter()
            .enumerate()
            .map(|(row, offset)| format!("{:020}{row:010}", offset.cast_unsigned()))
            .collect();
        let records: Vec<Value> = ids
            .iter()
            .zip(times)
            .zip(payloads.iter())
            .map(|((id, time), payload)| {
                json!({
                    "recordId": id,
                    "approximateArrivalTimestamp": time / 1_000_000,
                    "data": BASE64.encode(payload),
                })
            })
            .collect();
        let event = json!({
            "invocationId": id,
            "deliveryStreamArn": self.stream_arn,
            "region": self.region,
            "records": records,
        });
        (id, ids, event)
    }
}

/// Notes that there is something to do.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What comes of a future within this call. There is nobody who could wake it later.
fn ended<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Waiting::from_waker(&waker)) {
            return Ok(value);
        }
        if !woken.0.swap(false, Ordering::Relaxed) {
            return Err("the function waits for something that never comes: there are no timers and no \
                        network here"
                .into());
        }
    }
}

fn apply(rows: &Chunk<'_>, ids: &[String], answer: &Value) {
    let results = results(answer);
    let (mut payloads, mut keep) = (TextColumn::new(), Vec::with_capacity(ids.len()));
    let mut partitions: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
    for (row, id) in ids.iter().enumerate() {
        let made = made(results.get(id.as_str()).map_or(&[], Vec::as_slice));
        keep.push(u8::from(!matches!(made, Ok(None))));
        match made {
            Ok(Some((payload, keys))) => {
                payloads.push_bytes(&payload);
                for (name, value) in keys {
                    partitions.entry(name).or_insert_with(|| vec![None; ids.len()])[row] = Some(value);
                }
            }
            Ok(None) => payloads.push_missing(),
            Err(reason) => {
                payloads.push_missing();
                rows.fail(row, reason);
            }
        }
    }
    rows.set_payloads(&payloads);
    rows.keep(&keep);
    for (name, values) in partitions {
        let mut column = TextColumn::new();
        for value in values {
            column.push_option(value.map(str::as_bytes));
        }
        rows.partition(name, &column);
    }
}

/// What was answered, by `recordId`. Whatever has none answers nothing.
fn results(answer: &Value) -> HashMap<&str, Vec<&Value>> {
    let mut found: HashMap<&str, Vec<&Value>> = HashMap::new();
    for result in answer["records"].as_array().into_iter().flatten() {
        if let Some(id) = result["recordId"].as_str() {
            found.entry(id).or_default().push(result);
        }
    }
    found
}

type Made<'a> = (Vec<u8>, Vec<(&'a str, &'a str)>);

/// The new payload and its partition keys; none drops the record, and an error is why it fails.
fn made<'a>(results: &[&'a Value]) -> Result<Option<Made<'a>>, &'static str> {
    let result = match results {
        [] => return Err(MISSING),
        [result] => *result,
        _ => return Err(DUPLICATED),
    };
    match result["result"].as_str() {
        Some("Ok") => {}
        Some("Dropped") => return Ok(None),
        Some("ProcessingFailed") => return Err(PROCESSING_FAILED),
        _ => return Err(NO_RESULT),
    }
    let payload = match &result["data"] {
        Value::Null => return Err(NO_DATA),
        Value::String(data) => BASE64.decode(data).map_err(|_| NO_BASE64)?,
        _ => return Err(NO_BASE64),
    };
    Ok(Some((payload, keys(&result["metadata"])?)))
}

fn keys(metadata: &Value) -> Result<Vec<(&str, &str)>, &'static str> {
    let keys = match metadata {
        Value::Null => return Ok(Vec::new()),
        Value::Object(metadata) => metadata.get("partitionKeys"),
        _ => return Err(NO_KEYS),
    };
    match keys {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(keys)) => keys
            .iter()
            .map(|(name, value)| value.as_str().map(|value| (name.as_str(), value)).ok_or(NO_KEYS))
            .collect(),
        Some(_) => Err(NO_KEYS),
    }
}

/// Makes a Lambda function (`async fn handler(event: LambdaEvent<_>) -> Result<_, _>`) the component's plugin, by the
/// name `Lambda`: `testing::run::<Lambda>`.
#[macro_export]
macro_rules! export_lambda {
    ($handler:expr) => {
        $crate::lambda_plugin!(Lambda, $handler);
        $crate::export!(Lambda);
    };
}

/// Makes a plugin of this name of a Lambda function, and exports nothing.
#[macro_export]
macro_rules! lambda_plugin {
    ($name:ident, $handler:expr) => {
        /// The Lambda function as a plugin.
        pub struct $name($crate::lambda::Invoker);

        impl $crate::Plugin for $name {
            fn configure(
                config: &str,
                _setup: &mut $crate::Setup,
            ) -> ::std::result::Result<Self, ::std::string::String> {
                $crate::lambda::Invoker::configure(config).map(Self)
            }

            fn process(
                &mut self,
                rows: &mut $crate::Chunk<'_>,
            ) -> ::std::result::Result<(), ::std::string::String> {
                self.0.process(rows, $handler)
            }
        }
    };
}
