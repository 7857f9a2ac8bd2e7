//! Every route of the OpenAPI document, asked of the real binary by everybody: who has no right gets nowhere, and of two
//! tenants with things of the same names each reaches its own alone.
//!
//! Routes come from the document, so that none can be forgotten: one that wants more than the names of things that are
//! there fails here until [`filled`] knows what.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use serde_json::{Value, json};
use wasmill_tests::client::{self, Answer};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_transform::Digest;

const HOST: &str = r#"#whole
    [http]
    listen = "127.0.0.1:0"
    auth = { mode = "keys" }
    [buffer]
    journal_file = "1MiB"
    [streams.idle]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "idle" }]
    [tenants.acme.policy]
    directories = ["acme"]
    state = true
    [tenants.team.policy]
    directories = ["team"]
    state = true
"#;
/// Failed records of each tenant's `events`, so that letters with the same numbers are there whatever one removes.
const LETTERS: usize = 8;
/// Of a replay that both tenants have.
const REPLAY: &str = "abababababababababababababababab";
const JSON: &str = "content-type: application/json";
const LINES: &str = "content-type: application/x-ndjson";
const WASM: &str = "content-type: application/wasm";
/// Those that come once more answer otherwise: while something is on its way, and of what is still in use.
const LATER: [&str; 3] = ["busy", "changing", "in_use"];

/// One operation of the document.
struct Operation {
    method: String,
    path: String,
    id: String,
    /// The scope that it wants. `None`: open. Empty: any key.
    scope: Option<String>,
    takes_body: bool,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let needed = operation["security"].as_array().unwrap();
            let scope = |needed: &Value| needed["key"][0].as_str().unwrap_or_default().to_owned();
            found.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                id: operation["operationId"].as_str().unwrap().to_owned(),
                // Of what is signed, what a key in place of the signature needs is up to what is asked for: a push.
                scope: if path == "/" { Some("push".to_owned()) } else { needed.first().map(scope) },
                takes_body: !operation["requestBody"].is_null(),
            });
        }
    }
    found
}

/// A tenant, and who asks for it.
struct Tenant {
    name: &'static str,
    /// By scope, with the header lines that present it.
    keys: BTreeMap<&'static str, Vec<String>>,
    /// Of a key that nobody presents.
    key_id: String,
}

impl Tenant {
    fn with(&self, scope: &str) -> Vec<&str> {
        let scope = if scope.is_empty() { "read" } else { scope };
        self.keys[scope].iter().map(String::as_str).collect()
    }

    fn record(&self, fate: char) -> String {
        json!({ "do": fate.to_string(), "of": self.name, "user": format!("{}-user", self.name) }).to_string()
    }
}

struct Matrix {
    at: SocketAddr,
    operator: String,
    /// Of the versions of `step`, which both tenants have.
    digests: [String; 3],
    made: Cell<u32>,
}

/// A request without who asks.
struct Request {
    path: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn step(version: u32) -> Guest {
    Guest::obey(7).salted(version)
}

/// Without what passes while nothing is done.
fn lasting(mut shown: Value) -> Value {
    match &mut shown {
        Value::Object(fields) => {
            let moves = ["buffered_bytes", "buffered_bytes_max", "retained_bytes"];
            fields.retain(|name, _| !name.ends_with("_seconds") && !moves.contains(&name.as_str()));
            fields.values_mut().for_each(|value| *value = lasting(value.take()));
        }
        Value::Array(values) => {
            // Instances that nobody needs go by themselves.
            values.retain(|value| value["quota"] != "warm_memory" && value["quota"] != "buffered_bytes");
            values.iter_mut().for_each(|value| *value = lasting(value.take()));
        }
        _ => {}
    }
    shown
}

/// An answer with keys of tables as they were before they were encoded.
fn readable(answer: &Answer) -> String {
    let entries = answer.json()["entries"].as_array().cloned().unwrap_or_default();
    let keys = entries.iter().filter_map(|entry| {
        let key = entry["key_base64"].as_str()?;
        base64::engine::general_purpose::STANDARD.decode(key).ok()
    });
    let keys: String = keys.map(|key| String::from_utf8_lossy(&key).into_owned()).collect();
    format!("{} {keys}", answer.body)
}

fn key_id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

impl Matrix {
    /// From an address of its own, so that those who are refused are not put off.
    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let number = self.next();
        let from = Ipv4Addr::new(127, 2, (number >> 8) as u8, number as u8);
        client::request_from(from, self.at, method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error:#}"))
    }

