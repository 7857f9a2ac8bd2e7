//! Keyed state of a host's streams: the one store of the data directory, and what of it a stream and its slices see.
//!
//! The store is opened when the first stream needs it, and let go of when it fails, so that it can be opened anew once there
//! is room on the disk again. What was applied and is not durable in it stays in memory meanwhile. What was durable must be there
//! again: what outcomes carry is applied again only at a start.
//!
//! A journal that is not synced (`durability = "os"`) may lose outcomes with the machine that the store has applied. Their
//! records run again, and count again, as their objects are delivered again.

use std::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use wasmill_config as config;
use wasmill_state::{
    Changing, Held, Incarnation, Layer, Mark, SliceState, Store, StoreError, Strand, Strands, StreamMemory,
    StreamStore, TableUse, Usage, View,
};
use wasmill_transform::{Chain, PluginFault, SliceReport, TransformReport};

use super::sources::with_causes;

/// Directory of the store, in the data directory.
const DIRECTORY: &str = "state";

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a stream's state cannot be read or written now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateTrouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a thread of the host panicked at it")]
    Panicked,
    /// Journal positions.
    #[error(
        "the state store has lost changes that were durable in it: it has those up to journal position {found}, and had those up to \
         {had}; put it back as it was, or restart, which applies those again that the journal still has"
    )]
    Lost { found: u64, had: u64 },
    #[error("{}", parted_otherwise(table, found.as_ref(), wanted.as_ref()))]
    Parted { table: String, found: Option<Strands>, wanted: Option<Strands> },
    #[error(
        "the state store has changes up to journal position {found}, where the journal ends at {end}: they are from different times; \
         put back a state store of the journal's time, or remove {path} to begin without state"
    )]
    Ahead { found: u64, end: u64, path: PathBuf },
}

/// Whether the disk is full: with room it goes on.
pub(crate) fn is_full(error: &dyn Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |&error| error.source());
    causes.any(|error| {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    })
}

/// What becomes of a stream whose keys are parted otherwise than those of its state.
pub(crate) fn parted_otherwise(table: &str, found: Option<&Strands>, wanted: Option<&Strands>) -> String {
    let parted = |strands: Option<&Strands>| {
        strands.map_or_else(|| "without \"parallel\"".to_owned(), |strands| format!("in {strands}"))
    };
    format!(
        "the table {table:?} was kept {}, and the stream is to run {}: put \"parallel\" back as it was, or drop the state first \
         (`wasmill state drop STREAM --all`)",
        parted(found),
        parted(wanted)
    )
}

/// The state of all streams of a host. See the head of this file.
pub(crate) struct StateHouse {
    path: PathBuf,
    /// The journal may lose outcomes that were applied.
    journal_loses: bool,
    store: Mutex<Option<Store>>,
    held: Arc<Held>,
    streams: Mutex<Vec<Weak<StreamState>>>,
}

impl StateHouse {
    pub(crate) fn of(data_dir: &Path, durability: config::Durability) -> StateHouse {
        StateHouse {
            path: data_dir.join(DIRECTORY),
            journal_loses: durability == config::Durability::Os,
            store: Mutex::default(),
            held: Arc::default(),
            streams: Mutex::default(),
        }
    }

    /// One that is open already.
    #[cfg(test)]
    pub(crate) fn with(store: Store) -> StateHouse {
        StateHouse {
            held: Arc::clone(store.held()),
            store: Mutex::new(Some(store)),
            ..StateHouse::of(Path::new("/data"), config::Durability::Fsync)
        }
    }

    /// The store, opened or made if need be. Blocks.
    pub(crate) fn store(&self) -> Result<Store, StoreError> {
        let mut store = locked(&self.store);
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        let opened = Store::open(&self.path, &self.held)?;
        *store = Some(opened.clone());
        Ok(opened)
    }

    /// The store, if there is one on disk. Blocks.
    pub(crate) fn existing(&self) -> Result<Option<Store>, StoreError> {
        let there = locked(&self.store).is_some() || self.path.exists();
        if there { self.store().map(Some) } else { Ok(None) }
    }

