//! One configured transform of a chain: everything that an instance of it is made from.

use std::sync::{Arc, OnceLock};

use crate::engine::Engine;
use crate::grants::GrantSet;
use crate::limits::Limits;
use crate::log::LogSink;
use crate::plugin::Plugin;

/// What `configure` declared, in order. Every instance must declare the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Declared {
    pub(crate) fields: Vec<Vec<String>>,
    /// Bytes of all their keys.
    pub(crate) key_bytes: usize,
    pub(crate) outputs: Vec<u32>,
    pub(crate) tables: Vec<Table>,
}

/// A table of state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) ttl_ns: u64,
}

pub(crate) struct Step {
    pub(crate) engine: Engine,
    /// Its name in the stream.
    pub(crate) name: Arc<str>,
    pub(crate) name_seed: u64,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) config: String,
    pub(crate) grants: Arc<GrantSet>,
    pub(crate) limits: Limits,
    pub(crate) outputs: Arc<[String]>,
    pub(crate) log: Arc<dyn LogSink>,
    /// Fixed by the first instance.
    pub(crate) declared: OnceLock<Declared>,
}

impl Step {
    /// What the chunk's columns have slots for: the declared fields, and behind them those that say which key group a record
    /// is in.
    pub(crate) fn fields(&self, declared: &Declared) -> Vec<Vec<String>> {
        declared.fields.iter().chain(&self.grants.state.key).cloned().collect()
    }
}
