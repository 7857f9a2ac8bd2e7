//! Every route of the OpenAPI document, asked with every kind of key: a route cannot be forgotten, nor open by mistake.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use wasmill_control::{AuditLog, Control, Entry};
use wasmill_tenant::{KeyText, NewKey, Scope, Scopes, TenantName};

use super::tests::{Fake, LIMITS, Program, heads};
use super::{Access, ListenLimits, now_ms, router, serve};

/// A server that wants keys, and what is behind it.
struct Server {
    address: SocketAddr,
    control: Arc<Control>,
    audit: Arc<AuditLog>,
    fake: Arc<Fake>,
    task: JoinHandle<()>,
    dir: tempfile::TempDir,
    /// So that each client has an address of its own, where it is to.
    client: AtomicU32,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn code(&self) -> String {
        let json: Value = serde_json::from_str(&self.body).unwrap_or_default();
        // In the form that Firehose reads, it begins the message.
        let message = json["errorMessage"].as_str().and_then(|message| message.split(": ").next());
        json["error"]["code"].as_str().or(message).unwrap_or_default().to_owned()
    }
}

impl Server {
    async fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let control = Arc::new(Control::open(dir.path()).unwrap());
        let audit = Arc::new(AuditLog::new(dir.path()));
        let access = Access::new(Arc::clone(&control), Arc::clone(&audit), true, false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake: Arc<Fake> = Arc::default();
        let routes = router(Arc::new(Program(Arc::clone(&fake))), LIMITS, access);
        let listen = ListenLimits { max_connections: 64, head_timeout: Duration::from_secs(5) };
        let task = tokio::spawn(serve(listener, listen, routes, None, std::future::pending()));
        Server { address, control, audit, fake, task, dir, client: AtomicU32::new(0) }
    }

    fn key(&self, tenant: &TenantName, scopes: &[Scope], expires_ms: Option<u64>) -> KeyText {
        let scopes: Scopes = scopes.iter().copied().collect();
        // Made when it had not expired yet.
        let made = expires_ms.map_or_else(now_ms, |expires| expires - 1);
        let new = NewKey { name: "test".to_owned(), scopes, expires_ms, signs: false };
        self.control.create_key(tenant, new, made).unwrap().0
    }

    /// One request from a client of its own, with these header lines.
    async fn ask(&self, method: &str, path: &str, headers: &[String], body: &str) -> Answer {
        let client = self.client.fetch_add(1, Ordering::Relaxed) + 1;
        let from = [127, 1, (client >> 8) as u8, client as u8];
        self.ask_from(from, method, path, headers, body).await
    }

    async fn ask_from(
        &self,
        from: [u8; 4],
        method: &str,
        path: &str,
        headers: &[String],
        body: &str,
    ) -> Answer {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut socket = socket.connect(self.address).await.unwrap();
        let length = body.len();
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n"
        );
        headers.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
        text.push_str(&format!("\r\n{body}"));
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Refused before its body was read, the connection may be reset behind the answer.
        drop(socket.read_to_end(&mut answer).await);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn log(&self, tenant: &TenantName) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut after = 0;
        loop {
            let page = self.audit.page(tenant, after, 1000).unwrap();
            entries.extend(page.entries);
            let Some(next) = page.next else { return entries };
            after = next;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bearer(text: &str) -> String {
    format!("authorization: Bearer {text}")
}

/// One operation of the document.
struct Operation {
    method: String,
    path: String,
    id: String,
    /// `None`: open. Empty: any key.
    scopes: Option<Vec<Scope>>,
    kind: Option<String>,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let needed = operation["security"].as_array().expect("every operation says what it needs");
            if needed.first().is_some_and(|needed| needed.get("signature").is_some()) {
                // It has a matrix of its own, of the operations of its API.
                continue;
            }
            let scopes = needed.first().map(|needed| {
                let scopes = needed["key"].as_array().unwrap();
                scopes.iter().map(|scope| scope.as_str().unwrap().parse().unwrap()).collect()
            });
            let kinds = operation["requestBody"]["content"].as_object();
            found.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                id: operation["operationId"].as_str().unwrap().to_owned(),
                scopes,
                kind: kinds.and_then(|kinds| kinds.keys().next().cloned()),
            });
        }
    }
    found
}

