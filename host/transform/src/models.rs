//! Models that a transform is granted, and what one instance holds of them: tensors, graphs, contexts, errors.
//!
//! What a guest has here counts like its own memory. Inference runs on the guest's thread and within its call's time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use wasmill_inference::{Model, ModelError, Tensor};

use crate::clock::thread_cpu;
use crate::grants::GrantedFile;
use crate::plugin::Digest;

/// CPU time for reading a model and trying it.
pub(crate) const LOAD_CPU_MAX: Duration = Duration::from_secs(10);
/// Entries of one kind that an instance holds at once.
const HELD_MAX: usize = 4096;

/// A model by content. Cheap to clone.
#[derive(Clone)]
pub struct GrantedModel {
    /// The file's name, for outcomes and refusals.
    pub file: Arc<str>,
    pub digest: Digest,
    pub(crate) model: Arc<Model>,
    /// The file, for processes in which the model is loaded again.
    content: Option<GrantedFile>,
}

impl fmt::Debug for GrantedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedModel").field("file", &self.file).field("digest", &self.digest).finish()
    }
}

impl GrantedModel {
    /// As it is without the file: nothing of the model leaves this process.
    pub(crate) fn without_content(self) -> GrantedModel {
        GrantedModel { content: None, ..self }
    }

    pub(crate) fn content(&self) -> &[u8] {
        self.content.as_ref().map_or(&[], |content| &content.bytes)
    }

    /// What it takes of memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.model.memory_bytes() as u64
    }
}

/// Models that are in use, by content: all streams of a process share one.
#[derive(Default)]
pub(crate) struct LoadedModels(Mutex<BTreeMap<Digest, Weak<Model>>>);

impl LoadedModels {
    /// Blocks for as long as it takes to read one that is not in use.
    pub(crate) fn load(&self, file: &str, content: &GrantedFile) -> Result<GrantedModel, ModelError> {
        let digest = content.digest;
        let known =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).and_then(Weak::upgrade);
        let model = match known {
            Some(model) => model,
            None => {
                let start = thread_cpu();
                let mut in_time = || thread_cpu().saturating_sub(start) < LOAD_CPU_MAX;
                let model = Arc::new(Model::load(&content.bytes, &mut in_time)?);
                let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                loaded.retain(|_, model| model.strong_count() > 0);
                loaded.insert(digest, Arc::downgrade(&model));
                model
            }
        };
        Ok(GrantedModel { file: file.into(), digest, model, content: Some(content.clone()) })
    }
}

/// Numbers of the WIT's `error-code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument,
    RuntimeError,
    TooLarge,
    NotFound,
    Security,
    Unknown,
}

/// Why a call failed, for the guest.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) text: String,
}

/// A tensor of a guest, and its type by the WIT.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) tensor: Tensor,
    pub(crate) kind: u8,
}

/// Things that a guest knows by their numbers.
#[derive(Debug)]
pub(crate) struct Places<T> {
    list: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Places { list: Vec::new(), free: Vec::new() }
    }
}

impl<T> Places<T> {
    /// `None`: there are too many.
    pub(crate) fn put(&mut self, item: T) -> Option<u32> {
        if let Some(place) = self.free.pop() {
            *self.list.get_mut(place as usize)? = Some(item);
            return Some(place);
        }
        let place = u32::try_from(self.list.len()).ok().filter(|_| self.list.len() < HELD_MAX)?;
        self.list.push(Some(item));
        Some(place)
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.list.get(place as usize)?.as_ref()
    }

    pub(crate) fn take(&mut self, place: u32) -> Option<T> {
        let item = self.list.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(item)
    }
}

/// What one instance holds.
#[derive(Debug, Default)]
pub(crate) struct Inference {
    pub(crate) tensors: Places<Held>,
    pub(crate) models: Places<Arc<Model>>,
    pub(crate) failures: Places<Failure>,
    /// Of all tensors.
    pub(crate) bytes: usize,
}

impl Inference {
    /// Takes a tensor from the guest.
    pub(crate) fn take(&mut self, place: u32) -> Option<Held> {
        let held = self.tensors.take(place)?;
        self.bytes = self.bytes.saturating_sub(held.tensor.data.bytes());
        Some(held)
    }

    /// `None`: there are too many.
    pub(crate) fn hold(&mut self, held: Held) -> Option<u32> {
        let bytes = held.tensor.data.bytes();
        let place = self.tensors.put(held)?;
        self.bytes = self.bytes.saturating_add(bytes);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_bounded() {
        let mut places = Places::default();
        assert_eq!((places.put('a'), places.put('b')), (Some(0), Some(1)));
        assert_eq!((places.take(0), places.take(0), places.get(1)), (Some('a'), None, Some(&'b')));
        assert_eq!(places.put('c'), Some(0));
        for _ in 2..HELD_MAX {
            assert!(places.put('d').is_some());
        }
        assert_eq!(places.put('e'), None);
    }
}