    /// A stream of it.
    pub(crate) fn stream(self: &Arc<Self>, incarnation: Incarnation, usage: Arc<Usage>) -> Arc<StreamState> {
        let stream =
            Arc::new(StreamState { house: Arc::clone(self), incarnation, usage, open: Mutex::default() });
        let mut streams = locked(&self.streams);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&stream));
        stream
    }

    /// Removes what is stored of a stream that is gone. Blocks.
    pub(crate) fn remove(&self, incarnation: Incarnation) -> Result<(), StoreError> {
        match self.existing()? {
            Some(store) => store.drop_stream(incarnation),
            None => Ok(()),
        }
    }

    /// Removes what is stored of streams that are not among `known`: a crash came between a stream's end and that of its
    /// state. Says how many. Blocks.
    pub(crate) fn remove_others(&self, known: &[Incarnation]) -> Result<usize, StoreError> {
        let Some(store) = self.existing()? else { return Ok(0) };
        let mut gone = store.incarnations()?;
        gone.retain(|incarnation| !known.contains(incarnation));
        gone.iter().try_for_each(|incarnation| store.drop_stream(*incarnation))?;
        Ok(gone.len())
    }

    /// The host ends: whoever needs the directory next can have it.
    pub(crate) fn close(&self) {
        self.each(|open| *open = Open::default());
    }

    /// It has failed: whoever needs it next opens it anew, as soon as nobody uses it any more.
    fn let_go(&self) {
        self.each(|open| open.store = None);
    }

    fn each(&self, close: impl Fn(&mut Open)) {
        let streams: Vec<_> = locked(&self.streams).iter().filter_map(Weak::upgrade).collect();
        streams.iter().for_each(|stream| close(&mut locked(&stream.open)));
        drop(locked(&self.store).take());
    }
}

/// The state of one stream.
pub(crate) struct StreamState {
    house: Arc<StateHouse>,
    incarnation: Incarnation,
    usage: Arc<Usage>,
    open: Mutex<Open>,
}

/// What of it is open.
#[derive(Default)]
struct Open {
    store: Option<StreamStore>,
    /// Since it was opened first.
    memory: Option<StreamMemory>,
    /// Where the journal ended before that: every outcome that the store has lies before.
    journal_end: Option<u64>,
}

impl StreamState {
    /// Opened if need be. Blocks.
    pub(crate) fn store(&self) -> Result<StreamStore, StateTrouble> {
        let open = &mut *locked(&self.open);
        if let Some(store) = &open.store {
            return Ok(store.clone());
        }
        let house = self.house.store()?;
        let opened = match &open.memory {
            None => {
                let first = house.stream(self.incarnation, Arc::clone(&self.usage))?;
                open.journal_end.map_or(Ok(()), |end| self.is_of_time(&first, end))?;
                first
            }
            Some(memory) => {
                let [found, had] = [house.mark(self.incarnation)?, memory.durable()].map(position);
                if found < had {
                    return Err(StateTrouble::Lost { found, had });
                }
                house.resume(memory.clone())
            }
        };
        *open = Open { memory: Some(opened.memory()), store: Some(opened.clone()), journal_end: None };
        Ok(opened)
    }

    /// What is stored, if anything can be. Blocks.
    pub(crate) fn existing(&self) -> Result<Option<StreamStore>, StateTrouble> {
        match self.house.existing()? {
            Some(_) => self.store().map(Some),
            None => Ok(None),
        }
    }

    /// Applies what outcomes carry, the last of which is at this position, unless that was done. Blocks.
    pub(crate) fn apply(&self, position: u64, layers: &[&Layer]) -> Result<Vec<TableUse>, StateTrouble> {
        let applied = self.store().and_then(|store| {
            store.apply(position, layers)?;
            Ok(store.tables())
        });
        if applied.is_err() {
            self.house.let_go();
        }
        applied
    }

    /// Writes what was applied to the database, and makes it durable there; says up to which journal position it has it there. Blocks.
    pub(crate) fn write_behind(&self) -> Result<Option<u64>, StateTrouble> {
        let written = self.store().and_then(|store| Ok(store.write_behind()?));
        if written.is_err() {
            self.house.let_go();
        }
        written.map(|mark| mark.map(|mark| mark.position))
    }

