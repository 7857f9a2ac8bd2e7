//! A plugin ready to be instantiated: compiled code, manifest, digest.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};
use wasmtime::{Module, Precompiled};

use crate::abi::{EVENT_TIME, TRANSFORM};
use crate::cache::CacheError;
use crate::door::{Door, DoorCode};
use crate::engine::Engine;
use crate::fault::PluginFault;
use crate::instance::Guest;
use crate::manifest::Manifest;

/// SHA-256 of a plugin file as its author wrote it. Displayed and parsed as `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits, without the `sha256:` in front.
    pub fn hex(&self) -> String {
        self.to_string().split_off("sha256:".len())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no `sha256:` followed by 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is sha256: and 64 hexadecimal digits")]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let hex = text.strip_prefix("sha256:").ok_or(DigestError)?.as_bytes();
        if hex.len() != 64 {
            return Err(DigestError);
        }
        let mut out = [0u8; 32];
        for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(DigestError);
            let [high, low] = pair else { return Err(DigestError) };
            *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).unwrap_or_default();
        }
        Ok(Digest(out))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One compiled plugin; shared by every chain that uses this digest.
pub struct Plugin {
    /// The manifest's name.
    pub name: String,
    pub digest: Digest,
    pub manifest: Manifest,
    pub(crate) code: Code,
    /// The file with the compiled code, where it came from one.
    file: Option<PathBuf>,
}

/// What runs.
pub(crate) enum Code {
    Component(ComponentCode),
    Door(DoorCode),
    #[cfg(feature = "native")]
    Native(std::sync::Arc<crate::native::NativePlugin>),
}

/// Code before it is linked.
enum Loaded {
    Component(Component),
    Module(Module),
}

/// A compiled and linked component.
pub(crate) struct ComponentCode {
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) configure: ComponentExportIndex,
    pub(crate) process: ComponentExportIndex,
    pub(crate) on_watermark: Option<ComponentExportIndex>,
}

/// Why compiled code could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not one that [`crate::CodeCache`] wrote, or changed since.
    #[error("verify compiled code")]
    Verify(#[source] CacheError),
    #[error("load compiled code: {message}")]
    Code { message: String },
    /// Imports that this host does not have, or missing exports; the text names them.
    #[error(transparent)]
    Link(PluginFault),
}

impl Plugin {
    /// `path` has been verified by the caller.
    pub(crate) fn load(
        engine: &Engine,
        path: &Path,
        manifest: Manifest,
        digest: Digest,
    ) -> Result<Plugin, LoadError> {
        let precompiled = wasmtime::Engine::detect_precompiled_file(path)
            .map_err(|error| LoadError::Code { message: format!("{error:#}") })?;
        let code = match precompiled {
            Some(Precompiled::Module) => Loaded::Module(deserialize_module(engine, path)?),
            _ => Loaded::Component(deserialize(engine, path)?),
        };
        let plugin = Plugin::link(engine, code, manifest, digest)?;
        Ok(Plugin { file: Some(path.to_owned()), ..plugin })
    }

    /// Of code that the host at the other end has verified ([`Plugin::compiled`]).
    pub(crate) fn from_code(
        engine: &Engine,
        code: &[u8],
        module: bool,
        manifest: Manifest,
        digest: Digest,
    ) -> Result<Plugin, LoadError> {
        let code = match module {
            true => Loaded::Module(deserialize_module_bytes(engine, code)?),
            false => Loaded::Component(deserialize_bytes(engine, code)?),
        };
        Plugin::link(engine, code, manifest, digest)
    }

    /// Its compiled code, verified as it is read.
    pub(crate) fn compiled(&self) -> Result<Vec<u8>, PluginFault> {
        let no_code = |why: &dyn fmt::Display| PluginFault::Host {
            message: format!("compiled code of {} for another process: {why}", self.digest),
        };
        let path = self.file.as_ref().ok_or_else(|| no_code(&"it came from no file"))?;
        crate::cache::read(path).map_err(|error| no_code(&error))
    }

