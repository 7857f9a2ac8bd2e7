//! HTTP POST.
use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::DeliverError;
use crate::object::{Delivered, Object};

/// Checked settings of an HTTP destination.
#[derive(Clone)]
pub struct HttpConfig {
    pub url: String,
    /// Sent with every request; values may be secrets and are never logged.
    pub headers: BTreeMap<String, String>,
    /// For the whole request, answer included.
    pub timeout: Duration,
}

impl std::fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig")
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct Http {}

impl Http {
    pub(crate) fn open(_config: &HttpConfig) -> Result<Http, DeliverError> {
        unimplemented!()
    }
    pub(crate) async fn deliver(&self, _object: &Object<'_>) -> Result<Delivered, DeliverError> {
        unimplemented!()
    }
}
