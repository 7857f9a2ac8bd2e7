//! A plugin ready to be instantiated: compiled code, manifest, digest.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

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

/// One compiled plugin; shared by every chain that uses this digest.
pub struct Plugin {
    pub name: String,
    pub digest: Digest,
    pub manifest: Manifest,
}

/// Why compiled code could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not one that [`crate::CodeCache`] wrote for this engine, or changed since.
    #[error("verify compiled code")]
    Verify(#[source] crate::cache::CacheError),
    #[error("load compiled code: {message}")]
    Code { message: String },
    /// Imports that this host does not have, or missing exports; the text names them.
    #[error("{0}")]
    Link(crate::fault::PluginFault),
}
