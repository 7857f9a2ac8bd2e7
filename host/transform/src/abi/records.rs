//! The interface `records`: methods of the resource `chunk`, and `emit`.

use wasmill_chunk::{Cells, Chunk, Misuse, RowsId, write};
use wasmtime::component::{LinkerInstance, Resource, ResourceType, WasmList, WasmStr};
use wasmtime::{AsContext, StoreContext, StoreContextMut};

use super::shapes::{CellsIn, ColumnIn, FloatsIn, IntsIn, OutBuffers};
use super::{AbiCause, AbiError, Rows};
use crate::instance::Guest;

type Store<'a> = StoreContextMut<'a, Guest>;
type Handle = Resource<Rows>;

/// Every function of the interface.
pub(super) const FUNCTIONS: &[&str] = &[
    "[method]chunk.len",
    "[method]chunk.seed",
    "[method]chunk.offsets",
    "[method]chunk.arrival-times",
    "[method]chunk.keys",
    "[method]chunk.attributes",
    "[method]chunk.payloads",
    "[method]chunk.get-text",
    "[method]chunk.get-raw",
    "[method]chunk.get-floats",
    "[method]chunk.get-ints",
    "[method]chunk.get-strings",
    "[method]chunk.set-payloads",
    "[method]chunk.clear",
    "[method]chunk.set-text",
    "[method]chunk.set-raw",
    "[method]chunk.set-floats",
    "[method]chunk.set-ints",
    "[method]chunk.set-strings",
    "[method]chunk.set-keys",
    "[method]chunk.set-attributes",
    "[method]chunk.partition",
    "[method]chunk.route",
    "[method]chunk.keep",
    "[method]chunk.fail",
    "[method]chunk.derive",
    "[static]chunk.fresh",
    "emit",
];

fn rows(handle: &Handle) -> RowsId {
    RowsId(handle.rep())
}

/// Runs a read: the chunk answers with a view, which `out` copies into a buffer that is kept.
fn read<R>(
    mut store: Store<'_>,
    function: &'static str,
    call: impl FnOnce(&mut Chunk, &mut OutBuffers) -> Result<R, Misuse>,
) -> wasmtime::Result<(R,)> {
    let guest = store.data_mut();
    let Some(chunk) = guest.chunk.as_deref_mut() else {
        return Err(AbiError::trap(function, AbiCause::NoChunk));
    };
    match call(chunk, &mut guest.out) {
        Ok(value) => Ok((value,)),
        Err(misuse) => Err(AbiError::trap(function, AbiCause::Misuse(misuse))),
    }
}

