//! An instance that stays between calls, for the doors whose guests are called function by function.
//!
//! Owns the way into its memory and back, checked at every step, and what a failed call means.

use wasmtime::{Instance, InstancePre, Memory, Store, WasmParams, WasmResults};

use super::preview1::{Preview1, part, put};
use super::{State, Usage};
use crate::fault::{PluginFault, fault_of};
use crate::instance::{Call, Guest, Phase, guard, guest};
use crate::step::Step;

pub(super) struct Resident {
    pub(super) store: Store<Guest>,
    pub(super) instance: Instance,
    pub(super) memory: Memory,
    memory_at_start: usize,
}

impl Resident {
    /// Instantiates within the limits of configuring, and runs the start of a reactor if there is one.
    pub(super) fn start(step: &Step, pre: &InstancePre<Guest>) -> Result<Resident, PluginFault> {
        let state = State::new(Preview1::new(step.name_seed));
        let mut store = guard(step.engine.wasmtime(), guest(step, Some(state)), step.engine.fuel())?;
        let started = start(&mut store, pre);
        let (instance, memory) = match started {
            Ok(started) => started,
            Err(error) => {
                let stderr = store.data_mut().end_call();
                return Err(fault_of(&error, store.data(), &stderr));
            }
        };
        let memory_at_start = store.data().limiter.used();
        Ok(Resident { store, instance, memory, memory_at_start })
    }

    /// Configuring is over: what it used is no reason to start anew, what it said goes to the log.
    pub(super) fn ready(&mut self) {
        self.store.data_mut().end_call();
        self.memory_at_start = self.store.data().limiter.used();
    }

    pub(super) fn begin_call(&mut self, call: Call) {
        self.store.data_mut().begin_call(Phase::Process, call);
        self.store.set_epoch_deadline(1);
    }

    /// Ends a call of the chain, however many of the guest there were.
    pub(super) fn end_call(&mut self) {
        self.store.data_mut().end_call();
    }

    /// Calls a function that the guest exports.
    pub(super) fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        function: &wasmtime::TypedFunc<P, R>,
        params: P,
    ) -> Result<R, PluginFault> {
        function.call(&mut self.store, params).map_err(|error| self.fault(&error))
    }

    pub(super) fn function<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &str,
    ) -> Result<wasmtime::TypedFunc<P, R>, PluginFault> {
        self.instance.get_typed_func(&mut self.store, name).map_err(|error| self.fault(&error))
    }

    fn fault(&mut self, error: &wasmtime::Error) -> PluginFault {
        let stderr = self.store.data_mut().end_call();
        fault_of(error, self.store.data(), &stderr)
    }

    /// Writes into the guest's memory. `what` is whose pointer it was, for the text.
    pub(super) fn put(&mut self, at: u32, bytes: &[u8], what: &str) -> Result<(), PluginFault> {
        put(self.memory.data_mut(&mut self.store), at, bytes).ok_or_else(|| outside(what, at, bytes.len()))
    }

    /// Reads out of the guest's memory.
    pub(super) fn read(&self, at: u32, len: u32, what: &str) -> Result<&[u8], PluginFault> {
        part(self.memory.data(&self.store), at, len).ok_or_else(|| outside(what, at, len as usize))
    }

    pub(super) fn usage(&self) -> Usage {
        Usage::of(&self.store, self.memory_at_start)
    }
}

fn start(store: &mut Store<Guest>, pre: &InstancePre<Guest>) -> wasmtime::Result<(Instance, Memory)> {
    let instance = pre.instantiate(&mut *store)?;
    let memory = instance.get_memory(&mut *store, "memory").ok_or_else(|| {
        wasmtime::Error::new(PluginFault::Refused { message: "exports no memory".to_owned() })
    })?;
    if let Some(initialize) = instance.get_func(&mut *store, "_initialize") {
        initialize.typed::<(), ()>(&*store)?.call(&mut *store, ())?;
    }
    Ok((instance, memory))
}

fn outside(what: &str, at: u32, len: usize) -> PluginFault {
    PluginFault::BadOutput { message: format!("{what}: {len} bytes at {at} are not in its memory") }
}
