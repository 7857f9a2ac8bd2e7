//! The machine, its clients and its destination; lives of the host on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmill_buffer::testing::{Fault, FaultyDisk};
use wasmill_buffer::{
    Durability, Journal, Options, Records, SourcePosition, Stream, StreamKey, StreamOptions,
};
use wasmill_deliver::{Destination, NameTemplate, RetryPolicy, SyncCount};
use wasmill_encode::{Compression, Format};
use wasmill_state::Crashing;
use wasmill_transform::WORKER_STACK_BYTES;

use super::Mutant;
use super::kind::{SOURCES, Time};
use super::model::Resumed;
use super::plugin::{self, Class};
use super::seen::Seen;
use super::store::{Objects, Way, locked};
use crate::pipeline::batch::SealAt;
use crate::pipeline::context::{Output, StreamContext};
use crate::pipeline::dead_letters::Store;
use crate::pipeline::reload::Demoter;
use crate::pipeline::shadow::StreamShadows;
use crate::pipeline::sources::names;
use crate::pipeline::staging::Staging;
use crate::pipeline::state::StateHouse;
use crate::pipeline::stats::StreamStats;
use crate::pipeline::stream::{Parts, StreamError, StreamTask};
use crate::pipeline::workers::Workers;
use crate::pipeline::{delivery, recovery};

pub(super) const OUTPUTS: [&str; 2] = ["a", "b"];
/// Steps of a life before it ends by itself.
const STEPS: u64 = 220;
/// Steps in which the last life must have finished everything.
const STEPS_TO_END: u64 = 6000;
/// Operations of the disk in which a life is most likely to end.
const CRASH_WITHIN: u64 = 160;
/// Records that are sent in all, at most.
const RECORDS_MAX: u64 = 400;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Lives, with a crash behind each but the last.
    pub(super) lives: u64,
    /// Where the first life ends; at random if not given.
    pub(super) crash_at: Option<u64>,
    /// After some crash the data directory is put back to what it was at some time before.
    pub(super) restore: bool,
    pub(super) mutant: Mutant,
}

/// A record that a client sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) class: Class,
    /// Milliseconds.
    pub(super) time: i64,
    pub(super) source: Option<usize>,
    /// As a receipt has said.
    pub(super) offset: Option<u64>,
    /// Lives with a stream that had begun.
    pub(super) begun: usize,
    pub(super) acknowledged: bool,
    /// Before the data directory was put back to an earlier state: it may be gone or done twice.
    pub(super) forgotten: bool,
    /// Acknowledged before that state was saved: it may be done twice.
    pub(super) saved: bool,
}

/// A data directory as it was.
struct Saved {
    disk: FaultyDisk,
    /// Files of the store, by name.
    letters: Vec<(OsString, Vec<u8>)>,
    state: Crashing,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) disk: FaultyDisk,
    pub(super) objects: Arc<Objects>,
    pub(super) sent: Arc<Mutex<BTreeMap<u64, Sent>>>,
    pub(super) letters: TempDir,
    pub(super) state: Crashing,
    pub(super) incarnation: [u8; 16],
    saved: Option<Saved>,
    /// Where lives with event time began.
    pub(super) resumed: Vec<Resumed>,
    /// The time that lives before this one took, and when it began.
    pub(super) lived: (Duration, Instant),
    pub(super) seen: Seen,
}

/// How a life ended.
#[derive(Debug, PartialEq)]
enum End {
    Crash,
    Finished,
}