    fn next(&self) -> u32 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    fn as_operator(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask(method, path, &[&self.operator, JSON], body.to_string().as_bytes())
    }

    /// As the tenant's admin, which must succeed.
    fn done(&self, who: &Tenant, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let mut headers = who.with("admin");
        headers.push(kind);
        let told = format!("{} {method} {path}", who.name);
        wait_for(&told, || {
            let answer = self.ask(method, path, &headers, body);
            if LATER.contains(&code(&answer).as_str()) {
                return None;
            }
            assert!((200..300).contains(&answer.status), "{told}: {answer:?}");
            Some(answer)
        })
    }

    fn key(&self, tenant: &str, scope: &str, expires_in: &str) -> String {
        let mut wanted = json!({ "name": format!("{tenant}-{scope}"), "scopes": [scope] });
        if !expires_in.is_empty() {
            wanted["expires_in"] = expires_in.into();
        }
        let acting = format!("wasmill-tenant: {tenant}");
        let headers = [self.operator.as_str(), JSON, &acting];
        let made = self.ask("POST", "/v1/keys", &headers, wanted.to_string().as_bytes());
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["secret"].as_str().unwrap().to_owned()
    }

    /// Everything that the matrix asks for, under names that both tenants have; and what one alone has.
    fn furnish(&self, name: &'static str, dedupe: &[u8]) -> Tenant {
        let made: BTreeMap<&'static str, String> = ["push", "read", "plugins", "admin"]
            .into_iter()
            .map(|scope| (scope, self.key(name, scope, "")))
            .collect();
        let bearer = |key: &String| vec![format!("authorization: Bearer {key}")];
        let keys = made.iter().map(|(scope, key)| (*scope, bearer(key))).collect();
        let tenant = Tenant { name, keys, key_id: key_id(&self.key(name, "read", "")).to_owned() };
        let upload = |plugin: &str, wasm: &[u8]| {
            self.done(&tenant, "POST", &format!("/v1/plugins?name={plugin}"), WASM, wasm);
        };
        upload("step", &step(0).wasm());
        self.done(&tenant, "POST", "/v1/plugins", WASM, dedupe);
        upload(&format!("only-{name}"), &Guest::pass(9).wasm());
        for stream in ["events", "kept", "spare", &format!("only-{name}")] {
            let definition = definition(name, stream);
            let path = format!("/v1/streams/{stream}");
            self.done(&tenant, "PUT", &path, JSON, definition.to_string().as_bytes());
        }
        for version in [1, 2] {
            upload("step", &step(version).wasm());
            wait_until("the newer version is live", || {
                let streams = self.done(&tenant, "GET", "/v1/streams", JSON, b"").json();
                let streams = streams.as_array().unwrap().iter();
                let mut events = streams.filter(|stream| stream["name"] == "events");
                events.any(|events| events["transforms"][0]["digest"] == self.digests[version as usize])
            });
        }
        let failed = vec![tenant.record('f'); LETTERS].join("\n");
        self.done(&tenant, "POST", "/v1/streams/events/records", LINES, failed.as_bytes());
        let letters = || self.done(&tenant, "GET", "/v1/streams/events/dead-letters", JSON, b"").json();
        wait_until("they are letters", || letters()["count"] == LETTERS);
        let plan = json!({ "id": REPLAY, "from": "-1h", "to": "now", "destination": "default" });
        let replays = "/v1/streams/events/replays";
        self.done(&tenant, "POST", replays, JSON, plan.to_string().as_bytes());
        self.count_one(&tenant);
        self.shadow(&tenant);
        tenant
    }

