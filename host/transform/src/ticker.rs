//! The thread that makes deadlines real: it advances the engine's epoch a few hundred times a second.
//!
//! A plain OS thread and not a task, so that a busy async runtime cannot delay it. Stops when dropped.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::EngineWeak;

#[derive(Default)]
struct Shared {
    stop: Mutex<bool>,
    changed: Condvar,
}

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engine: EngineWeak, period: Duration) -> io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wasm-ticker".to_owned())
            .stack_size(64 << 10)
            .spawn(move || tick(&engine, &theirs, period))?;
        Ok(Ticker { shared, thread: Some(thread) })
    }
}

fn tick(engine: &EngineWeak, shared: &Shared, period: Duration) {
    let mut stop = shared.stop.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stop {
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        drop(engine);
        (stop, _) = shared.changed.wait_timeout(stop, period).unwrap_or_else(PoisonError::into_inner);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the interruption ticker had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickers() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "wasm-ticker").count()
    }

    #[test]
    fn ticker_dropped_ends_its_thread_and_until_then_ticks() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let before = tickers();
        let ticker = Ticker::start(engine.weak(), Duration::from_millis(1)).unwrap();
        // An endless loop ends only if somebody ticks.
        let wasm = wat::parse_str("(module (func (export \"f\") (loop (br 0))))").unwrap();
        let module = wasmtime::Module::new(&engine, wasm).unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        store.set_epoch_deadline(3);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let function = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
        assert!(function.call(&mut store, ()).is_err());
        assert_eq!(tickers(), before + 1);
        drop(ticker);
        assert_eq!(tickers(), before);
    }
}
