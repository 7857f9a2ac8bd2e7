//! Keys of what streams that are made over HTTP may use. A doc comment here is text that users read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FileSource, PolicyKinesis, SecretSource};

/// What streams that are made over HTTP may use, besides the source `http` and plugins: nothing that is not listed here. Streams of this file may use everything; see docs/control.md.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "policy")]
pub(crate) struct Policy {
    /// Addresses on which their tcp sources may listen.
    #[schemars(extend("examples" = [["0.0.0.0:5140"]]))]
    pub(crate) listen: Vec<String>,
    /// Directories below which they may write. Relative to this file.
    #[schemars(extend("examples" = [["/srv/team-a"]]))]
    pub(crate) directories: Vec<String>,
    /// Buckets, or what is below a prefix of one, to which they may write, and with `read` from which they may read.
    #[schemars(with = "Vec<PolicyS3>")]
    pub(crate) s3: Vec<Option<PolicyS3>>,
    /// Streams of Kinesis Data Streams that they may read, with the credentials of the host.
    #[schemars(with = "Vec<PolicyKinesis>")]
    pub(crate) kinesis: Vec<Option<PolicyKinesis>>,
    /// Hosts to which they may post, and their plugins send requests: names, addresses or networks, each with a port or for all. A name stands for its public addresses; others must be listed, too.
    #[schemars(extend("examples" = [["collector.example", "10.1.2.3:8080", "10.7.0.0/16"]]))]
    pub(crate) http: Vec<String>,
    /// Secrets that they may name as `{ secret = "NAME" }`, by that name.
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Files that they may hand to plugins, by the name that stands in the place of a path: paths, relative to this file, or objects in S3.
    pub(crate) files: BTreeMap<String, FileSource>,
    /// Whether their plugins may keep state.
    pub(crate) state: bool,
}

/// A bucket, or what is below a prefix of it.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "s3 place")]
pub(crate) struct PolicyS3 {
    /// Name of the bucket.
    pub(crate) bucket: String,
    /// What the prefix of an output must begin with, whole steps between `/`. By default the whole bucket.
    #[serde(default)]
    pub(crate) prefix: String,
    /// Whether they may hand objects there to plugins as files, too.
    #[serde(default)]
    pub(crate) read: bool,
    /// URL of a store other than AWS, exactly as outputs have it.
    #[schemars(extend("format" = "url", "examples" = ["http://127.0.0.1:9000"]))]
    pub(crate) endpoint: Option<String>,
}
