//! Names of tenants: what stands in paths, headers and metric labels without quoting.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
const BYTES_MAX: usize = 64;

/// Whether a text is the name of a stream: as that of a tenant, and dots, but not in front. It may be a step of a path and of
/// a URL.
pub fn is_stream_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && TenantName::new(&text.replace('.', "-")).is_ok()
}

/// 1 to 64 letters, digits, `-` and `_`, beginning with a letter or a digit. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantName(Arc<str>);

/// A text that is no name of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tenant name {found:?} is not valid, expected 1 to 64 letters, digits, `-` and `_`, beginning with a letter or a digit"
)]
pub struct BadTenantName {
    found: String,
}

impl TenantName {
    /// The tenant that is always there.
    pub fn default_tenant() -> TenantName {
        TenantName("default".into())
    }

    /// # Errors
    /// The text has other characters, or is empty or too long.
    pub fn new(text: &str) -> Result<TenantName, BadTenantName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_name = text.len() <= BYTES_MAX
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(allowed);
        match is_name {
            true => Ok(TenantName(text.into())),
            false => Err(BadTenantName { found: text.chars().take(BYTES_MAX + 1).collect() }),
        }
    }

    pub fn is_default(&self) -> bool {
        &*self.0 == "default"
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TenantName {
    type Err = BadTenantName;

    fn from_str(text: &str) -> Result<TenantName, BadTenantName> {
        TenantName::new(text)
    }
}

impl TryFrom<String> for TenantName {
    type Error = BadTenantName;

    fn try_from(text: String) -> Result<TenantName, BadTenantName> {
        TenantName::new(&text)
    }
}

impl From<TenantName> for String {
    fn from(name: TenantName) -> String {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_could_leave_a_directory_or_a_header_is_refused() {
        for name in ["default", "team-7_b", "7", &"a".repeat(64)] {
            assert_eq!(TenantName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "..", "-a", "_a", "a/b", "a.b", "a b", "ä", "a\n", &"a".repeat(65)] {
            assert!(TenantName::new(name).is_err(), "{name:?}");
            assert!(serde_json::from_value::<TenantName>(name.into()).is_err(), "{name:?}");
        }
        let long = TenantName::new(&"x".repeat(10_000)).unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
    }
}
