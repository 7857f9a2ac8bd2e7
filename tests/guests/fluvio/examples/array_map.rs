//! One record for each word; fails on a record that holds `bad`.

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, eyre, smartmodule};

#[smartmodule(array_map)]
pub fn array_map(record: &SmartModuleRecord) -> Result<Vec<(Option<RecordData>, RecordData)>> {
    let text = std::str::from_utf8(record.value.as_ref())?;
    if text.contains("bad") {
        return Err(eyre!("a bad record"));
    }
    Ok(text.split_whitespace().map(|word| (None, word.into())).collect())
}
