//! What may stand before the compiler: who waits for whom, and whether a plugin may be compiled at all.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Asked before a plugin is compiled, on the thread that compiles it.
pub trait CompileGate: Debug + Send + Sync {
    /// Whether a plugin file of so many bytes is taken.
    ///
    /// # Errors
    /// Why not.
    fn takes(&self, bytes: u64) -> Result<(), String>;

    /// Whether one more plugin is taken over HTTP beside so many.
    ///
    /// # Errors
    /// Why not.
    fn takes_another(&self, there: u64) -> Result<(), String>;

    /// Waits for a turn, which lasts until [`CompileGate::end`].
    ///
    /// # Errors
    /// Why there is none now; it may be asked again later.
    fn begin(&self) -> Result<(), String>;

    /// The compiler has used so much CPU time.
    fn end(&self, cpu: Duration);
}

/// One that stands open.
#[derive(Debug)]
pub struct OpenGate;

impl CompileGate for OpenGate {
    fn takes(&self, _bytes: u64) -> Result<(), String> {
        Ok(())
    }

    fn takes_another(&self, _there: u64) -> Result<(), String> {
        Ok(())
    }

    fn begin(&self) -> Result<(), String> {
        Ok(())
    }

    fn end(&self, _cpu: Duration) {}
}

/// One turn; over when it is dropped, however the compile ended.
pub(crate) struct Turn {
    gate: Arc<dyn CompileGate>,
    pub(crate) cpu: Duration,
}

impl Turn {
    pub(crate) fn begin(gate: &Arc<dyn CompileGate>) -> Result<Turn, String> {
        gate.begin()?;
        Ok(Turn { gate: Arc::clone(gate), cpu: Duration::ZERO })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.gate.end(self.cpu);
    }
}
