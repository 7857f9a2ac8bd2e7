//! What can be wrong with a change, or with a file.

use std::io;
use std::path::{Path, PathBuf};

use wasmill_tenant::{Moment, QuotaTooSmall, TenantName};

/// A file that cannot be read or written, or holds something else than it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("{path} cannot be read: {reason}; put back a copy of it, or move it away to begin without")]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "{path} has format {found}, and this version knows formats up to {known}: a newer version wrote it"
    )]
    Newer { path: PathBuf, found: u64, known: u64 },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |error| StoreError::Io { action, path: path.to_owned(), error }
    }
}

/// Why a change was not made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("there is no tenant {name:?}")]
    NoTenant { name: TenantName },
    #[error("there is a tenant {name:?} already")]
    TenantExists { name: TenantName },
    #[error("tenant {name:?} is always there")]
    DefaultTenant { name: TenantName },
    #[error("tenant {name:?} is [tenants.{}] of {file}: take the table out of it first", table(name))]
    TenantOfFile { name: TenantName, file: String },
    #[error("tenant {name:?} is not disabled: disable it first, so that nothing of it is used any more")]
    NotDisabled { name: TenantName },
    #[error(
        "tenant {name:?} has {}",
        match .streams { 1 => "a stream: remove it first".to_owned(), more => format!("{more} streams: remove them first") }
    )]
    HasStreams { name: TenantName, streams: usize },
    #[error("there are {max} tenants, and no more are taken")]
    TooManyTenants { max: usize },
    #[error(
        "stream name {name:?} is not valid, expected 1 to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or a digit"
    )]
    BadStreamName { name: String },
    #[error("there is no stream {name:?}")]
    NoStream { name: String },
    #[error("tenant {name:?} has {max} streams, and no more are taken: remove those that are not used")]
    TooManyStreams { name: TenantName, max: usize },
    #[error("there is no key {id:?}")]
    NoKey { id: String },
    #[error("tenant {name:?} has {max} keys, and no more are taken: revoke those that are not used")]
    TooManyKeys { name: TenantName, max: usize },
    #[error("key {id:?} is {state}: make a new one")]
    KeyEnded { id: String, state: &'static str },
    #[error("expiry {expires_ms} is not in the future")]
    Past { expires_ms: Moment },
    #[error("a key without a scope could do nothing, expected push, read, plugins, admin or operator")]
    NoScope,
    #[error("key name {name:?} is not valid, expected {}", wasmill_tenant::LABEL_EXPECTED)]
    BadLabel { name: String },
    #[error(transparent)]
    Quota(#[from] QuotaTooSmall),
    #[error("{what} have changed since: look at them again")]
    Changed { what: String },
    #[error("draw a key: {reason}")]
    Draw { reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A name as a part of a key in TOML.
fn table(name: &TenantName) -> String {
    let plain =
        name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if plain { name.to_string() } else { format!("\"{name}\"") }
}
