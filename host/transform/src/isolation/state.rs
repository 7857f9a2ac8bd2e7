//! State of guests in a process that has no store: what they read comes over the socket, and what they changed goes back at the
//! end of a run. The host makes the changes itself, in the slice that it holds, so that what the process says of sizes and
//! quotas counts for nothing.
//!
//! ```text
//! entries that are asked for, one after another: u32 length of the address, the address (key group, key)
//! entries that are answered: [address as above, in a page], u8 0 missing or 1 there; of those that are there
//!   i64 when, u32 layout version, u32 length of the value, the value
//! changes: u32 step, u32 table, u32 entries; of each the address as above, u8 0 removed or 1 put, and then
//!   u32 length of the value, the value
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use wasmill_chunk::RowCheck;
use wasmill_state::{
    Base, Entry, KEY_BYTES_MAX, Layer, Range, SliceState, StateError, StoreError, TableId, TableSpec, Usage,
    VALUE_BYTES_MAX, View, Wanted,
};

use super::messages::{Answer, Keeps, Place, Request, StateAsk};
use super::wire::{Body, Channel, put_i64s, put_u32s};
use crate::chain::Chain;
use crate::fault::{REASON_BYTES_MAX, cut_text};
use crate::limits::KEYS_PER_CALL_MAX;

/// Of entries in one answer: the first is whole whatever its size.
const ANSWER_BYTES: usize = 4 << 20;

/// The tables that the transforms of a chain have declared.
fn tables(chain: &Chain) -> impl Iterator<Item = (Place, TableId, TableSpec)> {
    let steps = chain.steps.iter().zip(chain.declared()).zip(0..);
    steps.flat_map(|((step, declared), number)| {
        declared.tables.iter().zip(0..).filter_map(move |(table, place)| {
            let spec = TableSpec { version: table.version, ttl_ns: table.ttl_ns };
            Some((Place { step: number, table: place }, TableId::new(&step.name, &table.name)?, spec))
        })
    })
}

/// Inside the process: what is stored, as the host shows it.
struct Far {
    channel: Arc<Mutex<Channel>>,
    places: HashMap<TableId, Place>,
    stored: HashMap<TableId, TableSpec>,
    now: i64,
}

/// Inside the process: state for a run.
pub(super) fn far(chain: &Chain, keeps: &Keeps, channel: &Arc<Mutex<Channel>>) -> SliceState {
    let stored = tables(chain).filter_map(|(place, id, _)| {
        let (_, version, ttl_ns) = keeps.stored.iter().find(|(stored, ..)| *stored == place)?;
        Some((id, TableSpec { version: *version, ttl_ns: *ttl_ns }))
    });
    let base = Far {
        channel: Arc::clone(channel),
        places: tables(chain).map(|(place, id, _)| (id, place)).collect(),
        stored: stored.collect(),
        now: keeps.now,
    };
    let usage = keeps.room.map(|room| {
        let usage = Usage::default();
        usage.set_limit(Some(room));
        Arc::new(usage)
    });
    SliceState::new(View::new([], Arc::new(base)), keeps.now, usage)
}

impl Far {
    fn ask(
        &self,
        table: &TableId,
        addresses: Option<u32>,
        body: &[u8],
    ) -> Result<(bool, Vec<u8>), StoreError> {
        let place = *self.places.get(table).ok_or_else(|| StoreError::Far(unfit()))?;
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = channel.send(&Answer::State(StateAsk { place, addresses }), &[body], None);
        match answered.and_then(|()| channel.receive(None)).map_err(StoreError::Far)? {
            (Request::Entries { more }, body) => Ok((more, body)),
            _ => Err(StoreError::Far(unfit())),
        }
    }
}

impl Base for Far {
    fn get(&self, table: &TableId, wanted: Wanted<'_>) -> Result<Option<Entry>, StoreError> {
        Ok(self.get_many(table, &[wanted])?.pop().flatten())
    }

