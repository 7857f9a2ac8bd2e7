//! The two least plugins there are: one that takes every record through the byte face and back, and one that does so with
//! one field through the column face. What the boundary itself costs, for others to be measured against.
//!
//! They decide nothing and change nothing. Written here instruction by instruction, so that no toolchain is needed.

use anyhow::{Result, ensure};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, InstructionSink, MemArg, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};

use crate::component::{assemble, with_metadata};

const RECORDS: &str = "wasmill:plugin/records@0.1.3";
const SETUP: &str = "wasmill:plugin/setup@0.1.3";
const TRANSFORM: &str = "wasmill:plugin/transform@0.1.3";
/// A longer name of a field is refused.
pub const FIELD_BYTES_MAX: usize = 1024;

/// Places in memory: zeros, which are the result ok; what imports return; the path of the field; its one key.
const OK: i32 = 16;
const ANSWER: i32 = 64;
const PATH: i32 = 128;
const KEY: i32 = 256;
const HEAP: i32 = 4096;
/// The state of a row that gets a value.
const VALUE: i32 = 3;
/// Globals: where the next allocation is, and the slot of the field.
const TOP: u32 = 0;
const SLOT: u32 = 1;

/// A function of the host: interface, name, number of parameters, whether it returns a number.
type Import = (&'static str, &'static str, usize, bool);

const DROP: Import = (RECORDS, "[resource-drop]chunk", 1, false);
const BYTE_FACE: [Import; 3] =
    [DROP, (RECORDS, "[method]chunk.payloads", 2, false), (RECORDS, "[method]chunk.set-payloads", 7, false)];
const COLUMN_FACE: [Import; 4] = [
    DROP,
    (SETUP, "field", 2, true),
    (RECORDS, "[method]chunk.get-raw", 3, false),
    (RECORDS, "[method]chunk.set-raw", 8, false),
];

/// Every payload is read and written as it is.
///
/// # Errors
/// The component cannot be made.
pub fn bytes() -> Result<Vec<u8>> {
    let process = |code: &mut InstructionSink<'_>, realloc: u32| {
        // rows is 0, the states are at 1.
        code.local_get(0).i32_const(ANSWER).call(1);
        code.i32_const(0).i32_const(0).i32_const(1).word(ANSWER + 12).call(realloc).local_tee(1);
        code.i32_const(VALUE).word(ANSWER + 12).memory_fill(0);
        code.local_get(0).local_get(1).word(ANSWER + 12);
        (0..4).for_each(|index| {
            code.word(ANSWER + 4 * index);
        });
        code.call(2);
    };
    component("byte-face", &BYTE_FACE, "", |_| {}, process)
}

/// One field at the top of each record is read and written as it is.
///
/// # Errors
/// The name of the field is too long, or the component cannot be made.
pub fn column(field: &str) -> Result<Vec<u8>> {
    ensure!(
        field.len() <= FIELD_BYTES_MAX,
        "a field of {} bytes is too long for the column face",
        field.len()
    );
    let configure = |code: &mut InstructionSink<'_>| {
        code.i32_const(PATH).i32_const(1).call(1).global_set(SLOT);
    };
    let process = |code: &mut InstructionSink<'_>, _realloc: u32| {
        code.local_get(0).global_get(SLOT).i32_const(ANSWER).call(2);
        code.local_get(0).global_get(SLOT);
        (0..6).for_each(|index| {
            code.word(ANSWER + 4 * index);
        });
        code.call(3);
    };
    component("column-face", &COLUMN_FACE, field, configure, process)
}

/// The word at a place in memory.
trait Word {
    fn word(&mut self, place: i32) -> &mut Self;
}

impl Word for InstructionSink<'_> {
    fn word(&mut self, place: i32) -> &mut Self {
        self.i32_const(place).i32_load(MemArg { offset: 0, align: 2, memory_index: 0 })
    }
}

fn component(
    name: &str,
    imports: &[Import],
    field: &str,
    configure: impl FnOnce(&mut InstructionSink<'_>),
    process: impl FnOnce(&mut InstructionSink<'_>, u32),
) -> Result<Vec<u8>> {
    let (mut types, mut imported) = (TypeSection::new(), ImportSection::new());
    let mut count = 0u32;
    let mut ty = |params: usize, returns: bool| {
        let results: &[ValType] = if returns { &[ValType::I32] } else { &[] };
        types.ty().function(vec![ValType::I32; params], results.iter().copied());
        count += 1;
        count - 1
    };
    for (interface, function, params, returns) in imports {
        let ty = ty(*params, *returns);
        imported.import(interface, function, EntityType::Function(ty));
    }
    let realloc = u32::try_from(imports.len())?;
    let mut functions = FunctionSection::new();
    for params in [4, 2, 1] {
        functions.function(ty(params, true));
    }
    let mut memory = MemorySection::new();
    memory.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    for start in [HEAP, 0] {
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(start));
    }
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export("cabi_realloc", ExportKind::Func, realloc);
    exports.export(&format!("{TRANSFORM}#configure"), ExportKind::Func, realloc + 1);
    exports.export(&format!("{TRANSFORM}#process"), ExportKind::Func, realloc + 2);
    let mut code = CodeSection::new();
    code.function(&allocate());
    let mut function = Function::new([]);
    configure(&mut function.instructions());
    function.instructions().i32_const(OK).end();
    code.function(&function);
    let mut function = Function::new([(1, ValType::I32)]);
    function.instructions().i32_const(HEAP).global_set(TOP);
    process(&mut function.instructions(), realloc);
    function.instructions().local_get(0).call(0).i32_const(OK).end();
    code.function(&function);
    let mut data = DataSection::new();
    let path = [KEY.to_le_bytes(), u32::try_from(field.len())?.to_le_bytes()].concat();
    data.active(0, &ConstExpr::i32_const(PATH), path);
    data.active(0, &ConstExpr::i32_const(KEY), field.bytes());
    let mut module = Module::new();
    module.section(&types).section(&imported).section(&functions).section(&memory);
    module.section(&globals).section(&exports).section(&code).section(&data);
    let manifest = serde_json::json!({ "name": name, "version": env!("CARGO_PKG_VERSION") });
    assemble(&with_metadata(module.finish(), "transformer")?, Some(&manifest.to_string()))
}

/// `cabi_realloc`: memory one behind the other, until the next chunk begins anew.
fn allocate() -> Function {
    let mut function = Function::new([(1, ValType::I32)]);
    let mut code = function.instructions();
    // The size is 3, what is answered is kept in 4.
    code.global_get(TOP).local_tee(4).local_get(3).i32_add().i32_const(15).i32_add().i32_const(-16).i32_and();
    code.global_set(TOP);
    code.block(BlockType::Empty);
    code.global_get(TOP).memory_size(0).i32_const(16).i32_shl().i32_le_u().br_if(0);
    // As many pages as are missing.
    code.global_get(TOP).memory_size(0).i32_const(16).i32_shl().i32_sub().i32_const(16).i32_shr_u();
    code.i32_const(1).i32_add().memory_grow(0).i32_const(-1).i32_ne().br_if(0).unreachable();
    code.end();
    code.local_get(4).end();
    function
}