    fn count_one(&self, who: &Tenant) {
        let record = who.record('-');
        self.done(who, "POST", "/v1/streams/kept/records", LINES, record.as_bytes());
        // The table is there with its first entry.
        let headers = who.with("admin");
        let path = "/v1/streams/kept/state/dedupe/passed";
        let entries =
            || self.ask("GET", path, &headers, b"").json()["entries"].as_array().map_or(0, Vec::len);
        wait_until("it is kept", || entries() > 0);
    }

    fn shadow(&self, who: &Tenant) {
        let candidate = json!({ "digest": self.digests[0], "sample_percent": 100 }).to_string();
        self.done(who, "POST", "/v1/plugins/step/shadow", JSON, candidate.as_bytes());
    }

    /// What an operation needs to be there of the tenant that asks, where others have taken it away.
    fn prepare(&self, operation: &Operation, who: &Tenant) {
        let admin = [who.with("admin"), vec![JSON]].concat();
        let is_there = |path: &str| self.ask("GET", path, &admin, b"").status == 200;
        let shadows = is_there("/v1/plugins/step/shadow");
        match operation.id.as_str() {
            "startShadow" | "removeVersion" | "promotePlugin" | "rollbackPlugin" if shadows => {
                self.done(who, "DELETE", "/v1/plugins/step/shadow", JSON, b"");
            }
            "getShadow" | "stopShadow" if !shadows => self.shadow(who),
            "putStream" | "deleteStream" if !is_there("/v1/streams/spare") => {
                let definition = definition(who.name, "spare").to_string();
                self.done(who, "PUT", "/v1/streams/spare", JSON, definition.as_bytes());
            }
            "listEntries" | "dropTable" | "dropState" => self.count_one(who),
            _ => {}
        }
    }