    fn get_many(&self, table: &TableId, wanted: &[Wanted<'_>]) -> Result<Vec<Option<Entry>>, StoreError> {
        let mut entries = Vec::with_capacity(wanted.len());
        while let Some(left) = wanted.get(entries.len()..).filter(|left| !left.is_empty()) {
            let mut addresses = Vec::new();
            left.iter().for_each(|wanted| put_bytes(&mut addresses, wanted.address()));
            let count = u32::try_from(left.len()).unwrap_or(u32::MAX);
            let (_, body) = self.ask(table, Some(count), &addresses)?;
            let (mut body, before) = (Body(&body), entries.len());
            while !body.0.is_empty() {
                entries.push(read_entry(&mut body).ok_or_else(|| StoreError::Far(unfit()))?);
            }
            if !(1..=left.len()).contains(&(entries.len() - before)) {
                return Err(StoreError::Far(unfit()));
            }
        }
        Ok(entries)
    }

    fn is_far(&self) -> bool {
        true
    }

    fn range(&self, table: &TableId, from: &[u8], _most: usize) -> Result<Range, StoreError> {
        let (more, body) = self.ask(table, None, from)?;
        let (mut body, mut range) = (Body(&body), Range { entries: Vec::new(), more });
        while !body.0.is_empty() {
            let entry = read_bytes(&mut body).map(Box::from).zip(read_entry(&mut body).flatten());
            range.entries.push(entry.ok_or_else(|| StoreError::Far(unfit()))?);
        }
        Ok(range)
    }

    fn spec(&self, table: &TableId) -> Option<TableSpec> {
        self.stored.get(table).copied()
    }

    fn clock(&self) -> i64 {
        self.now
    }
}

/// Inside the process: has the host look at rows.
pub(super) struct ThroughHost<'a>(pub(super) &'a Mutex<Channel>);

impl RowCheck for ThroughHost<'_> {
    fn check(&mut self, route: u32, row: &[u8]) -> Result<(), String> {
        let mut channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = channel.send(&Answer::Check { route }, &[row], None);
        match answered.and_then(|()| channel.receive(None)) {
            Ok((Request::Checked(None), _)) => Ok(()),
            Ok((Request::Checked(Some(reason)), _)) => Err(reason),
            // A host that is gone is found out at the next answer.
            Ok(_) | Err(_) => Err("the host does not answer".to_owned()),
        }
    }
}

/// Inside the process: what became of state.
pub(super) fn changes(chain: &Chain, layer: &Layer) -> Vec<u8> {
    let places: HashMap<TableId, Place> = tables(chain).map(|(place, id, _)| (id, place)).collect();
    let mut out = Vec::new();
    let mut entries = layer.entries().peekable();
    while let Some((table, ..)) = entries.peek().copied() {
        // Nothing else can be written to.
        let place = places.get(table).copied().unwrap_or(Place { step: u32::MAX, table: u32::MAX });
        put_u32s(&mut out, [place.step, place.table, 0]);
        let (count_at, mut count) = (out.len() - 4, 0_u32);
        while let Some((_, address, value)) = entries.next_if(|(of, ..)| *of == table) {
            put_bytes(&mut out, address);
            out.push(u8::from(value.is_some()));
            value.iter().for_each(|value| put_bytes(&mut out, value));
            count += 1;
        }
        out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    }
    out
}

/// On the host: the state of a slice, whatever processes it runs in.
pub(super) struct Held {
    state: SliceState,
    /// The slice's numbers of the tables.
    numbers: HashMap<Place, usize>,
}

/// Why changes were not made.
pub(super) enum Unchanged {
    /// No honest process says so.
    Impossible,
    State(StateError),
}

impl Held {
    pub(super) fn new(mut state: SliceState, chain: &Chain) -> Held {
        let numbers = tables(chain).map(|(place, id, spec)| (place, state.table(&id, spec))).collect();
        Held { state, numbers }
    }

    pub(super) fn shown(&self, chain: &Chain, checks: bool) -> Keeps {
        let stored = tables(chain).filter_map(|(place, id, _)| {
            let TableSpec { version, ttl_ns } = self.state.stored(&id)?;
            Some((place, version, ttl_ns))
        });
        Keeps { now: self.state.now(), room: self.state.room(), stored: stored.collect(), checks }
    }

