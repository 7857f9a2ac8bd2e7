//! One warm instance of a configured plugin, and the state that host functions see behind it.
//!
//! Owns the limits of a call: CPU deadline, wall limit, memory, handles, what may be lifted. Any trap, error or limit
//! ends the instance; the caller drops it and makes a new one. Guest memory is a cache, never state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmill_chunk::Chunk;
use wasmtime::component::{Resource, TypedFunc};
use wasmtime::{Store, UpdateDeadline};

use crate::abi::{OutBuffers, Rows};
use crate::clock::thread_cpu;
use crate::door;
use crate::event_time::CallClock;
use crate::fault::{Interrupted, PluginFault, fault_of};
use crate::grants::GrantSet;
use crate::http::{Answers, HttpCall, HttpRequest, HttpUse, Sending};
use crate::limits::{HANDLES_MAX, Limiter, WALL_PER_CPU};
use crate::log::{Level, LogGate};
use crate::plugin::{Code, ComponentCode, Plugin};
use crate::state::Keeping;
use crate::step::{Declared, Step};
use crate::wasi::Wasi;

/// An instance is not replaced for its memory before this many calls, or one that needs much would be made anew for
/// every chunk.
const CALLS_BEFORE_WATERMARK: u64 = 64;

/// What the guest is being asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Configure,
    Process,
}

/// The state behind one instance.
pub(crate) struct Guest {
    pub(crate) phase: Phase,
    /// The chunk in hand, during `process`.
    pub(crate) chunk: Option<Box<Chunk>>,
    pub(crate) out: OutBuffers,
    pub(crate) declared: Declared,
    pub(crate) outputs: Arc<[String]>,
    pub(crate) grants: Arc<GrantSet>,
    /// State, during `process` of a chain that keeps some.
    pub(crate) keeping: Option<Box<Keeping>>,
    /// Event time, during `process` and `on-watermark` of a stream that has it.
    pub(crate) clock: Option<Box<CallClock>>,
    /// What its manifest asks for.
    pub(crate) asked: Arc<Plugin>,
    /// Of the call.
    http: HttpCall,
    http_deadline: Duration,
    output_bytes: usize,
    pub(crate) limiter: Limiter,
    /// The last line that this call logged as an error: SDKs log panics, and traps themselves say nothing.
    pub(crate) last_words: String,
    log: LogGate,
    wasi: Option<Box<Wasi>>,
    /// Of an instance that came through a door.
    pub(crate) door: Option<Box<door::State>>,
    /// What clocks show and randomness is drawn from.
    now: u64,
    seed: u64,
    meter: Meter,
}

/// The running call's allowance.
#[derive(Clone, Copy)]
struct Meter {
    cpu_start: Duration,
    cpu_limit: Duration,
    wall_start: Instant,
    /// For others, by the host's leave: that has a deadline of its own.
    waited: Duration,
}

impl Meter {
    fn start(cpu_start: Duration, cpu_limit: Duration) -> Meter {
        Meter { cpu_start, cpu_limit, wall_start: Instant::now(), waited: Duration::ZERO }
    }

    /// Asked at every tick of the epoch.
    fn check(&self) -> Result<(), Interrupted> {
        let cpu = thread_cpu().saturating_sub(self.cpu_start);
        if cpu >= self.cpu_limit {
            return Err(Interrupted::Cpu { limit: self.cpu_limit });
        }
        let wall = self.wall_start.elapsed().saturating_sub(self.waited);
        let limit = self.cpu_limit.saturating_mul(WALL_PER_CPU).max(Duration::from_secs(1));
        if wall >= limit { Err(Interrupted::Wall { limit }) } else { Ok(()) }
    }
}

