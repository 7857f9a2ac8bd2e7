//! Keys of files that plugins may read. A doc comment here is text that users read.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::Span;

mod default {
    use crate::units::Span;

    pub(super) fn every() -> Span {
        Span(std::time::Duration::from_secs(60))
    }
}

/// A file that a plugin may read.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum FileSource {
    /// Its path, or `s3://BUCKET/KEY`.
    Plain(String),
    /// An object in S3 or a store with its interface.
    Object(ObjectSource),
}

/// An object in S3 or a store with its interface, which is read again and again. Credentials come from the usual places (environment, profile, instance).
#[derive(Deserialize, JsonSchema)]
#[schemars(inline, title = "s3 object")]
pub(crate) struct ObjectSource {
    /// Name of the bucket.
    pub(crate) bucket: String,
    /// Of the object.
    pub(crate) key: String,
    /// URL of a store other than AWS.
    #[schemars(extend("format" = "url", "examples" = ["http://127.0.0.1:9000"]))]
    pub(crate) endpoint: Option<String>,
    /// Region. By default from the environment.
    pub(crate) region: Option<String>,
    /// Put the bucket into the path instead of the host name; most stores other than AWS want it.
    #[serde(default)]
    pub(crate) path_style: bool,
    /// How often it is asked for: what is still the same is not read. Of several streams of a tenant the shortest counts.
    #[serde(default = "default::every")]
    pub(crate) every: Span,
}