/// Runs the plan; the error is the bug. Needs the stack of a worker.
fn simulate(plan: Plan) -> Result<Seen, String> {
    let letters = if Path::new("/dev/shm").is_dir() { TempDir::new_in("/dev/shm") } else { TempDir::new() };
    let mut world = World {
        plan,
        disk: FaultyDisk::new(plan.seed),
        objects: Arc::default(),
        sent: Arc::default(),
        letters: letters.map_err(|error| error.to_string())?,
        state: Crashing::default(),
        incarnation: [0; 16],
        saved: None,
        resumed: Vec::new(),
        lived: (Duration::ZERO, Instant::now()),
        seen: Seen::default(),
    };
    for life in 0..plan.lives {
        let last = life + 1 == plan.lives;
        world.prepare(life, last);
        let end = world.live(life, last)?;
        if life == 0 {
            world.seen.operations = world.disk.operations();
        }
        match end {
            End::Crash if last => return Err("the last life crashed".to_owned()),
            End::Crash => world.crash(),
            End::Finished => {}
        }
    }
    world.check()?;
    Ok(world.seen)
}

/// The same on a thread that has the stack for it; the message names the seed.
pub(super) fn run(plans: impl Iterator<Item = Plan> + Send + 'static) -> Vec<(Plan, Result<Seen, String>)> {
    std::thread::Builder::new()
        .stack_size(WORKER_STACK_BYTES + (8 << 20))
        .spawn(move || plans.map(|plan| (plan, simulate(plan))).collect())
        .unwrap()
        .join()
        .unwrap()
}

impl World {
    pub(super) fn random(&self, bound: u64) -> u64 {
        self.disk.random(bound)
    }

    /// Decides what goes wrong in a life.
    fn prepare(&mut self, life: u64, last: bool) {
        let now = self.disk.operations();
        let at = match self.plan.crash_at {
            Some(at) if life == 0 => Some(at),
            _ if last => None,
            _ => Some(now + 1 + self.random(CRASH_WITHIN)),
        };
        self.disk.crash_at(at);
        let faulty = !last && self.plan.crash_at.is_none() && self.random(4) == 0;
        self.disk.fail_at_random(if faulty { 30 } else { 0 });
    }

    fn crash(&mut self) {
        self.seen.crashes += 1;
        let restored = self.plan.restore && self.random(2) == 0;
        if let Some(saved) = self.saved.take_if(|_| restored) {
            for (name, _) in self.letter_files() {
                std::fs::remove_file(self.letters.path().join(name)).unwrap();
            }
            for (name, content) in saved.letters {
                std::fs::write(self.letters.path().join(name), content).unwrap();
            }
            self.disk = saved.disk;
            self.state = saved.state;
            self.seen.restored = true;
            for sent in locked(&self.sent).values_mut() {
                sent.forgotten = true;
            }
        }
        // A process that ends leaves what it has written, a machine what is durable and perhaps some of the rest.
        if self.random(3) == 0 {
            self.state = self.state.crashed(|behind| behind);
            self.disk.restart();
        } else {
            let kept = self.random(3);
            self.state = self
                .state
                .crashed(|behind| if kept == 0 { behind } else { behind / 3 * (kept as usize - 1) });
            self.disk.reboot();
        }
    }

