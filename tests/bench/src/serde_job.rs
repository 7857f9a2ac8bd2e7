//! The job of `filter -> enrich` as one would write it by hand with serde_json: parse to a value, compare, look up,
//! insert, write.

use std::collections::HashMap;

use anyhow::Result;
use serde_json::Value;

/// What the look-up table says of a client.
pub(crate) struct Client {
    pub(crate) zone: String,
    pub(crate) number: i64,
}

/// Keeps records with a status below 400 and a path outside of `/images/`, and adds what is known of the client.
/// `Ok(false)`: dropped.
pub(crate) fn record(payload: &[u8], table: &HashMap<String, Client>, out: &mut Vec<u8>) -> Result<bool> {
    let mut record: Value = serde_json::from_slice(payload)?;
    let keep = record["status"].as_i64().is_some_and(|status| status < 400)
        && record["path"].as_str().is_none_or(|path| !path.starts_with("/images/"));
    if !keep {
        return Ok(false);
    }
    let known = record["client"].as_str().and_then(|client| table.get(client));
    if let (Some(known), Some(members)) = (known, record.as_object_mut()) {
        members.insert("zone".to_owned(), Value::from(known.zone.as_str()));
        members.insert("client_number".to_owned(), Value::from(known.number));
    }
    serde_json::to_writer(out, &record)?;
    Ok(true)
}