    /// The request, about what is there of the tenant.
    fn filled(&self, operation: &Operation, who: &Tenant) -> Request {
        let number = self.next();
        let (id, path) = (operation.id.as_str(), operation.path.as_str());
        let mut headers = Vec::new();
        let stream = match id {
            "putStream" | "deleteStream" => "spare",
            _ if path.contains("/state") => "kept",
            _ => "events",
        };
        let mut path = if path.starts_with("/v1/tenants/{name}") {
            let name = format!("made-{number}");
            let made = self.as_operator("POST", "/v1/tenants", &json!({ "name": name }));
            assert_eq!(made.status, 201, "{made:?}");
            if id == "deleteTenant" {
                let disabled = self.as_operator("POST", &format!("/v1/tenants/{name}/disable"), &json!({}));
                assert_eq!(disabled.status, 200, "{disabled:?}");
            }
            path.replace("{name}", &name)
        } else if path.starts_with("/v1/keys/") {
            let changes = id != "getKey";
            let id =
                if changes { key_id(&self.key(who.name, "push", "")).to_owned() } else { who.key_id.clone() };
            path.replace("{id}", &id)
        } else {
            path.replace("{name}", if path.starts_with("/v1/plugins") { "step" } else { stream })
        };
        let letter = if operation.method == "DELETE" { "5" } else { "6" };
        for (parameter, value) in [
            ("{id}", REPLAY),
            ("{number}", letter),
            ("{transform}", "dedupe"),
            ("{table}", "passed"),
            ("{digest}", &self.digests[0]),
        ] {
            path = path.replace(parameter, value);
        }
        path.push_str(match id {
            "pushPlugin" => "?name=step",
            "removeLetters" => "?number=1-3",
            "replayLetters" => "?number=4",
            "dropState" => "?all=true",
            "sampleRecords" => "?wait=0s",
            "getUsage" => "?interval=day",
            _ => "",
        });
        let plan = || json!({ "id": format!("{number:032x}"), "from": "-1h", "to": "now", "destination": "default" });
        let data = base64::engine::general_purpose::STANDARD.encode(who.record('k'));
        let body = match id {
            "pushRecords" | "decide" => who.record('k'),
            "deliverRecords" => {
                json!({ "requestId": "a", "timestamp": 1, "records": [{ "data": data }] }).to_string()
            }
            "firehose" => {
                headers.push("x-amz-target: Firehose_20150804.PutRecord".to_owned());
                json!({ "DeliveryStreamName": "events", "Record": { "Data": data } }).to_string()
            }
            "createKey" => json!({ "name": "n", "scopes": ["push"] }).to_string(),
            "createTenant" => json!({ "name": format!("made-{number}") }).to_string(),
            "startReplay" => plan().to_string(),
            "startShadow" => json!({ "digest": self.digests[0] }).to_string(),
            "promotePlugin" => json!({ "digest": self.digests[1] }).to_string(),
            "setTenantQuotas" => json!({ "streams": 50 }).to_string(),
            "putStream" => {
                let shown = self.done(who, "GET", &path, JSON, b"");
                headers.push(format!("if-match: {}", shown.header("etag").unwrap()));
                let mut definition = definition(who.name, "spare");
                definition["outputs"][0]["interval"] = json!(format!("{}s", number % 800 + 1));
                definition.to_string()
            }
            _ if operation.takes_body => "{}".to_owned(),
            _ => String::new(),
        };
        let kind = match id {
            "pushPlugin" => WASM,
            "pushRecords" | "decide" => LINES,
            "firehose" => "content-type: application/x-amz-json-1.1",
            _ => JSON,
        };
        headers.push(kind.to_owned());
        let body = if id == "pushPlugin" { step(2).wasm() } else { body.into_bytes() };
        Request { path, headers, body }
    }

    fn send(&self, operation: &Operation, who: &[&str], request: &Request) -> Answer {
        let headers: Vec<&str> =
            who.iter().copied().chain(request.headers.iter().map(String::as_str)).collect();
        self.ask(&operation.method, &request.path, &headers, &request.body)
    }

    /// Everything that can be read of a tenant, by an operator: when its own keys were used last is a part of it.
    fn seen(&self, operations: &[Operation], who: &Tenant) -> BTreeMap<String, String> {
        let reads = operations.iter().filter(|operation| {
            let of_tenant = matches!(operation.scope.as_deref(), Some("read" | "admin"));
            // Which waits for what comes, and has nothing to show of what is there.
            operation.method == "GET" && of_tenant && operation.id != "sampleRecords"
        });
        let filled = reads.map(|operation| self.filled(operation, who).path);
        let more = ["/v1/streams/kept", "/v1/streams/spare", "/v1/plugins/dedupe"].map(str::to_owned);
        let acting = format!("wasmill-tenant: {}", who.name);
        let read = |path: String| {
            let answer = self.ask("GET", &path, &[&self.operator, &acting], b"");
            // What its owner has taken away is not there.
            assert!([200, 404].contains(&answer.status), "{path}: {answer:?}");
            (path, format!("{} {}", answer.status, lasting(answer.json())))
        };
        filled.chain(more).map(read).collect()
    }

