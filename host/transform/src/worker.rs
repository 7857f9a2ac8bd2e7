//! One thread's warm instances of a chain, and the way of a slice through them.

use std::sync::Arc;

use wasmill_chunk::{FinishOptions, RowSink};

use crate::chain::Chain;
use crate::report::{Slice, SliceReport};

/// Runs slices through a chain on one thread; keeps warm instances and buffers.
pub struct ChainWorker {
    _chain: Arc<Chain>,
}

impl ChainWorker {
    pub fn new(_chain: Arc<Chain>) -> ChainWorker {
        unimplemented!()
    }
    /// Cuts the slice into chunks and takes each through the chain. Rows that survive go to `sink` in order.
    /// Never panics or errs because of a guest: what fails is in the report.
    pub fn run(
        &mut self,
        _slice: &Slice<'_>,
        _options: &FinishOptions,
        _sink: &mut dyn RowSink,
    ) -> SliceReport {
        unimplemented!()
    }
}
