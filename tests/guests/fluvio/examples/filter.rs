//! Keeps records that hold the parameter `keep`; fails on those that hold `bad`, panics on those that hold `panic`.

use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{Result, SmartModuleRecord, eyre, smartmodule};

static KEEP: OnceLock<String> = OnceLock::new();

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let keep = params.get("keep").ok_or_else(|| eyre!("the parameter `keep` is missing"))?;
    KEEP.set(keep.clone()).map_err(|_again| eyre!("init was called twice"))
}

#[smartmodule(filter)]
pub fn filter(record: &SmartModuleRecord) -> Result<bool> {
    let text = std::str::from_utf8(record.value.as_ref())?;
    if text.contains("bad") {
        return Err(eyre!("a bad record at offset {}", record.offset()));
    }
    assert!(!text.contains("panic"), "as asked");
    Ok(text.contains(KEEP.get().map_or("", String::as_str)))
}
