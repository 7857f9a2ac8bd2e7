//! Answers for clients that wait for what becomes of their records.
//!
//! It is no second way through a stream: the records are stored and run like any other, and the answer is read off the slice
//! that ran them, once its outcome is durable (or, where the stream's definition says so, once it ran). A slice that runs
//! while somebody waits is traced, begins at once, and is committed at once.
//!
//! Offsets are known only when the records have their receipt, and a slice may have run them by then. So whoever asks draws a
//! ticket before it stores anything, and what slices have answered stays until no ticket is out that was drawn before; none is
//! held for longer than storing takes. The journal itself puts the receipt on the ticket: who asks is woken once, by the answer.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use wasmill_config as config;
use wasmill_ingest::{AppendError, Receipt};

use super::fate::failed;
use super::sink::{Row, Trace};
use super::slice::Done;
use super::stats::StreamStats;

/// Answers that are kept for those who do not know their offsets yet: with more of them the oldest go, and who wanted them
/// waits until the deadline. It is that of a few slices; a flood beside one slow client comes to more.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// What became of the records of one slice.
pub(crate) struct SliceAnswers {
    from: u64,
    to: u64,
    /// Its rows are in order of offsets, those of one record in the order in which they came.
    trace: Trace,
    failed: HashMap<i64, String>,
}

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is among what leaves: rows and the outputs that they go to.
    Kept,
    Dropped,
    /// With the reason.
    Failed(&'a str),
}

impl SliceAnswers {
    /// Of a slice that ran; `None` if it was not traced, or could not run.
    pub(crate) fn of(done: &Done) -> Option<SliceAnswers> {
        let trace = done.trace.clone().filter(|_| done.unrunnable.is_none())?;
        Some(SliceAnswers::new(done.from, done.to, trace, failed(done).into_iter().collect()))
    }

    fn new(from: u64, to: u64, mut trace: Trace, failed: HashMap<i64, String>) -> SliceAnswers {
        trace.rows.retain(|row| row.offset >= 0);
        trace.rows.sort_by_key(|row| row.offset);
        SliceAnswers { from, to, trace, failed }
    }

    /// Bytes of memory, about.
    fn size(&self) -> usize {
        let failed = self.failed.values().map(|reason| reason.len() + size_of::<(i64, String)>());
        self.trace.size() + failed.sum::<usize>()
    }

    /// The verdict of a record of this slice, and its rows with the names of their outputs.
    fn of_record(&self, offset: u64) -> (Verdict<'_>, impl Iterator<Item = (&str, &[u8])>) {
        let wanted = offset.cast_signed();
        let rows: &[Row] = &self.trace.rows;
        let rows = &rows[rows.partition_point(|row| row.offset < wanted)..];
        let rows = &rows[..rows.partition_point(|row| row.offset == wanted)];
        let verdict = match (self.failed.get(&wanted), rows) {
            (Some(reason), _) => Verdict::Failed(reason),
            (None, []) => Verdict::Dropped,
            (None, _) => Verdict::Kept,
        };
        (verdict, rows.iter().map(|row| (self.trace.output(row), self.trace.bytes(row))))
    }
}

/// What became of the records of one request.
#[derive(Default)]
pub struct Answer {
    first: u64,
    last: u64,
    /// In order; together they have all of them.
    slices: Vec<Arc<SliceAnswers>>,
}

impl Answer {
    /// Of rows `(offset, output, text)` and reasons by offset.
    #[cfg(test)]
    pub(crate) fn of(
        first: u64,
        last: u64,
        outputs: &[&str],
        rows: &[(i64, u32, &str)],
        failed: &[(i64, &str)],
    ) -> Answer {
        let trace = Trace::of(outputs.iter().map(|output| (*output).to_owned()).collect(), rows);
        let failed = failed.iter().map(|(offset, reason)| (*offset, (*reason).to_owned())).collect();
        let slice = SliceAnswers::new(first, last + 1, trace, failed);
        Answer { first, last, slices: vec![Arc::new(slice)] }
    }

