//! What callers have together: the requests and look-ups that are on their way of one tenant, those of the host, and what
//! everybody's TLS is checked by.
//!
//! Who waits for servers or name servers that do not answer holds its own part, and never that of others.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of one tenant, on their way at a time.
const REQUESTS_MAX: usize = 32;
/// Of all: those of all tenants that have threads to wait on, and a few.
const ALL_REQUESTS_MAX: usize = 1056;
/// Names of one tenant that are looked up at a time.
const LOOK_UPS_MAX: usize = 8;

/// See the head of this file. Callers that have clones of one are one tenant's.
#[derive(Clone, Debug)]
pub struct CallerShare {
    requests: Arc<Semaphore>,
    pub(super) look_ups: Arc<Semaphore>,
}

/// For as long as they live, a request is on its way.
pub(super) type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Default for CallerShare {
    fn default() -> CallerShare {
        CallerShare {
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS_MAX)),
        }
    }
}

impl CallerShare {
    /// Whether anybody else has it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.look_ups) > 1
    }

    /// A place among the tenant's requests, and one among all.
    pub(super) async fn place(&self) -> io::Result<Places> {
        static ALL: OnceLock<Arc<Semaphore>> = OnceLock::new();
        let all = ALL.get_or_init(|| Arc::new(Semaphore::new(ALL_REQUESTS_MAX)));
        let own = Arc::clone(&self.requests).acquire_owned().await.map_err(io::Error::other)?;
        let of_all = Arc::clone(all).acquire_owned().await.map_err(io::Error::other)?;
        Ok((own, of_all))
    }
}

/// By the certificates of the machine as they were when the first caller was made: reading them takes its time.
pub(super) fn tls() -> Result<ClientConfig, String> {
    static TLS: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(tls) = TLS.get() {
        return Ok(tls.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "certificate of this machine cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (taken, _unfit) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        tracing::warn!("this machine has no certificates: plugins reach no server by https");
    }
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let tls = versions.with_root_certificates(roots).with_no_client_auth();
    Ok(TLS.get_or_init(|| tls).clone())
}
