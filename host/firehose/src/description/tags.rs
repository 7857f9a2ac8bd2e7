//! Labels of streams.

use super::Definition;
use crate::validate::{self, TAGS_MAX};
use crate::wire::{Kind, ListTagsForDeliveryStream, ListTagsReply, Refusal, Tag};

impl Definition {
    /// Adds labels, or gives those that are there another value. The request has been validated; on an error nothing is
    /// changed.
    ///
    /// # Errors
    /// `LimitExceededException`: there would be more than 50.
    pub fn tag(&mut self, tags: Vec<Tag>) -> Result<(), Refusal> {
        let mut merged = self.tags.clone();
        merged.extend(tags.into_iter().filter_map(|tag| tag.key.map(|key| (key, tag.value))));
        if merged.len() > TAGS_MAX {
            return Err(Refusal::new(
                Kind::LimitExceeded,
                format!("a stream may have at most {TAGS_MAX} tags"),
            ));
        }
        self.tags = merged;
        Ok(())
    }

    /// Takes labels away; those that are not there are ignored.
    pub fn untag(&mut self, keys: &[String]) {
        for key in keys {
            self.tags.remove(key);
        }
    }

    /// A page of labels by their keys.
    ///
    /// # Errors
    /// `ValidationException`.
    pub fn list_tags(&self, request: &ListTagsForDeliveryStream) -> Result<ListTagsReply, Refusal> {
        validate::list_tags(request)?;
        let start = request.exclusive_start.as_deref();
        let mut rest = self.tags.iter().filter(|(key, _)| start.is_none_or(|start| key.as_str() > start));
        let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(TAGS_MAX);
        let page = rest.by_ref().take(limit);
        let tags = page.map(|(key, value)| Tag { key: Some(key.clone()), value: value.clone() }).collect();
        Ok(ListTagsReply { tags, has_more: rest.next().is_some() })
    }
}