    /// Calls `visit` with every record in order: its offset, its verdict, its rows with the names of their outputs.
    pub fn each(&self, mut visit: impl FnMut(u64, Verdict<'_>, &mut dyn Iterator<Item = (&str, &[u8])>)) {
        for slice in &self.slices {
            for offset in self.first.max(slice.from)..=self.last.min(slice.to.saturating_sub(1)) {
                let (verdict, mut rows) = slice.of_record(offset);
                visit(offset, verdict, &mut rows);
            }
        }
    }
}

struct Waiting {
    first: u64,
    last: u64,
    /// From here on there is no answer yet.
    next: u64,
    slices: Vec<Arc<SliceAnswers>>,
    reply: Reply,
}

/// To who asks: what became of the records, or why they have no receipt.
type Reply = oneshot::Sender<Result<Answer, AppendError>>;
type Answered = oneshot::Receiver<Result<Answer, AppendError>>;

impl Waiting {
    /// Takes what a slice says of its records; true once it has all.
    fn take(&mut self, slice: &Arc<SliceAnswers>) -> bool {
        if slice.from <= self.next && self.next < slice.to {
            self.slices.push(Arc::clone(slice));
            self.next = slice.to;
        }
        self.next > self.last
    }

    fn answer(self) {
        // The client may have gone.
        drop(self.reply.send(Ok(Answer { first: self.first, last: self.last, slices: self.slices })));
    }
}

#[derive(Default)]
struct Inner {
    next_ticket: u64,
    /// Tickets of those that do not know their offsets yet.
    unplaced: BTreeSet<u64>,
    waiting: Vec<Waiting>,
    /// With the ticket that was next when it was answered; the oldest first.
    kept: VecDeque<(u64, Arc<SliceAnswers>)>,
    kept_bytes: usize,
}

impl Inner {
    fn forget(&mut self) {
        let oldest = self.unplaced.first().copied().unwrap_or(self.next_ticket);
        while let Some((next, slice)) = self.kept.front()
            && (*next <= oldest || self.kept_bytes > KEPT_BYTES_MAX)
        {
            self.kept_bytes -= slice.size();
            self.kept.pop_front();
        }
    }
}

/// Those who wait for answers of one stream.
#[derive(Default)]
pub(crate) struct Decisions {
    /// How many ask; read once per slice.
    asking: AtomicUsize,
    inner: Mutex<Inner>,
}

/// While it lives, slices are traced for who asks.
pub struct Asking(Arc<Decisions>);

/// The right to be told what becomes of records that are stored from now on.
pub struct Ticket {
    of: Arc<Decisions>,
    number: u64,
}

/// A stream that answers those who wait.
pub struct Decider {
    decisions: Arc<Decisions>,
    stats: Arc<StreamStats>,
    /// Longest wait.
    pub deadline: Duration,
    /// What is answered is durable.
    pub durable: bool,
    /// Records run before they are durable.
    pub reads_early: bool,
    /// The answer past the deadline.
    pub fallback: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Decider {
    pub(crate) fn new(
        settings: &config::Decide,
        decisions: &Arc<Decisions>,
        stats: &Arc<StreamStats>,
    ) -> Decider {
        Decider {
            decisions: Arc::clone(decisions),
            stats: Arc::clone(stats),
            deadline: settings.deadline,
            durable: settings.durable(),
            reads_early: settings.reads_early(),
            fallback: settings.fallback.clone(),
        }
    }

    /// To be called before the records are stored.
    pub fn ask(&self) -> (Asking, Ticket) {
        self.decisions.ask()
    }

    /// A client that waited has its answer.
    pub fn answered(&self) {
        self.stats.decisions.add(1);
    }

    /// One that waited had none in time.
    pub fn fell_back(&self) {
        self.stats.decisions.add(1);
        self.stats.decisions_late.add(1);
    }
}

impl Decisions {
    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody waits.
    pub(crate) fn wanted(&self) -> bool {
        self.asking.load(Ordering::Acquire) > 0
    }

    /// To be called before the records are stored.
    pub(crate) fn ask(self: &Arc<Decisions>) -> (Asking, Ticket) {
        let mut inner = self.locked();
        let number = inner.next_ticket;
        inner.next_ticket += 1;
        inner.unplaced.insert(number);
        self.asking.fetch_add(1, Ordering::AcqRel);
        drop(inner);
        (Asking(Arc::clone(self)), Ticket { of: Arc::clone(self), number })
    }

