//! `ListDeliveryStreams`: names in pages.

use crate::validate;
use crate::wire::{ListDeliveryStreams, ListReply, Refusal};

const LIMIT_DEFAULT: usize = 10;

/// A page of these streams, which may come in any order: each with whether its type is `KinesisStreamAsSource` instead of
/// `DirectPut`.
///
/// # Errors
/// `ValidationException`.
pub fn list<'a>(
    request: &ListDeliveryStreams,
    streams: impl Iterator<Item = (&'a str, bool)>,
) -> Result<ListReply, Refusal> {
    validate::list(request)?;
    let start = request.exclusive_start.as_deref();
    let is_asked = |of_kinesis: bool| match request.stream_type.as_deref() {
        None => true,
        Some("DirectPut") => !of_kinesis,
        Some("KinesisStreamAsSource") => of_kinesis,
        Some(_) => false,
    };
    let asked = streams.filter(|(_, of_kinesis)| is_asked(*of_kinesis)).map(|(name, _)| name);
    let mut names: Vec<&str> = asked.filter(|name| start.is_none_or(|start| *name > start)).collect();
    names.sort_unstable();
    let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LIMIT_DEFAULT);
    let has_more = names.len() > limit;
    names.truncate(limit);
    Ok(ListReply { names: names.into_iter().map(str::to_owned).collect(), has_more })
}
