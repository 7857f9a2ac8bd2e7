//! What a host is told at run time, made durable: tenants with their keys, definitions of streams, and the audit log.
//!
//! It owns `DATA/control` and `DATA/audit`, and every change to what is in them: first on disk, then in use. It refuses to
//! go on with a file that it cannot read, which it names. HTTP, and who may ask for a change, are not its concern.
//!
//! | path | what |
//! |---|---|
//! | `control/tenants/NAME.json` | a tenant and its keys, replaced as a whole |
//! | `control/streams/TENANT/NAME.json` | the definition of a stream, with those before; also of one that was removed |
//! | `control/last-used.json` | when each key was last used, to about a minute; nothing hangs on it |
//! | `audit/NAME/SEQ-changes.ndjson`, `…-refused.ndjson` | see [`AuditLog`] |

mod audit;
mod control;
mod definitions;
mod error;
mod file;
mod last_used;

pub use audit::{Actor, AuditLog, AuditPage, Entry, NewEntry, PAGE_ENTRIES_MAX};
pub use control::{Control, KeyView, SigningPair, TenantView, is_stored, stored_quotas};
pub use definitions::{Defined, Definition, Definitions, Discarded, VERSIONS_KEPT, Version};
pub use error::{ControlError, StoreError};