impl Guest {
    /// The WASI state, made when first needed.
    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        let (now, seed) = (self.now, self.seed);
        self.wasi.get_or_insert_with(|| Box::new(Wasi::new(now, seed)))
    }

    /// Sends requests; waiting for their answers is no time of the guest's own.
    pub(crate) fn send_http(&mut self, requests: Vec<HttpRequest>) -> Answers {
        if self.phase != Phase::Process {
            let outside = || Err("http.send may be called inside process only".to_owned());
            return requests.iter().map(|_| outside()).collect();
        }
        let before = self.http.used().waited;
        let asked = &self.asked.manifest.grants.http;
        let answers = self.http.send(self.grants.http.as_ref(), asked, requests);
        self.meter.waited += self.http.used().waited.saturating_sub(before);
        answers
    }

    /// Whether the running call may go on: asked by host functions that take their time.
    pub(crate) fn in_time(&self) -> Result<(), Interrupted> {
        self.meter.check()
    }

    /// Bytes that one call may be handed.
    pub(crate) fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    pub(crate) fn log(&mut self, level: Level, message: &str) {
        if level == Level::Error {
            self.last_words.clear();
            self.last_words.push_str(&crate::fault::cut_text(message, crate::fault::REASON_BYTES_MAX));
        }
        self.log.write(level, message);
    }

    pub(crate) fn begin_call(&mut self, phase: Phase, call: Call) {
        let Call { seed, now, deadline, cpu_start, sending } = call;
        self.phase = phase;
        self.now = now;
        self.seed = seed;
        self.meter = Meter::start(cpu_start, deadline);
        self.http = HttpCall::new(self.http_deadline, self.output_bytes, sending);
        self.limiter.refused = false;
        self.last_words.clear();
        self.log.begin_call();
        if let Some(wasi) = &mut self.wasi {
            wasi.begin_call(now, seed);
        }
        if let Some(door) = &mut self.door {
            door.preview1.begin_call(now, seed);
        }
    }

    /// Moves what the guest wrote to stdout and stderr into the log; returns its last part, for error texts.
    pub(crate) fn end_call(&mut self) -> String {
        let mut tail = String::new();
        let wasi = self.wasi.as_ref().map(|wasi| wasi.stdio.take());
        let said = wasi.or_else(|| self.door.as_mut().map(|door| door.preview1.said()));
        if let Some((text, lost)) = said {
            if !text.is_empty() {
                let text = String::from_utf8_lossy(&text);
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    self.log.write(Level::Warn, line);
                }
                tail = last_lines(&text);
            }
            if lost > 0 {
                self.log.count_dropped(1);
            }
        }
        self.log.end_call();
        tail
    }
}

/// The last 2 KiB, from the start of a line.
fn last_lines(text: &str) -> String {
    const KEEP: usize = 2048;
    let from = text.len().saturating_sub(KEEP);
    let from = (from..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    text.get(from..).unwrap_or_default().trim_end().to_owned()
}

/// What one call depends on.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) seed: u64,
    /// Arrival time of the first record, nanoseconds since the epoch.
    pub(crate) now: u64,
    /// CPU time of the call.
    pub(crate) deadline: Duration,
    /// The thread's CPU time at its start.
    pub(crate) cpu_start: Duration,
    pub(crate) sending: Sending,
}

type ProcessFunc = TypedFunc<(Resource<Rows>,), (Result<(), String>,)>;
type WatermarkFunc = TypedFunc<(i64,), (Result<(), String>,)>;

/// A configured instance, ready for chunks. After an `Err` of [`Instance::process`] it must be dropped.
pub(crate) enum Instance {
    Component(Component),
    Door(door::Instance),
    #[cfg(feature = "native")]
    Native(crate::native::Configured),
}

impl Instance {
    /// Instantiates and configures. What it declares must be what its sisters did.
    pub(crate) fn start(step: &Step) -> Result<Instance, PluginFault> {
        let instance = match &step.plugin.code {
            Code::Component(code) => Instance::Component(Component::start(step, code)?),
            Code::Door(code) => Instance::Door(door::Instance::start(step, code)?),
            #[cfg(feature = "native")]
            Code::Native(native) => {
                Instance::Native(crate::native::Configured::start(step, native.as_ref())?)
            }
        };
        match step.declared.get() {
            Some(before) if before != instance.declared() => Err(PluginFault::BadOutput {
                message: "configure declared other fields, outputs or tables than in the instance before; \
                          it must depend on the config alone"
                    .to_owned(),
            }),
            _ => Ok(instance),
        }
    }

    /// What `configure` declared.
    pub(crate) fn declared(&self) -> &Declared {
        match self {
            Instance::Component(component) => &component.store.data().declared,
            Instance::Door(door) => door.declared(),
            #[cfg(feature = "native")]
            Instance::Native(native) => native.declared(),
        }
    }

