//! Puts key, time and value into upper case one after another, and gives every record a key.

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, smartmodule};

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let key = record.key.as_ref().map_or(String::from("-"), |key| key.as_utf8_lossy_string().into_owned());
    let value = std::str::from_utf8(record.value.as_ref())?.to_uppercase();
    let text = format!("{key} {} {value}", record.timestamp());
    Ok((Some("made".into()), text.into()))
}
