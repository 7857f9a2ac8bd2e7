//! Makes a component of a core module that carries component metadata.

use std::borrow::Cow;

#[derive(Debug, thiserror::Error)]
pub enum ComponentizeError {
    #[error("not a WebAssembly file")]
    NotWasm,
    #[error("this is already compiled code; hand in the WebAssembly file itself")]
    Precompiled,
    #[error("a core module without component metadata; build it with the plugin SDK or `wit-bindgen`")]
    NoMetadata,
    #[error("make a component of the core module: {message}")]
    Encode { message: String },
}

/// A component as it is; a core module with component metadata as a component (with the WASI preview 1 adapter
/// where it imports that).
pub fn componentize(_wasm: &[u8]) -> Result<Cow<'_, [u8]>, ComponentizeError> {
    unimplemented!()
}
