//! The conformance plugin as a Data Transform. The variable `do` says what it does; an error is one of the SDK's.

use redpanda_transform_sdk::{BorrowedRecord, RecordWriter, WriteEvent, on_record_written};
use wasmill_guest_conformance::{Outcome, Task};

fn main() {
    let task = Task::of(&std::env::var("do").unwrap_or_default()).unwrap_or_else(|reason| panic!("{reason}"));
    on_record_written(move |event, writer| transform(task, event, writer));
}

fn transform(
    task: Task,
    event: WriteEvent,
    writer: &mut RecordWriter,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut write = |value: &[u8]| {
        let record = BorrowedRecord::new(event.record.key(), Some(value));
        writer.write(record).map_err(|error| format!("{error:?}"))
    };
    let value = event.record.value().unwrap_or_default();
    match task.record(value) {
        Outcome::Same => write(value)?,
        Outcome::Rows(rows) => rows.iter().try_for_each(|row| write(row))?,
        Outcome::Failed(reason) => return Err(reason.into()),
    }
    Ok(())
}
