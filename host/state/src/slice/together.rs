//! Many keys that one call reads or writes: some at a time, so that they wait for memory together.

use std::ops::Range;

use super::seen::Size;
use super::{SliceState, Table, fits};
use crate::changes::Wanted;
use crate::error::StateError;
use crate::places::TOGETHER;
use crate::view::Shown;

/// What some of the keys need; kept, so that the next ones need no memory of their own.
#[derive(Default)]
pub(super) struct Together {
    asked: Asked,
    answers: Answers,
}

#[derive(Default)]
struct Asked {
    addresses: Vec<u8>,
    ends: Vec<usize>,
}

#[derive(Default)]
struct Answers {
    /// When each was written, and where its value is.
    shown: Vec<Option<(i64, Range<usize>)>>,
    values: Vec<u8>,
}

impl Asked {
    fn clear(&mut self) {
        self.addresses.clear();
        self.ends.clear();
    }

    fn add(&mut self, group: u8, key: &[u8]) {
        self.addresses.push(group);
        self.addresses.extend_from_slice(key);
        self.ends.push(self.addresses.len());
    }

    fn wanted(&self) -> Vec<Wanted<'_>> {
        let mut from = 0;
        let address = |to: &usize| {
            let address = self.addresses.get(from..*to).unwrap_or_default();
            from = *to;
            Wanted::new(address)
        };
        self.ends.iter().map(address).collect()
    }
}

impl Answers {
    fn begin(&mut self, count: usize) {
        self.shown.clear();
        self.shown.resize(count, None);
        self.values.clear();
    }

    fn add(&mut self, number: usize, entry: Shown<'_>) {
        let from = self.values.len();
        self.values.extend_from_slice(entry.value);
        if let Some(shown) = self.shown.get_mut(number) {
            *shown = Some((entry.written, from..self.values.len()));
        }
    }

    fn size(&self, number: usize) -> Size {
        self.shown.get(number)?.as_ref().map(|(_, value)| value.len())
    }
}

impl SliceState {
    /// Tells the values of keys, one after another.
    ///
    /// # Errors
    /// The store cannot be read, or whoever is told says so.
    pub fn get_many<'k, E: From<StateError>>(
        &mut self,
        table: usize,
        keys: impl Iterator<Item = (u8, &'k [u8])>,
        mut told: impl FnMut(Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (now, ttl) = (self.now, self.tables[table].changes.spec.ttl_ns);
        let Together { mut asked, mut answers } = std::mem::take(&mut self.together);
        let mut keys = keys.peekable();
        let mut done = Ok(());
        while done.is_ok() && keys.peek().is_some() {
            asked.clear();
            keys.by_ref().take(TOGETHER).for_each(|(group, key)| asked.add(group, key));
            done = self.answer(table, &asked.wanted(), &mut answers).map_err(E::from).and_then(|()| {
                answers.shown.iter().try_for_each(|shown| {
                    let live =
                        shown.as_ref().filter(|(written, _)| crate::table::is_live(*written, ttl, now));
                    told(live.and_then(|(_, value)| answers.values.get(value.clone())))
                })
            });
        }
        self.together = Together { asked, answers };
        done
    }

    fn answer(
        &mut self,
        table: usize,
        wanted: &[Wanted<'_>],
        answers: &mut Answers,
    ) -> Result<(), StateError> {
        answers.begin(wanted.len());
        let Table { id, changes, seen } = &self.tables[table];
        let mut below = Vec::with_capacity(wanted.len());
        let found = changes.entries.find_many(wanted);
        for (number, (wanted, place)) in wanted.iter().zip(found).enumerate() {
            let shown = match place.and_then(|place| changes.entries.at(place)) {
                Some(pair) => Shown::of_pair(pair),
                None => match seen.fetched(*wanted) {
                    Some(entry) => entry.as_ref().map(Shown::of),
                    None => {
                        below.push(number);
                        continue;
                    }
                },
            };
            shown.into_iter().for_each(|shown| answers.add(number, shown));
        }
        if below.is_empty() {
            return Ok(());
        }
        self.view.show(id, wanted, below.clone(), &mut |number, shown| answers.add(number, shown))?;
        self.forget_if_full();
        let seen = &mut self.tables[table].seen;
        for number in below {
            wanted.get(number).into_iter().for_each(|wanted| seen.add(*wanted, answers.size(number)));
        }
        Ok(())
    }

    /// Writes values, or removes keys, one after another.
    ///
    /// # Errors
    /// As [`SliceState::put`], or what comes in place of a change.
    pub fn put_many<'k, E: From<StateError>>(
        &mut self,
        table: usize,
        mut changes: impl Iterator<Item = Result<(u8, &'k [u8], Option<&'k [u8]>), E>>,
    ) -> Result<(), E> {
        let Together { mut asked, answers } = std::mem::take(&mut self.together);
        let (mut done, mut values, mut more) = (Ok(()), Vec::with_capacity(TOGETHER), true);
        while done.is_ok() && more {
            asked.clear();
            values.clear();
            while done.is_ok() && values.len() < TOGETHER {
                match changes.next() {
                    Some(Ok((group, key, value))) => match fits(key, value) {
                        Ok(()) => {
                            asked.add(group, key);
                            values.push(value);
                        }
                        Err(error) => done = Err(error.into()),
                    },
                    Some(Err(error)) => done = Err(error),
                    None => {
                        more = false;
                        break;
                    }
                }
            }
            let wanted = asked.wanted();
            let known = self.tables[table].changes.entries.find_many(&wanted);
            for ((wanted, known), value) in wanted.into_iter().zip(known).zip(&values) {
                if let Err(error) = self.change(table, wanted, known, *value) {
                    done = Err(error.into());
                    break;
                }
            }
        }
        self.together = Together { asked, answers };
        done
    }
}
