//! What componentize-qjs leaves out of a component whose exports borrow.
//!
//! The handle of the chunk that `process` borrows has to be given back before the call returns. componentize-qjs 0.4.5
//! gives it back in the post-return function, where nothing may be called, and JavaScript cannot do it earlier: disposing
//! of a borrowed resource is refused, and so is handing it on. So the module between the component and the engine gets a
//! `process` of its own, which gives the handle back when the engine's has returned, and a drop function that passes over
//! the engine's own attempt. An engine that gives it back in time, as later ones may, finds nothing changed.
//!
//! Refuses components without such a module.

use std::convert::Infallible;

use anyhow::{Context, Result, bail};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, Component, ConstExpr, Function, FunctionSection, GlobalSection, GlobalType,
    Module, RawSection, SectionId, ValType,
};
use wasmparser::{BinaryReader, Encoding, Parser, Payload, TypeRef};

const PROCESS: &str = "wasmill:plugin/transform@0.1.3#process";
const DROP: (&str, &str) = ("wasmill:plugin/records@0.1.3", "[resource-drop]chunk");

/// Sections of a component that hold a module or a component.
const MODULE_SECTION: u8 = 1;
const COMPONENT_SECTION: u8 = 4;
/// What modules and components begin with.
const HEADER_BYTES: usize = 8;

type Outcome<T = ()> = Result<T, reencode::Error<Infallible>>;

/// The component with every borrowed handle given back in time.
pub(super) fn complete(component: &[u8]) -> Result<Vec<u8>> {
    let (completed, changed) = completed(component).context("what componentize-qjs wrote cannot be read")?;
    match changed {
        1 => Ok(completed),
        _ => bail!(
            "componentize-qjs wrote {changed} modules with {PROCESS} in place of one: this version of it is not supported"
        ),
    }
}

/// The component, and how many of the modules in it were changed.
fn completed(component: &[u8]) -> Result<(Vec<u8>, usize)> {
    if !Parser::is_component(component) {
        bail!("not a component");
    }
    let (mut made, mut changed) = (Component::new(), 0);
    let mut reader = BinaryReader::new(component, 0);
    reader.read_bytes(HEADER_BYTES)?;
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()? as usize;
        let data = reader.read_bytes(length)?;
        let inner = match id {
            COMPONENT_SECTION => {
                let (inner, of_inner) = completed(data)?;
                changed += of_inner;
                Some(inner)
            }
            MODULE_SECTION => match Completion::of(data)? {
                Some(mut completion) => {
                    let mut module = Module::new();
                    completion.parse_core_module(&mut module, Parser::new(0), data)?;
                    changed += 1;
                    Some(module.finish())
                }
                None => None,
            },
            _ => None,
        };
        made.section(&RawSection { id, data: inner.as_deref().unwrap_or(data) });
    }
    Ok((made.finish(), changed))
}

/// Copies a module and adds to the end of each section what is missing.
struct Completion {
    /// Functions by their number and the number of their type.
    process: (u32, u32),
    drop: (u32, u32),
    /// Number of functions and globals, imported ones too.
    functions: u32,
    globals: u32,
    has_globals: bool,
}

impl Completion {
    /// None: the module is another.
    fn of(wasm: &[u8]) -> Result<Option<Self>> {
        let (mut process, mut drop, mut own) = (None, None, Vec::new());
        let (mut imported, mut globals, mut has_globals) = (0, 0, false);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::Version { encoding: Encoding::Component, .. } => {
                    bail!("a component in place of a module")
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        match import.ty {
                            TypeRef::Func(ty) => {
                                if (import.module, import.name) == DROP {
                                    drop = Some((imported, ty));
                                }
                                imported += 1;
                            }
                            TypeRef::Global(_) => globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => own = section.into_iter().collect::<Result<_, _>>()?,
                Payload::GlobalSection(section) => {
                    globals += section.count();
                    has_globals = true;
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.name == PROCESS {
                            process = Some(export.index);
                        }
                    }
                }
                _ => {}
            }
        }
        let Some(process) = process else { return Ok(None) };
        let (_, name) = DROP;
        let drop =
            drop.with_context(|| format!("the module that exports {PROCESS} does not import {name}"))?;
        let at = process.checked_sub(imported).with_context(|| format!("{PROCESS} is imported"))?;
        let ty = *own.get(at as usize).with_context(|| format!("{PROCESS} has no type"))?;
        let functions = imported + u32::try_from(own.len())?;
        Ok(Some(Completion { process: (process, ty), drop, functions, globals, has_globals }))
    }

    /// The global that holds the borrowed handle while `process` runs, and its complement from when it was given back
    /// here until the engine does it again. 0: neither.
    fn add_global(&self, globals: &mut GlobalSection) {
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(0));
    }

    /// `process(rows)`
    fn process_body(&self) -> Function {
        let (state, rows) = (self.globals, 0);
        let mut function = Function::new([]);
        let mut body = function.instructions();
        body.local_get(rows).global_set(state);
        body.local_get(rows).call(self.process.0);
        body.global_get(state).local_get(rows).i32_eq().if_(BlockType::Empty);
        body.local_get(rows).call(self.drop.0);
        body.local_get(rows).i32_const(-1).i32_xor().global_set(state);
        body.end().end();
        function
    }

    /// `drop(handle)`
    fn drop_body(&self) -> Function {
        let (state, handle) = (self.globals, 0);
        let mut function = Function::new([]);
        let mut body = function.instructions();
        body.local_get(handle).i32_const(-1).i32_xor().global_get(state).i32_eq().if_(BlockType::Empty);
        body.i32_const(0).global_set(state).return_().end();
        body.local_get(handle).global_get(state).i32_eq().if_(BlockType::Empty);
        body.i32_const(0).global_set(state).end();
        body.local_get(handle).call(self.drop.0).end();
        function
    }
}

