//! The dead letters of one running stream, as the API and the command line ask for them: pages, single letters, removal,
//! replay.
//!
//! Everything is bounded: a page by letters and bytes, a replay step by the size of a slice. Reading holds up nobody:
//! the store is locked only to see which files there are. A replay that has begun ends although nobody waits for it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use wasmill_catalog::Catalog;
use wasmill_transform::Engine;

use super::context::StreamContext;
use super::dead_letters::{Change, Changes, DeadLetter, Filter, Stage, StoreError, View};
use super::opening::on_guest_thread;
use super::plan::{ChainPlan, ChainVersion};
use super::replay::{self, ReplayError, Replayed};

/// Bytes of letters of one page, the last letter aside.
const PAGE_BYTES: usize = 4 << 20;
/// Letters of one page.
pub const PAGE_LETTERS_MAX: usize = 1_000;
/// Letters whose object is sent before the store hears of it.
const RESENT_MAX: usize = 64;

/// How long a request waits for the store after a start.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// See the head of this file.
pub(crate) struct DeadLetters {
    pub(crate) context: Arc<StreamContext>,
    pub(crate) plan: Arc<ChainPlan>,
    pub(crate) engine: Engine,
    pub(crate) catalog: Catalog,
    pub(crate) chains: watch::Receiver<Arc<ChainVersion>>,
    pub(crate) replays: mpsc::Sender<replay::Request>,
    /// Held for as long as a replay runs.
    pub(crate) replaying: Arc<tokio::sync::Mutex<()>>,
}

/// Some letters, and after which number the next page begins, if there is one.
#[derive(Debug, Default)]
pub struct Page {
    pub letters: Vec<DeadLetter>,
    pub next: Option<u64>,
}

/// How much of the letters is meant.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub filter: Filter,
    /// Only letters above this number.
    pub after: u64,
    /// At most so many; what is more is on the next page.
    pub limit: usize,
}

/// Why a request about dead letters is refused.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    #[error("there is no stream {stream:?}")]
    NoStream { stream: String },
    #[error("stream {stream:?} has no dead letter {number}")]
    NoLetter { stream: String, number: u64 },
    #[error("{0}")]
    Plugin(String),
    #[error("a replay of stream {stream:?} is running, try again when it has ended")]
    Busy { stream: String },
    #[error(
        "letters of stream {stream:?} that were replayed before the last start cannot be removed yet, the log says why; try again"
    )]
    Unsettled { stream: String },
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the request was interrupted: {0}")]
    Interrupted(String),
}

/// The first letters that are wanted.
pub fn page(view: &View, wanted: &Wanted) -> Result<Page, StoreError> {
    let limit = wanted.limit.clamp(1, PAGE_LETTERS_MAX);
    let mut page = Page::default();
    let mut bytes = 0;
    view.each(wanted.after, &wanted.filter, |letter| {
        if page.letters.len() == limit || bytes >= PAGE_BYTES {
            page.next = page.letters.last().map(|last| last.number);
            return false;
        }
        bytes += letter.payload.as_ref().or(letter.payload_base64.as_ref()).map_or(0, String::len) + 500;
        page.letters.push(letter);
        true
    })?;
    Ok(page)
}

impl DeadLetters {
    /// A letter that a replay was done with before a crash must not be seen again.
    async fn view(&self) -> Result<View, LettersError> {
        let unsettled = |_| LettersError::Unsettled { stream: self.context.name.clone() };
        tokio::time::timeout(SETTLED_WITHIN, self.context.settled()).await.map_err(unsettled)?;
        Ok(self.context.letters.lock().unwrap_or_else(PoisonError::into_inner).view())
    }

    pub(crate) async fn page(&self, wanted: Wanted) -> Result<Page, LettersError> {
        let view = self.view().await?;
        Ok(blocking(move || page(&view, &wanted)).await??)
    }

    pub(crate) async fn get(&self, number: u64) -> Result<DeadLetter, LettersError> {
        let filter = Filter { numbers: Some(vec![(number, number)]), ..Filter::default() };
        let page = self.page(Wanted { filter, after: number.saturating_sub(1), limit: 1 }).await?;
        let missing = || LettersError::NoLetter { stream: self.context.name.clone(), number };
        page.letters.into_iter().next().ok_or_else(missing)
    }

    /// Removes the letters that match, for good. Returns how many.
    pub(crate) async fn remove(&self, filter: Filter) -> Result<u64, LettersError> {
        let context = self.context.clone();
        let view = self.view().await?;
        let removed = blocking(move || {
            let numbers = view.numbers(&filter)?;
            let changes: Changes = numbers.into_iter().map(|number| (number, Change::Removed)).collect();
            context.change_letters(&changes)
        });
        let removed = removed.await??.removed;
        self.context.stats.dead_letters.purged.add(removed);
        tracing::info!(stream = %self.context.label(), letters = removed, "dead letters purged");
        Ok(removed)
    }