    /// Hands the chunk over, and state and event time where there is some, and takes them back, whatever happens.
    pub(crate) fn process(
        &mut self,
        mut chunk: Box<Chunk>,
        keeping: &mut Option<Box<Keeping>>,
        clock: &mut Option<Box<CallClock>>,
        call: Call,
    ) -> (Option<Box<Chunk>>, Result<(), PluginFault>) {
        match self {
            Instance::Component(component) => component.lend(chunk, keeping, clock, call, |component| {
                component.process.call(&mut component.store, (Resource::new_borrow(0),))
            }),
            Instance::Door(door) => {
                let result = door.process(&mut chunk, call);
                (Some(chunk), result)
            }
            #[cfg(feature = "native")]
            Instance::Native(native) => native.process(chunk, keeping),
        }
    }

    /// The same of `on-watermark`, whose rows are made in the chunk; nothing where the plugin does not export it.
    pub(crate) fn on_watermark(
        &mut self,
        chunk: Box<Chunk>,
        keeping: &mut Option<Box<Keeping>>,
        clock: &mut Option<Box<CallClock>>,
        call: Call,
        ns: i64,
    ) -> (Option<Box<Chunk>>, Result<(), PluginFault>) {
        match self {
            Instance::Component(component) => match component.on_watermark {
                Some(on_watermark) => component.lend(chunk, keeping, clock, call, |component| {
                    on_watermark.call(&mut component.store, (ns,))
                }),
                None => (Some(chunk), Ok(())),
            },
            Instance::Door(_) => (Some(chunk), Ok(())),
            #[cfg(feature = "native")]
            Instance::Native(_) => (Some(chunk), Ok(())),
        }
    }

    /// Fuel that is left of all there is; only differences say something. 0 where it is not counted.
    pub(crate) fn fuel_left(&self) -> u64 {
        match self {
            Instance::Component(component) => component.store.get_fuel().unwrap_or(0),
            Instance::Door(door) => u64::MAX - door.usage().fuel,
            #[cfg(feature = "native")]
            Instance::Native(_) => 0,
        }
    }

    /// What the last call sent.
    pub(crate) fn http_used(&self) -> HttpUse {
        match self {
            Instance::Component(component) => component.store.data().http.used(),
            Instance::Door(_) => HttpUse::default(),
            #[cfg(feature = "native")]
            Instance::Native(_) => HttpUse::default(),
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        match self {
            Instance::Component(component) => component.calls,
            Instance::Door(door) => door.calls(),
            #[cfg(feature = "native")]
            Instance::Native(native) => native.calls(),
        }
    }

    /// Linear memory; what native code allocates is not counted.
    pub(crate) fn memory_bytes_peak(&self) -> u64 {
        match self {
            Instance::Component(component) => component.store.data().limiter.peak as u64,
            Instance::Door(door) => door.usage().memory_peak as u64,
            #[cfg(feature = "native")]
            Instance::Native(_) => 0,
        }
    }

    /// Its memory has grown in calls, and over this share of the limit.
    pub(crate) fn memory_over(&self, percent: u8) -> bool {
        match self {
            Instance::Component(component) => component.memory_over(percent),
            Instance::Door(door) => door.memory_over(percent),
            #[cfg(feature = "native")]
            Instance::Native(_) => false,
        }
    }
}

/// The state behind a new instance, which has yet to be configured.
pub(crate) fn guest(step: &Step, door: Option<door::State>) -> Guest {
    let limits = &step.limits;
    Guest {
        phase: Phase::Configure,
        chunk: None,
        out: OutBuffers::default(),
        declared: Declared::default(),
        outputs: Arc::clone(&step.outputs),
        grants: Arc::clone(&step.grants),
        keeping: None,
        clock: None,
        asked: Arc::clone(&step.plugin),
        http: HttpCall::new(Duration::ZERO, 0, Sending::PROBE),
        http_deadline: limits.http_deadline,
        output_bytes: usize::try_from(limits.output_bytes).unwrap_or(usize::MAX),
        limiter: Limiter::new(limits.memory_bytes),
        last_words: String::new(),
        log: LogGate::new(Arc::clone(&step.log), Arc::clone(&step.name), limits.log_bytes),
        wasi: None,
        door: door.map(Box::new),
        now: 0,
        seed: step.name_seed,
        meter: Meter::start(thread_cpu(), limits.configure_deadline),
    }
}

/// A store in which the guest's memory and time are limited.
pub(crate) fn guard(
    engine: &wasmtime::Engine,
    guest: Guest,
    counts_fuel: bool,
) -> Result<Store<Guest>, PluginFault> {
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limiter);
    store.epoch_deadline_callback(|store| match store.data().meter.check() {
        Ok(()) => Ok(UpdateDeadline::Continue(1)),
        Err(interrupted) => Err(wasmtime::Error::new(interrupted)),
    });
    store.set_epoch_deadline(1);
    if counts_fuel {
        // A count, not a limit.
        store.set_fuel(u64::MAX).map_err(|error| PluginFault::Host { message: format!("{error:#}") })?;
    }
    Ok(store)
}

