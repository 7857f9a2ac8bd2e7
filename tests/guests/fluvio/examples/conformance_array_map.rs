//! The conformance plugin as an array-map, which makes any number of records of each.

use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, eyre, smartmodule};
use wasmill_guest_conformance::{Outcome, Task};

static TASK: OnceLock<Task> = OnceLock::new();

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let word = params.get("do").map_or("", String::as_str);
    let task = Task::of(word).map_err(|reason| eyre!(reason))?;
    TASK.set(task).map_err(|_again| eyre!("init was called twice"))
}

#[smartmodule(array_map)]
pub fn array_map(record: &SmartModuleRecord) -> Result<Vec<(Option<RecordData>, RecordData)>> {
    let task = TASK.get().copied().ok_or_else(|| eyre!("init was not called"))?;
    match task.record(record.value.as_ref()) {
        Outcome::Same => Ok(vec![(record.key.clone(), record.value.clone())]),
        Outcome::Rows(rows) => Ok(rows.into_iter().map(|row| (record.key.clone(), row.into())).collect()),
        Outcome::Failed(reason) => Err(eyre!(reason)),
    }
}
