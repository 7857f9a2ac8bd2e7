//! What a table knows of batches: how a batch that is there already is found.
//!
//! Each append says its batch id twice, in the one commit that makes its rows visible: in the summary of its snapshot, and
//! in a property of the table that lists the newest batches of the output. The property outlives snapshots that are
//! expired; it holds [`NEWEST_MAX`] batches, of which an output has one on its way at a time.

use ::iceberg::spec::TableMetadata;

use crate::batch_id::BATCH_ID_LENGTH;
use crate::object::ObjectMeta;

/// Batches that the property lists.
const NEWEST_MAX: usize = 32;
/// In the summary of a snapshot.
const BATCH: &str = "wasmill.batch-id";
const STREAM: &str = "wasmill.stream";
const OUTPUT: &str = "wasmill.output";

/// The property of the table that lists the newest batches of an output.
pub(super) fn property(meta: &ObjectMeta) -> String {
    format!("wasmill.batches.{}.{}", meta.stream, meta.output)
}

/// Whether the rows of this batch are in the table, or were.
pub(super) fn has(table: &TableMetadata, meta: &ObjectMeta) -> bool {
    let listed = table.properties().get(&property(meta));
    listed.is_some_and(|listed| listed.split(',').any(|id| id == meta.batch_id))
        || table.snapshots().any(|snapshot| {
            snapshot.summary().additional_properties.get(BATCH).is_some_and(|id| *id == meta.batch_id)
        })
}

/// The value of the property with this batch in it.
pub(super) fn with(table: &TableMetadata, meta: &ObjectMeta) -> String {
    let listed = table.properties().get(&property(meta)).map_or("", String::as_str);
    // Whoever else wrote there does not make it grow.
    let mut ids: Vec<&str> =
        listed.split(',').filter(|id| id.len() <= BATCH_ID_LENGTH && !id.is_empty()).collect();
    ids.push(&meta.batch_id);
    let newest = ids.len().saturating_sub(NEWEST_MAX);
    ids.get(newest..).unwrap_or(&ids).join(",")
}

/// What the summary of the snapshot says.
pub(super) fn summary(meta: &ObjectMeta) -> impl Iterator<Item = (String, String)> {
    let of = [(BATCH, &meta.batch_id), (STREAM, &meta.stream), (OUTPUT, &meta.output)];
    of.map(|(name, value)| (name.to_owned(), value.clone())).into_iter()
}
