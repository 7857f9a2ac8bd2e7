//! An entry with its address, or that there is none any more: made once by the slice that writes it, and shared by all who have
//! it from then on, in layers, in memory and on the way to the database.
//!
//! ```text
//! u16 LE   length of the address; its highest bit is set where the entry is removed
//! bytes    address
//! bytes    of one that is there its value as it is stored
//! ```

use std::sync::Arc;

use crate::error::StoreError;
use crate::stored;
use crate::table::{Entry, counted_bytes};

/// Addresses are far shorter.
const REMOVED: u16 = 1 << 15;
/// A pair of at most so many bytes is put together on the stack.
const SHORT: usize = 256;

/// See the head of this file. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair(Arc<[u8]>);

impl Pair {
    pub(crate) fn put(address: &[u8], written: i64, version: u32, value: &[u8]) -> Pair {
        Pair::of(address, 0, &[&written.to_le_bytes(), &version.to_le_bytes(), value])
    }

    /// Of a value as it is stored.
    pub(crate) fn stored(address: &[u8], value: &[u8]) -> Pair {
        Pair::of(address, 0, &[value])
    }

    pub(crate) fn removed(address: &[u8]) -> Pair {
        Pair::of(address, REMOVED, &[])
    }

    fn of(address: &[u8], flag: u16, value: &[&[u8]]) -> Pair {
        let head = u16::try_from(address.len()).unwrap_or(u16::MAX) | flag;
        let len = 2 + address.len() + value.iter().map(|part| part.len()).sum::<usize>();
        let head = head.to_le_bytes();
        let parts = [&head[..], address].into_iter().chain(value.iter().copied());
        let mut short = [0; SHORT];
        let Some(whole) = short.get_mut(..len) else {
            let mut whole = Vec::with_capacity(len);
            parts.for_each(|part| whole.extend_from_slice(part));
            return Pair(whole.into());
        };
        let mut left = &mut *whole;
        for part in parts {
            let Some((to, rest)) = std::mem::take(&mut left).split_at_mut_checked(part.len()) else { break };
            to.copy_from_slice(part);
            left = rest;
        }
        Pair(Arc::from(&*whole))
    }

    fn parts(&self) -> (bool, &[u8], &[u8]) {
        let Some((head, rest)) = self.0.split_first_chunk::<2>() else { return (true, &[], &[]) };
        let head = u16::from_le_bytes(*head);
        let (address, value) = rest.split_at_checked(usize::from(head & !REMOVED)).unwrap_or_default();
        (head & REMOVED != 0, address, value)
    }

    pub(crate) fn address(&self) -> &[u8] {
        self.parts().1
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.parts().0
    }

    /// As it is stored; `None` where it is removed.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        let (removed, _, value) = self.parts();
        (!removed).then_some(value)
    }

    /// When it was written, the layout version of its value, and that.
    pub(crate) fn split(&self) -> Option<(i64, u32, &[u8])> {
        self.value().and_then(stored::split)
    }

    pub(crate) fn entry(&self) -> Option<Entry> {
        self.split().map(|(written, version, value)| Entry { written, version, value: value.into() })
    }

    /// The entry of one that was read from the database, which may be damaged.
    pub(crate) fn read(&self) -> Result<Option<Entry>, StoreError> {
        self.value().map(stored::entry).transpose()
    }

    /// Bytes of the value; `None` where there is none.
    pub(crate) fn value_len(&self) -> Option<usize> {
        self.split().map(|(_, _, value)| value.len())
    }

    /// What it counts against quotas.
    pub(crate) fn counted(&self) -> Option<i64> {
        self.value_len().map(|len| counted_bytes(self.address().len(), len))
    }

    /// All of it.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Its first byte: see [`crate::places::Places::find_many`].
    pub(crate) fn first(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_is_what_was_put_together_whatever_its_length() {
        for len in [0, 7, SHORT - 15, SHORT - 14, SHORT, 1 << 16] {
            let (address, value) = (vec![3; 1 + len % 4097], vec![len.to_le_bytes()[0]; len]);
            let put = Pair::put(&address, -5, 9, &value);
            assert_eq!((put.address(), put.split()), (&address[..], Some((-5, 9, &value[..]))));
            assert_eq!(put, Pair::stored(&address, put.value().unwrap()));
            let removed = Pair::removed(&address);
            assert_eq!(
                (removed.address(), removed.is_removed(), removed.value()),
                (&address[..], true, None)
            );
        }
    }
}
