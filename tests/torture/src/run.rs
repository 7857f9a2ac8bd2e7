//! One run: lives of the host one after another, then a last one that ends in order, then the checker.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustix::process::Signal;
use serde_json::Value;
use wasmill_tests::client;
use wasmill_tests::events::{Event, Events};
use wasmill_tests::program::Program;
use wasmill_tests::servers::S3Server;
use wasmill_tests::store::Store;

use crate::account::Account;
use crate::check::{self, Checker, Findings};
use crate::clients::{Client, Pace};
use crate::moment::{self, Moment};
use crate::plugins::Deployer;
use crate::receiver::Receiver;
use crate::replays::Replayer;
use crate::scene::{FILES, LINES, PUSH, STREAMS, Scene};
use crate::weather::Weather;

const PUSHERS: u8 = 4;
const LINERS: u8 = 2;
/// What clients send together, in bytes a second and in all: so a run fits on a disk.
const BYTES_PER_S: i64 = 3_000_000;
const BYTES_MAX: i64 = 900_000_000;
/// A life and the start of the next, roughly.
const LIFE_S: u64 = 2;
/// What of this goes to each stream, in tenths, in their order.
const SHARES: [i64; STREAMS.len()] = [5, 2, 3];
/// Lives whose logs are kept.
const LOGS_MAX: u32 = 60;
/// What the host says, as an error, of a broken plugin that it finds when it starts.
const FELL_BACK: &str = "the stream starts with the version that it ran last";
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Longest wait until followed files are read, and how long nothing may come in before they are taken for read.
const READ_MAX: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(1_500);

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program.
    pub wasmill: PathBuf,
    /// A directory that is made, and removed when all is good.
    pub work: PathBuf,
    pub seed: u64,
    /// Lives that end with a kill.
    pub restarts: u32,
    /// Stop then, although not so many have passed.
    pub time: Option<Duration>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    pub restarts: u32,
    pub took: Duration,
    pub seed: u64,
    pub repeated_requests: u64,
    /// Requests that clients sent again although they were stored.
    pub duplicates: u64,
    /// Starts that found a broken plugin.
    pub fell_back: u64,
    /// Dead letters that a replay let pass.
    pub replayed: u64,
    /// Objects that S3 got in parts.
    pub uploads: u64,
    pub findings: Findings,
}

impl Report {
    pub fn good(&self) -> bool {
        self.findings.good()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Findings { acknowledged, lost, doubled, dropped, letters, objects, .. } = &self.findings;
        let Findings { unknown, unknown_found, wrong, .. } = &self.findings;
        writeln!(
            f,
            "torture: {} restarts, {acknowledged} acknowledged, {lost} lost, {doubled} doubled",
            self.restarts
        )?;
        write!(
            f,
            "torture: {} s, {objects} objects ({} in parts), {dropped} dropped, {letters} dead letters and {} that passed later, seed {}, {unknown} unknown ({unknown_found} of them in), {} requests repeated to the receiver, {} to the host, {} starts with broken plugins, {wrong} other violations",
            self.took.as_secs(),
            self.uploads,
            self.replayed,
            self.seed,
            self.repeated_requests,
            self.duplicates,
            self.fell_back
        )
    }
}

/// What the host said that counts.
#[derive(Default)]
struct Said {
    /// Messages of level ERROR, and the life that each came first in.
    errors: BTreeMap<String, u32>,
    fell_back: u64,
}

/// Everything that lives longer than the host.
struct Stage {
    options: Options,
    scene: Scene,
    events: Arc<Events>,
    accounts: Vec<Account>,
    /// By stream.
    paces: [Pace; STREAMS.len()],
    /// No more faults and no more plugins.
    calm: AtomicBool,
    said: Said,
    replayer: Replayer,
    lives: u32,
}

