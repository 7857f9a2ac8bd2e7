//! Does to each record what its first word says: `drop`, `twice`, `panic`, `error`, `loop`, `to TOPIC`, `key` (writes one),
//! `time` (whether its clock is the record's, and the environment's `UNIT`), `calls` (how many this instance had); others
//! are written as they are.

use std::sync::atomic::{AtomicU64, Ordering};

use redpanda_transform_sdk::{BorrowedRecord, RecordWriter, WriteEvent, WriteOptions, on_record_written};

static CALLS: AtomicU64 = AtomicU64::new(0);

fn main() {
    eprintln!("transform of {}", std::env::var("REDPANDA_INPUT_TOPIC").unwrap_or_default());
    on_record_written(transform);
}

fn transform(event: WriteEvent, writer: &mut RecordWriter) -> Result<(), Box<dyn std::error::Error>> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let value = event.record.value().unwrap_or_default();
    let text = std::str::from_utf8(value)?;
    let mut words = text.split(' ');
    match words.next().unwrap_or_default() {
        "drop" => {}
        "twice" => {
            write(writer, &event.record)?;
            write(writer, &event.record)?;
        }
        "panic" => panic!("as asked"),
        "error" => return Err("no error, please".into()),
        "loop" => loop {
            std::hint::black_box(calls);
        },
        "to" => {
            let topic = words.next().unwrap_or_default();
            let options = WriteOptions::to_topic(topic);
            writer.write_with_options(&event.record, options).map_err(|error| format!("{error:?}"))?;
        }
        "key" => write(writer, BorrowedRecord::new(Some(b"made"), Some(value)))?,
        "calls" => write(writer, BorrowedRecord::new(None, Some(calls.to_string().as_bytes())))?,
        "time" => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
            let record = event.record.timestamp().duration_since(std::time::UNIX_EPOCH)?.as_millis();
            let unit = std::env::var("UNIT").unwrap_or_default();
            let text = format!("{} {unit}", if now == record { "the record's time" } else { "another time" });
            write(writer, BorrowedRecord::new(None, Some(text.as_bytes())))?;
        }
        _ => write(writer, &event.record)?,
    }
    Ok(())
}

fn write<'a>(writer: &mut RecordWriter, record: impl Into<BorrowedRecord<'a>>) -> Result<(), String> {
    writer.write(record).map_err(|error| format!("{error:?}"))
}
