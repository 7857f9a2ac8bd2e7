//! What Go's linker leaves out of a module that is to become a component.
//!
//! The linker knows nothing of components. Three things are added:
//!
//! - **the WIT**, as metadata;
//! - **memory for the WASI adapter** (`cabi_realloc_adapter`). Nothing that Go compiles can be called before its runtime
//!   is up, but starting the runtime already calls WASI, whose adapter wants memory first. It gets pieces of an array
//!   in the SDK's data, which begins with [`ARENA`];
//! - **guards around WASI**. While the host hands a list over, it calls `cabi_realloc`, and until that returns the
//!   component may call nothing. Go's allocator may collect garbage there, which looks at the clock. So inside
//!   `cabi_realloc` the clock stands still and all else of WASI does nothing. And a host lets nobody sleep, but Go's
//!   runtime waits for a moment before it says why it dies: the first short sleeps are left out.
//!
//! Refuses modules that were not built with the SDK.

use std::convert::Infallible;

use anyhow::{Context, Result, bail};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection,
    GlobalType, InstructionSink, MemArg, Module, ValType,
};
use wasmparser::{CompositeInnerType, DataKind, Export, Operator, Parser, Payload, TypeRef};

use crate::component::with_metadata;

/// What the SDK's array begins with, and its length: see `internal/guest/memory_wasip1.go`.
const ARENA: &[u8] = b"wasmill.dev/sdk: memory for WASI";
const ARENA_BYTES: i32 = 4 * 65_536;
const REALLOC: &str = "cabi_realloc";
/// The name by which the encoder of components finds memory for adapters.
const ADAPTER_REALLOC: &str = "cabi_realloc_adapter";
const WASI: &str = "wasi_snapshot_preview1";
const CLOCK: &str = "clock_time_get";
const POLL: &str = "poll_oneoff";
/// Sleeps that are left out: how many in the life of an instance, and how long they are at most. Dying takes about ten;
/// a plugin that sleeps in a loop soon hears from the host.
const SLEEPS: i32 = 32;
const SLEEP_NS: i64 = 1_000_000;

type Outcome<T = ()> = Result<T, reencode::Error<Infallible>>;

/// The module with what makes a component of it.
pub(super) fn complete(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut completion = Completion::of(wasm)?;
    let mut module = Module::new();
    completion.parse_core_module(&mut module, Parser::new(0), wasm)?;
    with_metadata(module.finish(), "transformer")
}

/// A function of WASI that is imported and answers with an error number.
struct Guarded {
    import: u32,
    ty: u32,
    params: u32,
    what: What,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Clock,
    Poll,
    Other,
}

/// Copies a module and adds to the end of each section what is missing.
struct Completion {
    guarded: Vec<Guarded>,
    /// Of `cabi_realloc`.
    realloc_ty: u32,
    realloc: u32,
    /// Number of functions, imported ones too, and of globals.
    functions: u32,
    globals: u32,
    /// Address of the SDK's array.
    arena: i32,
}

