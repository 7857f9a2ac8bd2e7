//! Tokens of others, signed here, with keys that a small server hands out.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wasmill_control::{AuditLog, Control};
use wasmill_tenant::TenantName;

use super::tests::{LIMITS, Program};
use super::{Access, KeySetPlace, ListenLimits, TokenRules, Tokens, now_ms, router, serve};

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Signer {
    Curve(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

impl Signer {
    fn curve() -> Signer {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Signer::Curve(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap(),
        )
    }

    fn edwards() -> Signer {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Signer::Edwards(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn jwk(&self, id: &str) -> Value {
        match self {
            Signer::Curve(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": encoded(x), "y": encoded(y)})
            }
            Signer::Edwards(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encoded(key.public_key())})
            }
        }
    }

    fn token(&self, id: &str, claims: &Value) -> String {
        let algorithm = match self {
            Signer::Curve(_) => "ES256",
            Signer::Edwards(_) => "EdDSA",
        };
        let signed = format!(
            "{}.{}",
            encoded(json!({"alg": algorithm, "kid": id}).to_string()),
            encoded(claims.to_string())
        );
        let signature = match self {
            Signer::Curve(key) => {
                key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec()
            }
            Signer::Edwards(key) => key.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", encoded(signature))
    }
}

/// Hands out a set of keys; `None`: takes connections and says nothing.
struct Keys {
    address: SocketAddr,
    set: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Keys {
    async fn start(set: Option<Value>) -> Keys {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (set, asked) = (Arc::new(Mutex::new(set)), Arc::new(AtomicUsize::new(0)));
        let (own, count) = (Arc::clone(&set), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let set = own.lock().unwrap().clone();
                let Some(set) = set else {
                    silent.push(socket);
                    continue;
                };
                let mut head = [0; 4096];
                drop(socket.read(&mut head).await);
                let body = set.to_string();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(socket.write_all(answer.as_bytes()).await);
            }
        });
        Keys { address, set, asked }
    }

    fn place(&self) -> KeySetPlace {
        KeySetPlace::Url(format!("http://{}/keys", self.address))
    }
}

struct Server {
    address: SocketAddr,
    control: Arc<Control>,
    audit: Arc<AuditLog>,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start(keys: KeySetPlace) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let (control, audit) =
            (Arc::new(Control::open(dir.path()).unwrap()), Arc::new(AuditLog::new(dir.path())));
        control.create_tenant(&audit, &TenantName::new("team").unwrap(), now_ms()).unwrap();
        let rules = TokenRules {
            keys,
            issuer: "https://issuer.example".to_owned(),
            audience: "wasmill".to_owned(),
            tenant_claim: "tenant".to_owned(),
            scope_claim: "scope".to_owned(),
        };
        let access = Access::new(Arc::clone(&control), Arc::clone(&audit), true, false)
            .with_tokens(Tokens::new(rules).unwrap());
        let routes = router(Arc::new(Program(Arc::default())), LIMITS, access);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listen = ListenLimits { max_connections: 64, head_timeout: Duration::from_secs(5) };
        tokio::spawn(serve(listener, listen, routes, None, std::future::pending()));
        Server { address, control, audit, _dir: dir }
    }

    async fn ask(&self, path: &str, token: &str) -> (u16, Value) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (answer[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }
}

/// Claims that are good, with these changed; null takes one out.
fn claims(changes: Value) -> Value {
    let now = now_ms() / 1000;
    let mut claims = json!({
        "iss": "https://issuer.example", "aud": ["other", "wasmill"], "sub": "ann", "iat": now, "nbf": now, "exp": now + 300,
        "tenant": "team", "scope": "openid read",
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn token_says_who_it_is_and_what_it_may() {
    let (curve, edwards) = (Signer::curve(), Signer::edwards());
    // What nobody here can use is left out.
    let set = json!({"keys": [{"kty": "XX", "kid": "x"}, {"kty": "oct", "kid": "s", "k": "AAAA"}, curve.jwk("c"), edwards.jwk("e")]});
    let keys = Keys::start(Some(set)).await;
    let server = Server::start(keys.place()).await;
    for token in
        [curve.token("c", &claims(json!({}))), edwards.token("e", &claims(json!({"scope": ["read"]})))]
    {
        let (status, who) = server.ask("/v1/whoami", &token).await;
        assert_eq!(
            (status, &who["tenant"], &who["subject"], &who["key"]),
            (200, &json!("team"), &json!("ann"), &Value::Null)
        );
        assert_eq!(who["scopes"], json!(["read"]));
        assert_eq!(server.ask("/v1/audit", &token).await.0, 403);
    }
    let admin = curve.token("c", &claims(json!({"scope": "admin"})));
    assert_eq!(server.ask("/v1/audit", &admin).await.0, 200);
    assert_eq!(server.ask("/v1/tenants", &admin).await.0, 403);
    let operator = curve.token("c", &claims(json!({"scope": "operator", "tenant": "default"})));
    assert_eq!(server.ask("/v1/tenants", &operator).await.0, 200);
    let team = TenantName::new("team").unwrap();
    server.control.disable_tenant(&team, true, now_ms()).unwrap();
    assert_eq!(server.ask("/v1/audit", &admin).await.0, 401);
    let refused = server.audit.page(&team, 0, 99).unwrap().entries.pop().unwrap();
    assert_eq!((refused.who.subject.as_deref(), refused.status), (Some("ann"), 401));
    assert_eq!(keys.asked.load(Ordering::SeqCst), 1, "keys are asked for again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_that_is_forged_for_others_or_out_of_time_is_refused() {
    let (signer, stranger) = (Signer::curve(), Signer::curve());
    let keys = Keys::start(Some(json!({"keys": [signer.jwk("c"), Signer::edwards().jwk("e")]}))).await;
    let server = Server::start(keys.place()).await;
    let now = now_ms() / 1000;
    let good = signer.token("c", &claims(json!({})));
    assert_eq!(server.ask("/v1/whoami", &good).await.0, 200);
    let mut bad: Vec<(String, String)> = [
        json!({"exp": now - 120}),
        json!({"exp": null}),
        json!({"exp": "tomorrow"}),
        json!({"nbf": now + 120}),
        json!({"nbf": "yesterday"}),
        json!({"iss": "https://other.example"}),
        json!({"iss": null}),
        json!({"aud": "other"}),
        json!({"aud": null}),
        json!({"tenant": null}),
        json!({"tenant": "nobody"}),
        json!({"tenant": "../team"}),
        json!({"tenant": ["team"]}),
        json!({"scope": "operator"}),
    ]
    .into_iter()
    .map(|changes| (changes.to_string(), signer.token("c", &claims(changes))))
    .collect();
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = encoded(json!({"alg": "none"}).to_string());
    let shared = encoded(json!({"alg": "HS256", "kid": "c"}).to_string());
    let other = claims(json!({"tenant": "default", "scope": "operator"}));
    bad.extend([
        ("another's key".to_owned(), stranger.token("c", &claims(json!({})))),
        ("another kind of key".to_owned(), signer.token("e", &claims(json!({})))),
        ("no signature".to_owned(), format!("{}.{}.", parts[0], parts[1])),
        ("alg none".to_owned(), format!("{unsigned}.{}.", parts[1])),
        ("a shared secret".to_owned(), format!("{shared}.{}.{}", parts[1], parts[2])),
        ("other claims".to_owned(), format!("{}.{}.{}", parts[0], encoded(other.to_string()), parts[2])),
        ("nothing".to_owned(), "..".to_owned()),
        ("noise".to_owned(), "a.b.c".to_owned()),
        ("too long".to_owned(), format!("{good}{}", "A".repeat(17_000))),
    ]);
    let mut reasons = 0;
    for (what, token) in &bad {
        let (status, body) = server.ask("/v1/whoami", token).await;
        // So many failures of one address are put off in the end.
        assert!([401, 429].contains(&status), "{what}: {status} {body}");
        reasons += usize::from(status == 401);
    }
    assert!(reasons >= 20, "only {reasons} were looked at");
    let log = server.audit.page(&TenantName::default_tenant(), 0, 999).unwrap().entries;
    let log = serde_json::to_string(&log).unwrap();
    assert!(log.contains("token:") && !log.contains(parts[2]) && !log.contains(parts[1]), "{log}");
    assert_eq!(server.ask("/v1/whoami", &good).await.0, 200, "a good one is held up by bad ones");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_new_are_asked_for_and_a_place_that_hangs_holds_up_no_other() {
    let (first, second) = (Signer::curve(), Signer::curve());
    let keys = Keys::start(None).await;
    let server = Server::start(keys.place()).await;
    let token = first.token("1", &claims(json!({})));
    // A key of this host has nothing to do with that place.
    let new = wasmill_tenant::NewKey {
        name: "k".to_owned(),
        scopes: [wasmill_tenant::Scope::Read].into_iter().collect(),
        expires_ms: None,
        signs: false,
    };
    let (key, _) = server.control.create_key(&TenantName::default_tenant(), new, now_ms()).unwrap();
    let begun = tokio::time::Instant::now();
    let (refused, known) =
        tokio::join!(server.ask("/v1/whoami", &token), server.ask("/v1/whoami", key.reveal()));
    assert_eq!((refused.0, known.0), (401, 200));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"keys": [first.jwk("1")]}).to_string()).unwrap();
    let set = super::access::asking_at_once(KeySetPlace::File(file.path().to_owned()));
    assert!(set.key(Some("1")).await.is_some() && set.key(Some("2")).await.is_none());
    std::fs::write(file.path(), json!({"keys": [first.jwk("1"), second.jwk("2")]}).to_string()).unwrap();
    assert!(set.key(Some("2")).await.is_some(), "a new key is not found");
    assert!(set.key(None).await.is_none(), "one of two is guessed");
    std::fs::write(file.path(), "{").unwrap();
    assert!(set.key(Some("3")).await.is_none() && set.key(Some("2")).await.is_some());
    *keys.set.lock().unwrap() = Some(json!({"keys": []}));
}
