//! Late records on their way to an output of their own, past the plugins.

use std::sync::Arc;

use wasmill_chunk::{
    Chunk, ChunkLimits, Failure, FinishOptions, Layout, LayoutError, Misuse, RowSink, RowsId, Verdicts,
};

use crate::pipeline::slice::Part;

/// Why they could not be handed on: never because of what a record is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Misuse(#[from] Misuse),
}

/// Hands the records to the sink as they came in, each for this output. Those that are not what its format takes fail.
pub(crate) fn route_late(
    parts: &[Part],
    output: u32,
    options: &FinishOptions,
    sink: &mut dyn RowSink,
) -> Result<(Verdicts, Vec<(usize, Failure)>), RouteError> {
    let mut all = Verdicts::default();
    let mut failed = Vec::new();
    if parts.is_empty() {
        return Ok((all, failed));
    }
    // As behind one transform that changes nothing.
    let layout = Arc::new(Layout::new(&[Vec::new()])?);
    let mut chunk = Chunk::new(layout, ChunkLimits { output_bytes: usize::MAX, ..ChunkLimits::default() });
    for (number, part) in parts.iter().enumerate() {
        let input = part.input();
        chunk.begin(&input, input.rows())?;
        chunk.enter(0, 0);
        chunk.route(RowsId::MAIN, &vec![output; input.rows().len()])?;
        // Nothing is written, so that no limit is passed.
        let _within = chunk.apply();
        let mut verdicts = Verdicts::default();
        chunk.finish(options, sink, &mut verdicts);
        all.passed += verdicts.passed;
        all.dropped += verdicts.dropped;
        all.emitted += verdicts.emitted;
        failed.extend(verdicts.failed.into_iter().map(|failure| (number, failure)));
    }
    Ok((all, failed))
}