    /// What all streams have in memory.
    pub(crate) fn held(&self) -> &Held {
        &self.house.held
    }

    /// Whether the store is of the journal's time, which ends there: every outcome that it has lies before. If it cannot be opened
    /// now that is asked when it is. Blocks.
    pub(crate) fn check(&self, end: u64) -> Result<(), StateTrouble> {
        locked(&self.open).journal_end = Some(end);
        self.existing().map(drop)
    }

    fn is_of_time(&self, store: &StreamStore, end: u64) -> Result<(), StateTrouble> {
        let found = position(store.mark());
        if found == 0 || found < end {
            return Ok(());
        }
        if !self.house.journal_loses {
            return Err(StateTrouble::Ahead { found, end, path: self.house.path.clone() });
        }
        tracing::warn!(
            path = %self.house.path.display(), found, end,
            "the state store has changes of outcomes that the journal has lost; their records run again, and count again"
        );
        store.rewind(end.saturating_sub(1)).map_err(StateTrouble::Store)
    }
}

fn position(mark: Option<Mark>) -> u64 {
    mark.map_or(0, |mark| mark.position)
}

/// What a slice sees: changes on their way over what is stored.
#[derive(Clone)]
pub(crate) struct StateBelow {
    /// The newest first.
    pub(crate) layers: Vec<Arc<Layer>>,
    pub(crate) stream: Arc<StreamState>,
}

impl StateBelow {
    /// State for a slice of this time, or for one of its strands. Blocks.
    pub(crate) fn over(
        &self,
        time: i64,
        strand: Option<(Strand, Changing)>,
    ) -> Result<SliceState, StateTrouble> {
        let StateBelow { layers, stream } = self;
        let view = View::new(layers.iter().cloned(), Arc::new(stream.store()?));
        let wanted = strand.as_ref().map(|(strand, _)| &strand.of);
        if let Some(id) = view.parted_otherwise(wanted) {
            let table = format!("{}/{}", id.transform(), id.table());
            let found = id.strand().map(|strand| strand.of);
            return Err(StateTrouble::Parted { table, found, wanted: wanted.cloned() });
        }
        let state = SliceState::new(view, time, Some(Arc::clone(&stream.usage)));
        Ok(match strand {
            Some((strand, changing)) => state.in_strand(strand, changing),
            None => state,
        })
    }
}

/// The report of a slice whose state cannot be read: no record is to blame.
pub(crate) fn unreadable(chain: &Chain, error: &StateTrouble) -> SliceReport {
    let fault = PluginFault::Host { message: format!("its state cannot be read: {}", with_causes(error)) };
    let transforms = chain.transforms().map(|_| TransformReport::default()).collect();
    SliceReport { transforms, unrunnable: Some((0, fault)), ..SliceReport::default() }
}

#[cfg(test)]
mod tests {
    use wasmill_state::{TableId, TableSpec};

    use super::*;

    fn layer(value: &[u8]) -> Layer {
        let mut state = SliceState::scratch(1);
        let table = state.table(&TableId::new("t", "a").unwrap(), TableSpec::default());
        state.put(table, 0, b"k", Some(value)).unwrap();
        state.finish()
    }

    fn value(stream: &Arc<StreamState>) -> Option<Vec<u8>> {
        let below = StateBelow { layers: Vec::new(), stream: Arc::clone(stream) };
        let mut state = below.over(0, None).unwrap();
        let table = state.table(&TableId::new("t", "a").unwrap(), TableSpec::default());
        state.get(table, 0, b"k").unwrap().map(|value| value.to_vec())
    }

