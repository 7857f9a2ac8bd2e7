//! TLS, certificates of clients, and tokens of others: from the configuration to the real binary, and with its commands.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType, SigningKey as _,
};
use serde_json::{Value, json};
use wasmill_tests::client;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::stand_in::{Says, StandIn};
use wasmill_tests::wait::wait_until;

type Authority = CertifiedIssuer<'static, KeyPair>;

const TLS: &str = r#"#whole
    [http]
    listen = "127.0.0.1:0"
    auth = { mode = "keys" }
    [http.tls]
    certificate = "server.crt"
    key = "server.key"
    client_ca = "clients.crt"
    [[http.tls.clients]]
    uri = "spiffe://example.org/boss"
    tenant = "acme"
    scopes = ["admin"]
    [[http.tls.clients]]
    name = "reader"
    tenant = "default"
    scopes = ["read"]
    [buffer]
    journal_file = "1MiB"
    [streams.ours]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "ours" }]
    [tenants.acme.streams.theirs]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "theirs" }]
"#;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, for this machine or for a client.
fn signed(by: &Authority, name: &str, uri: Option<&str>) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

fn put(scratch: &Scratch, name: &str, text: &str) {
    let beside = scratch.path(&format!("{name}.new"));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, scratch.path(name)).unwrap();
}

/// A file with what a client of this name shows.
fn identity(scratch: &Scratch, by: &Authority, name: &str, uri: Option<&str>) -> String {
    let (certificate, key) = signed(by, name, uri);
    let file = format!("{name}.pem");
    put(scratch, &file, &format!("{certificate}{key}"));
    file
}

/// What a command says to the host, with its exit.
struct Asker<'a> {
    binary: &'a Path,
    scratch: &'a Scratch,
    host: String,
}

impl Asker<'_> {
    /// `Err`: what it complains of.
    fn ask(&self, words: &[&str], ca: &str, identity: &str, key: &str) -> Result<String, String> {
        let mut command = Command::new(self.binary);
        command.args(words).args(["--host", &self.host]).current_dir(self.scratch.dir());
        command.env_remove("WASMILL_KEY");
        for (option, file) in [("--ca", ca), ("--identity", identity)] {
            if !file.is_empty() {
                command.args([option, file]);
            }
        }
        if !key.is_empty() {
            command.env("WASMILL_KEY", key);
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

const LIST: &[&str] = &["stream", "list"];

#[test]
fn certificate_of_a_client_is_a_key_of_its_tenant_and_certificates_change_while_the_host_runs() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(TLS);
    let [servers, clients, others] = ["servers", "clients", "others"].map(authority);
    put(&scratch, "servers.crt", &servers.pem());
    put(&scratch, "others.crt", &others.pem());
    put(&scratch, "clients.crt", &clients.pem());
    let (certificate, key) = signed(&servers, "server", None);
    put(&scratch, "server.crt", &certificate);
    put(&scratch, "server.key", &key);
    let program = Program::start(&binary, &scratch.config());
    let host = format!("https://localhost:{}", program.address().port());
    let asker = Asker { binary: &binary, scratch: &scratch, host };

    let boss = identity(&scratch, &clients, "boss", Some("spiffe://example.org/boss"));
    let reader = identity(&scratch, &clients, "reader", None);
    let list = asker.ask(LIST, "servers.crt", &boss, "").unwrap();
    assert!(list.contains("theirs") && !list.contains("ours"), "{list}");
    let list = asker.ask(LIST, "servers.crt", &reader, "").unwrap();
    assert!(list.contains("ours") && !list.contains("theirs"), "{list}");
    let refused = asker.ask(&["key", "list"], "servers.crt", &reader, "").unwrap_err();
    assert!(refused.contains("admin"), "it may read alone: {refused}");
    // What the one makes is its tenant's; and a key goes before the certificate that comes with it.
    let made = ["key", "create", "--name", "made", "--scope", "read"];
    let key = asker.ask(&made, "servers.crt", &boss, "").unwrap();
    assert!(key.starts_with("wm_"), "{key}");
    let list = asker.ask(LIST, "servers.crt", &reader, &key).unwrap();
    assert!(list.contains("theirs") && !list.contains("ours"), "{list}");
    // In the books the subject is who did it.
    let log = fs::read_dir(scratch.path("data/audit/acme")).unwrap();
    let log: String = log.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(log.contains("spiffe://example.org/boss"), "{log}");

    // Whose it is nobody says; who has signed it nobody trusts; and who shows none has no key.
    let stranger = identity(&scratch, &clients, "stranger", Some("spiffe://example.org/stranger"));
    let foreign = identity(&scratch, &others, "boss-of-others", Some("spiffe://example.org/boss"));
    let unknown = asker.ask(LIST, "servers.crt", &stranger, "").unwrap_err();
    assert!(unknown.contains("key"), "{unknown}");
    let untrusted = asker.ask(LIST, "servers.crt", &foreign, "").unwrap_err();
    assert_ne!(untrusted, unknown);
    assert!(asker.ask(LIST, "servers.crt", "", "").is_err());
    // And the commands ask nobody whose certificate they cannot trust.
    for ca in ["", "others.crt"] {
        let untrusted = asker.ask(LIST, ca, "", &key).unwrap_err();
        assert!(untrusted.contains("certificate"), "{ca}: {untrusted}");
    }

    let (certificate, server_key) = signed(&others, "server", None);
    put(&scratch, "server.key", &server_key);
    put(&scratch, "server.crt", &certificate);
    wait_until("the new certificate is shown", || asker.ask(LIST, "others.crt", "", &key).is_ok());
    assert!(asker.ask(LIST, "servers.crt", "", &key).is_err(), "the one before is shown");
    put(&scratch, "server.key", &signed(&servers, "server", None).1);
    program.wait_for_log("cannot take the new certificate");
    assert!(asker.ask(LIST, "others.crt", "", &key).is_ok(), "a key that does not fit is taken");
    put(&scratch, "server.key", &server_key);
    // Who signs for clients changes, too.
    put(&scratch, "clients.crt", &others.pem());
    wait_until("clients of the others are known", || asker.ask(LIST, "others.crt", &foreign, "").is_ok());
    assert!(asker.ask(LIST, "others.crt", &boss, "").is_err(), "who signed before is trusted");
    program.stop();
}

/// A token that this key has signed.
fn token(key: &KeyPair, claims: &Value) -> String {
    let head = json!({ "alg": "EdDSA", "kid": "one" });
    let text = [&head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = key.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn key_set(key: &KeyPair) -> Value {
    let public = URL_SAFE_NO_PAD.encode(key.public_key_raw());
    json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "one", "x": public }] })
}