    /// What the process asks for. `None`: no honest process asks so.
    pub(super) fn answer(
        &mut self,
        ask: &StateAsk,
        body: &[u8],
    ) -> Option<Result<(Request, Vec<u8>), StateError>> {
        let table = *self.numbers.get(&ask.place)?;
        let mut out = Vec::new();
        let Some(count) = ask.addresses else {
            if body.len() > 2 + KEY_BYTES_MAX || body.is_empty() {
                return None;
            }
            let page = match self.state.page(table, body) {
                Ok(page) => page,
                Err(error) => return Some(Err(error)),
            };
            for (address, entry) in &page.entries {
                put_bytes(&mut out, address);
                put_entry(&mut out, Some(entry));
            }
            return Some(Ok((Request::Entries { more: page.more }, out)));
        };
        let count = usize::try_from(count).ok().filter(|count| (1..=KEYS_PER_CALL_MAX).contains(count))?;
        let mut body = Body(body);
        for _ in 0..count {
            let address = read_bytes(&mut body).filter(|address| is_address(address))?;
            if out.len() > ANSWER_BYTES {
                continue;
            }
            match self.state.entry(table, address) {
                Ok(entry) => put_entry(&mut out, entry.as_ref()),
                Err(error) => return Some(Err(error)),
            }
        }
        body.0.is_empty().then_some(Ok((Request::Entries { more: false }, out)))
    }

    /// Makes the changes of a part that is done, or none of them.
    pub(super) fn change(&mut self, changes: &[u8]) -> Result<(), Unchanged> {
        self.state.begin();
        let changed = self.change_each(Body(changes));
        if changed.is_err() {
            self.state.rollback();
        }
        changed
    }

    fn change_each(&mut self, mut changes: Body<'_>) -> Result<(), Unchanged> {
        while !changes.0.is_empty() {
            let head = changes.u32s(3).ok_or(Unchanged::Impossible)?;
            let &[step, table, count] = head.as_slice() else { return Err(Unchanged::Impossible) };
            let place = Place { step, table };
            let table = *self.numbers.get(&place).ok_or(Unchanged::Impossible)?;
            for _ in 0..count {
                let (group, key, value) = read_change(&mut changes).ok_or(Unchanged::Impossible)?;
                self.state.put(table, group, key, value).map_err(Unchanged::State)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Layer {
        self.state.finish()
    }
}

/// On the host: why a row does not fit.
pub(super) fn checked(check: &mut dyn RowCheck, route: u32, row: &[u8]) -> Request {
    Request::Checked(check.check(route, row).err().map(|reason| cut_text(&reason, REASON_BYTES_MAX)))
}

fn is_address(address: &[u8]) -> bool {
    (1..=1 + KEY_BYTES_MAX).contains(&address.len())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Keys and values are far below 4 GiB.
    put_u32s(out, [u32::try_from(bytes.len()).unwrap_or(u32::MAX)]);
    out.extend_from_slice(bytes);
}

fn read_bytes<'a>(body: &mut Body<'a>) -> Option<&'a [u8]> {
    let length = *body.u32s(1)?.first()?;
    body.bytes(length as usize)
}

fn put_entry(out: &mut Vec<u8>, entry: Option<&Entry>) {
    out.push(u8::from(entry.is_some()));
    if let Some(Entry { written, version, value }) = entry {
        put_i64s(out, [*written]);
        put_u32s(out, [*version]);
        put_bytes(out, value);
    }
}

#[expect(clippy::option_option, reason = "what cannot be read is not what is missing")]
fn read_entry(body: &mut Body<'_>) -> Option<Option<Entry>> {
    match *body.bytes(1)?.first()? {
        0 => Some(None),
        1 => {
            let (written, version) = (*body.i64s(1)?.first()?, *body.u32s(1)?.first()?);
            Some(Some(Entry { written, version, value: read_bytes(body)?.into() }))
        }
        _ => None,
    }
}

type Changed<'a> = (u8, &'a [u8], Option<&'a [u8]>);

fn read_change<'a>(body: &mut Body<'a>) -> Option<Changed<'a>> {
    let address = read_bytes(body).filter(|address| is_address(address))?;
    let (group, key) = address.split_first()?;
    let value = match *body.bytes(1)?.first()? {
        0 => None,
        1 => Some(read_bytes(body).filter(|value| value.len() <= VALUE_BYTES_MAX)?),
        _ => return None,
    };
    Some((*group, key, value))
}

