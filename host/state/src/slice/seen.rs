//! What a slice has read from below of one table: the sizes of what is there, so that writing it needs no second read, and what
//! was read from far away before it was asked for.

use std::collections::HashMap;

use crate::changes::Wanted;
use crate::places::Places;
use crate::table::{Address, Entry};

/// Bytes of a value, where there is one.
pub(super) type Size = Option<usize>;

/// See the head of this file. There are far fewer than 2^32 bytes.
#[derive(Default)]
pub(super) struct Seen {
    places: Places,
    reads: Vec<Read>,
    addresses: Vec<u8>,
    fetched: HashMap<Address, Option<Entry>>,
    fetched_bytes: usize,
}

struct Read {
    from: u32,
    to: u32,
    size: Option<u32>,
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Seen {
    pub(super) fn len(&self) -> usize {
        self.reads.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.addresses.len() + self.fetched_bytes
    }

    fn find(&self, wanted: Wanted<'_>) -> Option<&Read> {
        let of = |read: &Read| self.addresses.get(read.from as usize..read.to as usize);
        let is = |at: u32| self.reads.get(at as usize).and_then(of) == Some(wanted.address);
        self.places.find(wanted.hash, is).and_then(|at| self.reads.get(at as usize))
    }

    pub(super) fn get(&self, wanted: Wanted<'_>) -> Option<Size> {
        self.find(wanted).map(|read| read.size.map(|size| size as usize))
    }

    pub(super) fn add(&mut self, wanted: Wanted<'_>, size: Size) {
        if self.find(wanted).is_some() {
            return;
        }
        let from = short(self.addresses.len());
        self.addresses.extend_from_slice(wanted.address);
        self.places.add(wanted.hash, short(self.reads.len()));
        self.reads.push(Read { from, to: short(self.addresses.len()), size: size.map(short) });
    }

    /// One that was read before it was asked for.
    pub(super) fn fetch(&mut self, wanted: Wanted<'_>, entry: Option<Entry>) {
        let size = entry.as_ref().map(|entry| entry.value.len());
        self.add(wanted, size);
        self.fetched_bytes += wanted.address.len() + size.unwrap_or(0);
        self.fetched.insert(wanted.address.into(), entry);
    }

    pub(super) fn fetched(&self, wanted: Wanted<'_>) -> Option<&Option<Entry>> {
        match self.fetched.is_empty() {
            true => None,
            false => self.fetched.get(wanted.address),
        }
    }

    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.reads.clear();
        self.addresses.clear();
        self.fetched.clear();
        self.fetched_bytes = 0;
    }
}
