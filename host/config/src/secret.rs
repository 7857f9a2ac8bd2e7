//! A value that must not be seen: it never appears in `Debug`, errors or generated text.
//!
//! It owns the value's bytes as text and hands them out only through [`Secret::reveal`].
//! It refuses `Display`, `Serialize` and comparison with plain text.

use std::fmt;

/// A secret that was read from the environment or from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    /// The value itself. Do not log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