fn unfit() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "state that does not fit what was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { step: 0, table: 0 };

    fn held(limit: Option<u64>) -> Held {
        let usage = Usage::default();
        usage.set_limit(limit);
        let mut state = SliceState::new(View::default(), 5, Some(Arc::new(usage)));
        let table = state.table(&TableId::new("t", "a").unwrap(), TableSpec::default());
        Held { state, numbers: [(PLACE, table)].into() }
    }

    fn put(place: Place, count: u32, entries: &[(&[u8], Option<&[u8]>)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_u32s(&mut out, [place.step, place.table, count]);
        for (address, value) in entries {
            put_bytes(&mut out, address);
            out.push(u8::from(value.is_some()));
            value.iter().for_each(|value| put_bytes(&mut out, value));
        }
        out
    }

    fn asked(held: &mut Held, place: Place, addresses: Option<u32>, body: &[u8]) -> Option<Vec<u8>> {
        let answered = held.answer(&StateAsk { place, addresses }, body)?;
        Some(answered.unwrap().1)
    }

    #[test]
    fn changes_are_made_and_read_back_and_none_of_them_where_one_is_impossible_or_has_no_room() {
        let mut held = held(Some(200));
        let good = put(PLACE, 2, &[(b"\x07key", Some(b"value")), (b"\x07gone", None)]);
        assert!(held.change(&good).is_ok());
        let mut wanted = Vec::new();
        put_bytes(&mut wanted, b"\x07key");
        let entry = asked(&mut held, PLACE, Some(1), &wanted).unwrap();
        let read = read_entry(&mut Body(&entry)).unwrap().unwrap();
        assert_eq!((&*read.value, read.written), (&b"value"[..], 5));
        let first = (&b"\x00first"[..], Some(&b"1"[..]));
        let long = vec![0; 2 + KEY_BYTES_MAX];
        for wrong in [
            put(Place { step: 0, table: 1 }, 1, &[first]),
            put(PLACE, 2, &[first]),
            put(PLACE, 2, &[first, (b"", Some(b"no group"))]),
            put(PLACE, 2, &[first, (&long, None)]),
            put(PLACE, 2, &[first, (b"\x00large", Some(&vec![0; VALUE_BYTES_MAX + 1]))]),
            [put(PLACE, 1, &[first]), vec![1, 2, 3]].concat(),
        ] {
            assert!(matches!(held.change(&wrong), Err(Unchanged::Impossible)));
        }
        let full = put(PLACE, 2, &[first, (b"\x00second", Some(&[7; 100]))]);
        assert!(matches!(held.change(&full), Err(Unchanged::State(StateError::Full { limit: 200 }))));
        let layer = held.finish();
        assert_eq!(layer.entries().filter(|(.., value)| value.is_some()).count(), 1, "nothing of the others");
    }

    #[test]
    fn what_no_honest_process_asks_is_not_answered() {
        let mut held = held(None);
        let mut one = Vec::new();
        put_bytes(&mut one, b"\x07key");
        assert_eq!(asked(&mut held, PLACE, Some(1), &one), Some(vec![0]), "there is none");
        assert_eq!(asked(&mut held, PLACE, None, b"\x00"), Some(Vec::new()));
        for (place, addresses, body) in [
            (Place { step: 1, table: 0 }, Some(1), one.clone()),
            (PLACE, Some(0), Vec::new()),
            (PLACE, Some(2), one.clone()),
            (PLACE, Some(1), [one.clone(), one.clone()].concat()),
            (PLACE, Some(1), one[..one.len() - 1].to_vec()),
            (PLACE, Some(u32::MAX), one.clone()),
            (PLACE, None, Vec::new()),
            (PLACE, None, vec![0; 3 + KEY_BYTES_MAX]),
        ] {
            assert_eq!(asked(&mut held, place, addresses, &body), None);
        }
    }
}