    fn link(engine: &Engine, code: Loaded, manifest: Manifest, digest: Digest) -> Result<Plugin, LoadError> {
        let name = manifest.name.clone();
        let component = match code {
            Loaded::Module(module) => {
                let code = Code::Door(DoorCode::link(engine, &module).map_err(LoadError::Link)?);
                return Ok(Plugin { name, digest, manifest, code, file: None });
            }
            Loaded::Component(component) => component,
        };
        let pre = engine.linker().instantiate_pre(&component).map_err(|error| {
            LoadError::Link(PluginFault::Refused {
                message: format!("wants what this host does not have: {error:#}"),
            })
        })?;
        let export = |interface: &str, function: &str| {
            let interface = component.get_export_index(None, interface)?;
            component.get_export_index(Some(&interface), function)
        };
        let required = |function: &str| {
            export(TRANSFORM, function).ok_or_else(|| {
                let message = format!("does not export {function:?} of {TRANSFORM}");
                LoadError::Link(PluginFault::Refused { message })
            })
        };
        let code = Code::Component(ComponentCode {
            configure: required("configure")?,
            process: required("process")?,
            on_watermark: export(EVENT_TIME, "on-watermark"),
            pre,
        });
        Ok(Plugin { name, digest, manifest, code, file: None })
    }

    /// A plugin compiled into this program, to weigh the sandbox against: without a manifest, so that it gets whatever
    /// the operator grants, and with a digest of its name. See [`crate::NativePlugin`].
    #[cfg(feature = "native")]
    pub fn native(name: &str, plugin: std::sync::Arc<crate::NativePlugin>) -> std::sync::Arc<Plugin> {
        std::sync::Arc::new(Plugin {
            name: name.to_owned(),
            digest: Digest::of(format!("native:{name}").as_bytes()),
            manifest: Manifest::default(),
            code: Code::Native(plugin),
            file: None,
        })
    }

    /// The door that it came through; none for a plugin of this host's own ABI.
    pub fn door(&self) -> Option<Door> {
        match &self.code {
            Code::Door(code) => Some(code.door),
            _ => None,
        }
    }

    /// Whether it exports the optional interface `event-time`.
    pub fn takes_watermarks(&self) -> bool {
        match &self.code {
            Code::Component(code) => code.on_watermark.is_some(),
            Code::Door(_) => false,
            #[cfg(feature = "native")]
            Code::Native(_) => false,
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

#[expect(unsafe_code, reason = "one of the four places where compiled code becomes executable")]
fn deserialize(engine: &Engine, path: &Path) -> Result<Component, LoadError> {
    // SAFETY: `deserialize_file` maps native code, so the file must be the unmodified output of `precompile_component`.
    // The only caller, `Engine::load`, has checked the file's keyed digest, which `CodeCache::put` wrote beside the code
    // into a directory that only this user can enter; the cache never changes a file in place (temporary file and
    // rename), and wasmtime itself checks version and settings in the header.
    unsafe { Component::deserialize_file(engine.wasmtime(), path) }
        .map_err(|error| LoadError::Code { message: format!("{error:#}") })
}

#[expect(unsafe_code, reason = "one of the four places where compiled code becomes executable")]
fn deserialize_module(engine: &Engine, path: &Path) -> Result<Module, LoadError> {
    // SAFETY: as for components, with the output of `precompile_module`.
    unsafe { Module::deserialize_file(engine.wasmtime(), path) }
        .map_err(|error| LoadError::Code { message: format!("{error:#}") })
}

#[expect(unsafe_code, reason = "one of the four places where compiled code becomes executable")]
fn deserialize_bytes(engine: &Engine, code: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: the bytes must be the unmodified output of `precompile_component`. They come through the socket that this
    // process was started with from the host, which read them by `Plugin::compiled`: the digest in the file's name was
    // checked on the very bytes that were sent.
    unsafe { Component::deserialize(engine.wasmtime(), code) }
        .map_err(|error| LoadError::Code { message: format!("{error:#}") })
}

#[expect(unsafe_code, reason = "one of the four places where compiled code becomes executable")]
fn deserialize_module_bytes(engine: &Engine, code: &[u8]) -> Result<Module, LoadError> {
    // SAFETY: as for components, with the output of `precompile_module`.
    unsafe { Module::deserialize(engine.wasmtime(), code) }
        .map_err(|error| LoadError::Code { message: format!("{error:#}") })
}
