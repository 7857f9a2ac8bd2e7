//! Who may do what: tenants, keys, scopes, and how a presented key is told to be one.
//!
//! It owns quotas and the token buckets that enforce rates, the text of keys, their hashes, which of them are valid at a moment, the memory of keys that were verified,
//! and the bound on failures per client address. It refuses I/O and clocks: moments are handed in, and what is to last is
//! handed out as plain data for others to store.
//!
//! A key's text is shown once, when it is made. What is kept of it is a salted hash ([`SecretHash`]), which costs time to
//! compute on purpose; so a text that was verified once is remembered by a keyed hash ([`Verified`]) and costs none again.
//! What is remembered is only which secret of which key it was: whether that is still valid is looked up each time.

mod bucket;
mod directory;
mod failures;
mod hash;
mod key;
mod key_text;
mod name;
mod quota;
mod scope;
mod verified;

pub use bucket::{Bucket, Short};
pub use directory::{Directory, Refused, Tenant, Who, verify};
pub use failures::{Failures, RetryAfter};
pub use hash::{HashError, SecretHash};
pub use key::{Key, KeySecret, LABEL_EXPECTED, NewKey, is_label};
pub use key_text::{KeyText, NotAKey};
pub use name::{BadTenantName, TenantName, is_stream_name};
pub use quota::{Cores, Quota, QuotaTooSmall, Quotas};
pub use scope::{BadScope, Scope, Scopes};
pub use verified::{KNOWN_MAX, Verified};

/// Milliseconds since the Unix epoch.
pub type Moment = u64;