impl Operation {
    fn allowed(&self, scope: Scope) -> bool {
        let scopes: Scopes = [scope].into_iter().collect();
        self.scopes.as_ref().is_none_or(|needed| needed.iter().all(|needed| scopes.allow(*needed)))
    }

    /// A path with things that are there, and a body that makes sense. `number` makes them new.
    fn filled(&self, server: &Server, number: usize) -> (String, String) {
        let default = TenantName::default_tenant();
        let mut path = self.path.replace("{number}", "1");
        if path.starts_with("/v1/tenants/") {
            let name = TenantName::new(&format!("fresh-{number}")).unwrap();
            server.control.create_tenant(&server.audit, &name, now_ms()).unwrap();
            server.control.disable_tenant(&name, true, now_ms()).unwrap();
            path = path.replace("{name}", name.as_str());
        } else if path.starts_with("/v1/keys/") {
            let key = server.key(&default, &[Scope::Read], None);
            path = path.replace("{id}", key.id());
        }
        let name = if path.starts_with("/v1/plugins") { "parse" } else { "access" };
        let digest = format!("sha256:{}", "ab".repeat(32));
        let path = path.replace("{name}", name).replace("{id}", "r1").replace("{digest}", &digest);
        let body = match self.id.as_str() {
            "pushRecords" => "[1]".to_owned(),
            "deliverRecords" => {
                "{\"requestId\":\"a\",\"timestamp\":1,\"records\":[{\"data\":\"\"}]}".to_owned()
            }
            "createKey" => "{\"name\":\"n\",\"scopes\":[\"push\"]}".to_owned(),
            "createTenant" => format!("{{\"name\":\"made-{number}\"}}"),
            "startReplay" => "{\"from\":\"-2h\",\"to\":\"now\",\"destination\":\"default\"}".to_owned(),
            "putStream" => "{}".to_owned(),
            "startShadow" => format!("{{\"digest\":\"{digest}\"}}"),
            _ if self.kind.is_some() => "{}".to_owned(),
            _ => String::new(),
        };
        (path, body)
    }

