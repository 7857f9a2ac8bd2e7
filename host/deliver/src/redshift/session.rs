//! One connection to a server that speaks PostgreSQL's protocol, and statements on it, one after another.
//!
//! Every wait has an end: for the connection, and for each answer. A session that is dropped closes its connection, upon
//! which the server takes back what was not committed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::answer::Failure;
use crate::http::{Reach, addresses};

/// Of one address, its handshakes and log-in included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// A connection on which nothing was asked for so long is not trusted to be there: whoever is between may have forgotten it.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Beyond the server's own limit of a statement, until its answer is there.
const GRACE: Duration = Duration::from_secs(15);

/// How the connection is protected, in the words of libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    /// Nobody can listen; who answers is not checked.
    Require,
    /// The certificate is of a trusted authority and of this host.
    VerifyFull,
}

/// Where the server is, and who logs in.
#[derive(Clone)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: String,
    pub tls: TlsMode,
    /// PEM of the authorities that the server's certificate is checked with; `None`: those of the machine.
    pub ca: Option<String>,
    /// Where connections may go; `None`: everywhere.
    pub reach: Option<Reach>,
    /// Of one statement.
    pub timeout: Duration,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = format!("{}@{}:{}/{}", self.user, self.host, self.port, self.database);
        f.debug_struct("Server").field("place", &place).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// What the connection is protected with, made once.
#[derive(Clone)]
pub(super) struct Protection(Option<MakeRustlsConnect>);

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Protection(TLS)" } else { "Protection(none)" })
    }
}

impl Protection {
    /// # Errors
    /// The authorities cannot be read, or have no effect.
    pub(super) fn of(server: &Server) -> Result<Protection, String> {
        if server.ca.is_some() && server.tls != TlsMode::VerifyFull {
            return Err("\"ca\" has an effect with tls = \"verify-full\" alone".to_owned());
        }
        let provider = Arc::new(ring::default_provider());
        let versions =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = versions.map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let config = match server.tls {
            TlsMode::Disable => return Ok(Protection(None)),
            TlsMode::Require => {
                let anyone = Arc::new(Anyone(provider));
                builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth()
            }
            TlsMode::VerifyFull => {
                builder.with_root_certificates(authorities(server.ca.as_deref())?).with_no_client_auth()
            }
        };
        Ok(Protection(Some(MakeRustlsConnect::new(config))))
    }
}

fn authorities(ca: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let found: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    for certificate in found.unwrap_or_default() {
        let added = roots.add(certificate);
        added.map_err(|_unfit| "\"ca\" has a certificate that cannot be read".to_owned())?;
    }
    if roots.is_empty() {
        return Err("\"ca\" has no certificate, expected PEM".to_owned());
    }
    Ok(roots)
}

/// Takes any certificate, but only from who has its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection that is logged in.
pub(super) struct Session {
    client: Client,
    /// What moves its bytes. By itself it would wait for an answer that nobody waits for any more.
    connection: JoinHandle<()>,
    timeout: Duration,
    asked: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects to one address of the host after another, and logs in.
    pub(super) async fn open(server: &Server, protection: &Protection) -> Result<Session, Failure> {
        let place = format!("{}:{}", server.host, server.port);
        let looked_up =
            timeout(CONNECT_TIMEOUT, addresses(server.reach.as_ref(), &server.host, server.port)).await;
        let found = match looked_up {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(Failure::Unreachable(format!("{place}: {error}"))),
            Err(_late) => {
                return Err(Failure::Unreachable(format!("{place}: the name was not looked up in time")));
            }
        };
        let mut last = Failure::Unreachable(format!("{place}: the name stands for no address"));
        for address in found.into_iter().take(ADDRESSES_MAX) {
            let connected = timeout(CONNECT_TIMEOUT, connect(server, protection, address)).await;
            match connected {
                Ok(Ok((client, connection))) => {
                    let session =
                        Session { client, connection, timeout: server.timeout, asked: Instant::now() };
                    let millis = server.timeout.as_millis();
                    session.run(&format!("SET statement_timeout TO {millis}")).await?;
                    return Ok(session);
                }
                // Another address is the same server.
                Ok(Err(refused @ Failure::Refused { .. })) => return Err(refused),
                Ok(Err(failure)) => last = failure,
                Err(_late) => {
                    last = Failure::Unreachable(format!("{address}: no answer within {CONNECT_TIMEOUT:?}"))
                }
            }
        }
        Err(last)
    }

    /// Whether another statement can be tried on it.
    pub(super) fn is_fresh(&self) -> bool {
        !self.client.is_closed() && self.asked.elapsed() < IDLE_MAX
    }

    pub(super) fn touch(&mut self) {
        self.asked = Instant::now();
    }

    /// One statement. Rows of its answer, each with its columns as texts.
    pub(super) async fn run(&self, sql: &str) -> Result<Vec<Vec<String>>, Failure> {
        let answered = timeout(self.timeout.saturating_add(GRACE), self.client.simple_query(sql)).await;
        let messages = answered.map_err(|_late| Failure::Late)?.map_err(|error| Failure::of(&error))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let texts = (0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned());
                Some(texts.collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

async fn connect(
    server: &Server,
    protection: &Protection,
    address: SocketAddr,
) -> Result<(Client, JoinHandle<()>), Failure> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(server.host.as_str())
        .hostaddr(address.ip())
        .port(server.port)
        .dbname(server.database.as_str())
        .user(server.user.as_str())
        .password(server.password.as_str())
        .application_name("wasmill")
        .keepalives_idle(Duration::from_secs(60));
    match &protection.0 {
        None => {
            let connected = config.ssl_mode(SslMode::Disable).connect(NoTls).await;
            let (client, connection) = connected.map_err(|error| Failure::of(&error))?;
            // What it fails with, a statement is told.
            let connection = tokio::spawn(async move { drop(connection.await) });
            Ok((client, connection))
        }
        Some(tls) => {
            let connected = config.ssl_mode(SslMode::Require).connect(tls.clone()).await;
            let (client, connection) = connected.map_err(|error| Failure::of(&error))?;
            // What it fails with, a statement is told.
            let connection = tokio::spawn(async move { drop(connection.await) });
            Ok((client, connection))
        }
    }
}
