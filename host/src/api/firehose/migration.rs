//! A stream as AWS describes it, as a stream of this host: for those who move.

use serde_json::Value;
use wasmill_firehose::description::{Definition, Destination};
use wasmill_firehose::migration::Migration;
use wasmill_firehose::wire::{Refusal, parse};

use super::{conversion, plan};
use crate::api::now_ms;
use crate::pipeline::FirehoseSettings;

pub use wasmill_firehose::migration::{Functions, Left};

/// Members of a request.
const EXTENDED: &str = "ExtendedS3DestinationConfiguration";
const CONVERSION: &str = "DataFormatConversionConfiguration";

/// What a description comes to here.
#[derive(Clone, Debug, PartialEq)]
pub struct Migrated {
    pub name: String,
    /// Of the stream in AWS.
    pub arn: Option<String>,
    /// The body of `CreateDeliveryStream`.
    pub request: Value,
    /// What is not carried over.
    pub left: Vec<Left>,
    region: Option<String>,
}

/// A description that no stream can be made of here.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct MigrateError(Refusal);

/// `text` is what `aws firehose describe-delivery-stream` prints; `name` is what the stream is called here, where that
/// differs.
///
/// # Errors
/// The text is no description, or that of a stream that is none here.
pub fn migrate(text: &[u8], functions: &Functions, name: Option<&str>) -> Result<Migrated, MigrateError> {
    let mut found = Migration::of(text, functions).map_err(MigrateError)?;
    if let Some(name) = name {
        name.clone_into(&mut found.name);
        found.request["DeliveryStreamName"] = name.into();
    }
    let region = found.region().map(str::to_owned);
    let Migration { name, arn, request, left } = found;
    Ok(Migrated { name, arn, request, left, region })
}

impl Migrated {
    /// What the table of the stream in a configuration has; `firehose` is of that configuration. Buckets are in its region
    /// where it has an endpoint, and else in that of the stream. A conversion into columns that this configuration does not
    /// have is left out.
    ///
    /// # Errors
    /// The stream has what cannot be done here.
    pub fn definition(&mut self, firehose: &FirehoseSettings) -> Result<Value, MigrateError> {
        let mut settings = firehose.clone();
        if let Some(region) = self.region.as_ref().filter(|_| settings.endpoint.is_none()) {
            settings.region.clone_from(region);
        }
        let mut defined = self.defined()?;
        if let Destination::ExtendedS3(s3) = &defined.destination
            && let Some(wanted) = s3.conversion.as_ref().filter(|_| s3.is_converted())
            && let Err(refusal) = conversion::output(wanted, &settings)
        {
            let why = format!("records are delivered as they are, not in columns: {}", refusal.message);
            self.left.push(Left { what: CONVERSION.to_owned(), why });
            if let Some(asked) = self.request[EXTENDED].as_object_mut() {
                asked.remove(CONVERSION);
            }
            defined = self.defined()?;
        }
        plan::stream(&defined, &settings).map_err(MigrateError)
    }

    fn defined(&self) -> Result<Definition, MigrateError> {
        let request = parse(self.request.to_string().as_bytes()).map_err(MigrateError)?;
        Definition::create(request, now_ms()).map_err(MigrateError)
    }
}