impl Completion {
    fn of(wasm: &[u8]) -> Result<Self> {
        let (mut types, mut own, mut imported) = (Vec::new(), Vec::new(), 0);
        let (mut wasi, mut globals, mut realloc, mut arena) = (Vec::new(), 0, None, None);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.context("what the Go linker wrote cannot be read")? {
                Payload::TypeSection(section) => {
                    for group in section {
                        for ty in group?.into_types() {
                            let CompositeInnerType::Func(ty) = ty.composite_type.inner else {
                                bail!("a type that is no function's");
                            };
                            types.push(ty);
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let TypeRef::Func(ty) = import.ty else {
                            bail!("imports {}, which is no function", import.name);
                        };
                        if import.module == WASI {
                            let what = match import.name {
                                CLOCK => What::Clock,
                                POLL => What::Poll,
                                _ => What::Other,
                            };
                            wasi.push((imported, ty, what));
                        }
                        imported += 1;
                    }
                }
                Payload::FunctionSection(section) => own = section.into_iter().collect::<Result<_, _>>()?,
                Payload::GlobalSection(section) => globals = section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.name == REALLOC {
                            realloc = Some(export.index);
                        }
                    }
                }
                Payload::DataSection(section) => {
                    for data in section {
                        let data = data?;
                        let Some(at) = find(data.data, ARENA) else { continue };
                        let DataKind::Active { offset_expr, .. } = data.kind else { continue };
                        if let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? {
                            arena = Some(value + i32::try_from(at)?);
                        }
                    }
                }
                _ => {}
            }
        }
        let (Some(realloc), Some(arena)) = (realloc, arena) else {
            bail!("the program does not use wasmill.dev/sdk (its package main must call sdk.Export)");
        };
        let mut guarded = Vec::new();
        for (import, ty, what) in wasi {
            let signature = types.get(ty as usize).context("an import's type is missing")?;
            if *signature.results() == [wasmparser::ValType::I32] {
                guarded.push(Guarded { import, ty, params: u32::try_from(signature.params().len())?, what });
            }
        }
        let at = realloc.checked_sub(imported).context("cabi_realloc is imported")?;
        Ok(Self {
            guarded,
            realloc_ty: *own.get(at as usize).context("cabi_realloc has no type")?,
            realloc,
            functions: imported + u32::try_from(own.len())?,
            globals,
            arena,
        })
    }

    // New functions: memory for the adapter, then `cabi_realloc`, then the guards.
    fn adapter_realloc(&self) -> u32 {
        self.functions
    }

    fn outer_realloc(&self) -> u32 {
        self.functions + 1
    }

    fn first_guard(&self) -> u32 {
        self.functions + 2
    }

    // New globals: the next free byte of the array, whether `cabi_realloc` runs, the two clocks, and sleeps so far.
    fn free(&self) -> u32 {
        self.globals
    }

    fn inside(&self) -> u32 {
        self.globals + 1
    }

    fn wall_time(&self) -> u32 {
        self.globals + 2
    }

    fn steady_time(&self) -> u32 {
        self.globals + 3
    }

    fn sleeps(&self) -> u32 {
        self.globals + 4
    }

    /// `(old, old size, align, size) -> address`: the next free bytes, never given back. Traps when there are none.
    fn adapter_realloc_body(&self) -> Function {
        let mut function = Function::new([(1, ValType::I32)]);
        function
            .instructions()
            // Enlarging is not wanted by the adapter.
            .local_get(1)
            .if_(BlockType::Empty)
            .unreachable()
            .end()
            // address = (free + align - 1) & -align
            .global_get(self.free())
            .local_get(2)
            .i32_add()
            .i32_const(1)
            .i32_sub()
            .i32_const(0)
            .local_get(2)
            .i32_sub()
            .i32_and()
            .local_tee(4)
            // Is size > end - address?
            .local_get(3)
            .i32_const(self.arena + ARENA_BYTES)
            .local_get(4)
            .i32_sub()
            .i32_gt_u()
            .if_(BlockType::Empty)
            .unreachable()
            .end()
            // free = address + size
            .local_get(3)
            .i32_add()
            .global_set(self.free())
            .local_get(4)
            .end();
        function
    }

    /// Go's `cabi_realloc`, with WASI shut while it runs.
    fn outer_realloc_body(&self) -> Function {
        let mut function = Function::new([]);
        let mut body = function.instructions();
        body.i32_const(1).global_set(self.inside());
        for param in 0..4 {
            body.local_get(param);
        }
        body.call(self.realloc).i32_const(0).global_set(self.inside()).end();
        function
    }

    fn guard_body(&self, guarded: &Guarded) -> Function {
        let word = MemArg { offset: 0, align: 3, memory_index: 0 };
        let (clock, time) = (0, 2);
        let mut function = Function::new([]);
        let mut body = function.instructions();
        body.global_get(self.inside()).if_(BlockType::Empty);
        if guarded.what == What::Clock {
            body.local_get(time)
                .global_get(self.steady_time())
                .global_get(self.wall_time())
                .local_get(clock)
                .select()
                .i64_store(word);
        }
        body.i32_const(0).return_().end();
        if guarded.what == What::Poll {
            self.leave_sleep_out(&mut body);
        }
        for param in 0..guarded.params {
            body.local_get(param);
        }
        body.call(guarded.import);
        if guarded.what == What::Clock {
            body.local_get(clock)
                .if_(BlockType::Empty)
                .local_get(time)
                .i64_load(word)
                .global_set(self.steady_time())
                .else_()
                .local_get(time)
                .i64_load(word)
                .global_set(self.wall_time())
                .end();
        }
        body.end();
        function
    }

    /// `poll_oneoff(subscriptions, events, number, number of events)` with a short time and nothing else.
    fn leave_sleep_out(&self, body: &mut InstructionSink<'_>) {
        let (subscriptions, number, events) = (0, 2, 3);
        // Of a subscription: what to, 0 being a clock, and nanoseconds.
        let tag = MemArg { offset: 8, align: 0, memory_index: 0 };
        let timeout = MemArg { offset: 24, align: 3, memory_index: 0 };
        let count = MemArg { offset: 0, align: 2, memory_index: 0 };
        body.local_get(number).i32_const(1).i32_eq().if_(BlockType::Empty);
        body.local_get(subscriptions).i32_load8_u(tag).i32_eqz();
        body.local_get(subscriptions).i64_load(timeout).i64_const(SLEEP_NS).i64_le_u().i32_and();
        body.global_get(self.sleeps()).i32_const(SLEEPS).i32_lt_u().i32_and();
        body.if_(BlockType::Empty);
        body.global_get(self.sleeps()).i32_const(1).i32_add().global_set(self.sleeps());
        body.local_get(events).i32_const(0).i32_store(count);
        body.i32_const(0).return_().end().end();
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

impl Reencode for Completion {
    type Error = Infallible;

    /// What Go calls of WASI goes through the guards.
    fn function_index(&mut self, function: u32) -> Outcome<u32> {
        match (self.first_guard()..).zip(&self.guarded).find(|(_, guarded)| guarded.import == function) {
            Some((guard, _)) => Ok(guard),
            None => Ok(function),
        }
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_function_section(self, functions, section)?;
        functions.function(self.realloc_ty).function(self.realloc_ty);
        for guarded in &self.guarded {
            functions.function(guarded.ty);
        }
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_global_section(self, globals, section)?;
        let variable = |val_type| GlobalType { val_type, mutable: true, shared: false };
        globals
            .global(variable(ValType::I32), &ConstExpr::i32_const(self.arena))
            .global(variable(ValType::I32), &ConstExpr::i32_const(0))
            .global(variable(ValType::I64), &ConstExpr::i64_const(0))
            .global(variable(ValType::I64), &ConstExpr::i64_const(0))
            .global(variable(ValType::I32), &ConstExpr::i32_const(0));
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_export_section(self, exports, section)?;
        exports.export(ADAPTER_REALLOC, ExportKind::Func, self.adapter_realloc());
        Ok(())
    }

    fn parse_export(&mut self, exports: &mut ExportSection, export: Export<'_>) -> Outcome {
        if export.name == REALLOC {
            exports.export(REALLOC, ExportKind::Func, self.outer_realloc());
            return Ok(());
        }
        reencode::utils::parse_export(self, exports, export)
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_code_section(self, code, section)?;
        code.function(&self.adapter_realloc_body()).function(&self.outer_realloc_body());
        for guarded in &self.guarded {
            code.function(&self.guard_body(guarded));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_without_the_sdk_are_refused_with_the_reason() {
        let error = complete(&Module::new().finish()).unwrap_err().to_string();
        assert!(error.contains("sdk.Export"), "{error}");
        assert!(complete(b"\0asm").is_err());
    }

    #[test]
    fn the_mark_is_what_the_sdk_writes() {
        let source = include_str!("../../../../plugins/sdk/go/sdk/internal/guest/memory_wasip1.go");
        let letters = source.split_once("byte{").unwrap().1.split_once("\n}").unwrap().0;
        let written: Vec<u8> =
            letters.split('\'').skip(1).step_by(2).map(|letter| letter.as_bytes()[0]).collect();
        assert_eq!(written, ARENA);
        assert!(source.contains("[4 * 65536]byte"));
    }
}