/// Runs it. `say` gets a line of progress now and then.
///
/// # Errors
/// The host cannot be started, ends by itself, does not drain; a client gets an answer that it must not get.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let started = Instant::now();
    let mut rng = SmallRng::seed_from_u64(options.seed);
    let scene = Scene::new(&options.work, &mut rng)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let events = Arc::new(Events::default());
    let weathers = [1, 2].map(|number| Arc::new(Weather::new(options.seed ^ number)));
    let [of_store, of_receiver] = &weathers;
    let of_store = of_store.clone();
    let store = Store::start(&runtime, &scene.store(), move |_| of_store.draw(), events.clone())?;
    let receiver = Receiver::start(&runtime, scene.received(), of_receiver.clone(), events.clone())?;
    scene.configure(store.address, receiver.address)?;
    let streams = std::iter::repeat_n(PUSH, PUSHERS.into())
        .chain(std::iter::repeat_n(LINES, LINERS.into()))
        .chain([FILES]);
    let mut stage = Stage {
        options: options.clone(),
        scene,
        events,
        accounts: (0..).zip(streams).map(|(client, stream)| Account::new(client, stream)).collect(),
        paces: Default::default(),
        calm: AtomicBool::new(false),
        said: Said::default(),
        replayer: Replayer::new(options.seed),
        lives: 0,
    };
    let lived = stage.live(&weathers, &mut rng, say);
    let restarts = stage.lives.saturating_sub(1);
    lived.with_context(|| {
        format!("in life {}, seed {}; see {}", stage.lives, options.seed, options.work.display())
    })?;
    say("everything is delivered; checking");
    let checker = Checker { seed: options.seed, scene: &stage.scene, accounts: &stage.accounts };
    let mut findings = checker.check()?;
    for left in check::leftovers(&stage.scene) {
        findings.complain(format!("{} is left behind", left.display()));
    }
    for key in store.open_uploads() {
        findings.complain(format!("an upload of {key} is left open"));
    }
    for (message, life) in &stage.said.errors {
        findings.complain(format!("in life {life} the host said: {message}"));
    }
    receiver.wrong().into_iter().for_each(|what| findings.complain(what));
    let duplicates = stage.accounts.iter().map(Account::duplicates).sum();
    let fell_back = stage.said.fell_back;
    let repeated_requests = receiver.repeated();
    let uploads = stage.events.count(Event::UploadCompleted);
    runtime.shutdown_background();
    if findings.good() {
        check::clean(&options.work)?;
    }
    let took = started.elapsed();
    Ok(Report {
        restarts,
        took,
        seed: options.seed,
        repeated_requests,
        duplicates,
        fell_back,
        replayed: stage.replayer.passed(),
        uploads,
        findings,
    })
}

/// Ends what goes on beside the host, also when something panics: nothing may wait for a host that is not there.
struct EndAll<'a> {
    paces: &'a [Pace],
    calm: &'a AtomicBool,
}

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.paces.iter().for_each(Pace::end);
        self.calm.store(true, Ordering::Relaxed);
    }
}

type Working<'scope> = ScopedJoinHandle<'scope, Result<()>>;

fn join(thread: Working<'_>) -> Result<()> {
    thread.join().map_err(|_panic| anyhow!("a thread of the torture panicked"))?
}

impl Stage {
    /// All lives, with everything that goes on beside them.
    fn live(
        &mut self,
        weathers: &[Arc<Weather>],
        rng: &mut SmallRng,
        say: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let Stage { options, scene, events, accounts, paces, calm, said, replayer, lives } = self;
        let seed = options.seed;
        let plugins = scene.plugins();
        let deployer = Deployer { dir: &plugins, seed, events, ran: AtomicBool::new(false) };
        deployer.all(0)?;
        let host = Host { options, scene, deployer: &deployer };
        std::thread::scope(|scope| {
            let mut clients: Vec<Working<'_>> = Vec::new();
            for account in accounts.iter() {
                let pace = paces.iter().zip(STREAMS).find(|(_, stream)| *stream == account.stream);
                let (pace, _) = pace.context("an account of no stream")?;
                let client = Client { seed, account, pace };
                let scene: &Scene = scene;
                clients.push(scope.spawn(move || match account.stream {
                    PUSH => client.push(scene.http, account.client % 2 == 1),
                    LINES => client.lines(scene.tcp),
                    _ => client.files(&scene.logs()),
                }));
            }
            let calm: &AtomicBool = calm;
            let deploying = scope.spawn(|| deployer.run(calm));
            let (replayer, http): (&Replayer, _) = (replayer, scene.http);
            let replaying = scope.spawn(move || replayer.run(http, calm));
            for (number, weather) in (0..).zip(weathers) {
                scope.spawn(move || weather.change(calm, seed ^ number));
            }
            let _end = EndAll { paces, calm };
            let killed = host.kill_often(lives, said, events, accounts, paces, &clients, rng, say);
            calm.store(true, Ordering::Relaxed);
            weathers.iter().for_each(|weather| weather.clear());
            if let Err(error) = killed {
                // A client that gave up knows best why.
                let gave_up = clients.into_iter().filter(ScopedJoinHandle::is_finished);
                return Err(gave_up.filter_map(|client| join(client).err()).next().unwrap_or(error));
            }
            join(deploying)?;
            join(replaying)?;
            deployer.all(u32::MAX)?;
            *lives += 1;
            host.last_life(*lives, said, paces, clients)
        })
    }
}

/// How the host is started.
struct Host<'a> {
    options: &'a Options,
    scene: &'a Scene,
    deployer: &'a Deployer<'a>,
}

