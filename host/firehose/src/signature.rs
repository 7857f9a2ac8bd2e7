//! Signature Version 4: who sent a request, and that it is whole.
//!
//! It is two steps, so that the caller looks up the secret between them: [`Presented::parse`] reads what is presented and
//! says whose key it is; [`Presented::verify`] signs the request anew and gives the body that was signed. Nothing of a
//! request may be believed before the second step.
//!
//! The region is free: whatever the client was told. The service must be `firehose`. What must be signed beside `host` is
//! `x-amz-date`, where it is a header, and `x-amz-target` if it is there, because it decides what is done with the body.
//! Checksums in trailers are not compared: where they are signed the signature covers them.
//!
//! What signs is the signer of AWS's own Rust SDK, which is given the headers that the client says it has signed, and no others
//! (`anew`). It has no reader of what was signed: that is here, and so is the framing of chunks. Bodies, which every put has,
//! are hashed by ring. Sources: AWS Identity and Access Management User Guide, chapter on signing requests; Amazon S3 API
//! Reference, chapters on chunked uploads.

mod anew;
mod chunked;
mod digits;
mod presented;
mod time;

pub use presented::{Presented, Request};

#[cfg(test)]
mod tests;
