//! What became of the entries of one table: found by their hash, walked over in order.
//!
//! A slice changes each entry about once and most are never walked over, so the order is made when somebody asks for it: of each
//! key group a list of places, which is sorted when somebody walks over that group.

use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, OnceLock};

use crate::limits::CHANGE_BYTES;
use crate::pair::Pair;
use crate::places::{Places, TOGETHER, half};

/// One for the process, so that an address is hashed once for all layers. Keys come from outside: which of them collide must
/// not be known there.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// An address that is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub(crate) address: &'a [u8],
    /// Half of its hash: there are far fewer entries than it tells apart.
    pub(crate) hash: u32,
}

impl Wanted<'_> {
    pub(crate) fn new(address: &[u8]) -> Wanted<'_> {
        Wanted { address, hash: half(HASHER.hash_one(address)) }
    }

    /// Key group and key.
    pub fn address(&self) -> &[u8] {
        self.address
    }
}

/// Key groups.
const GROUPS: usize = 256;

#[derive(Clone, Debug)]
struct Placed {
    pair: Pair,
    hash: u32,
}

impl Placed {
    fn wanted(&self) -> Wanted<'_> {
        Wanted { address: self.pair.address(), hash: self.hash }
    }
}

/// About what a change takes in memory, which is more than in an outcome.
pub(crate) fn bytes(address: usize, value: Option<usize>) -> usize {
    CHANGE_BYTES + address + value.unwrap_or(0)
}

fn bytes_of(pair: &Pair) -> usize {
    bytes(pair.address().len(), pair.value_len())
}

/// See the head of this file. There are fewer than 2^32: their memory is bounded far below.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    placed: Vec<Placed>,
    places: Places,
    /// By key group; there is none before somebody asks for it.
    order: OnceLock<Vec<Group>>,
    bytes: usize,
}

/// Places of a key group.
#[derive(Clone, Debug, Default)]
struct Group {
    places: Vec<u32>,
    /// So many of them are in the order of their addresses.
    sorted: usize,
    /// All of them in order, where more are than that.
    whole: OnceLock<Vec<u32>>,
}

impl Group {
    fn add(&mut self, place: u32) {
        if let Some(whole) = self.whole.take() {
            (self.sorted, self.places) = (whole.len(), whole);
        }
        self.places.push(place);
    }

    fn order(&self, changes: &Changes) -> &[u32] {
        match self.sorted == self.places.len() {
            true => &self.places,
            false => self.whole.get_or_init(|| self.merged(changes)),
        }
    }

    fn merged(&self, changes: &Changes) -> Vec<u32> {
        let address = |place: &u32| changes.at(*place).map(Pair::address);
        let (known, new) = self.places.split_at_checked(self.sorted).unwrap_or_default();
        let mut new = new.to_vec();
        new.sort_unstable_by(|a, b| address(a).cmp(&address(b)));
        if known.is_empty() {
            return new;
        }
        let mut all = Vec::with_capacity(self.places.len());
        let mut new = new.into_iter().peekable();
        for known in known {
            while let Some(first) = new.next_if(|first| address(first) < address(known)) {
                all.push(first);
            }
            all.push(*known);
        }
        all.extend(new);
        all
    }
}

impl PartialEq for Changes {
    fn eq(&self, other: &Self) -> bool {
        let places = |changes: &Self| {
            changes.groups().iter().flat_map(|group| group.order(changes).to_vec()).collect::<Vec<_>>()
        };
        let (ours, theirs) = (places(self), places(other));
        self.len() == other.len()
            && ours.iter().zip(&theirs).all(|(ours, theirs)| self.at(*ours) == other.at(*theirs))
    }
}

impl Eq for Changes {}

fn group_of(pair: &Pair) -> usize {
    pair.address().first().map_or(0, |group| usize::from(*group))
}