    fn letter_files(&self) -> Vec<(OsString, Vec<u8>)> {
        let files = std::fs::read_dir(self.letters.path()).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.is_file())
            .map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap()))
            .collect()
    }

    /// Keeps the data directory as it is on disk now, for later.
    fn save(&mut self) {
        if !self.plan.restore || self.saved.is_some() || self.seen.restored {
            return;
        }
        let letters = self.letter_files();
        let state = self.state.crashed(|behind| behind);
        self.saved = Some(Saved { disk: self.disk.copy(self.plan.seed ^ 0x5a5a), letters, state });
        for sent in locked(&self.sent).values_mut() {
            sent.saved = sent.acknowledged;
        }
    }

    fn live(&mut self, life: u64, last: bool) -> Result<End, String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let end = runtime.block_on(async {
            self.lived.1 = Instant::now();
            let end = self.live_on_runtime(life, last).await;
            self.lived.0 += self.lived.1.elapsed();
            end
        });
        runtime.shutdown_background();
        end
    }

    async fn live_on_runtime(&mut self, life: u64, last: bool) -> Result<End, String> {
        let options = Options {
            durability: Durability::Fsync,
            file_bytes: 48 << 10,
            max_journal_bytes: 192 << 10,
            max_total_bytes: 4 << 20,
            memory_bytes: 32 << 10,
            queue_bytes: 1 << 20,
        };
        let disk = Arc::new(self.disk.clone());
        let journal = match Journal::open_stepped(disk, Path::new("/data"), options) {
            Ok((journal, _)) => journal,
            Err(error) if last => return Err(format!("the last life cannot open its journal: {error:?}")),
            Err(_) => return Ok(End::Crash),
        };
        let key = StreamKey { tenant: "default".to_owned(), name: "s".to_owned() };
        let stream = match journal
            .drive(journal.stream(&key, StreamOptions { max_bytes: 2 << 20, retention: None }))
        {
            Ok(stream) => stream,
            Err(error) if last => return Err(format!("the last life cannot open its stream: {error:?}")),
            Err(_) => return Ok(End::Crash),
        };
        self.incarnation = stream.incarnation();
        let workers = Arc::new(Workers::stepped());
        let task = match self.open(&stream, &workers, last) {
            Ok(task) => task,
            Err(error) if last => return Err(format!("the last life cannot recover: {error}")),
            Err(_) => return Ok(End::Crash),
        };
        let Task { parts, standing, deliveries, drain, context } = task;
        self.resumed.push(Resumed::of(&standing, stream.durable_end()));
        for delivery in deliveries {
            tokio::spawn(delivery);
        }
        // Somebody waits: outcomes are written at once.
        let _asking = self.asks().then(|| context.decisions.ask().0);
        let mut running = tokio::spawn(StreamTask::new(parts, standing).run());
        let steps = if last { STEPS / 2 } else { STEPS };
        let mut voided = 0;
        for _ in 0..steps {
            self.step(&stream, &journal, &workers, life).await;
            self.seen.voided += stream.voided().records - voided;
            voided = stream.voided().records;
            if self.disk.is_off() {
                return Ok(End::Crash);
            }
            if running.is_finished() {
                break;
            }
        }
        if !last {
            // Ends where it stands, or is drained first.
            if self.random(4) > 0 {
                return Ok(End::Crash);
            }
        }
        drain.cancel();
        for _ in 0..STEPS_TO_END {
            if running.is_finished() || self.disk.is_off() {
                break;
            }
            journal.step();
            while workers.step() {}
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(Duration::from_millis(40)).await;
        }
        if self.disk.is_off() {
            return Ok(End::Crash);
        }
        if !running.is_finished() {
            let wrong = locked(&self.objects.wrong).clone();
            let error = context.stats.outputs.iter().filter_map(|output| output.last_error()).next();
            return if last {
                Err(format!("does not finish: {wrong:?} {error:?} {:?}", context.stats.paused()))
            } else {
                Ok(End::Crash)
            };
        }
        match (&mut running).await {
            Ok(Ok(())) => {}
            Ok(Err(StreamError::Closed | StreamError::Checkpoint(_))) if !last => return Ok(End::Crash),
            Ok(Err(error)) => return Err(format!("the stream ended: {error:?}")),
            Err(error) => return Err(format!("the stream panicked: {error}")),
        }
        if last || self.random(2) == 0 {
            // In order, so that the next open is clean.
            drop(context);
            drop(journal.drive(journal.close()));
        }
        Ok(if last { End::Finished } else { End::Crash })
    }

    /// One thing happens.
    async fn step(&mut self, stream: &Stream, journal: &Journal, workers: &Workers, life: u64) {
        match self.random(20) {
            0..4 => self.send(stream, life),
            4..7 if self.decides_early() => {
                // What goes wrong in the last life is not tried again.
                if self.random(40) == 0 && life + 1 < self.plan.lives {
                    self.disk.fail_next(&[Fault::Sync]);
                }
                journal.step_to_sync();
            }
            4..11 => journal.step(),
            11..17 => {
                workers.step();
            }
            17 => tokio::time::advance(Duration::from_millis(self.random(2000))).await,
            18 if self.random(8) == 0 => self.save(),
            _ => tokio::time::advance(Duration::from_millis(self.random(80))).await,
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }

    /// A client sends some records and notes the answer.
    fn send(&mut self, stream: &Stream, life: u64) {
        let mut payload = Vec::new();
        let mut ends = Vec::new();
        let count = 1 + self.random(8);
        let first = locked(&self.sent).last_key_value().map_or(0, |(last, _)| last + 1);
        if first + count > RECORDS_MAX {
            return;
        }
        let index = |bound: usize| usize::try_from(self.random(bound as u64)).unwrap_or(0);
        let source = (self.time() == Time::OfSources).then(|| index(SOURCES.len()));
        let classes = self.classes();
        for n in first..first + count {
            let class = classes[index(classes.len())];
            let long = if self.random(12) == 0 { 700 } else { 0 };
            let time = self.time_of(n, source);
            payload.extend_from_slice(plugin::payload(class, n, time, long).as_bytes());
            ends.push(u32::try_from(payload.len()).unwrap());
            let begun = self.resumed.len();
            let sent = Sent {
                class,
                time,
                source,
                offset: None,
                begun,
                acknowledged: false,
                forgotten: false,
                saved: false,
            };
            locked(&self.sent).insert(n, sent);
        }
        let arrival = i64::try_from(1_700_000_000_000_000_000 + life * 1_000_000_000 + first).unwrap();
        // What has an early receipt may be lost.
        let early = self.decides_early() && self.random(2) == 0;
        let source = source.map(|source| SourcePosition {
            name: names::stored(Some(SOURCES[source]), ""),
            partition: 0,
            position: Vec::new(),
        });
        let records = Records { early, source, ..Records::new(payload, ends, arrival) };
        let Ok(pending) = stream.submit(records) else { return };
        let sent = self.sent.clone();
        tokio::spawn(async move {
            let Ok(receipt) = pending.wait().await else { return };
            for (n, offset) in (first..first + count).zip(receipt.first_offset..) {
                if let Some(sent) = locked(&sent).get_mut(&n) {
                    (sent.offset, sent.acknowledged) = (Some(offset), !early);
                }
            }
        });
    }
}

