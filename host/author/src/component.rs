//! From a core module as the compiler wrote it to the component that the host loads.
//!
//! A component carries its manifest in the custom section `wasmill:manifest` (JSON), so that one file is
//! everything and the digest covers it. The schema of a plugin's config is a file of its own beside
//! `manifest.json` (editors like that); it is put into the manifest here.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::WIT;

/// The custom section that holds the manifest.
const MANIFEST_SECTION: &str = "wasmill:manifest";

/// Bytes 4..8 of a core module; a component has another version and layer there.
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];

/// A core module that says which world of the ABI it implements, as components are made of.
pub(crate) fn with_metadata(mut module: Vec<u8>, world: &str) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", WIT)?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    Ok(module)
}

/// A component with its manifest inside, made of what the compiler wrote (core module or component).
pub fn assemble(wasm: &[u8], manifest: Option<&str>) -> Result<Vec<u8>> {
    let mut component = componentize(wasm)?.into_owned();
    if let Some(manifest) = manifest {
        append_custom_section(&mut component, MANIFEST_SECTION, manifest.as_bytes());
    }
    Ok(component)
}

fn componentize(wasm: &[u8]) -> Result<Cow<'_, [u8]>> {
    match wasm.get(4..8) {
        Some(version) if version == CORE_MODULE => {
            let mut encoder = ComponentEncoder::default().validate(true).module(wasm)?;
            // Only where it is used: its own WIT must otherwise agree with that of every module.
            if imports_from(wasm, WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME) {
                encoder = encoder
                    .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
            }
            Ok(Cow::Owned(encoder.encode()?))
        }
        Some(_) => Ok(Cow::Borrowed(wasm)),
        None => bail!("not a Wasm file: {} bytes", wasm.len()),
    }
}

fn imports_from(wasm: &[u8], module: &str) -> bool {
    Parser::new(0).parse_all(wasm).any(|payload| match payload {
        Ok(Payload::ImportSection(section)) => {
            section.into_imports().any(|import| matches!(import, Ok(import) if import.module == module))
        }
        _ => false,
    })
}

fn append_custom_section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    CustomSection { name: name.into(), data: data.into() }.append_to_component(component);
}

/// `manifest.json` of a plugin as one JSON text, the schema that it names put in its place.
pub fn read_manifest(dir: &Path) -> Result<String> {
    let file = dir.join("manifest.json");
    let mut manifest = read_json(&file)?;
    let object = manifest.as_object_mut().with_context(|| format!("{}: not an object", file.display()))?;
    if let Some(Value::String(name)) = object.get("config_schema") {
        let schema = read_json(&dir.join(name))?;
        object.insert("config_schema".to_owned(), schema);
    }
    Ok(manifest.to_string())
}

fn read_json(file: &Path) -> Result<Value> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}: not JSON", file.display()))
}

/// `sha256` in lower-case hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a component in its place by renaming, so that nobody reads half of it. `false`: it was there already.
pub fn place(file: &Path, component: &[u8]) -> Result<bool> {
    if std::fs::read(file).is_ok_and(|present| present == component) {
        return Ok(false);
    }
    let dir = file.parent().context("file without a directory")?;
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let name = file.file_name().context("file without a name")?.to_string_lossy();
    let staged = dir.join(format!(".{name}.new"));
    std::fs::write(&staged, component).with_context(|| format!("write {}", staged.display()))?;
    std::fs::rename(&staged, file).with_context(|| format!("rename to {}", file.display()))?;
    Ok(true)
}
