//! What becomes of records of a kind.

use serde::Deserialize;

/// See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// They are dropped.
    #[default]
    Drop,
    /// They become dead letters.
    Fail,
    /// They pass.
    Keep,
}

impl Fate {
    /// For kinds that pass unless the config says otherwise.
    #[must_use]
    pub fn keep() -> Fate {
        Fate::Keep
    }
}
