//! Counts records: what this host has no state for.

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, smartmodule};

#[smartmodule(aggregate)]
pub fn aggregate(accumulator: RecordData, _record: &SmartModuleRecord) -> Result<RecordData> {
    let count: u64 = std::str::from_utf8(accumulator.as_ref())?.parse().unwrap_or(0);
    Ok((count + 1).to_string().into())
}