/// Runs a write: the chunk leaves the store for the time of the call, so that guest memory can be read in place.
fn stage<R>(
    mut store: Store<'_>,
    function: &'static str,
    call: impl FnOnce(&mut Chunk, &StoreContext<'_, Guest>) -> Result<R, Misuse>,
) -> wasmtime::Result<R> {
    let Some(mut chunk) = store.data_mut().chunk.take() else {
        return Err(AbiError::trap(function, AbiCause::NoChunk));
    };
    let result = call(&mut chunk, &store.as_context());
    store.data_mut().chunk = Some(chunk);
    result.map_err(|misuse| AbiError::trap(function, AbiCause::Misuse(misuse)))
}

pub(super) fn add_to_linker(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    linker.resource("chunk", ResourceType::host::<Rows>(), |mut store, rep| {
        if let Some(chunk) = store.data_mut().chunk.as_deref_mut() {
            chunk.drop_rows(RowsId(rep));
        }
        Ok(())
    })?;
    add_reads(linker)?;
    add_writes(linker)?;
    add_rows(linker)
}

fn add_reads(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    linker.func_wrap("[method]chunk.len", |store: Store<'_>, (this,): (Handle,)| {
        read(store, "chunk.len", |chunk, _| chunk.len(rows(&this)))
    })?;
    linker.func_wrap("[method]chunk.seed", |store: Store<'_>, (_this,): (Handle,)| {
        read(store, "chunk.seed", |chunk, _| Ok(chunk.seed()))
    })?;
    linker.func_wrap("[method]chunk.offsets", |store: Store<'_>, (this,): (Handle,)| {
        read(store, "chunk.offsets", |chunk, out| Ok(out.int_list(chunk.offsets(rows(&this))?)))
    })?;
    linker.func_wrap("[method]chunk.arrival-times", |store: Store<'_>, (this,): (Handle,)| {
        read(store, "chunk.arrival-times", |chunk, out| Ok(out.int_list(chunk.arrival_times(rows(&this))?)))
    })?;
    linker.func_wrap("[method]chunk.keys", |store: Store<'_>, (this,): (Handle,)| {
        read(store, "chunk.keys", |chunk, out| Ok(out.cells(chunk.keys(rows(&this))?)))
    })?;
    linker.func_wrap("[method]chunk.attributes", |store: Store<'_>, (this, name): (Handle, String)| {
        read(store, "chunk.attributes", |chunk, out| Ok(out.cells(chunk.attributes(rows(&this), &name)?)))
    })?;
    linker.func_wrap("[method]chunk.payloads", |store: Store<'_>, (this,): (Handle,)| {
        read(store, "chunk.payloads", |chunk, out| Ok(out.column(chunk.payloads(rows(&this))?)))
    })?;
    linker.func_wrap("[method]chunk.get-text", |store: Store<'_>, (this, slot): (Handle, u32)| {
        read(store, "chunk.get-text", |chunk, out| Ok(out.cells(chunk.get_text(rows(&this), slot)?)))
    })?;
    linker.func_wrap("[method]chunk.get-raw", |store: Store<'_>, (this, slot): (Handle, u32)| {
        read(store, "chunk.get-raw", |chunk, out| Ok(out.cells(chunk.get_raw(rows(&this), slot)?)))
    })?;
    linker.func_wrap("[method]chunk.get-floats", |store: Store<'_>, (this, slot): (Handle, u32)| {
        read(store, "chunk.get-floats", |chunk, out| Ok(out.floats(chunk.get_floats(rows(&this), slot)?)))
    })?;
    linker.func_wrap("[method]chunk.get-ints", |store: Store<'_>, (this, slot): (Handle, u32)| {
        read(store, "chunk.get-ints", |chunk, out| Ok(out.ints(chunk.get_ints(rows(&this), slot)?)))
    })?;
    linker.func_wrap("[method]chunk.get-strings", |store: Store<'_>, (this, slot): (Handle, u32)| {
        read(store, "chunk.get-strings", |chunk, _| {
            let text = |value: Option<&[u8]>| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            Ok(chunk.get_text(rows(&this), slot)?.iter().map(text).collect::<Vec<_>>())
        })
    })
}

