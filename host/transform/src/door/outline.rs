//! What a core module imports and exports, of a file or of compiled code: all that a door is recognised by.

use wasmparser::{CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef};
use wasmtime::ExternType;

/// Names and shapes; a function's shape is written `(i32 i32) -> (i32)`, anything else as the one word for its kind.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) module: String,
    pub(crate) name: String,
    pub(crate) shape: String,
}

impl Outline {
    /// Whether it exports a function of this shape under this name.
    pub(crate) fn exports(&self, name: &str, shape: &str) -> bool {
        self.exports.iter().any(|(exported, its)| exported == name && its == shape)
    }

    /// Of a file. What cannot be read is an error; what is not valid is left to the compiler.
    pub(crate) fn of_file(wasm: &[u8]) -> wasmparser::Result<Outline> {
        let mut outline = Outline::default();
        let mut types: Vec<Option<FuncType>> = Vec::new();
        // The type of every function, the imported ones first.
        let mut functions: Vec<u32> = Vec::new();
        let shape = |types: &[Option<FuncType>], index: u32| {
            types.get(index as usize).and_then(Option::as_ref).map_or("function".to_owned(), |ty| {
                written(
                    ty.params().iter().map(ToString::to_string),
                    ty.results().iter().map(ToString::to_string),
                )
            })
        };
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        types.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(ty),
                            _ => None,
                        }));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let shape = match import.ty {
                            TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                                functions.push(index);
                                shape(&types, index)
                            }
                            TypeRef::Memory(_) => "memory".to_owned(),
                            TypeRef::Table(_) => "table".to_owned(),
                            TypeRef::Global(_) => "global".to_owned(),
                            TypeRef::Tag(_) => "tag".to_owned(),
                        };
                        let (module, name) = (import.module.to_owned(), import.name.to_owned());
                        outline.imports.push(Import { module, name, shape });
                    }
                }
                Payload::FunctionSection(section) => {
                    for index in section {
                        functions.push(index?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let shape = match export.kind {
                            ExternalKind::Func | ExternalKind::FuncExact => functions
                                .get(export.index as usize)
                                .map_or("function".to_owned(), |index| shape(&types, *index)),
                            ExternalKind::Memory => "memory".to_owned(),
                            ExternalKind::Table => "table".to_owned(),
                            ExternalKind::Global => "global".to_owned(),
                            ExternalKind::Tag => "tag".to_owned(),
                        };
                        outline.exports.push((export.name.to_owned(), shape));
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    /// Of compiled code.
    pub(crate) fn of_module(module: &wasmtime::Module) -> Outline {
        let imports = module.imports().map(|import| Import {
            module: import.module().to_owned(),
            name: import.name().to_owned(),
            shape: shape_of(&import.ty()),
        });
        let exports = module.exports().map(|export| (export.name().to_owned(), shape_of(&export.ty())));
        Outline { imports: imports.collect(), exports: exports.collect() }
    }
}

fn shape_of(ty: &ExternType) -> String {
    match ty {
        ExternType::Func(ty) => {
            written(ty.params().map(|ty| ty.to_string()), ty.results().map(|ty| ty.to_string()))
        }
        ExternType::Memory(_) => "memory".to_owned(),
        ExternType::Table(_) => "table".to_owned(),
        ExternType::Global(_) => "global".to_owned(),
        ExternType::Tag(_) => "tag".to_owned(),
    }
}

fn written(params: impl Iterator<Item = String>, results: impl Iterator<Item = String>) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" ");
    let (mut params, mut results) = (params, results);
    format!("({}) -> ({})", list(&mut params), list(&mut results))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outline_of_a_file_is_that_of_its_compiled_code() {
        let wasm = wat::parse_str(
            r#"(module
              (import "env" "copy_records" (func $copy (param i32 i32)))
              (import "env" "base" (global i32))
              (memory (export "memory") 1)
              (func (export "map") (param i32 i64 f64) (result i32) unreachable)
              (export "copy" (func $copy)))"#,
        )
        .unwrap();
        let of_file = Outline::of_file(&wasm).unwrap();
        let module = wasmtime::Module::new(&wasmtime::Engine::default(), &wasm).unwrap();
        assert_eq!(format!("{of_file:?}"), format!("{:?}", Outline::of_module(&module)));
        assert!(of_file.exports("map", "(i32 i64 f64) -> (i32)"));
        assert!(of_file.exports("copy", "(i32 i32) -> ()"));
        assert!(of_file.exports("memory", "memory"));
        for len in 0..wasm.len() {
            let _any = Outline::of_file(&wasm[..len]);
        }
    }
}
