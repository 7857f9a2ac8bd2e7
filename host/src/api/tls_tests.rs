//! The listener over TLS, with certificates that are made here and real clients.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use wasmill_control::{AuditLog, Control};
use wasmill_tenant::{Scope, TenantName};

use super::tests::{LIMITS, Program};
use super::{Access, ListenLimits, Tls, TlsClient, TlsError, TlsFiles, now_ms, router, serve};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, for this machine or for a client.
fn signed(by: &Authority, name: &str, uri: Option<&str>) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

struct Server {
    address: SocketAddr,
    control: Arc<Control>,
    audit: Arc<AuditLog>,
    tls: Arc<Tls>,
    task: JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn put(dir: &Path, name: &str, text: &str) {
    let beside = dir.join(format!("{name}.new"));
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, dir.join(name)).unwrap();
}

fn files(dir: &Path, client_ca: bool) -> TlsFiles {
    TlsFiles {
        certificate: dir.join("server.crt"),
        key: dir.join("server.key"),
        client_ca: client_ca.then(|| dir.join("clients.crt")),
    }
}

impl Server {
    async fn start(by: &Authority, clients: Option<(&Authority, Vec<TlsClient>)>) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = signed(by, "server", None);
        put(dir.path(), "server.crt", &certificate);
        put(dir.path(), "server.key", &key);
        let (client_ca, clients) = match clients {
            Some((by, clients)) => {
                put(dir.path(), "clients.crt", &by.pem());
                (true, clients)
            }
            None => (false, Vec::new()),
        };
        let tls = Arc::new(Tls::load(files(dir.path(), client_ca), clients).unwrap());
        let data = dir.path().join("data");
        let (control, audit) = (Arc::new(Control::open(&data).unwrap()), Arc::new(AuditLog::new(&data)));
        let access = Access::new(Arc::clone(&control), Arc::clone(&audit), client_ca, false);
        let routes = router(Arc::new(Program(Arc::default())), LIMITS, access);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listen = ListenLimits { max_connections: 64, head_timeout: Duration::from_secs(5) };
        let task =
            tokio::spawn(serve(listener, listen, routes, Some(Arc::clone(&tls)), std::future::pending()));
        Server { address, control, audit, tls, task, dir }
    }

    /// What a new client of this certificate sees.
    async fn ask(
        &self,
        trusts: &str,
        identity: Option<&(String, String)>,
        path: &str,
    ) -> reqwest::Result<(u16, Value)> {
        self.ask_by(&client_of(trusts, identity)?, path).await
    }

    async fn ask_by(&self, client: &reqwest::Client, path: &str) -> reqwest::Result<(u16, Value)> {
        let url = format!("https://localhost:{}{path}", self.address.port());
        let answer = client.get(url).send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or_default()))
    }

    async fn until(&self, what: &str, trusts: &str) {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.ask(trusts, None, "/healthz").await.is_err() {
            assert!(tokio::time::Instant::now() < until, "{what}: not within 20 s");
        }
    }
}