impl Host<'_> {
    fn spawn(&self) -> Program {
        let mut command = Command::new(&self.options.wasmill);
        command.args(["run", "--log-format", "json", "--drain-timeout", "100s"]).arg(self.scene.config());
        command
            .env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_KEY);
        command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("WASMILL_LOG");
        Program::spawn(&mut command)
    }

    /// Keeps what a life said.
    fn keep(&self, life: u32, log: &[String], said: &mut Said) -> Result<()> {
        let file = |life: u32| self.scene.host_logs().join(format!("{life:06}.jsonl"));
        fs::write(file(life), log.join("\n"))?;
        if let Some(old) = life.checked_sub(LOGS_MAX)
            && said.errors.is_empty()
        {
            drop(fs::remove_file(file(old)));
        }
        let (fell_back, wrong): (Vec<_>, Vec<_>) = log
            .iter()
            .filter(|line| line.contains("\"level\":\"ERROR\""))
            .partition(|line| line.contains(FELL_BACK));
        said.fell_back += u64::from(!fell_back.is_empty());
        for line in wrong {
            if said.errors.len() < 20 {
                said.errors.entry(line.clone()).or_insert(life);
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of the stage, which other threads hold too")]
    fn kill_often(
        &self,
        lives: &mut u32,
        said: &mut Said,
        events: &Events,
        accounts: &[Account],
        paces: &[Pace],
        clients: &[Working<'_>],
        rng: &mut SmallRng,
        say: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let began = Instant::now();
        let wanted =
            self.options.time.map_or(u64::from(self.options.restarts) * LIFE_S, |time| time.as_secs());
        let per_s = BYTES_PER_S.min(BYTES_MAX / i64::try_from(wanted.max(1)).unwrap_or(i64::MAX)).max(1);
        let (mut fed, mut told) = (Instant::now(), Instant::now());
        let mut start = Duration::from_millis(200);
        let mut left = BYTES_MAX;
        while *lives < self.options.restarts && self.options.time.is_none_or(|time| began.elapsed() < time) {
            *lives += 1;
            let mut program = self.spawn();
            let moment = Moment::draw(rng, self.scene, start);
            // What may be sent in this life comes at its beginning, after what the life before has earned.
            let earned = i64::try_from(fed.elapsed().as_millis()).unwrap_or(i64::MAX) * per_s / 1_000;
            fed = Instant::now();
            let earned = (earned + 200_000).min(left).min(8 << 20);
            left -= earned;
            for (pace, share) in paces.iter().zip(SHARES) {
                pace.cap(2 << 20);
                pace.allow(earned * share / 10);
            }
            let waited = moment.wait(&mut program, events);
            if let Ok(Some(took)) = waited {
                start = took;
                self.deployer.ran.store(true, Ordering::Relaxed);
            }
            let log = match &waited {
                Ok(_) => program.kill(),
                Err(_) => program.log(),
            };
            self.keep(*lives, &log, said)?;
            waited.with_context(|| format!("{moment:?}; its last words:\n{}", last(&log)))?;
            // A client ends only when it got an answer that it must not get.
            ensure!(!clients.iter().any(ScopedJoinHandle::is_finished), "a client gave up");
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                let acknowledged: u64 = accounts.iter().map(Account::acknowledged).sum();
                say(&format!(
                    "{lives} restarts, {acknowledged} acknowledged, {} s",
                    began.elapsed().as_secs()
                ));
            }
        }
        Ok(())
    }

    /// The life that nobody kills: clients end, files are read, everything is delivered.
    fn last_life(&self, life: u32, said: &mut Said, paces: &[Pace], clients: Vec<Working<'_>>) -> Result<()> {
        let mut program = self.spawn();
        let ended = self.end_in_order(&mut program, paces, clients);
        let log = program.log();
        self.keep(life, &log, said)?;
        ended.with_context(|| format!("in the last life; its last words:\n{}", last(&log)))
    }

    fn end_in_order(&self, program: &mut Program, paces: &[Pace], clients: Vec<Working<'_>>) -> Result<()> {
        moment::up(program)?;
        paces.iter().for_each(Pace::end);
        clients.into_iter().try_for_each(join)?;
        self.wait_for_files()?;
        for stream in self.streams()? {
            ensure!(stream["paused"].is_null(), "a stream is paused: {stream}");
            let stopped = stream["outputs"].as_array().and_then(|outputs| {
                outputs.iter().find(|output| output["stopped"] != Value::Bool(false)).cloned()
            });
            ensure!(stopped.is_none(), "an output has stopped: {stopped:?}");
        }
        program.signal(Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < DRAIN_MAX {
            if let Some(status) = program.end() {
                ensure!(status.success(), "it ended with {status}");
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        bail!("it did not end within {} s", DRAIN_MAX.as_secs())
    }

    fn streams(&self) -> Result<Vec<Value>> {
        let answer = client::get(self.scene.http, "/v1/streams")?.json();
        answer.as_array().cloned().context("no streams")
    }

    /// Waits until nothing more comes out of the followed files.
    fn wait_for_files(&self) -> Result<()> {
        let began = Instant::now();
        let (mut records, mut since) = (None, Instant::now());
        while began.elapsed() < READ_MAX {
            let streams = self.streams()?;
            let now = streams
                .iter()
                .find(|stream| stream["name"] == FILES)
                .map(|stream| stream["records_in"].clone());
            if now != records {
                (records, since) = (now, Instant::now());
            }
            if since.elapsed() > QUIET {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        bail!("files are still being read after {} s", READ_MAX.as_secs())
    }
}

fn last(log: &[String]) -> String {
    log.get(log.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}
