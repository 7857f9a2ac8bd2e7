//! What a plugin file is, without running or compiling it.
//!
//! Says everything that it finds wrong at once. What it does not refuse may still be refused by the compiler or by the
//! probe of a chain.

use serde::Serialize;
use wasmparser::Encoding;
use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldItem, WorldKey};

use crate::abi;
use crate::componentize::{Program, encoding, program};
use crate::door::{Door, Recognised};
use crate::fault::PluginFault;
use crate::manifest::{Manifest, read_manifest};
use crate::plugin::Digest;

/// How the file is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Component,
    /// A core module with component metadata: made a component at load.
    CoreModule,
    /// A core module that runs as it is: see [`Inspection::door`].
    Door,
}

/// One imported or exported interface and its functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// As in the WIT: `wasmill:plugin/records@0.1.3`.
    pub interface: String,
    /// Methods as `[method]chunk.len`.
    pub functions: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub digest: Digest,
    pub bytes: u64,
    pub kind: Kind,
    /// The foreign ABI that it was recognised to speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub door: Option<Door>,
    pub imports: Vec<Item>,
    pub exports: Vec<Item>,
    pub manifest: Option<Manifest>,
    /// Optional interfaces of the ABI that it exports, such as `event-time`.
    pub optional: Vec<String>,
    /// Why this host would not load it; empty = it would.
    pub refused: Vec<String>,
}

/// Looks into a plugin file. An `Err` means that it is no plugin file at all.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, PluginFault> {
    let refuse = |message: String| PluginFault::Refused { message };
    let kind = match encoding(wasm).map_err(|error| refuse(error.to_string()))? {
        Encoding::Component => Kind::Component,
        Encoding::Module => Kind::CoreModule,
    };
    let component = match program(wasm).map_err(|error| refuse(error.to_string()))? {
        Program::Component(component) => component,
        Program::Door(recognised) => return Ok(of_door(wasm, recognised)),
    };
    let decoded = wit_component::decode(&component)
        .map_err(|error| refuse(format!("damaged or cut off: {error:#}")))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(refuse("a WIT package, not a plugin".to_owned()));
    };
    let world = &resolve.worlds[world];
    let imports: Vec<_> = world.imports.iter().map(|(key, item)| item_of(&resolve, key, item)).collect();
    let exports: Vec<_> = world.exports.iter().map(|(key, item)| item_of(&resolve, key, item)).collect();
    let mut refused = Vec::new();
    let manifest = read_manifest(wasm).unwrap_or_else(|error| {
        refused.push(error.to_string());
        None
    });
    refused.extend(imports.iter().flat_map(unknown_imports));
    for function in ["configure", "process"] {
        if !exports.iter().any(|item| {
            abi::is(&item.interface, abi::TRANSFORM)
                && item.functions.iter().any(|exported| exported == function)
        }) {
            refused.push(format!("does not export {function:?} of {}", abi::TRANSFORM));
        }
    }
    let optional = exports.iter().any(|item| abi::is(&item.interface, abi::EVENT_TIME));
    Ok(Inspection {
        digest: Digest::of(wasm),
        bytes: wasm.len() as u64,
        kind,
        door: None,
        imports,
        exports,
        manifest,
        optional: if optional { vec!["event-time".to_owned()] } else { Vec::new() },
        refused,
    })
}

/// What goes through a door has no interfaces, but modules and names.
fn of_door(wasm: &[u8], recognised: Recognised) -> Inspection {
    let Recognised { door, imports, exports, mut refused } = recognised;
    let manifest = read_manifest(wasm).unwrap_or_else(|error| {
        refused.push(error.to_string());
        None
    });
    let item = |(interface, functions)| Item { interface, functions };
    Inspection {
        digest: Digest::of(wasm),
        bytes: wasm.len() as u64,
        kind: Kind::Door,
        door: Some(door),
        imports: imports.into_iter().map(item).collect(),
        exports: exports.into_iter().map(|name| item((name, Vec::new()))).collect(),
        manifest,
        optional: Vec::new(),
        refused,
    }
}

fn item_of(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> Item {
    let interface = resolve.name_world_key(key);
    let functions = match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].functions.keys().cloned().collect(),
        WorldItem::Function(function) => vec![function.name.clone()],
        WorldItem::Type { .. } => Vec::new(),
    };
    Item { interface, functions }
}

/// What of an imported interface this host does not have.
fn unknown_imports(item: &Item) -> Vec<String> {
    let interface = &item.interface;
    let (name, version) = interface.split_once('@').unwrap_or((interface, ""));
    if let Some(known) = name.strip_prefix("wasmill:plugin/") {
        let Some((_, functions)) = abi::IMPORTS.iter().find(|(interface, _)| *interface == known) else {
            return vec![format!(
                "imports {interface}, which this host does not have: it speaks {}",
                abi::VERSION
            )];
        };
        return item
            .functions
            .iter()
            .filter(|function| !functions.contains(&function.as_str()))
            .map(|function| format!("imports {function:?} of {interface}; this host speaks {}", abi::VERSION))
            .collect();
    }
    let known =
        ["wasi:io/", "wasi:cli/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/", "wasi:sockets/"];
    if known.iter().any(|package| name.starts_with(package)) && version.starts_with("0.2.") {
        return Vec::new();
    }
    vec![format!("imports {interface}, which this host does not have")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(interface: &str, functions: &[&str]) -> Item {
        Item { interface: interface.to_owned(), functions: functions.iter().map(|&f| f.to_owned()).collect() }
    }

    #[test]
    fn unknown_imports_names_the_interface_and_the_function() {
        assert!(
            unknown_imports(&item("wasmill:plugin/records@0.1.3", &["[method]chunk.len", "emit"])).is_empty()
        );
        assert!(unknown_imports(&item("wasi:random/random@0.2.3", &["get-random-bytes"])).is_empty());
        let text = unknown_imports(&item("wasmill:plugin/records@0.1.3", &["[method]chunk.zip"])).join("");
        assert!(text.contains("[method]chunk.zip") && text.contains("records@0.1.3"), "{text}");
        for foreign in
            ["wasi:http/outgoing-handler@0.2.3", "wasi:io/poll@0.3.0", "wasmill:plugin/net@0.1.3", "env"]
        {
            assert!(unknown_imports(&item(foreign, &[])).join("").contains(foreign));
        }
    }
}
