//! Who is known at the listener, changed in the configuration file while the real binary runs.

use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SigningKey,
};
use serde_json::json;
use wasmill_tests::client;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

const STREAM: &str = r#"
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out" }]
    [tenants.team]
"#;

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of `key` for the tenant `team`.
fn token(key: &KeyPair, audience: &str) -> String {
    let soon = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(600);
    let claims = json!({
        "iss": "https://issuer.example", "aud": audience, "sub": "ann", "exp": soon.as_secs(), "owner": "team",
        "scope": "read",
    });
    let head = json!({"alg": "EdDSA", "kid": "k"});
    let signed = format!("{}.{}", encoded(head.to_string()), encoded(claims.to_string()));
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", encoded(signature))
}

#[test]
fn tokens_are_taken_as_the_file_says_now_and_not_as_it_said_at_the_start() {
    let Some(binary) = binary() else { return };
    let host = |jwt: &str| {
        format!(
            "#whole\n[http]\nlisten = \"127.0.0.1:0\"\n[http.auth]\nmode = \"keys\"\n{jwt}[buffer]\njournal_file = \"1MiB\"\n{STREAM}"
        )
    };
    let jwt = |audience: &str| {
        format!(
            "[http.auth.jwt]\njwks = \"jwks.json\"\nissuer = \"https://issuer.example\"\naudience = \"{audience}\"\ntenant_claim = \"owner\"\n"
        )
    };
    let scratch = Scratch::new(&host(""));
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": encoded(key.der_bytes())});
    std::fs::write(scratch.path("jwks.json"), json!({"keys": [jwk]}).to_string()).unwrap();
    let operator = Command::new(&binary)
        .args(["key", "create", "--operator", "--name", "first", "--config"])
        .arg(scratch.config())
        .output()
        .unwrap();
    assert!(operator.status.success(), "{}", String::from_utf8_lossy(&operator.stderr));
    let operator = String::from_utf8(operator.stdout).unwrap().trim().to_owned();
    let program = Program::start(&binary, &scratch.config());
    let ask = |bearer: &str, path: &str| {
        let bearer = format!("authorization: Bearer {bearer}");
        client::request(program.address(), "GET", path, &[&bearer], b"").unwrap()
    };
    let mut reloads = 0;
    let mut configure = |text: &str| {
        scratch.configure(text);
        reloads += 1;
        wait_until("the file is applied", || ask(&operator, "/v1/config").json()["reloads"] == reloads);
        let told = ask(&operator, "/v1/config").json();
        assert_eq!((&told["state"], &told["at_next_start"]), (&"applied".into(), &json!([])), "{told}");
    };
    let (ours, others) = (token(&key, "ours"), token(&key, "others"));
    let known = |token: &str| ask(token, "/v1/whoami").status;
    assert_eq!((known(&ours), known(&others)), (401, 401));
    configure(&host(&jwt("ours")));
    let who = ask(&ours, "/v1/whoami").json();
    assert_eq!(
        (&who["tenant"], &who["subject"], &who["scopes"]),
        (&"team".into(), &"ann".into(), &json!(["read"]))
    );
    assert_eq!(known(&others), 401);
    configure(&host(&jwt("others")));
    assert_eq!((known(&ours), known(&others)), (401, 200));
    configure(&host(""));
    assert_eq!((known(&ours), known(&others)), (401, 401));
    program.stop();
}

#[test]
fn certificates_are_whose_the_file_says_now() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let by = authority("tests");
    let signed = |name: &str| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &by).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = signed("server");
    let (edge, edge_key) = signed("edge");
    for (name, text) in [
        ("ca.crt", by.pem()),
        ("server.crt", certificate),
        ("server.key", key),
        ("edge.pem", format!("{edge}{edge_key}")),
    ] {
        std::fs::write(scratch.path(name), text).unwrap();
    }
    let host = |clients: &str| {
        format!(
            "#whole\n[http]\nlisten = \"127.0.0.1:0\"\nauth = {{ mode = \"keys\" }}\n[http.tls]\ncertificate = \"server.crt\"\n\
             key = \"server.key\"\nclient_ca = \"ca.crt\"\n{clients}[buffer]\njournal_file = \"1MiB\"\n{STREAM}"
        )
    };
    let edge = |scope: &str| {
        format!("[[http.tls.clients]]\nname = \"edge\"\ntenant = \"team\"\nscopes = [\"{scope}\"]\n")
    };
    scratch.configure(&host(""));
    let program = Program::start(&binary, &scratch.config());
    // What a command with the certificate is told: whether it may list streams.
    let listed = || {
        let output = Command::new(&binary)
            .args(["stream", "list", "--host", &format!("https://localhost:{}", program.address().port())])
            .arg("--ca")
            .arg(scratch.path("ca.crt"))
            .arg("--identity")
            .arg(scratch.path("edge.pem"))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (lists, told) = listed();
    assert!(!lists && told.contains("key"), "{told}");
    scratch.configure(&host(&edge("read")));
    wait_until("the certificate is known", || listed().0);
    scratch.configure(&host(&edge("push")));
    wait_until("it may no more", || !listed().0);
    let (_, told) = listed();
    assert!(told.contains("read"), "the scope that it lacks: {told}");
    scratch.configure(&host(&edge("read")));
    wait_until("it may again", || listed().0);
    scratch.configure(&host(""));
    wait_until("it is nobody's", || !listed().0);
    assert!(!program.says("takes effect at the next start"), "{:#?}", program.log());
    program.stop();
}