impl Reencode for Completion {
    type Error = Infallible;

    /// New functions: `process`, then drop. All that the module says of the old ones is true of them.
    fn function_index(&mut self, function: u32) -> Outcome<u32> {
        match function {
            _ if function == self.process.0 => Ok(self.functions),
            _ if function == self.drop.0 => Ok(self.functions + 1),
            _ => Ok(function),
        }
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_function_section(self, functions, section)?;
        functions.function(self.process.1).function(self.drop.1);
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_global_section(self, globals, section)?;
        self.add_global(globals);
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Outcome {
        // Exports come next after globals.
        if before == Some(SectionId::Export) && !self.has_globals {
            let mut globals = GlobalSection::new();
            self.add_global(&mut globals);
            module.section(&globals);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_code_section(self, code, section)?;
        code.function(&self.process_body()).function(&self.drop_body());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        ElementSection, Elements, EntityType, ExportKind, ExportSection, ImportSection, TableSection,
        TableType, TypeSection,
    };

    use super::*;

    /// Imports drop (function 0), exports a `process` (1) under `name`, and has drop in its table.
    fn module(name: &str, with_global: bool) -> Module {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        types.ty().function([ValType::I32], []);
        types.ty().function([ValType::I32], [ValType::I32]);
        let mut imports = ImportSection::new();
        imports.import(DROP.0, DROP.1, EntityType::Function(0));
        let mut functions = FunctionSection::new();
        functions.function(1);
        let mut tables = TableSection::new();
        tables.table(TableType {
            element_type: wasm_encoder::RefType::FUNCREF,
            table64: false,
            minimum: 1,
            maximum: None,
            shared: false,
        });
        let mut globals = GlobalSection::new();
        let ty = GlobalType { val_type: ValType::I64, mutable: false, shared: false };
        globals.global(ty, &ConstExpr::i64_const(7));
        let mut exports = ExportSection::new();
        exports.export(name, ExportKind::Func, 1);
        let mut elements = ElementSection::new();
        elements.active(None, &ConstExpr::i32_const(0), Elements::Functions([0].as_slice().into()));
        let mut code = CodeSection::new();
        let mut body = Function::new([]);
        body.instructions().local_get(0).end();
        code.function(&body);
        module.section(&types).section(&imports).section(&functions).section(&tables);
        if with_global {
            module.section(&globals);
        }
        module.section(&exports).section(&elements).section(&code);
        module
    }

    /// A component in a component, as the tool writes them.
    fn component(modules: &[Module]) -> Vec<u8> {
        let (mut inner, mut outer) = (Component::new(), Component::new());
        for module in modules {
            inner.section(&wasm_encoder::ModuleSection(module));
        }
        outer.section(&wasm_encoder::NestedComponentSection(&inner));
        outer.finish()
    }

    #[test]
    fn process_and_drop_are_wrapped_wherever_they_are_named() {
        for with_global in [false, true] {
            let plain = component(&[module("other", with_global), module(PROCESS, with_global)]);
            let completed = complete(&plain).unwrap();
            let (mut exported, mut in_tables, mut global_counts) = (Vec::new(), Vec::new(), Vec::new());
            for payload in Parser::new(0).parse_all(&completed) {
                match payload.unwrap() {
                    Payload::ExportSection(exports) => {
                        exported.extend(exports.into_iter().map(|export| export.unwrap().index));
                    }
                    Payload::ElementSection(elements) => {
                        for element in elements {
                            let wasmparser::ElementItems::Functions(functions) = element.unwrap().items
                            else {
                                panic!("functions")
                            };
                            in_tables.extend(functions.into_iter().map(Result::unwrap));
                        }
                    }
                    Payload::GlobalSection(globals) => global_counts.push(globals.count()),
                    _ => {}
                }
            }
            // The first module is as it was.
            assert_eq!((exported, in_tables), (vec![1, 2], vec![0, 3]));
            assert_eq!(global_counts, if with_global { vec![1, 2] } else { vec![1] });
        }
    }

    #[test]
    fn components_of_another_shape_are_refused_with_what_is_missing() {
        for modules in
            [vec![], vec![module("other", false)], vec![module(PROCESS, false), module(PROCESS, true)]]
        {
            let error = complete(&component(&modules)).unwrap_err().to_string();
            assert!(error.contains(PROCESS) && error.contains("not supported"), "{error}");
        }
        let error = format!("{:#}", complete(&Module::new().finish()).unwrap_err());
        assert!(error.contains("not a component"), "{error}");
        let cut = component(&[module(PROCESS, false)]);
        assert!(complete(&cut[..cut.len() - 3]).is_err());
    }
}
