//! `ListDeliveryStreams`: names in pages.

use crate::validate;
use crate::wire::{ListDeliveryStreams, ListReply, Refusal};

const LIMIT_DEFAULT: usize = 10;

/// A page of these names, which may come in any order. All streams are of type `DirectPut`.
///
/// # Errors
/// `ValidationException`.
pub fn list<'a>(
    request: &ListDeliveryStreams,
    names: impl Iterator<Item = &'a str>,
) -> Result<ListReply, Refusal> {
    validate::list(request)?;
    let start = request.exclusive_start.as_deref();
    let is_asked = request.stream_type.as_deref().is_none_or(|stream_type| stream_type == "DirectPut");
    let mut names: Vec<&str> =
        names.filter(|name| is_asked && start.is_none_or(|start| *name > start)).collect();
    names.sort_unstable();
    let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LIMIT_DEFAULT);
    let has_more = names.len() > limit;
    names.truncate(limit);
    Ok(ListReply { names: names.into_iter().map(str::to_owned).collect(), has_more })
}
