//! The API of Amazon Data Firehose as a library: what its requests mean, without I/O, clocks or Wasmill's streams.
//!
//! A request meets the modules in this order. [`signature`] reads whose key it presents, and, once the caller has found the
//! secret, verifies it and gives the body that was signed. [`wire`] finds the operation in the target's header and reads the
//! body into a request. Puts are decoded there ([`wire::PutRecordBatch::decode`]). Requests of control are held to the
//! constraints of their members by [`validate`]; [`description`] then makes a definition of them, merges an update into the one
//! that is stored, holds what comes of it to the rules of `validate`, and describes it. [`prefix`] names the objects of a stream
//! that is defined. Replies and refusals are bodies again in [`wire`]. [`migration`] asks for a stream as AWS describes it.
//! [`endpoint`] is another protocol: that in which Firehose delivers to a server, for whoever sends as it does and for whoever
//! receives.
//!
//! What is refused is a [`wire::Refusal`], with the exception, status and body that AWS has for it.

pub mod description;
pub mod endpoint;
pub mod migration;
pub mod prefix;
pub mod signature;
pub mod validate;
pub mod wire;
