//! A stream as AWS describes it, as a stream of this host: for those who move.

use serde_json::Value;
use wasmill_firehose::description::Definition;
use wasmill_firehose::migration::Migration;
use wasmill_firehose::wire::{Refusal, parse};

use super::plan;
use crate::api::now_ms;
use crate::pipeline::FirehoseSettings;

pub use wasmill_firehose::migration::{Functions, Left};

/// What a description comes to here.
#[derive(Clone, Debug, PartialEq)]
pub struct Migrated {
    pub name: String,
    /// Of the stream in AWS.
    pub arn: Option<String>,
    /// The body of `CreateDeliveryStream`.
    pub request: Value,
    /// What the table of the stream in a configuration has.
    pub definition: Value,
    /// What is not carried over.
    pub left: Vec<Left>,
}

/// A description that no stream can be made of here.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct MigrateError(Refusal);

/// `text` is what `aws firehose describe-delivery-stream` prints; `name` is what the stream is called here, where that
/// differs. Buckets are in the region of `firehose` where it has an endpoint, and else in that of the stream.
///
/// # Errors
/// The text is no description, or has what cannot be done here.
pub fn migrate(
    text: &[u8],
    functions: &Functions,
    name: Option<&str>,
    firehose: &FirehoseSettings,
) -> Result<Migrated, MigrateError> {
    let mut found = Migration::of(text, functions).map_err(MigrateError)?;
    if let Some(name) = name {
        name.clone_into(&mut found.name);
        found.request["DeliveryStreamName"] = name.into();
    }
    let mut settings = firehose.clone();
    if let Some(region) = found.region().filter(|_| settings.endpoint.is_none()) {
        region.clone_into(&mut settings.region);
    }
    let request = parse(found.request.to_string().as_bytes()).map_err(MigrateError)?;
    let defined = Definition::create(request, now_ms()).map_err(MigrateError)?;
    let definition = plan::stream(&defined, &settings).map_err(MigrateError)?;
    let Migration { name, arn, request, left } = found;
    Ok(Migrated { name, arn, request, definition, left })
}