    /// Records that were on their way are lost: whoever waits learns that nobody knows of which.
    pub(crate) fn lost(&self) {
        for waiting in std::mem::take(&mut self.locked().waiting) {
            drop(waiting.reply.send(Err(AppendError::Unknown)));
        }
    }

    /// Slices have answered, in order of their offsets.
    pub(crate) fn publish(&self, slices: impl IntoIterator<Item = SliceAnswers>) {
        let mut inner = self.locked();
        for slice in slices {
            let slice = Arc::new(slice);
            let done = inner.waiting.extract_if(.., |waiting| waiting.take(&slice));
            done.for_each(Waiting::answer);
            let next = inner.next_ticket;
            inner.kept_bytes += slice.size();
            inner.kept.push_back((next, slice));
        }
        inner.forget();
    }
}

impl Ticket {
    /// What is to be called with the receipt, and where the answer comes; nothing is sent if the stream ends before.
    pub(crate) fn waits(self) -> (impl FnOnce(Result<Receipt, AppendError>) + Send + 'static, Answered) {
        let (reply, answer) = oneshot::channel();
        let place = move |receipt| match receipt {
            Ok(Receipt { first_offset, count, .. }) => {
                self.place(first_offset, first_offset + u64::from(count.saturating_sub(1)), reply);
            }
            // The client may have gone.
            Err(refused) => drop(reply.send(Err(refused))),
        };
        (place, answer)
    }

