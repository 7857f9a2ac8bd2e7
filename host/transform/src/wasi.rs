//! WASI 0.2 for guests whose toolchain wants it: nothing behind it but a log, a clock and a generator.
//!
//! No environment, arguments, files or sockets. Clocks stand at the arrival time of the call's first record and move by
//! a microsecond per look; random bytes come from the call's seed. Standard output and error go to the log, capped.
//! Waiting is refused: a guest that sleeps would hold a worker thread without using CPU time, where no deadline sees it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::io::poll::{Host as _, HostPollable as _};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::runtime::{poll_noop, with_ambient_tokio_runtime};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, async_trait,
};

use crate::instance::Guest;
use crate::limits::{HANDLES_MAX, RANDOM_BYTES_MAX, STDIO_BYTES_MAX};
use crate::seed::Generator;

/// Nanoseconds that the guest's clocks move each time the guest looks.
const CLOCK_STEP: u64 = 1000;

/// One instance's WASI state. Most plugins never make one.
pub(crate) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    clock: Arc<AtomicU64>,
    pub(crate) stdio: Arc<Stdio>,
    generator: Generator,
}

impl Wasi {
    pub(crate) fn new(now: u64, seed: u64) -> Wasi {
        let clock = Arc::new(AtomicU64::new(now));
        let stdio = Arc::new(Stdio::default());
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let ctx = WasiCtxBuilder::new()
            .stdout(Pipe(Arc::clone(&stdio)))
            .stderr(Pipe(Arc::clone(&stdio)))
            .wall_clock(Clock(Arc::clone(&clock)))
            .monotonic_clock(Clock(Arc::clone(&clock)))
            .insecure_random_seed(0)
            .max_random_size(RANDOM_BYTES_MAX)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        Wasi { ctx, table, clock, stdio, generator: Generator::new(seed) }
    }

    /// A new call begins: time and randomness depend on it alone.
    pub(crate) fn begin_call(&mut self, now: u64, seed: u64) {
        self.clock.store(now, Ordering::Relaxed);
        self.generator = Generator::new(seed);
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a plugin may not wait or sleep (wasi:io/poll on something that is not ready)")]
pub(crate) struct MayNotWait;

#[derive(Debug, thiserror::Error)]
#[error("{asked} random bytes asked for in one call; at most {max} are given")]
struct TooRandom {
    asked: u64,
    max: u64,
}

/// Adds WASI 0.2 with our own poll and randomness in place of the library's.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.func_wrap(
        "poll",
        |mut store: StoreContextMut<'_, Guest>, (list,): (Vec<Resource<DynPollable>>,)| {
            let table = &mut store.data_mut().wasi().table;
            now_or_trap(async { table.poll(list).await }).map(|ready| (ready,))
        },
    )?;
    poll.func_wrap(
        "[method]pollable.block",
        |mut store: StoreContextMut<'_, Guest>, (pollable,): (Resource<DynPollable>,)| {
            let table = &mut store.data_mut().wasi().table;
            now_or_trap(async { table.block(pollable).await })
        },
    )?;
    for (interface, prefix) in
        [("wasi:random/random@0.2.12", ""), ("wasi:random/insecure@0.2.12", "insecure-")]
    {
        let mut random = linker.instance(interface)?;
        random.func_wrap(
            &format!("get-{prefix}random-bytes"),
            |mut store: StoreContextMut<'_, Guest>, (len,): (u64,)| {
                if len > RANDOM_BYTES_MAX {
                    return Err(wasmtime::Error::new(TooRandom { asked: len, max: RANDOM_BYTES_MAX }));
                }
                let len = usize::try_from(len).unwrap_or_default();
                Ok((store.data_mut().wasi().generator.bytes(len),))
            },
        )?;
        random.func_wrap(
            &format!("get-{prefix}random-u64"),
            |mut store: StoreContextMut<'_, Guest>, (): ()| Ok((store.data_mut().wasi().generator.next(),)),
        )?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// The future's value if it is there at once; otherwise a trap. "At once" is a second look: a timer of no duration
/// yields once before it is ready.
fn now_or_trap<R>(future: impl Future<Output = wasmtime::Result<R>>) -> wasmtime::Result<R> {
    let mut future = pin!(future);
    with_ambient_tokio_runtime(|| poll_noop(future.as_mut()).or_else(|| poll_noop(future.as_mut())))
        .unwrap_or_else(|| Err(wasmtime::Error::new(MayNotWait)))
}

/// Nanoseconds since the epoch, moving with every look.
struct Clock(Arc<AtomicU64>);

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(CLOCK_STEP)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.fetch_add(CLOCK_STEP, Ordering::Relaxed))
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        CLOCK_STEP
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(CLOCK_STEP, Ordering::Relaxed)
    }
}

/// What the guest wrote to standard output and error in this call, up to a cap.
#[derive(Default)]
pub(crate) struct Stdio {
    text: Mutex<(Vec<u8>, u64)>,
}

impl Stdio {
    fn write(&self, bytes: &[u8]) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let room = STDIO_BYTES_MAX.saturating_sub(text.0.len()).min(bytes.len());
        let (kept, lost) = bytes.split_at(room);
        text.0.extend_from_slice(kept);
        text.1 += lost.len() as u64;
    }

    /// Takes the text and the number of bytes that were lost.
    pub(crate) fn take(&self) -> (Vec<u8>, u64) {
        std::mem::take(&mut *self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Pipe(Arc<Stdio>);

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Pipe {
    // Only WASI 0.3 takes this one, and it is not linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Pipe(Arc::clone(&self.0)))
    }
}

#[async_trait]
impl Pollable for Pipe {
    async fn ready(&mut self) {}
}

impl OutputStream for Pipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(STDIO_BYTES_MAX)
    }
}