/// An instance of a Wasm component.
pub(crate) struct Component {
    store: Store<Guest>,
    process: ProcessFunc,
    on_watermark: Option<WatermarkFunc>,
    calls: u64,
    /// Linear memory after `configure`: tables and models are no reason to start anew.
    memory_at_start: usize,
}

impl Component {
    /// Instantiates and configures within the step's own limits.
    fn start(step: &Step, code: &ComponentCode) -> Result<Component, PluginFault> {
        let mut store = guard(step.engine.wasmtime(), guest(step, None), step.engine.fuel())?;
        // Everything that one host call copies out of the guest; views are not charged.
        store.set_hostcall_fuel(
            usize::try_from(step.limits.output_bytes).unwrap_or(usize::MAX).saturating_add(1 << 20),
        );
        store.set_max_component_handles(HANDLES_MAX);
        match Component::configure(&mut store, step, code) {
            Ok((process, on_watermark)) => {
                store.data_mut().end_call();
                let memory_at_start = store.data().limiter.used();
                Ok(Component { store, process, on_watermark, calls: 0, memory_at_start })
            }
            Err(Ended::Returned(message)) => {
                store.data_mut().end_call();
                Err(PluginFault::Returned { message })
            }
            Err(Ended::Error(error)) => {
                let stderr = store.data_mut().end_call();
                Err(fault_of(&error, store.data(), &stderr))
            }
        }
    }

    fn configure(
        store: &mut Store<Guest>,
        step: &Step,
        code: &ComponentCode,
    ) -> Result<(ProcessFunc, Option<WatermarkFunc>), Ended> {
        let instance = code.pre.instantiate(&mut *store)?;
        let configure =
            instance.get_typed_func::<(&str,), (Result<(), String>,)>(&mut *store, code.configure)?;
        let process = instance.get_typed_func(&mut *store, code.process)?;
        let on_watermark =
            code.on_watermark.map(|export| instance.get_typed_func(&mut *store, export)).transpose()?;
        match configure.call(&mut *store, (step.config.as_str(),))? {
            (Ok(()),) => Ok((process, on_watermark)),
            (Err(message),) => Err(Ended::Returned(crate::fault::reason_of(message))),
        }
    }

    /// One call, with everything lent to the guest for as long as it lasts.
    fn lend(
        &mut self,
        chunk: Box<Chunk>,
        keeping: &mut Option<Box<Keeping>>,
        clock: &mut Option<Box<CallClock>>,
        call: Call,
        run: impl FnOnce(&mut Component) -> wasmtime::Result<(Result<(), String>,)>,
    ) -> (Option<Box<Chunk>>, Result<(), PluginFault>) {
        let guest = self.store.data_mut();
        guest.begin_call(Phase::Process, call);
        guest.chunk = Some(chunk);
        guest.keeping = keeping.take();
        guest.clock = clock.take();
        self.calls += 1;
        self.store.set_epoch_deadline(1);
        let result = run(self);
        let guest = self.store.data_mut();
        let chunk = guest.chunk.take();
        *keeping = guest.keeping.take();
        *clock = guest.clock.take();
        let stderr = guest.end_call();
        let result = match result {
            Ok((Ok(()),)) => Ok(()),
            Ok((Err(message),)) => Err(PluginFault::Returned { message: crate::fault::reason_of(message) }),
            Err(error) => Err(fault_of(&error, guest, &stderr)),
        };
        (chunk, result)
    }

    fn memory_over(&self, percent: u8) -> bool {
        let limiter = &self.store.data().limiter;
        let over = limiter.used() / 100 >= limiter.limit() / 10_000 * usize::from(percent);
        over && limiter.used() > self.memory_at_start && self.calls >= CALLS_BEFORE_WATERMARK
    }
}

/// How configuring ended when it did not end well.
enum Ended {
    Returned(String),
    Error(wasmtime::Error),
}

impl From<wasmtime::Error> for Ended {
    fn from(error: wasmtime::Error) -> Self {
        Ended::Error(error)
    }
}
