//! TLS of the listener: the certificate, who may be asked for one, and both read again when their files change.
//!
//! What is new is used from the next handshake on. A pair that is bad (not whole, key and certificate of different pairs)
//! is refused with the reason, and the one before goes on. A client's certificate, where it shows one, is checked against
//! `client_ca`, and says by a URI among its names, or by its common name, whose it is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wasmill_tenant::{Scopes, TenantName};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Longest handshake. How many there are at a time is bounded by the connections of the listener.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Longest file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// How often files are read where nothing says that they changed.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After a change: whoever replaces two files is given time for the second.
const SETTLE: Duration = Duration::from_millis(200);

/// Where everything is.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

/// Whose a client's certificate is.
#[derive(Clone, Debug)]
pub struct TlsClient {
    /// What is among its URIs, or else its common name.
    pub uri: Option<String>,
    pub name: Option<String>,
    pub tenant: TenantName,
    pub scopes: Scopes,
}

/// Why files are not taken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("{path} has {what}")]
    Content { path: PathBuf, what: &'static str },
    #[error("{path} is not taken: {reason}")]
    Refused { path: PathBuf, reason: String },
}

/// A client, as its certificate says.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// A URI, or the common name.
    pub(super) subject: String,
    uris: Vec<String>,
    common: Option<String>,
    /// End of its validity in seconds since 1970: a connection, or a session that is taken up again, may outlive it.
    pub(super) until_s: i64,
    clients: Clients,
}

impl Shown {
    /// Whose it is at this moment; `None`: of nobody whom the configuration knows.
    pub(super) fn client(&self) -> Option<TlsClient> {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        let client = clients.iter().find(|client| match (&client.uri, &client.name) {
            (Some(uri), _) => self.uris.contains(uri),
            (None, name) => name.is_some() && *name == self.common,
        });
        client.cloned()
    }
}

/// Those whom the configuration knows.
type Clients = Arc<RwLock<Vec<TlsClient>>>;

/// See the head of this file.
pub struct Tls {
    files: TlsFiles,
    clients: Clients,
    current: RwLock<Arc<ServerConfig>>,
    /// Of what was read first.
    loaded: [u8; 32],
}

/// The bytes of all files.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    /// Blocks.
    fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
        Ok(Contents {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for file in [&self.certificate, &self.key].into_iter().chain(&self.client_ca) {
            digest.update((file.len() as u64).to_le_bytes());
            digest.update(file);
        }
        digest.finalize().into()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = |path: &Path| match std::fs::metadata(path)?.len() {
        length if length > FILE_BYTES_MAX => Err(std::io::Error::other(format!("it has {length} bytes"))),
        _ => std::fs::read(path),
    };
    read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |what| TlsError::Content { path: path.to_owned(), what };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_bad| content("a broken certificate in PEM"))?;
    if found.is_empty() { Err(content("no certificate in PEM")) } else { Ok(found) }
}

fn server_config(files: &TlsFiles, contents: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&files.certificate, &contents.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|_bad| TlsError::Content { path: files.key.clone(), what: "no private key in PEM" })?;
    let verifier = match (&files.client_ca, &contents.client_ca) {
        (Some(path), Some(pem)) => {
            let refuse = |reason: String| TlsError::Refused { path: path.clone(), reason };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, pem)? {
                roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            // Keys and tokens are as good.
            verifier.allow_unauthenticated().build().map_err(|error| refuse(error.to_string()))?
        }
        _ => Arc::new(NoClientAuth),
    };
    let refuse = |error: rustls::Error| TlsError::Refused {
        path: files.certificate.clone(),
        reason: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(refuse)?.with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(chain, key).map_err(refuse)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Tls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// They are not there, or are not taken.
    pub fn load(files: TlsFiles, clients: Vec<TlsClient>) -> Result<Tls, TlsError> {
        let contents = Contents::read(&files)?;
        let config = server_config(&files, &contents)?;
        let clients = Arc::new(RwLock::new(clients));
        Ok(Tls { loaded: contents.digest(), files, clients, current: RwLock::new(config) })
    }

    /// Knows these clients from the next request on, also of connections that are open.
    pub fn know(&self, clients: Vec<TlsClient>) {
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None`: it failed, or took too long.
    pub(super) async fn handshake<S>(&self, stream: S) -> Option<(TlsStream<S>, Option<Shown>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.current()).accept(stream);
        let stream = match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "handshake failed");
                return None;
            }
            Err(_elapsed) => {
                tracing::debug!("handshake took too long");
                return None;
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = certificate.map(|certificate| shown(certificate, &self.clients));
        Some((stream, shown))
    }

    /// Reads the files again now and then, and when they change, for as long as it is polled.
    pub async fn keep_current(&self) {
        let (changed, mut changes) = mpsc::channel(1);
        // Held while it watches.
        let _watcher = watch(&self.files, changed);
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let mut seen = Some(self.loaded);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                Some(()) = changes.recv() => tokio::time::sleep(SETTLE).await,
            }
            seen = self.reload(seen).await;
        }
    }

    /// Takes the files if they are not those that were seen. The digest of what was seen now.
    pub(super) async fn reload(&self, seen: Option<[u8; 32]>) -> Option<[u8; 32]> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || {
            let contents = Contents::read(&files)?;
            let digest = contents.digest();
            Ok::<_, TlsError>((digest, (Some(digest) != seen).then(|| server_config(&files, &contents))))
        });
        let (digest, config) = match read.await {
            Ok(Ok((digest, config))) => (Some(digest), config),
            // Missing for a moment is no news; missing for good is told once.
            Ok(Err(error)) => (None, seen.is_some().then_some(Err(error))),
            Err(_panicked) => return seen,
        };
        match config {
            None => {}
            Some(Ok(config)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!(certificate = %self.files.certificate.display(), "took a new certificate");
            }
            Some(Err(error)) => {
                let error = crate::pipeline::with_causes(&error);
                tracing::error!(error, "cannot take the new certificate, the one before goes on");
            }
        }
        digest
    }
}

/// Watches the directories: a file is mostly replaced by another one.
fn watch(files: &TlsFiles, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        // To read them is no change, and would tell of itself.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full: it is told already.
            let _told = changed.try_send(());
        }
    };
    let mut watcher = match notify::recommended_watcher(told) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "cannot watch the certificate; it is read again every 30 seconds");
            return None;
        }
    };
    for file in [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()].into_iter().flatten() {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, dir = %dir.display(), "cannot watch the certificate; it is read again every 30 seconds");
        }
    }
    Some(watcher)
}

fn shown(certificate: &CertificateDer<'_>, clients: &Clients) -> Shown {
    let clients = Arc::clone(clients);
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        let subject = "certificate that cannot be read".to_owned();
        return Shown { subject, uris: Vec::new(), common: None, until_s: 0, clients };
    };
    let names = parsed.subject_alternative_name().ok().flatten();
    let uris: Vec<String> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
        .collect();
    // With two common names nobody knows which is meant.
    let mut common = parsed.subject().iter_common_name().map(|name| name.as_str().ok());
    let common = common.next().flatten().filter(|_| common.next().is_none()).map(str::to_owned);
    let subject = uris.first().or(common.as_ref()).cloned();
    Shown {
        subject: subject.unwrap_or_else(|| "certificate without a name".to_owned()),
        uris,
        common,
        until_s: parsed.validity().not_after.timestamp(),
        clients,
    }
}