fn add_writes(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "[method]chunk.set-payloads",
        |store: Store<'_>, (this, values): (Handle, CellsIn)| {
            stage(store, "chunk.set-payloads", |chunk, store| {
                chunk.set_payloads(rows(&this), values.view(store))
            })
        },
    )?;
    linker.func_wrap("[method]chunk.clear", |store: Store<'_>, (this, marks): (Handle, WasmList<u8>)| {
        stage(store, "chunk.clear", |chunk, store| chunk.clear(rows(&this), marks.as_le_slice(store)))
    })?;
    linker.func_wrap(
        "[method]chunk.set-text",
        |store: Store<'_>, (this, slot, values): (Handle, u32, CellsIn)| {
            stage(store, "chunk.set-text", |chunk, store| {
                chunk.set_text(rows(&this), slot, values.view(store))
            })
        },
    )?;
    linker.func_wrap(
        "[method]chunk.set-raw",
        |store: Store<'_>, (this, slot, values): (Handle, u32, CellsIn)| {
            stage(store, "chunk.set-raw", |chunk, store| chunk.set_raw(rows(&this), slot, values.view(store)))
        },
    )?;
    linker.func_wrap(
        "[method]chunk.set-floats",
        |store: Store<'_>, (this, slot, values): (Handle, u32, FloatsIn)| {
            stage(store, "chunk.set-floats", |chunk, store| {
                chunk.set_floats(rows(&this), slot, values.view(store))
            })
        },
    )?;
    linker.func_wrap(
        "[method]chunk.set-ints",
        |store: Store<'_>, (this, slot, values): (Handle, u32, IntsIn)| {
            stage(store, "chunk.set-ints", |chunk, store| {
                chunk.set_ints(rows(&this), slot, values.view(store))
            })
        },
    )?;
    linker.func_wrap(
        "[method]chunk.set-strings",
        |mut store: Store<'_>, (this, slot, values): (Handle, u32, WasmList<Option<WasmStr>>)| {
            let cells = strings(&mut store, &this, &values)?;
            stage(store, "chunk.set-strings", |chunk, _| chunk.set_text(rows(&this), slot, cells.as_ref()))
        },
    )?;
    linker.func_wrap("[method]chunk.set-keys", |store: Store<'_>, (this, values): (Handle, CellsIn)| {
        stage(store, "chunk.set-keys", |chunk, store| chunk.set_keys(rows(&this), values.view(store)))
    })?;
    linker.func_wrap(
        "[method]chunk.set-attributes",
        |store: Store<'_>, (this, name, values): (Handle, String, CellsIn)| {
            stage(store, "chunk.set-attributes", |chunk, store| {
                chunk.set_attributes(rows(&this), &name, values.view(store))
            })
        },
    )?;
    linker.func_wrap(
        "[method]chunk.partition",
        |store: Store<'_>, (this, name, values): (Handle, String, CellsIn)| {
            stage(store, "chunk.partition", |chunk, store| {
                chunk.partition(rows(&this), &name, values.view(store))
            })
        },
    )?;
    linker.func_wrap(
        "[method]chunk.route",
        |store: Store<'_>, (this, outputs): (Handle, WasmList<u32>)| {
            let known = store.data().outputs.len().max(1);
            let highest =
                outputs.as_le_slice(store.as_context()).iter().fold(0, |highest, &next| highest.max(next));
            if highest as usize >= known {
                let cause = AbiCause::Text("a number that setup.output did not return");
                return Err(AbiError::trap("chunk.route", cause));
            }
            stage(store, "chunk.route", |chunk, store| chunk.route(rows(&this), outputs.as_le_slice(store)))
        },
    )?;
    linker.func_wrap("[method]chunk.keep", |store: Store<'_>, (this, marks): (Handle, WasmList<u8>)| {
        stage(store, "chunk.keep", |chunk, store| chunk.keep(rows(&this), marks.as_le_slice(store)))
    })?;
    linker.func_wrap(
        "[method]chunk.fail",
        |store: Store<'_>, (this, failed, reasons): (Handle, WasmList<u32>, ColumnIn)| {
            stage(store, "chunk.fail", |chunk, store| {
                chunk.fail(rows(&this), failed.as_le_slice(store), reasons.view(store))
            })
        },
    )
}

fn add_rows(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "[method]chunk.derive",
        |store: Store<'_>, (this, sources): (Handle, WasmList<u32>)| {
            let id = stage(store, "chunk.derive", |chunk, store| {
                chunk.derive(rows(&this), sources.as_le_slice(store))
            })?;
            Ok((Handle::new_own(id.0),))
        },
    )?;
    linker.func_wrap("[static]chunk.fresh", |store: Store<'_>, (count,): (u32,)| {
        let id = stage(store, "chunk.fresh", |chunk, _| chunk.fresh(count))?;
        Ok((Handle::new_own(id.0),))
    })?;
    linker.func_wrap("emit", |store: Store<'_>, (derived,): (Handle,)| {
        stage(store, "emit", |chunk, _| chunk.emit(rows(&derived)))
    })
}

/// Cells of a list of strings: none = leave alone. The strings may lie on top of each other in the guest's memory, so
/// that they are many times as long as it.
fn strings(
    store: &mut Store<'_>,
    this: &Handle,
    values: &WasmList<Option<WasmStr>>,
) -> wasmtime::Result<Cells> {
    let trap = |cause| AbiError::trap("chunk.set-strings", cause);
    let Some(chunk) = store.data().chunk.as_deref() else { return Err(trap(AbiCause::NoChunk)) };
    let expected = chunk.len(rows(this)).map_err(|misuse| trap(AbiCause::Misuse(misuse)))? as usize;
    if values.len() != expected {
        return Err(trap(AbiCause::Misuse(Misuse::Length { expected, got: values.len() })));
    }
    let limit = chunk.limits().output_bytes;
    let mut cells = Cells::default();
    for index in 0..values.len() {
        let Some(value) = values.get(&mut *store, index) else { break };
        match value? {
            Some(text) => {
                let text = text.to_str(store.as_context())?;
                if cells.values.data.len() + text.len() > limit {
                    return Err(trap(AbiCause::Misuse(Misuse::TooLarge { limit })));
                }
                cells.push(write::VALUE, text.as_bytes());
            }
            None => cells.push(write::LEAVE, b""),
        }
    }
    Ok(cells)
}