    /// The stored records are `first..=last`.
    fn place(self, first: u64, last: u64, reply: Reply) {
        let mut waiting = Waiting { first, last, next: first, slices: Vec::new(), reply };
        let mut inner = self.of.locked();
        if inner.kept.iter().any(|(_, slice)| waiting.take(slice)) {
            waiting.answer();
        } else if !waiting.reply.is_closed() {
            inner.waiting.push(waiting);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.of.locked();
        inner.unplaced.remove(&self.number);
        inner.forget();
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.locked().waiting.retain(|waiting| !waiting.reply.is_closed());
        self.0.asking.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(from: u64, to: u64) -> SliceAnswers {
        let rows: Vec<(i64, u32, &str)> = (from..to).map(|offset| (offset.cast_signed(), 0, "x")).collect();
        let trace = Trace::of(vec!["default".to_owned()], &rows);
        SliceAnswers::new(from, to, trace, HashMap::new())
    }

    fn placed(ticket: Ticket, first: u64, last: u64) -> Answered {
        let (place, answer) = ticket.waits();
        place(Ok(Receipt { first_offset: first, count: (last - first + 1) as u32, duplicate: false }));
        answer
    }

    fn offsets(answer: &Result<Answer, AppendError>) -> Vec<u64> {
        let answer = answer.as_ref().unwrap();
        let mut offsets = Vec::new();
        answer.each(|offset, verdict, rows| {
            assert_eq!((verdict, rows.count()), (Verdict::Kept, 1));
            offsets.push(offset);
        });
        offsets
    }

    #[test]
    fn answer_of_a_slice_that_ran_before_the_client_knew_its_offsets_is_kept_for_it() {
        let decisions = Arc::new(Decisions::default());
        assert!(!decisions.wanted());
        let (asking, ticket) = decisions.ask();
        assert!(decisions.wanted());
        decisions.publish([slice(0, 5), slice(5, 9)]);
        let mut answer = placed(ticket, 3, 6);
        assert_eq!(offsets(&answer.try_recv().unwrap()), [3, 4, 5, 6]);
        drop(asking);
        assert!(!decisions.wanted());
        assert!(decisions.locked().kept.is_empty());
    }

    #[test]
    fn answer_waits_for_the_slice_that_has_the_last_record() {
        let decisions = Arc::new(Decisions::default());
        let ((_one, one), (_two, two)) = (decisions.ask(), decisions.ask());
        let mut first = placed(one, 2, 7);
        decisions.publish([slice(0, 5)]);
        assert!(first.try_recv().is_err());
        let mut second = placed(two, 4, 4);
        assert_eq!(offsets(&second.try_recv().unwrap()), [4]);
        // Nobody is left who could want it.
        assert!(decisions.locked().kept.is_empty());
        decisions.publish([slice(5, 8)]);
        assert_eq!(offsets(&first.try_recv().unwrap()), [2, 3, 4, 5, 6, 7]);
        assert!(decisions.locked().waiting.is_empty());
    }

    #[test]
    fn answers_are_kept_up_to_a_bound_and_whoever_misses_one_is_told_nothing_wrong() {
        let decisions = Arc::new(Decisions::default());
        let ((asking, ticket), (asking_late, late)) = (decisions.ask(), decisions.ask());
        let row = "x".repeat(KEPT_BYTES_MAX / 4);
        for offset in 0..5 {
            let trace = Trace::of(vec!["default".to_owned()], &[(offset, 0, &row)]);
            let from = offset.cast_unsigned();
            decisions.publish([SliceAnswers::new(from, from + 1, trace, HashMap::new())]);
        }
        let kept: Vec<u64> = decisions.locked().kept.iter().map(|(_, slice)| slice.from).collect();
        assert_eq!(kept, [2, 3, 4]);
        let mut missed = placed(ticket, 1, 2);
        assert!(missed.try_recv().is_err());
        assert_eq!(offsets(&placed(late, 3, 4).try_recv().unwrap()), [3, 4]);
        drop((missed, asking, asking_late));
        let inner = decisions.locked();
        assert!(inner.kept.is_empty() && inner.waiting.is_empty() && inner.kept_bytes == 0);
    }

    #[test]
    fn who_waits_for_records_that_are_lost_learns_that_nobody_knows() {
        let decisions = Arc::new(Decisions::default());
        let ((_one, first), (_two, second), (_three, unplaced)) =
            (decisions.ask(), decisions.ask(), decisions.ask());
        let (mut first, mut second) = (placed(first, 0, 0), placed(second, 1, 2));
        decisions.publish([slice(0, 2)]);
        assert_eq!(offsets(&first.try_recv().unwrap()), [0]);
        decisions.lost();
        assert!(matches!(second.try_recv().unwrap(), Err(AppendError::Unknown)));
        // What is stored afterwards is answered as ever.
        let mut next = placed(unplaced, 3, 3);
        decisions.publish([slice(3, 4)]);
        assert_eq!(offsets(&next.try_recv().unwrap()), [3]);
    }

    #[test]
    fn client_that_gives_up_leaves_nothing_behind() {
        let decisions = Arc::new(Decisions::default());
        let ((one, first), (two, second)) = (decisions.ask(), decisions.ask());
        drop(placed(first, 0, 0));
        drop(one);
        decisions.publish([slice(5, 6)]);
        assert_eq!(decisions.locked().kept.len(), 1);
        drop(two);
        // Its records have their receipt although nobody waits for it.
        let (place, answer) = second.waits();
        drop(answer);
        place(Ok(Receipt { first_offset: 7, count: 1, duplicate: false }));
        let inner = decisions.locked();
        assert!(inner.kept.is_empty() && inner.waiting.is_empty() && inner.unplaced.is_empty());
    }

    #[test]
    fn records_that_came_to_nothing_have_verdicts() {
        let trace =
            Trace::of(vec!["a".to_owned(), "b".to_owned()], &[(1, 1, "one"), (1, 0, "two"), (-1, 0, "own")]);
        let slice = SliceAnswers::new(0, 3, trace, HashMap::from([(2, "bad".to_owned())]));
        let seen = |offset| {
            let (verdict, rows) = slice.of_record(offset);
            (
                verdict,
                rows.map(|(output, row)| format!("{output}:{}", String::from_utf8_lossy(row)))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(seen(0), (Verdict::Dropped, Vec::new()));
        assert_eq!(seen(1), (Verdict::Kept, vec!["b:one".to_owned(), "a:two".to_owned()]));
        assert_eq!(seen(2), (Verdict::Failed("bad"), Vec::new()));
    }
}