    fn headers(&self, more: &[String]) -> Vec<String> {
        let mut headers = more.to_vec();
        if self.kind.is_some() {
            let is_file = self.kind.as_deref() == Some("application/wasm");
            headers.push(format!("content-type: application/{}", if is_file { "wasm" } else { "json" }));
        }
        headers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_open_to_whom_the_document_says_and_to_nobody_else() {
    let server = Server::start().await;
    let default = TenantName::default_tenant();
    let other = TenantName::new("other").unwrap();
    server.control.create_tenant(&server.audit, &other, now_ms()).unwrap();

    let document = server.ask("GET", "/v1/openapi.json", &[], "").await;
    let operations = operations(&serde_json::from_str(&document.body).unwrap());
    assert_eq!(operations.len(), heads().len() - 1, "all but that of the Firehose API");

    let revoked = server.key(&default, &Scope::ALL, None);
    server.control.verify(&revoked, now_ms()).unwrap();
    let operator: Scopes = [Scope::Operator].into_iter().collect();
    server.control.revoke_key(&default, revoked.id(), operator, now_ms()).unwrap();
    let good = server.key(&default, &Scope::ALL, None);
    let malformed = good.reveal().replace("wm_", "wm-");
    let last = if good.reveal().ends_with('x') { 'y' } else { 'x' };
    let mistyped = format!("{}{last}", &good.reveal()[..good.reveal().len() - 1]);
    let wrong = KeyText::with_id(good.id()).unwrap();
    let stranger = KeyText::draw().unwrap();
    let expired = server.key(&default, &Scope::ALL, Some(1000));
    let nobody: Vec<(&str, Vec<String>)> = vec![
        ("no key", vec![]),
        ("malformed", vec![bearer(&malformed)]),
        ("mistyped", vec![bearer(&mistyped)]),
        ("another scheme", vec![format!("authorization: Basic {}", good.reveal())]),
        ("two keys", vec![bearer(good.reveal()), bearer(good.reveal())]),
        ("unknown", vec![bearer(stranger.reveal())]),
        ("wrong secret", vec![bearer(wrong.reveal())]),
        ("expired", vec![bearer(expired.reveal())]),
        ("revoked", vec![bearer(revoked.reveal())]),
    ];
    let by_scope = Scope::ALL.map(|scope| (scope, server.key(&default, &[scope], None)));
    let elsewhere = server.key(&other, &[Scope::Admin], None);
    let keys_before = server.control.keys(&default, operator, now_ms()).unwrap().len();

    // Who must get nowhere.
    let mut refusals = BTreeSet::new();
    for operation in &operations {
        let told = format!("{} {}", operation.method, operation.path);
        let path =
            operation.path.replace("{name}", "access").replace("{id}", good.id()).replace("{number}", "1");
        for (who, headers) in &nobody {
            let answer = server.ask(&operation.method, &path, &operation.headers(headers), "{}").await;
            if operation.scopes.is_none() {
                assert!(![401, 403].contains(&answer.status), "{told}, open, {who}: {}", answer.head);
                continue;
            }
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{told}, {who}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{told}, {who}: {}", answer.head);
            if operation.id != "deliverRecords" {
                refusals.insert(answer.body);
            }
        }
        for (scope, key) in by_scope.iter().filter(|(scope, _)| !operation.allowed(*scope)) {
            let headers = operation.headers(&[bearer(key.reveal())]);
            let answer = server.ask(&operation.method, &path, &headers, "{}").await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{told}, {scope}");
        }
        // The header that names another tenant opens nothing to whoever is no operator.
        if operation.scopes.is_some() {
            for tenant in ["other", "nobody"] {
                let headers =
                    operation.headers(&[bearer(by_scope[3].1.reveal()), format!("wasmill-tenant: {tenant}")]);
                let answer = server.ask(&operation.method, &path, &headers, "{}").await;
                assert_eq!((answer.status, answer.code().as_str()), (404, "no_tenant"), "{told}, {tenant}");
            }
        }
    }
    assert_eq!(refusals.len(), 1, "401 tells keys apart: {refusals:?}");
    let logged = [server.log(&default), server.log(&other)].concat();
    let done: Vec<&Entry> = logged.iter().filter(|entry| entry.status < 400).collect();
    assert!(done.is_empty() && !logged.is_empty(), "refused, and something was done: {done:?}");
    assert_eq!(server.fake.count(), 0, "refused, and records were stored");
    assert_eq!(server.control.keys(&default, operator, now_ms()).unwrap().len(), keys_before);
    assert_eq!(server.control.tenants(now_ms()).len(), 2);
    let reasons: BTreeSet<&str> = logged.iter().filter_map(|entry| entry.reason.as_deref()).collect();
    assert!(reasons.contains("no key"), "{reasons:?}");

    // Another tenant sees and changes nothing of this one's.
    for (number, operation) in operations.iter().enumerate() {
        let told = format!("{} {}, another tenant", operation.method, operation.path);
        let (path, body) = operation.filled(&server, 1000 + number);
        let headers = operation.headers(&[bearer(elsewhere.reveal())]);
        let answer = server.ask(&operation.method, &path, &headers, &body).await;
        let of_one = operation.path.contains('{');
        match &operation.scopes {
            None => assert!(![401, 403].contains(&answer.status), "{told}: {}", answer.head),
            Some(scopes) if scopes.contains(&Scope::Operator) => assert_eq!(answer.status, 403, "{told}"),
            // It makes a stream of its own.
            Some(_) if operation.id == "putStream" => assert_eq!(answer.status, 201, "{told}"),
            Some(_) if of_one => assert_eq!(answer.status, 404, "{told}: {}", answer.body),
            Some(_) => {
                assert!((200..300).contains(&answer.status), "{told}: {}", answer.head);
                let theirs = [good.id(), "access", "parse", "\"default\""];
                let seen = theirs.iter().find(|name| answer.body.contains(**name));
                assert_eq!(seen, None, "{told}: {}", answer.body);
            }
        }
    }
    assert_eq!(server.fake.count(), 0, "records of another tenant were stored");

    // Who may.
    let mut changes = 0;
    for (number, operation) in operations.iter().enumerate() {
        for (place, (scope, key)) in by_scope.iter().enumerate() {
            if !operation.allowed(*scope) {
                continue;
            }
            let told = format!("{} {}, {scope}", operation.method, operation.path);
            let (path, body) = operation.filled(&server, number * 10 + place);
            let headers = operation.headers(&[bearer(key.reveal())]);
            let answer = server.ask(&operation.method, &path, &headers, &body).await;
            assert!(![0, 401, 403, 405, 429].contains(&answer.status), "{told}: {}", answer.head);
            let head = heads().into_iter().find(|head| {
                (head.method, head.path) == (operation.method.as_str(), operation.path.as_str())
            });
            if operation.method != "GET"
                && !["pushRecords", "deliverRecords", "decide"].contains(&operation.id.as_str())
            {
                changes += 1;
                let last = server.log(&default).pop().unwrap();
                assert_eq!(last.who.key.as_deref(), Some(key.id()), "{told}");
                assert_eq!((last.route.as_str(), last.status), (head.unwrap().path, answer.status), "{told}");
            }
        }
    }
    assert!(changes > 20 && server.fake.count() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_key_of_firehose_is_a_key_of_the_tenant() {
    let server = Server::start().await;
    let default = TenantName::default_tenant();
    let [push, read] = [Scope::Push, Scope::Read].map(|scope| server.key(&default, &[scope], None));
    let body = "{\"requestId\":\"a\",\"timestamp\":1,\"records\":[{\"data\":\"\"}]}";
    let ask = async |headers: &[String]| {
        let json = [headers, &["content-type: application/json".to_owned()]].concat();
        server.ask("POST", "/v1/streams/access/firehose", &json, body).await
    };
    let access = |key: &KeyText| format!("x-amz-firehose-access-key: {}", key.reveal());
    assert_eq!(ask(&[access(&push)]).await.status, 200);
    assert_eq!(server.fake.count(), 1);
    let unknown = KeyText::draw().unwrap();
    for (headers, status, code) in [
        (vec![], 401, "unauthorized"),
        (vec![access(&unknown)], 401, "unauthorized"),
        (vec!["x-amz-firehose-access-key: hello".to_owned()], 401, "unauthorized"),
        (vec![access(&push), access(&push)], 401, "unauthorized"),
        (vec![access(&read)], 403, "forbidden"),
        // What is a key elsewhere is what it says it is.
        (vec![access(&push), bearer(read.reveal())], 403, "forbidden"),
    ] {
        let answer = ask(&headers).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{headers:?}");
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(told["timestamp"].is_u64() && told["requestId"].is_string(), "{told}");
    }
    // It opens no other route.
    let json = [access(&push), "content-type: application/json".to_owned()];
    assert_eq!(server.ask("POST", "/v1/streams/access/records", &json, "[1]").await.status, 401);
    assert_eq!(server.fake.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_an_answer_a_log_or_a_file_but_where_it_is_made() {
    let server = Server::start().await;
    let operator = server.key(&TenantName::default_tenant(), &[Scope::Operator], None);
    let key = [bearer(operator.reveal())];
    let json = [key[0].clone(), "content-type: application/json".to_owned()];
    let made = server.ask("POST", "/v1/keys", &json, "{\"name\":\"n\",\"scopes\":[\"read\"]}").await;
    assert!(made.status == 201 && made.head.contains("cache-control: no-store"), "{}", made.head);
    let made: Value = serde_json::from_str(&made.body).unwrap();
    let text = KeyText::parse(made["secret"].as_str().unwrap()).unwrap();
    let id = made["key"]["id"].as_str().unwrap();
    assert_eq!(text.id(), id);
    let rotated = server.ask("POST", &format!("/v1/keys/{id}/rotate"), &json, "").await;
    let rotated: Value = serde_json::from_str(&rotated.body).unwrap();
    let newer = KeyText::parse(rotated["secret"].as_str().unwrap()).unwrap();
    let who = server.ask("GET", "/v1/whoami", &[bearer(newer.reveal())], "").await;
    assert!(who.body.contains(&format!("\"key\":\"{id}\"")), "{}", who.body);
    let wrong = server.ask("GET", "/v1/whoami", &[bearer(&format!("{}z", newer.reveal()))], "").await;
    let mut seen = vec![who.head + &who.body, wrong.head + &wrong.body];
    for path in ["/v1/keys", "/v1/audit", "/metrics", &format!("/v1/keys/{id}")] {
        let answer = server.ask("GET", path, &key, "").await;
        assert_eq!(answer.status, 200, "{path}");
        seen.push(answer.head + &answer.body);
    }
    let mut dirs: Vec<PathBuf> = vec![server.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                seen.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(seen.len() > 8, "no files were found");
    for secret in [&operator, &text, &newer] {
        let secret = &secret.reveal()[16..40];
        assert!(!seen.iter().any(|seen| seen.contains(secret)), "a secret is shown: {seen:?}");
    }
    assert!(seen.iter().any(|seen| seen.contains(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_wrong_keys_of_one_address_are_put_off_and_a_key_that_is_known_is_not() {
    let server = Server::start().await;
    let default = TenantName::default_tenant();
    let [known, late] = [(); 2].map(|()| server.key(&default, &[Scope::Read], None));
    let (here, there) = ([127, 0, 0, 9], [127, 0, 0, 10]);
    let whoami = async |from, key: &KeyText| {
        server.ask_from(from, "GET", "/v1/whoami", &[bearer(key.reveal())], "").await
    };
    assert_eq!(whoami(here, &known).await.status, 200);
    let mut answers = BTreeSet::new();
    let mut last = None;
    for _ in 0..40 {
        let answer = whoami(here, &KeyText::draw().unwrap()).await;
        answers.insert(answer.status);
        last = Some(answer);
    }
    let last = last.unwrap();
    // Nothing is given back to it for an hour, however slow this machine is.
    let later = now_ms() + 3_600_000;
    while server.control.attempt(here.into(), later).is_ok() {}
    assert_eq!(answers, BTreeSet::from([401, 429]));
    assert!(last.status == 429 && last.head.contains("retry-after: 1"), "{}", last.head);
    assert_eq!(last.code(), "too_many_failures");
    assert_eq!((whoami(here, &known).await.status, whoami(here, &late).await.status), (200, 429));
    assert_eq!(whoami(there, &late).await.status, 200);
    assert_eq!(whoami(here, &late).await.status, 200, "what was verified elsewhere is known");
}

/// As after a restart, of clients behind one proxy.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_keys_that_are_seen_first_at_once_from_one_address_are_all_let_in() {
    let server = Server::start().await;
    let default = TenantName::default_tenant();
    let keys: Vec<KeyText> = (0..400).map(|_| server.key(&default, &[Scope::Read], None)).collect();
    let asked =
        keys.iter().map(async |key| server.ask("GET", "/v1/whoami", &[bearer(key.reveal())], "").await);
    let answers = futures::future::join_all(asked).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(refused.is_empty(), "{} refused: {}", refused.len(), refused[0].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_acts_for_a_tenant_and_its_admin_sees_who_did_what() {
    let server = Server::start().await;
    let operator = server.key(&TenantName::default_tenant(), &[Scope::Operator], None);
    let key = bearer(operator.reveal());
    let json = "content-type: application/json".to_owned();
    let made = server.ask("POST", "/v1/tenants", &[key.clone(), json.clone()], "{\"name\":\"team\"}").await;
    assert_eq!(made.status, 201, "{}", made.body);
    let acting = [key.clone(), json.clone(), "wasmill-tenant: team".to_owned()];
    let body = "{\"name\":\"boss\",\"scopes\":[\"admin\"],\"expires_in\":\"90d\"}";
    let made = server.ask("POST", "/v1/keys", &acting, body).await;
    let made: Value = serde_json::from_str(&made.body).unwrap();
    let (admin, id) = (bearer(made["secret"].as_str().unwrap()), made["key"]["id"].as_str().unwrap());
    let who = server.ask("GET", "/v1/whoami", std::slice::from_ref(&admin), "").await;
    assert!(who.body.contains("\"tenant\":\"team\""), "{}", who.body);
    // An operator's key is made nowhere else than in the tenant default, and by no admin.
    for (headers, body) in [
        (&acting[..], "{\"name\":\"x\",\"scopes\":[\"operator\"]}"),
        (&[admin.clone(), json.clone()], "{\"name\":\"x\",\"scopes\":[\"operator\"]}"),
        (&[admin.clone(), json.clone()], "{\"name\":\"x\",\"scopes\":[\"pusch\"]}"),
        (&[admin.clone(), json.clone()], "{\"name\":\"x\",\"scopes\":[\"push\"],\"expires_in\":\"soon\"}"),
        (&[admin.clone(), json.clone()], "{\"name\":\"x\",\"scope\":[\"push\"]}"),
        (&[admin.clone(), json.clone()], "{\"name\":\"x\",\"scopes\":[]}"),
    ] {
        let refused = server.ask("POST", "/v1/keys", headers, body).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "bad_query"), "{body}: {}", refused.body);
    }
    let log = server.ask("GET", "/v1/audit?limit=1", std::slice::from_ref(&admin), "").await;
    let log: Value = serde_json::from_str(&log.body).unwrap();
    let first = &log["entries"][0];
    assert_eq!(
        (first["target"].as_str(), first["status"].as_u64()),
        (Some(&*format!("/v1/keys/{id}")), Some(201))
    );
    assert_eq!(
        (first["who"]["key"].as_str(), first["who"]["tenant"].as_str()),
        (Some(operator.id()), Some("default"))
    );
    assert_eq!(log["next"], 1);

    let disable = server.ask("POST", "/v1/tenants/team/disable", std::slice::from_ref(&key), "").await;
    assert_eq!(disable.status, 200);
    assert_eq!(server.ask("GET", "/v1/whoami", std::slice::from_ref(&admin), "").await.status, 401);
    let deleted = server.ask("DELETE", "/v1/tenants/team", std::slice::from_ref(&key), "").await;
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    // Whoever gets the name next has another log.
    server.ask("POST", "/v1/tenants", &[key.clone(), json], "{\"name\":\"team\"}").await;
    let log = server.ask("GET", "/v1/audit", &acting, "").await;
    assert!(log.body.contains("\"entries\":[]"), "{}", log.body);
    let refused = server.log(&TenantName::default_tenant());
    assert!(refused.iter().any(|entry| entry.route == "/v1/tenants" && entry.target == "/v1/tenants/team"));
}

#[tokio::test(flavor = "multi_thread")]
async fn change_whose_client_went_away_is_in_the_log() {
    let server = Server::start().await;
    let default = TenantName::default_tenant();
    let operator = server.key(&default, &[Scope::Operator], None);
    for number in 0..10 {
        let body = format!("{{\"name\":\"gone-{number}\"}}");
        let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "POST /v1/tenants HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{}\r\n\r\n{body}",
            body.len(),
            bearer(operator.reveal())
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let made = || server.control.tenants(now_ms()).len() - 1 > number;
        eventually("the tenant is made", made).await;
        drop(socket);
        let logged = || {
            let log = server.log(&default);
            log.iter().filter(|entry| entry.status == 201).count() > number
        };
        eventually("what was made is in the log", logged).await;
    }
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(tokio::time::Instant::now() < until, "{what}: not within 20 s");
        tokio::task::yield_now().await;
    }
}
