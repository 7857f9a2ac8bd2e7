//! Strands: the keys of a stream, parted so that what keeps state runs on several cores, and in order within each key.
//!
//! A slice is parted once its event time is judged: each record goes to the strand that has its key, in the order of offsets; one
//! without the field, or that is no JSON, has the empty key. Every strand runs the whole chain over [state of its
//! own](wasmill_state::Strands), and is told of the slice's watermark. What came of them is put together in the order of
//! strands, so that whoever gathers slices sees one: rows of one key are in order, those of two strands stand one behind the other.
//!
//! Nothing waits here. As many jobs as there are threads look for a share that nobody has taken, and the one that ends
//! the last share puts together what came of all.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use wasmill_chunk::{Chunk, ChunkLimits, Input, Layout, Misuse, RowsId};
use wasmill_config as config;
use wasmill_state::{Changing, Strand, Strands};

use super::batch::{Piece, Rows};
use super::event_time::Judged;
use super::outcome::BatchKey;
#[cfg(test)]
use super::simulation::Mutant;
use super::slice::{Cut, Done, Part, Route};
use super::state::StateBelow;
use super::workers::WorkerState;

/// How a stream's records are parted.
#[derive(Debug)]
pub(crate) struct Parallel {
    pub(crate) strands: Strands,
    layout: Arc<Layout>,
    #[cfg(test)]
    pub(crate) mutant: Mutant,
}

/// Records of a slice that run together: all of them, or those of one strand.
pub(crate) struct Share<'a> {
    /// Those that go through the chain.
    pub(crate) parts: Cow<'a, [Part]>,
    /// Their times, and what of the whole slice does not go through the chain, which the first share has.
    pub(crate) judged: Option<Judged>,
    pub(crate) strand: Option<(Strand, Changing)>,
}

impl Share<'_> {
    /// For the simulation: it once more, if it has records.
    #[cfg(test)]
    fn again(&self) -> Option<Share<'static>> {
        let mut judged = self.judged.as_ref().map(Judged::beside);
        for (again, judged) in judged.iter_mut().zip(&self.judged) {
            again.times.clone_from(&judged.times);
        }
        let parts = Cow::Owned(self.parts.to_vec());
        (!self.parts.is_empty()).then(|| Share { parts, judged, strand: self.strand.clone() })
    }

    /// With those that do not go through the chain.
    pub(crate) fn records(&self) -> u64 {
        let beside = self.judged.as_ref().map_or(0, |judged| {
            let late: u64 = judged.late.iter().map(Part::records).sum();
            late + judged.letters.len() as u64 + judged.dropped
        });
        self.parts.iter().map(Part::records).sum::<u64>() + beside
    }

    pub(crate) fn seed(&self, of_stream: u64) -> u64 {
        self.strand.as_ref().map_or(of_stream, |(strand, _)| seed(of_stream, strand.number))
    }

    fn into_owned(self) -> Share<'static> {
        Share { parts: Cow::Owned(self.parts.into_owned()), judged: self.judged, strand: self.strand }
    }
}

