//! What of a plugin file is compiled: the component that it is; the component that a core module with component metadata
//! makes, so that authors need no extra tool; or a core module that has a door of its own.
//!
//! Refuses compiled code: only WebAssembly comes in from outside.

use std::borrow::Cow;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

use crate::door::{self, Door, Recognised};

/// Why a file is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum ComponentizeError {
    #[error("the file is empty")]
    Empty,
    #[error("not a WebAssembly file")]
    NotWasm,
    #[error("this is already compiled code; hand in the WebAssembly file itself")]
    Precompiled,
    #[error("{}", crate::door::NO_DOOR)]
    NoMetadata,
    /// It is a plugin, but not one that a component can be made of.
    #[error("a {0} runs as it is; no component is made of it")]
    Door(Door),
    #[error("damaged or cut off: {message}")]
    Damaged { message: String },
    #[error("make a component of the core module: {message}")]
    Encode { message: String },
}

/// A component as it is; a core module with component metadata as a component, with the WASI preview 1 adapter where
/// it imports that.
pub fn componentize(wasm: &[u8]) -> Result<Cow<'_, [u8]>, ComponentizeError> {
    match program(wasm)? {
        Program::Component(component) => Ok(component),
        Program::Door(looked) => Err(ComponentizeError::Door(looked.door)),
    }
}

/// What is compiled of a file.
pub(crate) enum Program<'a> {
    Component(Cow<'a, [u8]>),
    /// The file itself.
    Door(Recognised),
}

pub(crate) fn program(wasm: &[u8]) -> Result<Program<'_>, ComponentizeError> {
    if encoding(wasm)? == Encoding::Component {
        return Ok(Program::Component(Cow::Borrowed(wasm)));
    }
    let damaged =
        |error: wasmparser::BinaryReaderError| ComponentizeError::Damaged { message: error.to_string() };
    if !has_metadata(wasm).map_err(damaged)? {
        let recognised = door::recognise(wasm).map_err(damaged)?;
        return recognised.map(Program::Door).ok_or(ComponentizeError::NoMetadata);
    }
    let component =
        encode(wasm).map_err(|error| ComponentizeError::Encode { message: format!("{error:#}") })?;
    Ok(Program::Component(Cow::Owned(component)))
}

/// Component or core module.
pub(crate) fn encoding(wasm: &[u8]) -> Result<Encoding, ComponentizeError> {
    if wasm.is_empty() {
        return Err(ComponentizeError::Empty);
    }
    if wasmtime::Engine::detect_precompiled(wasm).is_some() {
        return Err(ComponentizeError::Precompiled);
    }
    if Parser::is_component(wasm) {
        Ok(Encoding::Component)
    } else if Parser::is_core_wasm(wasm) {
        Ok(Encoding::Module)
    } else {
        Err(ComponentizeError::NotWasm)
    }
}

fn encode(wasm: &[u8]) -> Result<Vec<u8>, impl std::fmt::Display> {
    let mut encoder = ComponentEncoder::default().validate(true).module(wasm)?;
    // Only where it is used: its own WIT must otherwise agree with that of every module.
    if imports_from(wasm, WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME) {
        encoder =
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    }
    encoder.encode()
}

fn imports_from(wasm: &[u8], module: &str) -> bool {
    Parser::new(0).parse_all(wasm).any(|payload| match payload {
        Ok(Payload::ImportSection(section)) => {
            section.into_imports().any(|import| matches!(import, Ok(import) if import.module == module))
        }
        _ => false,
    })
}

/// An error is one of the file: what is in front of the metadata, if there is any, cannot be read.
fn has_metadata(wasm: &[u8]) -> wasmparser::Result<bool> {
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CustomSection(section) = payload?
            && section.name().starts_with("component-type")
        {
            return Ok(true);
        }
    }
    Ok(false)
}
