//! The records of the WIT as they cross the boundary.
//!
//! Into the host: views of guest memory, read in place. Out of the host: shared buffers that are kept and refilled, so
//! that a call allocates nothing.

use std::sync::Arc;

use wasmill_chunk::{CellsRef, Column, ColumnRef, FloatsRef, IntsRef};
use wasmtime::StoreContext;
use wasmtime::component::{ComponentType, Lift, Lower, WasmList};

use crate::instance::Guest;

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct ColumnIn {
    data: WasmList<u8>,
    ends: WasmList<u32>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct CellsIn {
    state: WasmList<u8>,
    values: ColumnIn,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct FloatsIn {
    state: WasmList<u8>,
    // There is no view of a float list; lifting one is a single copy.
    values: Vec<f64>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct IntsIn {
    state: WasmList<u8>,
    values: WasmList<i64>,
}

// Guest memory is little-endian; so is every host that wasmtime's first tier knows.
const _: () = assert!(cfg!(target_endian = "little"));

impl ColumnIn {
    pub(super) fn view<'a>(&self, store: &'a StoreContext<'_, Guest>) -> ColumnRef<'a> {
        ColumnRef { data: self.data.as_le_slice(store), ends: self.ends.as_le_slice(store) }
    }
}

impl CellsIn {
    pub(super) fn view<'a>(&self, store: &'a StoreContext<'_, Guest>) -> CellsRef<'a> {
        CellsRef { state: self.state.as_le_slice(store), values: self.values.view(store) }
    }
}

impl FloatsIn {
    pub(super) fn view<'a>(&'a self, store: &'a StoreContext<'_, Guest>) -> FloatsRef<'a> {
        FloatsRef { state: self.state.as_le_slice(store), values: &self.values }
    }
}

impl IntsIn {
    pub(super) fn view<'a>(&self, store: &'a StoreContext<'_, Guest>) -> IntsRef<'a> {
        IntsRef { state: self.state.as_le_slice(store), values: self.values.as_le_slice(store) }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct ColumnOut {
    data: Arc<Vec<u8>>,
    ends: Arc<Vec<u32>>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct EntriesOut {
    groups: Arc<Vec<u8>>,
    keys: ColumnOut,
    values: ColumnOut,
}

impl EntriesOut {
    /// Scans are rare, and their buffers are not kept.
    pub(super) fn new(groups: Vec<u8>, keys: Column, values: Column) -> EntriesOut {
        let column = |Column { data, ends }| ColumnOut { data: Arc::new(data), ends: Arc::new(ends) };
        EntriesOut { groups: Arc::new(groups), keys: column(keys), values: column(values) }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct CellsOut {
    state: Arc<Vec<u8>>,
    values: ColumnOut,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct FloatsOut {
    state: Arc<Vec<u8>>,
    values: Arc<Vec<f64>>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct IntsOut {
    state: Arc<Vec<u8>>,
    values: Arc<Vec<i64>>,
}

/// A buffer that is refilled for every call. By the time of the next call the one before has been lowered and dropped.
struct Refill<T>(Arc<Vec<T>>);

impl<T> Default for Refill<T> {
    fn default() -> Self {
        Refill(Arc::new(Vec::new()))
    }
}

impl<T: Copy> Refill<T> {
    fn fill(&mut self, from: &[T]) -> Arc<Vec<T>> {
        match Arc::get_mut(&mut self.0) {
            Some(buffer) => {
                buffer.clear();
                buffer.extend_from_slice(from);
            }
            None => self.0 = Arc::new(from.to_vec()),
        }
        Arc::clone(&self.0)
    }
}

/// One instance's buffers for what host functions return.
#[derive(Default)]
pub(crate) struct OutBuffers {
    state: Refill<u8>,
    data: Refill<u8>,
    ends: Refill<u32>,
    floats: Refill<f64>,
    ints: Refill<i64>,
}

impl OutBuffers {
    pub(super) fn column(&mut self, from: ColumnRef<'_>) -> ColumnOut {
        ColumnOut { data: self.data.fill(from.data), ends: self.ends.fill(from.ends) }
    }

    pub(super) fn cells(&mut self, from: CellsRef<'_>) -> CellsOut {
        CellsOut { state: self.state.fill(from.state), values: self.column(from.values) }
    }

    pub(super) fn floats(&mut self, from: FloatsRef<'_>) -> FloatsOut {
        FloatsOut { state: self.state.fill(from.state), values: self.floats.fill(from.values) }
    }

    pub(super) fn ints(&mut self, from: IntsRef<'_>) -> IntsOut {
        IntsOut { state: self.state.fill(from.state), values: self.int_list(from.values) }
    }

    pub(super) fn byte_list(&mut self, from: &[u8]) -> Arc<Vec<u8>> {
        self.state.fill(from)
    }

    pub(super) fn int_list(&mut self, from: &[i64]) -> Arc<Vec<i64>> {
        self.ints.fill(from)
    }
}