/// What plugins draw at random is not the same in all strands: they are told of the same watermark.
pub(crate) fn seed(of_stream: u64, strand: u8) -> u64 {
    of_stream.wrapping_add(u64::from(strand).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Records of one strand, in the making.
#[derive(Default)]
struct Gathering {
    parts: Vec<Part>,
    times: Vec<(Vec<i64>, Vec<i64>)>,
}

impl Parallel {
    /// # Errors
    /// What of it is wrong that the configuration has not refused.
    pub(crate) fn new(written: &config::Parallel) -> Result<Parallel, String> {
        let config::Parallel { path, key, strands } = written;
        let layout = Layout::new(&[vec![path.clone()]]).map_err(|error| error.to_string())?;
        Ok(Parallel {
            strands: Strands::new(*strands, key),
            layout: Arc::new(layout),
            #[cfg(test)]
            mutant: Mutant::None,
        })
    }

    /// The strand of each row of all inputs, one behind the other.
    pub(crate) fn numbers(&self, inputs: &[Input<'_>]) -> Vec<u8> {
        let without = self.strands.number_of(b"");
        let rows = inputs.iter().map(|input| input.payloads.len()).sum();
        #[cfg(test)]
        if self.mutant == Mutant::StrandsMixed {
            return (0..self.strands.count()).cycle().take(rows).collect();
        }
        // Records that cannot be looked into at all have no key.
        self.read(inputs, without).unwrap_or_else(|_misuse| vec![without; rows])
    }

    fn read(&self, inputs: &[Input<'_>], without: u8) -> Result<Vec<u8>, Misuse> {
        let mut chunk = Chunk::new(Arc::clone(&self.layout), ChunkLimits::default());
        for (number, input) in inputs.iter().enumerate() {
            // Of a record only its payload is looked at.
            let input = Input { keys: None, attributes: &[], ..*input };
            match number {
                0 => chunk.begin(&input, input.rows())?,
                _ => chunk.extend(&input, input.rows())?,
            }
        }
        chunk.enter(0, 0);
        let of = |key: &[u8]| self.strands.number_of(key);
        let texts = chunk.get_text(RowsId::MAIN, 0)?;
        let mut numbers: Vec<Option<u8>> = texts.iter().map(|text| text.map(of)).collect();
        if numbers.iter().any(Option::is_none) {
            let others = chunk.get_raw(RowsId::MAIN, 0)?;
            for (number, raw) in numbers.iter_mut().zip(others.iter()) {
                *number = number.or_else(|| raw.map(of));
            }
        }
        Ok(numbers.into_iter().map(|number| number.unwrap_or(without)).collect())
    }

    /// The records of a slice by strand. Strands without any are left out, unless all are to be told of event time.
    pub(crate) fn part(&self, parts: &[Part], judged: Option<Judged>, tells: bool) -> Vec<Share<'static>> {
        let mut judged = judged;
        let times = judged.as_mut().map(|judged| std::mem::take(&mut judged.times));
        let mut strands: Vec<Gathering> = self.strands.each().map(|_| Gathering::default()).collect();
        let mut rows: Vec<Vec<usize>> = strands.iter().map(|_| Vec::new()).collect();
        let inputs: Vec<Input<'_>> = parts.iter().map(Part::input).collect();
        let numbers = self.numbers(&inputs);
        let mut left = numbers.as_slice();
        for (place, part) in parts.iter().enumerate() {
            let (here, rest) = left.split_at(inputs[place].payloads.len());
            left = rest;
            let Some(first) = here.first() else { continue };
            let times = times.as_ref().and_then(|times| times.get(place));
            if here.iter().all(|number| number == first) {
                let strand = &mut strands[usize::from(*first)];
                strand.parts.push(part.clone());
                strand.times.extend(times.cloned());
                continue;
            }
            rows.iter_mut().for_each(Vec::clear);
            here.iter().enumerate().for_each(|(row, number)| rows[usize::from(*number)].push(row));
            for (strand, rows) in strands.iter_mut().zip(&rows).filter(|(_, rows)| !rows.is_empty()) {
                strand.parts.push(part.gathered(rows));
                strand.times.extend(times.map(|(times, watermarks)| {
                    let of_rows = |all: &[i64]| rows.iter().map(|row| all[*row]).collect();
                    (of_rows(times), of_rows(watermarks))
                }));
            }
        }
        let none = strands.iter().all(|strand| strand.parts.is_empty());
        let (tells, changing) = (tells && judged.is_some(), Changing::default());
        let beside = judged.as_ref().map(Judged::beside);
        let mut shares: Vec<Share<'static>> = Vec::with_capacity(strands.len());
        for (strand, Gathering { parts, times }) in self.strands.each().zip(strands) {
            // Somebody has what does not go through the chain.
            let first_of_none = none && shares.is_empty();
            if parts.is_empty() && !tells && !first_of_none {
                continue;
            }
            let mut of_share = judged.take().or_else(|| beside.as_ref().map(Judged::beside));
            if let Some(judged) = &mut of_share {
                judged.times = times;
            }
            let strand = Some((strand, changing.clone()));
            shares.push(Share { parts: Cow::Owned(parts), judged: of_share, strand });
        }
        #[cfg(test)]
        if self.mutant == Mutant::StrandTwice {
            shares.extend(shares.last().and_then(Share::again));
        }
        shares
    }
}

/// For the simulation.
#[cfg(test)]
pub(crate) fn plant(parallel: Option<&Parallel>, mut shares: Vec<Done>) -> Vec<Done> {
    let lost = parallel.is_some_and(|parallel| parallel.mutant == Mutant::StrandStateLost);
    if let Some(last) = shares.last_mut().filter(|_| lost) {
        last.state = None;
    }
    shares
}

/// What came of a whole slice, of what came of its shares in the order of strands. If one could not run, the slice could not.
pub(crate) fn together(shares: Vec<Done>) -> Option<Done> {
    let mut shares = shares.into_iter();
    let mut whole = shares.next()?;
    let mut rest = shares.peekable();
    if rest.peek().is_none() {
        return Some(whole);
    }
    let mut pieces = std::mem::take(&mut whole.pieces);
    for share in rest {
        whole.counts.add(&share.counts);
        whole.plugin_failed += share.plugin_failed;
        whole.bytes += share.bytes;
        pieces.extend(share.pieces);
        whole.letters.extend(share.letters);
        for (sum, more) in whole.transforms.iter_mut().zip(share.transforms) {
            sum.add(more);
        }
        for (transform, fault) in share.faults {
            if whole.faults.iter().all(|(known, _)| *known != transform) {
                whole.faults.push((transform, fault));
            }
        }
        whole.chunks_bisected += share.chunks_bisected;
        match (&mut whole.trace, share.trace) {
            (Some(trace), Some(more)) => trace.append(more),
            (none, more) => *none = none.take().or(more),
        }
        match (&mut whole.state, share.state) {
            (Some(state), Some(more)) => state.add(more),
            (none, more) => *none = none.take().or(more),
        }
        if let Some((progress, more)) = whole.event_time.as_mut().zip(share.event_time) {
            progress.owed |= more.owed;
            progress.late += more.late;
        }
        whole.unrunnable = whole.unrunnable.take().or(share.unrunnable);
    }
    if whole.unrunnable.is_some() {
        whole.state = None;
    }
    whole.pieces = joined(pieces);
    Some(whole)
}

/// Pieces with the rows of one batch as one: its first offset names a batch, and a slice adds to each but once.
pub(crate) fn joined(pieces: Vec<(BatchKey, Piece)>) -> Vec<(BatchKey, Piece)> {
    let mut places: BTreeMap<BatchKey, usize> = BTreeMap::new();
    let mut gathered: Vec<(BatchKey, Vec<Piece>)> = Vec::new();
    for (key, piece) in pieces {
        let place = *places.entry(key.clone()).or_insert(gathered.len());
        match gathered.get_mut(place) {
            Some((_, of_key)) => of_key.push(piece),
            None => gathered.push((key, vec![piece])),
        }
    }
    let join = |(key, mut pieces): (BatchKey, Vec<Piece>)| {
        if pieces.len() == 1
            && let Some(piece) = pieces.pop()
        {
            return (key, piece);
        }
        let rows: Vec<&[u8]> = pieces.iter().map(Piece::pending).collect();
        let piece = Piece {
            rows: Rows::Pending(Bytes::from(rows.concat())),
            records: pieces.iter().map(|piece| piece.records).sum(),
            first_offset: pieces.iter().map(|piece| piece.first_offset).min().unwrap_or(0),
            first_arrival: pieces.iter().map(|piece| piece.first_arrival).min().unwrap_or(i64::MAX),
        };
        (key, piece)
    };
    gathered.into_iter().map(join).collect()
}

type Finish = Box<dyn FnOnce(&Arc<Cut>, &Route, Done) + Send>;

/// A slice whose strands run at once. See the head of this file.
pub(crate) struct Together {
    cut: Arc<Cut>,
    route: Route,
    stage: Mutex<Stage>,
}

enum Stage {
    /// Nobody has parted it.
    Whole(Option<StateBelow>, Finish),
    Parted(Parted),
    Over,
}

struct Parted {
    below: Option<StateBelow>,
    finish: Finish,
    left: VecDeque<(usize, Share<'static>)>,
    /// By share.
    done: Vec<Option<Done>>,
    /// Shares that have not come back.
    open: usize,
}

impl Together {
    pub(crate) fn new(cut: Arc<Cut>, route: Route, below: Option<StateBelow>, finish: Finish) -> Together {
        Together { cut, route, stage: Mutex::new(Stage::Whole(below, finish)) }
    }

    fn locked(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs shares on this thread while there are any that nobody has taken.
    pub(crate) fn work(&self, worker: &mut WorkerState) {
        while let Some((number, share, below)) = self.take() {
            let done = self.cut.run_share(share, &self.route, below.as_ref(), worker);
            // Whoever gathers the slice is the only one who has what it saw.
            drop(below);
            if let Some((shares, finish)) = self.done(number, done) {
                finish(&self.cut, &self.route, self.cut.whole(&self.route, shares));
            }
        }
    }

    /// Who comes first parts the slice, and the others wait so long: it is a small part of what they are about to do.
    fn take(&self) -> Option<(usize, Share<'static>, Option<StateBelow>)> {
        let mut stage = self.locked();
        // What panics here leaves nothing to do, and the slice without an answer.
        let mut parted = match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Whole(below, finish) => {
                let shares = self.cut.shares(&self.route).into_iter().map(Share::into_owned);
                let left: VecDeque<_> = shares.enumerate().collect();
                Parted { below, finish, done: left.iter().map(|_| None).collect(), open: left.len(), left }
            }
            Stage::Parted(parted) => parted,
            Stage::Over => return None,
        };
        let next = parted.left.pop_front();
        let next = next.map(|(number, share)| (number, share, parted.below.clone()));
        *stage = Stage::Parted(parted);
        next
    }

    /// What all shares came to, once they have come back.
    fn done(&self, number: usize, done: Done) -> Option<(Vec<Done>, Finish)> {
        let mut stage = self.locked();
        let Stage::Parted(parted) = &mut *stage else { return None };
        parted.open -= 1;
        if done.unrunnable.is_some() {
            // The slice has no outcome, whatever came of the rest.
            parted.open -= parted.left.len();
            parted.left.clear();
        }
        if let Some(place) = parted.done.get_mut(number) {
            *place = Some(done);
        }
        if parted.open > 0 {
            return None;
        }
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Parted(Parted { done, finish, .. }) => {
                Some((done.into_iter().flatten().collect(), finish))
            }
            Stage::Whole(..) | Stage::Over => None,
        }
    }
}

#[cfg(test)]
mod tests;