    /// The same, once nothing is on its way any more.
    fn settled(&self, operations: &[Operation], who: &Tenant) -> BTreeMap<String, String> {
        let mut before = self.seen(operations, who);
        wait_for("nothing changes any more", || {
            let now = self.seen(operations, who);
            let is_settled = now == before;
            before.clone_from(&now);
            is_settled.then_some(now)
        })
    }
}

fn definition(tenant: &str, stream: &str) -> Value {
    let transforms = match stream {
        "events" => json!([{ "plugin": "step" }]),
        "kept" => json!([{ "plugin": "dedupe", "config": { "by": ["user"], "within": "24h" } }]),
        _ => json!([]),
    };
    let mut definition = json!({
        "source": { "type": "http" },
        "transforms": transforms,
        "outputs": [{ "type": "directory", "path": format!("{tenant}/{stream}"), "interval": "0s" }],
    });
    if stream == "events" {
        definition["max_failed_percent"] = json!(100);
        definition["retention"] = json!({ "age": "1h", "size": "1MiB" });
        definition["decide"] = json!({});
    }
    definition
}

fn first_key(binary: &Path, scratch: &Scratch) -> String {
    let mut command = Command::new(binary);
    command.args(["key", "create", "--operator", "--name", "first", "--config"]).arg(scratch.config());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let differs = |(path, now): (&String, &String)| {
        (before.get(path) != Some(now)).then(|| format!("{path}: {:?} is now {now}", before.get(path)))
    };
    after.iter().filter_map(differs).collect()
}

#[test]
fn every_route_is_for_whom_the_document_says_and_reaches_the_asking_tenant_s_own_things_alone() {
    let (Some(binary), Some(plugins)) = (binary(), std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from))
    else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return;
    };
    let dedupe = std::fs::read(plugins.join("dedupe.wasm")).unwrap();
    let scratch = Scratch::new(HOST);
    let operator = first_key(&binary, &scratch);
    let program = Program::start(&binary, &scratch.config());
    let matrix = Matrix {
        at: program.address(),
        operator: format!("authorization: Bearer {operator}"),
        digests: [0, 1, 2].map(|version| Digest::of(&step(version).wasm()).to_string()),
        made: Cell::new(0),
    };
    let document = matrix.ask("GET", "/v1/openapi.json", &[], b"").json();
    let operations = operations(&document);
    assert!(operations.len() > 50, "{}", operations.len());
    let [acme, mut team] = ["acme", "team"].map(|name| matrix.furnish(name, &dedupe));

    let expired = matrix.key("team", "admin", "1s");
    let revoked = matrix.key("team", "admin", "");
    let bearer = |key: &str| format!("authorization: Bearer {key}");
    let whoami = |key: &str| matrix.ask("GET", "/v1/whoami", &[&bearer(key)], b"").status;
    assert_eq!(whoami(&revoked), 200);
    let revoking = format!("/v1/keys/{}", key_id(&revoked));
    matrix.done(&team, "DELETE", &revoking, JSON, b"");
    wait_until("the key has expired", || whoami(&expired) == 401);
    let nobody = [("no key", None), ("expired", Some(bearer(&expired))), ("revoked", Some(bearer(&revoked)))];

    // Who gets nowhere.
    let mut before = matrix.settled(&operations, &team);
    for operation in &operations {
        let Some(needed) = &operation.scope else { continue };
        let request = matrix.filled(operation, &team);
        let told = format!("{} {}", operation.method, request.path);
        for (who, header) in &nobody {
            let headers: Vec<&str> = header.iter().map(String::as_str).collect();
            let answer = matrix.send(operation, &headers, &request);
            // In the words of that API.
            let expected = if operation.id == "firehose" { 400 } else { 401 };
            assert_eq!(answer.status, expected, "{told}, {who}: {answer:?}");
        }
        let enough =
            |scope: &str| needed.is_empty() || scope == needed || (scope == "admin" && needed != "operator");
        for scope in ["push", "read", "plugins", "admin"].into_iter().filter(|scope| !enough(scope)) {
            let answer = matrix.send(operation, &team.with(scope), &request);
            let expected = if operation.id == "firehose" { 400 } else { 403 };
            assert_eq!(answer.status, expected, "{told}, {scope}: {answer:?}");
        }
    }
    let after = matrix.seen(&operations, &team);
    // Refusals are in it, and so are the keys that were made to be asked for.
    for books in ["/v1/audit", "/v1/keys"] {
        before.remove(books);
    }
    let changed = differences(&before, &after);
    let changed: Vec<_> = changed.iter().filter(|line| !line.contains(": None is now")).collect();
    assert!(changed.is_empty(), "refused, and it changed: {changed:#?}");

    // An operator who acts for it is as good as its own keys.
    let acting = vec![matrix.operator.clone(), "wasmill-tenant: team".to_owned()];
    team.keys.values_mut().for_each(|headers| headers.clone_from(&acting));
    for (who, other) in [(&acme, &team), (&team, &acme)] {
        let before = matrix.settled(&operations, other);
        let unchanged = |told: &str| {
            let changed = differences(&before, &matrix.seen(&operations, other));
            assert!(changed.is_empty(), "{told} changed what is {}'s: {changed:#?}", other.name);
        };
        for operation in &operations {
            matrix.prepare(operation, who);
            let own = match operation.scope.as_deref() {
                None => vec![],
                Some("operator") => vec![matrix.operator.as_str()],
                Some(scope) => who.with(scope),
            };
            let request = matrix.filled(operation, who);
            let told = format!("{} {}, {}", operation.method, request.path, who.name);
            let answer = wait_for(&told, || {
                let answer = matrix.send(operation, &own, &request);
                (!LATER.contains(&code(&answer).as_str())).then_some(answer)
            });
            assert!((200..300).contains(&answer.status), "{told}: {answer:?}");
            if operation.scope.as_deref().is_some_and(|scope| scope != "operator") {
                let text = readable(&answer);
                let shown = [other.name, &other.key_id].into_iter().find(|theirs| text.contains(theirs));
                assert_eq!(shown, None, "{told}: {}", answer.body);
            }
            unchanged(&told);
        }
        // What only the other one has is not there.
        for operation in operations.iter().filter(|operation| operation.path.contains('{')) {
            if matches!(operation.scope.as_deref(), None | Some("operator")) || operation.id == "putStream" {
                continue;
            }
            let mut request = matrix.filled(operation, who);
            let (path, only) = (&operation.path, format!("only-{}", other.name));
            request.path = match path.split('/').nth(2) {
                Some("keys") => path.replace("{id}", &other.key_id),
                Some("streams" | "plugins") => {
                    let mut parts: Vec<&str> = request.path.split('/').collect();
                    let query =
                        parts[3].split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
                    let named = format!("{only}{query}");
                    parts[3] = &named;
                    parts.join("/")
                }
                _ => panic!("{path}: which of the other tenant's things is it about?"),
            };
            let told = format!("{} {}, {}", operation.method, request.path, who.name);
            let answer = matrix.send(operation, &who.with(operation.scope.as_deref().unwrap()), &request);
            assert_eq!(answer.status, 404, "{told}: {answer:?}");
        }
        unchanged("what is not there");
    }

    // Who looks at records as they pass sees its own.
    let sampled = std::thread::scope(|scope| {
        let sample = scope.spawn(|| {
            let headers = acme.with("read");
            client::request(program.address(), "GET", "/v1/streams/events/sample?records=1", &headers, b"")
        });
        while !sample.is_finished() {
            for who in [&team, &acme] {
                let record = who.record('k');
                matrix.done(who, "POST", "/v1/streams/events/records", LINES, record.as_bytes());
            }
        }
        sample.join().unwrap().unwrap()
    });
    assert!(sampled.body.contains("acme") && !sampled.body.contains("team"), "{}", sampled.body);
    program.stop();
    for (dir, other) in [("acme", "team"), ("team", "acme")] {
        let lines: Vec<String> = ["events", "kept"]
            .iter()
            .flat_map(|stream| objects::lines(&scratch.path(dir).join(stream)))
            .collect();
        assert!(!lines.is_empty() && !lines.iter().any(|line| line.contains(other)), "{dir}: {lines:?}");
    }
}