fn client_of(trusts: &str, identity: Option<&(String, String)>) -> reqwest::Result<reqwest::Client> {
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .use_rustls_tls()
        .tls_built_in_root_certs(false)
        .add_root_certificate(reqwest::Certificate::from_pem(trusts.as_bytes()).unwrap());
    if let Some((certificate, key)) = identity {
        let pem = format!("{certificate}{key}");
        client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    client.build()
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_speaks_tls_to_whoever_trusts_its_certificate_and_to_nobody_else() {
    let (by, other) = (authority("one"), authority("other"));
    let server = Server::start(&by, None).await;
    // They say nothing, and hold up nobody.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.ask(&by.pem(), None, "/v1/streams").await.unwrap().0, 200);
    assert!(server.ask(&other.pem(), None, "/v1/streams").await.is_err());
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let plain = plain.get(format!("http://{}/healthz", server.address)).send().await;
    assert!(plain.is_err(), "plain text is answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificate_is_taken_without_a_restart_and_a_bad_pair_is_not() {
    let (first, second) = (authority("first"), authority("second"));
    let server = Server::start(&first, None).await;
    server.until("the first certificate", &first.pem()).await;
    let (certificate, key) = signed(&second, "server", None);
    put(server.dir.path(), "server.crt", &certificate);
    put(server.dir.path(), "server.key", &key);
    server.until("the second certificate", &second.pem()).await;
    assert!(server.ask(&first.pem(), None, "/healthz").await.is_err(), "the first one is still there");

    let (foreign, _) = signed(&first, "server", None);
    for bad in [foreign.as_str(), "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let tls = Tls::load(files(server.dir.path(), false), Vec::new()).unwrap();
        put(server.dir.path(), "server.crt", bad);
        // Without waiting for a watch: what it would do.
        let seen = tls.reload(None).await;
        assert!(Tls::load(files(server.dir.path(), false), Vec::new()).is_err(), "{bad:?} is taken");
        assert!(seen.is_some() && tls.reload(seen).await == seen);
        assert_eq!(server.ask(&second.pem(), None, "/healthz").await.unwrap().0, 200);
        put(server.dir.path(), "server.crt", &certificate);
    }
    std::fs::remove_file(server.dir.path().join("server.key")).unwrap();
    assert_eq!(server.ask(&second.pem(), None, "/healthz").await.unwrap().0, 200);
    let missing = Tls::load(files(server.dir.path(), false), Vec::new()).map(drop).unwrap_err();
    assert!(matches!(&missing, TlsError::Read { path, .. } if path.ends_with("server.key")), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_a_client_says_whose_it_is() {
    let (by, trusted, stranger) = (authority("host"), authority("clients"), authority("strangers"));
    let team = TenantName::new("team").unwrap();
    let uri = "spiffe://example.org/edge";
    let client = |uri: Option<&str>, name: Option<&str>, scopes: &[Scope]| TlsClient {
        uri: uri.map(str::to_owned),
        name: name.map(str::to_owned),
        tenant: team.clone(),
        scopes: scopes.iter().copied().collect(),
    };
    let clients = vec![client(Some(uri), None, &[Scope::Read]), client(None, Some("boss"), &[Scope::Admin])];
    let server = Server::start(&by, Some((&trusted, clients))).await;
    let edge = signed(&trusted, "anything", Some(uri));
    let whoami = async |identity: &(String, String)| {
        server.ask(&by.pem(), Some(identity), "/v1/whoami").await.map(|(status, body)| {
            (status, body["tenant"].as_str().map(str::to_owned), body["subject"].as_str().map(str::to_owned))
        })
    };
    assert_eq!(whoami(&edge).await.unwrap().0, 401, "the tenant is not there yet");
    server.control.create_tenant(&server.audit, &team, now_ms()).unwrap();
    assert_eq!(whoami(&edge).await.unwrap(), (200, Some("team".to_owned()), Some(uri.to_owned())));
    let boss = signed(&trusted, "boss", None);
    assert_eq!(whoami(&boss).await.unwrap(), (200, Some("team".to_owned()), Some("boss".to_owned())));
    assert_eq!(server.ask(&by.pem(), Some(&edge), "/v1/audit").await.unwrap().0, 403);
    assert_eq!(server.ask(&by.pem(), Some(&boss), "/v1/audit").await.unwrap().0, 200);
    assert_eq!(server.ask(&by.pem(), Some(&boss), "/v1/tenants").await.unwrap().0, 403);
    // One that nobody knows is as good as none; one that somebody else has signed does not get so far.
    assert_eq!(whoami(&signed(&trusted, "Boss", Some("spiffe://example.org/edge2"))).await.unwrap().0, 401);
    assert!(whoami(&signed(&stranger, "boss", Some(uri))).await.is_err());
    assert_eq!(server.ask(&by.pem(), None, "/v1/whoami").await.unwrap().0, 401);
    // Who is known may change, on connections that are open, too.
    let open = client_of(&by.pem(), Some(&edge)).unwrap();
    let at_once = async || server.ask_by(&open, "/v1/whoami").await.unwrap().0;
    assert_eq!(at_once().await, 200);
    server.tls.know(vec![client(None, Some("boss"), &[Scope::Admin])]);
    assert_eq!(at_once().await, 401);
    server.tls.know(vec![client(Some(uri), None, &[Scope::Read])]);
    assert_eq!((at_once().await, whoami(&boss).await.unwrap().0), (200, 401));
    server.control.disable_tenant(&team, true, now_ms()).unwrap();
    assert_eq!(whoami(&edge).await.unwrap().0, 401);
    let entries = server.audit.page(&team, 0, 100).unwrap().entries;
    let last = entries.last().unwrap();
    assert_eq!((last.who.subject.as_deref(), last.status), (Some(uri), 401));
}
