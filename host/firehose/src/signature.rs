//! Signature Version 4: who sent a request, and that it is whole.
//!
//! It is two steps, so that the caller looks up the secret between them: [`Presented::parse`] reads what is presented and
//! says whose key it is; [`Presented::verify`] computes the signature anew and gives the body that was signed. Nothing of a
//! request may be believed before the second step. Keys that were derived are good for a day and a region
//! ([`SigningKey::derive`]); the caller may keep them.
//!
//! The region is free: whatever the client was told. The service must be `firehose`. What must be signed beside `host` is
//! `x-amz-date`, where it is a header, and `x-amz-target` if it is there, because it decides what is done with the body.
//! Checksums in trailers are not compared: where they are signed the signature covers them.
//!
//! The canonical request is written here on top of ring, which hashes bodies of every put: the signer of AWS's own Rust SDK
//! leaves out headers that other clients sign (`user-agent`), and is what tests compare with. Sources: AWS Identity and
//! Access Management User Guide, chapter on signing requests; Amazon S3 API Reference, chapters on chunked uploads.

mod canonical;
mod chunked;
mod key;
mod presented;
mod time;

pub use key::SigningKey;
pub use presented::{Presented, Request};

#[cfg(test)]
mod tests;