    #[test]
    fn store_that_was_let_go_of_is_opened_anew_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let house = Arc::new(StateHouse::of(directory.path(), config::Durability::Fsync));
        assert!(house.existing().unwrap().is_none(), "none is made before it is needed");
        let usage = Arc::new(Usage::default());
        let stream = house.stream([1; 16], Arc::clone(&usage));
        stream.apply(5, &[&layer(b"one")]).unwrap();
        let stored = usage.stored();
        assert!(stored > 0);
        house.let_go();
        // What was applied is in memory, and nowhere else.
        assert!(locked(&house.store).is_none());
        assert_eq!(value(&stream), Some(b"one".to_vec()));
        assert_eq!(usage.stored(), stored);
        stream.apply(5, &[&layer(b"again")]).unwrap();
        assert_eq!(value(&stream), Some(b"one".to_vec()));
        stream.apply(6, &[&layer(b"two")]).unwrap();
        assert_eq!(stream.write_behind().unwrap(), Some(6));
        house.let_go();
        assert_eq!(value(&stream), Some(b"two".to_vec()));
        house.close();
        assert_eq!(usage.stored(), 0);
        assert_eq!(value(&stream), Some(b"two".to_vec()));
        assert_eq!(usage.stored(), stored);
    }

    #[test]
    fn store_that_has_lost_what_was_applied_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let house = Arc::new(StateHouse::of(directory.path(), config::Durability::Fsync));
        let stream = house.stream([1; 16], Arc::default());
        stream.apply(5, &[&layer(b"one")]).unwrap();
        house.let_go();
        let gone = || std::fs::remove_dir_all(directory.path().join(DIRECTORY)).unwrap();
        gone();
        // None of it was durable there: nothing is lost.
        stream.apply(6, &[&layer(b"two")]).unwrap();
        stream.write_behind().unwrap();
        house.let_go();
        gone();
        let lost = stream.apply(7, &[&layer(b"three")]).unwrap_err();
        assert!(matches!(lost, StateTrouble::Lost { found: 0, had: 6 }), "{lost:?}");
        // The next start applies what the journal has.
        let restarted = Arc::new(StateHouse::of(directory.path(), config::Durability::Fsync))
            .stream([1; 16], Arc::default());
        drop((stream, house));
        restarted.apply(5, &[&layer(b"one")]).unwrap();
        assert_eq!(value(&restarted), Some(b"one".to_vec()));
    }

    #[test]
    fn store_of_a_later_time_than_the_journal_is_refused_and_state_of_nobody_removed() {
        let directory = tempfile::tempdir().unwrap();
        let house = Arc::new(StateHouse::of(directory.path(), config::Durability::Fsync));
        for incarnation in [[1; 16], [2; 16]] {
            let stream = house.stream(incarnation, Arc::default());
            stream.apply(700, &[&layer(b"one")]).unwrap();
            stream.write_behind().unwrap();
        }
        let check = |end| house.stream([1; 16], Arc::default()).check(end);
        assert!(check(701).is_ok());
        let ahead = check(700).unwrap_err().to_string();
        assert!(ahead.contains("up to journal position 700, where the journal ends at 700"), "{ahead}");
        assert_eq!(house.remove_others(&[[1; 16]]).unwrap(), 1);
        assert_eq!(house.store().unwrap().incarnations().unwrap(), [[1; 16]]);
        house.remove([1; 16]).unwrap();
        assert!(house.store().unwrap().incarnations().unwrap().is_empty());
    }

    #[test]
    fn store_that_is_ahead_of_a_journal_which_loses_outcomes_takes_those_that_come_in_their_place() {
        let directory = tempfile::tempdir().unwrap();
        let house = Arc::new(StateHouse::of(directory.path(), config::Durability::Os));
        let stream = house.stream([1; 16], Arc::default());
        stream.apply(700, &[&layer(b"one")]).unwrap();
        stream.apply(900, &[&layer(b"two")]).unwrap();
        stream.write_behind().unwrap();
        drop(stream);
        // That of 900 is gone, and the next one comes where it was, or before.
        let stream = house.stream([1; 16], Arc::default());
        stream.check(800).unwrap();
        assert_eq!(value(&stream), Some(b"two".to_vec()));
        stream.apply(700, &[&layer(b"one")]).unwrap();
        assert_eq!(value(&stream), Some(b"two".to_vec()));
        stream.apply(800, &[&layer(b"three")]).unwrap();
        assert_eq!(value(&stream), Some(b"three".to_vec()));
    }
}