fn place(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Changes {
    pub(crate) fn len(&self) -> usize {
        self.placed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// About what they take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn at(&self, place: u32) -> Option<&Pair> {
        self.placed.get(place as usize).map(|placed| &placed.pair)
    }

    pub(crate) fn index(&self, wanted: Wanted<'_>) -> Option<u32> {
        let is = |place| self.at(place).is_some_and(|pair| pair.address() == wanted.address);
        self.places.find(wanted.hash, is)
    }

    pub(crate) fn get(&self, wanted: Wanted<'_>) -> Option<&Pair> {
        self.index(wanted).and_then(|place| self.at(place))
    }

    /// The places of several, at most [`TOGETHER`].
    pub(crate) fn find_many(&self, wanted: &[Wanted<'_>]) -> [Option<u32>; TOGETHER] {
        self.places.find_many(wanted, |at| self.at(at))
    }

    pub(crate) fn insert(&mut self, wanted: Wanted<'_>, pair: Pair) {
        self.insert_at(self.index(wanted), wanted.hash, pair);
    }

    /// Puts a change where [`Changes::index`] says that its address is. Where it is, and what was there before; nothing where it
    /// was added, at the end.
    pub(crate) fn insert_at(&mut self, known: Option<u32>, hash: u32, pair: Pair) -> (u32, Option<Pair>) {
        if let Some(place) = known
            && let Some(placed) = self.placed.get_mut(place as usize)
        {
            self.bytes += bytes_of(&pair);
            self.bytes -= bytes_of(&placed.pair);
            return (place, Some(std::mem::replace(&mut placed.pair, pair)));
        }
        (self.push(Placed { pair, hash }), None)
    }

    fn push(&mut self, placed: Placed) -> u32 {
        let new = place(self.placed.len());
        if let Some(order) = self.order.get_mut()
            && let Some(group) = order.get_mut(group_of(&placed.pair))
        {
            group.add(new);
        }
        self.bytes += bytes_of(&placed.pair);
        self.places.add(placed.hash, new);
        self.placed.push(placed);
        new
    }

    /// Undoes the last [`Changes::insert_at`] that is not undone.
    pub(crate) fn undo(&mut self, place: u32, before: Option<Pair>) {
        if let Some(before) = before {
            if let Some(placed) = self.placed.get_mut(place as usize) {
                self.bytes += bytes_of(&before);
                self.bytes -= bytes_of(&placed.pair);
                placed.pair = before;
            }
            return;
        }
        let Some(placed) = self.placed.pop() else { return };
        self.bytes -= bytes_of(&placed.pair);
        self.places.remove(placed.hash, place);
        self.order.take();
    }

    /// Puts later changes over these.
    pub(crate) fn add(&mut self, later: Changes) {
        self.placed.reserve(later.len());
        self.places.reserve(later.len());
        let mut left = later.placed.into_iter();
        while !left.as_slice().is_empty() {
            let wanted: Vec<Wanted<'_>> = left.as_slice().iter().take(TOGETHER).map(Placed::wanted).collect();
            // No address is there twice.
            let known = self.find_many(&wanted);
            for (placed, known) in left.by_ref().take(TOGETHER).zip(known) {
                self.insert_at(known, placed.hash, placed.pair);
            }
        }
    }

    fn groups(&self) -> &[Group] {
        self.order.get_or_init(|| {
            let mut groups = vec![Group::default(); GROUPS];
            for (number, placed) in self.placed.iter().enumerate() {
                if let Some(group) = groups.get_mut(group_of(&placed.pair)) {
                    group.places.push(place(number));
                }
            }
            groups
        })
    }

    /// As they were made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pair> {
        self.placed.iter().map(|placed| &placed.pair)
    }

    /// The same with what finds them.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (Wanted<'_>, &Pair)> {
        self.placed.iter().map(|placed| (placed.wanted(), &placed.pair))
    }

    /// A cursor over them in order.
    pub(crate) fn ordered(&self) -> Ordered<'_> {
        Ordered { changes: self, groups: self.groups(), group: 0, next: 0 }
    }
}

/// How far a walk has come in changes.
pub(crate) struct Ordered<'a> {
    changes: &'a Changes,
    groups: &'a [Group],
    group: usize,
    /// In the order of that.
    next: usize,
}

impl<'a> Ordered<'a> {
    /// The first that is not before an address, which is not before that of the last time.
    pub(crate) fn seek(&mut self, from: &[u8]) -> Option<&'a Pair> {
        let first = from.first().map_or(0, |group| usize::from(*group));
        if self.group < first {
            (self.group, self.next) = (first, 0);
        }
        while let Some(group) = self.groups.get(self.group) {
            let order = if group.places.is_empty() { &[] } else { group.order(self.changes) };
            self.next = seek(order, self.next, |place| {
                self.changes.at(place).is_some_and(|pair| pair.address() < from)
            });
            if let Some(place) = order.get(self.next) {
                return self.changes.at(*place);
            }
            (self.group, self.next) = (self.group + 1, 0);
        }
        None
    }
}

/// The number of the first that is not before, from `near` on.
fn seek(order: &[u32], near: usize, is_before: impl Fn(u32) -> bool) -> usize {
    let is_before = |number: usize| order.get(number).is_some_and(|place| is_before(*place));
    if !is_before(near) {
        return near;
    }
    // Most often the next one; else steps that double, and a search between the last two.
    let (mut low, mut step) = (near, 1);
    while is_before(low + step) {
        low += step;
        step *= 2;
    }
    let (mut low, mut high) = (low + 1, low + step);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