/// A stream, opened and recovered as the host does it.
struct Task {
    parts: Parts,
    standing: crate::pipeline::stream::Standing,
    deliveries: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
    drain: CancellationToken,
    context: Arc<StreamContext>,
}

impl World {
    fn open(&self, stream: &Stream, workers: &Arc<Workers>, last: bool) -> Result<Task, String> {
        let mut outputs = Vec::new();
        for (number, name) in OUTPUTS.into_iter().enumerate() {
            let way = Way {
                disk: self.disk.clone(),
                objects: self.objects.clone(),
                trouble: if last { 0 } else { 250 },
            };
            // One like a directory, with a staging directory of its own, one like an object store.
            let spool = Path::new("/data/spool");
            let staging = if number == 0 { Path::new("/out/staging") } else { spool };
            let staging = Staging::open(
                Arc::new(self.disk.clone()),
                staging.to_owned(),
                spool.to_owned(),
                SyncCount::default(),
            );
            outputs.push(Output {
                name: name.to_owned(),
                destination: Arc::new(Destination::Scripted(Arc::new(way))),
                template: NameTemplate::parse("{stream}/{output}/{batch}{extension}")
                    .map_err(|error| error.to_string())?,
                format: Format::Raw,
                columns: None,
                compression: Compression::None,
                seal: SealAt {
                    size: 1500,
                    interval: Duration::from_millis(if number == 0 { 300 } else { 900 }),
                    max_partitions: 100,
                    inline_bytes_max: 300,
                },
                retry: RetryPolicy {
                    initial: Duration::ZERO,
                    max: Duration::ZERO,
                    for_: None,
                    ..RetryPolicy::default()
                },
                pause: false,
                staging: Arc::new(staging.map_err(|(path, error)| format!("{}: {error}", path.display()))?),
            });
        }
        let quota = crate::pipeline::TenantQuota::without_limits();
        let house = Arc::new(StateHouse::with(self.state.store()));
        let state = house.stream(stream.incarnation(), Arc::clone(quota.state()));
        let mut recovered =
            recovery::recover(stream, &outputs, &state).map_err(|error| format!("{error:?}"))?;
        if self.plan.mutant == Mutant::RenamedAfterRestart {
            for ready in &mut recovered.standing.undelivered {
                ready.sealed.batch_id.push_str("-again");
                ready.sealed.name.push_str("-again");
            }
        }
        if self.plan.mutant == Mutant::OpenRowsForgotten {
            recovered.standing.open =
                crate::pipeline::batch::OpenBatches::new(outputs.iter().map(|output| output.seal).collect());
        }
        if self.plan.mutant == Mutant::SourcesMixed {
            let marks = &mut recovered.standing.watermarks;
            let furthest = marks.values().max().copied().unwrap_or_default();
            marks.values_mut().for_each(|mark| *mark = furthest);
        }
        if !recovered.lost.is_empty() {
            return Err(format!("outcomes lost: {:?}", recovered.lost));
        }
        let incarnation = format!("{:032x}", u128::from_be_bytes(stream.incarnation()));
        let mut letters = Store::open(self.letters.path(), 64 << 20, Some(&incarnation))
            .map_err(|error| format!("{error:?}"))?;
        recovery::settle_given_up(&mut recovered.standing.undelivered, &mut letters);
        let context = Arc::new(StreamContext {
            name: "s".to_owned(),
            buffer: stream.clone(),
            outputs,
            workers: workers.clone(),
            tenant: "default".into(),
            lane: 0,
            quota,
            stats: Arc::new(StreamStats::new(stream.key(), OUTPUTS.map(str::to_owned))),
            state,
            settled: tokio::sync::watch::Sender::new(false),
            over: tokio_util::sync::CancellationToken::new(),
            letters: Mutex::new(letters),
            letters_max_age: None,
            letters_output: None,
            failed_percent_max: 100,
            buffer_bytes_max: 2 << 20,
            shadows: Arc::new(StreamShadows::new(Vec::new(), sync_channel(1).0)),
            samples: Arc::default(),
            decisions: Arc::default(),
            decides: self.decides(),
            decides_durably: true,
            reads_early: self.decides_early(),
            fallback: None,
            backup: None,
            event_time: self.event_time().map(Arc::new),
            parallel: self.parallel().map(Arc::new),
            mutant: self.plan.mutant,
        });
        recovery::clean_staging(&context, &recovered.standing.undelivered);
        let version = Arc::new(plugin::chain(&self.disk, self.keeps(), &OUTPUTS.map(str::to_owned)));
        let (_chains, chains_seen) = watch::channel(version);
        let (finished, finished_seen) = mpsc::channel(64);
        let mut senders = Vec::new();
        let mut deliveries: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        for number in 0..OUTPUTS.len() {
            let (ready, ready_seen) = mpsc::channel(8);
            senders.push(ready);
            deliveries.push(Box::pin(delivery::run(
                context.clone(),
                number,
                ready_seen,
                finished.clone(),
                CancellationToken::new(),
            )));
        }
        let drain = CancellationToken::new();
        let parts = Parts {
            context: context.clone(),
            chains: chains_seen,
            demoter: Demoter::unheard(),
            outputs: senders,
            finished: finished_seen,
            drain: drain.clone(),
            stopping: CancellationToken::new(),
            slices_max: 3,
            replays: mpsc::channel(1).1,
        };
        Ok(Task { parts, standing: recovered.standing, deliveries, drain, context })
    }
}