    /// Tries the letters that match once more, through the current chain or with other versions of its plugins
    /// (`name@sha256:…`). Returns where the next call goes on, if there are more than its limit.
    pub(crate) async fn replay(
        self: Arc<Self>,
        wanted: Wanted,
        plugins: Vec<String>,
    ) -> Result<(Replayed, Option<u64>), LettersError> {
        let busy = |_held| LettersError::Busy { stream: self.context.name.clone() };
        let held = self.replaying.clone().try_lock_owned().map_err(busy)?;
        let version = self.version(plugins).await?;
        let this = self.clone();
        // A client that goes away must not let another replay begin while this one is under way.
        let replayed = tokio::spawn(async move {
            let replayed = this.replay_all(wanted, version).await;
            drop(held);
            replayed
        });
        replayed.await.map_err(|error| LettersError::Interrupted(error.to_string()))?
    }

    async fn version(&self, plugins: Vec<String>) -> Result<Arc<ChainVersion>, LettersError> {
        if plugins.is_empty() {
            let version = self.chains.borrow().clone();
            return match &version.withdrawn {
                Some(reason) => Err(LettersError::Plugin(reason.clone())),
                None => Ok(version),
            };
        }
        let (plan, engine, catalog) = (self.plan.clone(), self.engine.clone(), self.catalog.clone());
        let built = on_guest_thread(move || plan.with_versions(&engine, &catalog, &plugins)).await;
        let built = built.map_err(|error| LettersError::Interrupted(error.to_string()))?;
        built.map(Arc::new).map_err(LettersError::Plugin)
    }

    async fn replay_all(
        &self,
        mut wanted: Wanted,
        version: Arc<ChainVersion>,
    ) -> Result<(Replayed, Option<u64>), LettersError> {
        let mut sum = Replayed::default();
        loop {
            let left = wanted.limit.saturating_sub(usize::try_from(sum.tried).unwrap_or(usize::MAX));
            let page = self.page(Wanted { limit: left, ..wanted.clone() }).await?;
            let Some(last) = page.letters.last().map(|letter| letter.number) else { break };
            let (objects, records): (Vec<_>, Vec<_>) =
                page.letters.into_iter().partition(|letter| letter.stage == Stage::Delivery);
            // A row that no record stood behind is what plugins made: they do not run on it as if it had come in.
            let (records, rows): (Vec<_>, Vec<_>) =
                records.into_iter().partition(|letter| letter.offset >= 0);
            sum.skipped += rows.len() as u64;
            if !records.is_empty() {
                sum.add(&self.replay_records(records, &version).await?);
            }
            for some in objects.chunks(RESENT_MAX) {
                sum.add(&self.resend(some).await?);
            }
            wanted.after = last;
            if page.next.is_none() {
                break;
            }
            if sum.tried >= wanted.limit as u64 {
                return Ok((sum, Some(last)));
            }
        }
        tracing::info!(
            stream = %self.context.label(), tried = sum.tried, passed = sum.passed, dropped = sum.dropped,
            failed = sum.failed, skipped = sum.skipped, plugins = version.digests.join(", "), "dead letters replayed"
        );
        Ok((sum, None))
    }

    async fn replay_records(
        &self,
        letters: Vec<DeadLetter>,
        version: &Arc<ChainVersion>,
    ) -> Result<Replayed, LettersError> {
        let (reply, done) = oneshot::channel();
        let request = replay::Request { letters, version: version.clone(), clear: None, tell: None, reply };
        self.replays.send(request).await.map_err(|_ended| ReplayError::Ended)?;
        Ok(done.await.map_err(|_ended| ReplayError::Ended)??.replayed)
    }

    async fn resend(&self, letters: &[DeadLetter]) -> Result<Replayed, LettersError> {
        let view = self.view().await?;
        let mut changes = Changes::new();
        for letter in letters {
            if letter.object.is_none() && letter.row.is_none() {
                continue;
            }
            let object = view.object(letter);
            changes.insert(letter.number, replay::resend(&self.context, letter, object.as_deref()).await);
        }
        let tried = changes.len() as u64;
        let failed = changes.values().filter(|change| **change != Change::Removed).count() as u64;
        let context = self.context.clone();
        blocking(move || context.change_letters(&changes)).await??;
        self.context.stats.dead_letters.replayed.add(tried - failed);
        let skipped = letters.len() as u64 - tried;
        Ok(Replayed { tried, passed: tried - failed, dropped: 0, failed, skipped })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LettersError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| LettersError::Interrupted(error.to_string()))
}
