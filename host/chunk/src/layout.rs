//! The fields of a chain: the union of what its transforms declared.

use crate::error::LayoutError;

/// Levels of nesting that count as JSON; deeper documents read as "not JSON". The same as serde_json's.
pub const DEPTH_MAX: usize = 127;
/// Distinct fields of a chain.
pub const FIELDS_MAX: usize = 4096;

/// Union of the fields that the transforms of a chain declared, with each transform's own slot numbers.
#[derive(Debug)]
pub struct Layout {}

impl Layout {
    /// `fields_per_transform[transform][slot]` is a path: object keys, outermost first.
    pub fn new(fields_per_transform: &[Vec<Vec<String>>]) -> Result<Layout, LayoutError> {
        let _ = fields_per_transform;
        unimplemented!()
    }

    pub fn transforms(&self) -> usize {
        unimplemented!()
    }
}
