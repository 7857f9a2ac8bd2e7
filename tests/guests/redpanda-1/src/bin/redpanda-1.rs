//! Does to each record what its first word says: `drop`, `twice`, `panic`, `loop`, `exit`, `key` (writes one), `null` (writes a
//! record without a value), `headers` (writes some), `told` (writes what the host told of record and batch), `time`
//! (whether its clock is the record's), `calls` (how many this instance had); others are written as they are.

use std::time::{SystemTime, UNIX_EPOCH};

use wasmill_guest_redpanda_1::{Record, run, write};

fn main() {
    eprintln!("transform of {}", std::env::var("REDPANDA_INPUT_TOPIC").unwrap_or_default());
    let mut calls = 0u64;
    run(|record, metadata| {
        let value = record.value.unwrap_or_default();
        let text = std::str::from_utf8(value).unwrap_or_default();
        let written = |text: &str| write(&Record { value: Some(text.as_bytes()), ..Record::default() });
        match text.split(' ').next().unwrap_or_default() {
            "drop" => {}
            "twice" => {
                write(record);
                write(record);
            }
            "panic" => panic!("as asked"),
            "loop" => loop {
                std::hint::black_box(calls);
            },
            "exit" => std::process::exit(0),
            "key" => write(&Record { key: Some(b"made"), ..record.clone() }),
            "null" => write(&Record { value: None, ..record.clone() }),
            "headers" => {
                let headers = vec![(b"a".as_slice(), Some(b"1".as_slice())), (b"b", None)];
                write(&Record { headers, ..record.clone() });
            }
            "told" => {
                let key = record.key.map(String::from_utf8_lossy).unwrap_or_default();
                let batch = metadata.batch;
                assert_eq!(metadata.offset, batch.base_offset + i64::from(metadata.index));
                assert_eq!(batch.last_offset_delta, batch.record_count - 1);
                assert!((batch.base_timestamp..=batch.max_timestamp).contains(&metadata.timestamp));
                let none = (batch.leader_epoch, batch.attributes, metadata.attributes, record.headers.len());
                let producer = (batch.producer_id, batch.producer_epoch, batch.base_sequence);
                written(&format!("key {key:?}, offset {}, {none:?}, {producer:?}", metadata.offset));
            }
            "time" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let same = now == metadata.timestamp as u128;
                written(if same { "the record's time" } else { "another time" });
            }
            "calls" => written(&calls.to_string()),
            _ => write(record),
        }
        calls += 1;
    })
}
