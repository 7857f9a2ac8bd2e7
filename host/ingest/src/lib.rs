//! Splits what arrives into records and appends them to a stream's buffer.
//!
//! [`split_body`] frames request bodies; [`FileSource`], [`LineSource`] (standard input) and [`TcpSource`] read lines,
//! [`KinesisSource`] reads shards.
//! Everything goes through [`Append`], which the pipeline implements on the buffer: a source goes on
//! only past what has a [`Receipt`].
//!
//! It refuses to acknowledge without a receipt, to know plugins or destinations, and to interpret a
//! record's bytes beyond its framing.

mod append;
mod body;
mod file;
mod kinesis;
mod lane;
mod lines;
mod position;
mod stats;
mod stdin;
mod tcp;

pub use append::{Append, AppendError, Numbered, Position, Receipt, RecordBatch};
pub use body::{BodyError, BodyLimits, ContentTypeError, Framing, SplitBody, split_body};
pub use file::{FileError, FileOptions, FileSource, PARTITIONS_MAX, Start};
pub use kinesis::{KinesisError, KinesisOptions, KinesisSource, KinesisStart};
pub use stats::SourceStats;
pub use stdin::LineSource;
pub use tcp::{TcpOptions, TcpSource};
