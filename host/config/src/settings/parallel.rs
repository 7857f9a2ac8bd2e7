//! How the keys of a stream are parted.

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parallel {
    /// Object keys, outermost first.
    pub path: Vec<String>,
    /// The same as it is written, one way for each path.
    pub key: String,
    /// At least 2.
    pub strands: u8,
}