#[test]
fn token_of_an_issuer_is_a_key_of_the_tenant_that_it_names_where_the_configuration_says_what_it_must_have() {
    let Some(binary) = binary() else { return };
    let ([key, stranger], now) = (
        [(); 2].map(|()| KeyPair::generate_for(&PKCS_ED25519).unwrap()),
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    );
    let set = key_set(&key);
    let served = set.clone();
    let issuer = StandIn::start(move |_, _| Says::Json(200, served.clone()));
    for jwks in ["keys.json".to_owned(), format!("{}/keys", issuer.url())] {
        let scratch = Scratch::new(&format!(
            r#"#whole
            [http]
            listen = "127.0.0.1:0"
            [http.auth]
            mode = "keys"
            [http.auth.jwt]
            jwks = "{jwks}"
            issuer = "https://issuer.example"
            audience = "wasmill-here"
            tenant_claim = "group"
            scope_claim = "rights"
            [buffer]
            journal_file = "1MiB"
            [streams.ours]
            source = {{ type = "http" }}
            outputs = [{{ type = "directory", path = "ours" }}]
            [tenants.acme.streams.theirs]
            source = {{ type = "http" }}
            outputs = [{{ type = "directory", path = "theirs" }}]
            "#
        ));
        fs::write(scratch.path("keys.json"), set.to_string()).unwrap();
        let program = Program::start(&binary, &scratch.config());
        let good = json!({
            "iss": "https://issuer.example", "aud": "wasmill-here", "sub": "ann", "exp": now + 600,
            "group": "acme", "rights": "openid read",
        });
        let ask = |path: &str, token: &str| {
            let bearer = format!("authorization: Bearer {token}");
            client::request(program.address(), "GET", path, &[&bearer], b"").unwrap()
        };
        let list = ask("/v1/streams", &token(&key, &good));
        assert_eq!(list.status, 200, "{jwks}: {list:?}");
        assert!(list.body.contains("theirs") && !list.body.contains("ours"), "{}", list.body);
        assert_eq!(ask("/v1/keys", &token(&key, &good)).status, 403, "it may read alone");
        // It is as good as a key for the commands.
        let asker =
            Asker { binary: &binary, scratch: &scratch, host: format!("http://{}", program.address()) };
        assert!(asker.ask(LIST, "", "", &token(&key, &good)).unwrap().contains("theirs"));

        // Each with one thing that is not what the configuration says.
        for (what, changes, status) in [
            ("another issuer", json!({ "iss": "wasmill-here" }), 401),
            ("another audience", json!({ "aud": "https://issuer.example" }), 401),
            ("expired", json!({ "exp": now - 600 }), 401),
            ("no tenant", json!({ "group": null, "tenant": "acme" }), 401),
            ("a tenant that is not there", json!({ "group": "nobody" }), 401),
            ("scopes under another name", json!({ "rights": null, "scope": "read" }), 403),
            ("claims that are swapped", json!({ "group": "read", "rights": "acme" }), 401),
        ] {
            let mut claims = good.clone();
            for (name, value) in changes.as_object().unwrap() {
                claims[name] = value.clone();
            }
            claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            let answer = ask("/v1/streams", &token(&key, &claims));
            assert_eq!(answer.status, status, "{jwks}, {what}: {answer:?}");
        }
        assert_eq!(ask("/v1/streams", &token(&stranger, &good)).status, 401, "another key has signed it");
        program.stop();
    }
    assert!(!issuer.got().is_empty(), "nobody asked for the keys");
}
