//! The routes over a real connection, against a program that is a few lines.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmill_control::{AuditLog, Control, ControlError};
use wasmill_ingest::{Append, AppendError, Receipt, RecordBatch};
use wasmill_tenant::{Quotas, TenantName};

use super::access::RouteHead;
use super::source::Pushed;
use super::{Absence, Access, ApiLimits, Host, LettersRequest, ListenLimits, ReplaysRequest, router, serve};
use crate::pipeline::{
    DefineAnswer, DefineError, DefineRequest, FirehoseSettings, Flaw, HistoryError, LeftError, LettersError,
    PluginFile, SampleError, SampledSlice, StateDeskError, StateRequest, TenantQuota, UsageError, UsagePage,
    UsageQuery, UsageReader, VersionsError, VersionsRequest, When, stats::StreamStats,
};

#[derive(Default)]
pub(super) struct Fake {
    pub(super) next: Mutex<Option<AppendError>>,
    pub(super) count: Mutex<u64>,
    /// Of every tenant; without: no limits.
    pub(super) quota: Option<Arc<TenantQuota>>,
    /// Nobody gets a receipt.
    pub(super) holds: bool,
    pub(super) stats: Arc<StreamStats>,
}

impl Pushed for Fake {
    fn source_names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn source(&self, name: &str) -> wasmill_ingest::Position {
        wasmill_ingest::Position { name: name.to_owned(), partition: 0, position: Vec::new() }
    }

    fn decide(
        &self,
        _batch: RecordBatch,
        _ticket: crate::pipeline::Ticket,
        _receipt: impl FnOnce(Option<&AppendError>) + Send + 'static,
    ) -> impl Future<Output = Result<Option<crate::pipeline::Answer>, AppendError>> + Send + 'static {
        std::future::ready(Err(AppendError::Closed))
    }
}

impl Append for Fake {
    fn append(
        &self,
        batch: RecordBatch,
    ) -> impl Future<Output = Result<Receipt, AppendError>> + Send + 'static {
        let mut count = self.count.lock().unwrap();
        let result = match self.next.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(Receipt {
                first_offset: *count,
                count: batch.len() as u32,
                // The second request of a number is one.
                duplicate: batch.numbered.as_ref().is_some_and(|numbered| numbered.sequence < *count),
            }),
        };
        if result.is_ok() {
            *count += batch.len() as u64;
        }
        let holds = self.holds;
        async move { if holds { std::future::pending().await } else { result } }
    }

    fn position(&self, _: &str, _: u32) -> Result<Option<Vec<u8>>, AppendError> {
        Ok(None)
    }
}

impl Fake {
    /// Records that were stored.
    pub(super) fn count(&self) -> u64 {
        *self.count.lock().unwrap()
    }
}

pub(super) struct Program(pub(super) Arc<Fake>);

impl Host for Program {
    type Append = Fake;
    fn quota(&self, _: &TenantName) -> Arc<TenantQuota> {
        self.0.quota.clone().unwrap_or_else(TenantQuota::without_limits)
    }
    fn quotas_of_file(&self, tenant: &TenantName) -> Quotas {
        // Of nobody but one of the tests.
        let streams = (tenant.as_str() == "filed").then_some(7);
        Quotas { streams, ..Quotas::default() }
    }
    fn set_quotas(&self, _: &TenantName, _: &Quotas) {}
    fn quotas_used(&self, _: &TenantName) -> serde_json::Value {
        serde_json::json!({ "streams": 1 })
    }
    fn file_of(&self, tenant: &TenantName) -> Option<String> {
        (tenant.as_str() == "filed").then(|| "wasmill.toml".to_owned())
    }
    async fn usage(
        &self,
        tenant: String,
        query: UsageQuery,
        rows: usize,
        reader: UsageReader,
    ) -> Result<UsagePage, UsageError> {
        if self.0.holds && !reader.waits {
            return Err(UsageError::TooMany);
        }
        // Three spans of one row, from the third hour on; a page has no more than two of them here.
        let spans = (query.from.max(3)..6).take(rows.min(2)).collect::<Vec<_>>();
        let next = spans.last().map(|last| last + 1).filter(|next| *next < 6);
        let row =
            |n: u64| serde_json::json!({ "n": n - 3, "tenant": tenant, "by": format!("{:?}", query.by) });
        Ok(UsagePage { rows: spans.into_iter().map(row).collect(), next })
    }
    async fn usage_tenants(&self) -> Result<Vec<String>, UsageError> {
        Ok(vec!["default".to_owned(), "team.removed-7".to_owned()])
    }
    async fn forget_streams(&self, _: &TenantName, _: bool) -> Result<(), LeftError> {
        Ok(())
    }
    async fn forget_usage(&self, _: &TenantName) -> Result<(), LeftError> {
        Ok(())
    }
    async fn forget_plugins(&self, _: &TenantName) -> Result<(), LeftError> {
        Ok(())
    }
    fn stream(&self, tenant: &TenantName, name: &str) -> Result<Arc<Fake>, Absence> {
        match name {
            "access" if tenant.is_default() => Ok(Arc::clone(&self.0)),
            "idle" => Err(Absence::Idle),
            _ => Err(Absence::None),
        }
    }
    fn is_changing(&self, _: &TenantName, name: &str) -> bool {
        name == "changing"
    }
    async fn define(
        &self,
        tenant: TenantName,
        stream: String,
        request: DefineRequest,
    ) -> Result<DefineAnswer, DefineError> {
        let there = tenant.is_default() && stream == "access";
        match request {
            DefineRequest::Put { definition, .. } if definition == serde_json::json!({"bad": 1}) => {
                let flaw = Flaw { key: "bad".to_owned(), message: "unknown key \"bad\"".to_owned() };
                Err(DefineError::Flaws(vec![flaw]))
            }
            DefineRequest::Put { .. } if stream == "one-too-many" => {
                Err(DefineError::Control(ControlError::TooManyStreams { name: tenant, max: 7 }))
            }
            DefineRequest::Put { when: When::Unsaid, .. } if there => {
                Err(DefineError::Unsaid { stream, version: 3 })
            }
            DefineRequest::Put { when: When::Version(1), .. } => {
                Err(DefineError::Stale { stream, version: Some(3) })
            }
            DefineRequest::Put { .. } => {
                let body = serde_json::json!({});
                Ok(DefineAnswer { version: Some(4), created: !there, body, origin: None })
            }
            _ if !there => Err(DefineError::NoStream { stream }),
            request => Ok(DefineAnswer {
                version: Some(3),
                created: false,
                body: serde_json::json!(format!("{request:?}")),
                origin: None,
            }),
        }
    }
    fn counted(&self, tenant: &TenantName, name: &str) -> Option<Arc<StreamStats>> {
        (tenant.is_default() && name == "access").then(|| Arc::clone(&self.0.stats))
    }
    fn firehose(&self) -> FirehoseSettings {
        FirehoseSettings {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            endpoint: None,
            path_style: false,
            kinesis_endpoint: None,
            encrypted_disk: false,
            schemas: std::collections::BTreeMap::new(),
        }
    }
    fn origin(&self, _: &TenantName, _: &str) -> Option<Arc<serde_json::Value>> {
        None
    }
    fn has_stream(&self, tenant: &TenantName, name: &str) -> bool {
        tenant.is_default() && name == "access"
    }
    fn has_plugin(&self, tenant: &TenantName, name: &str) -> bool {
        tenant.is_default() && name == "parse"
    }
    fn streams_of(&self, tenant: &TenantName) -> usize {
        usize::from(tenant.is_default())
    }
    fn streams(&self, _: &TenantName) -> serde_json::Value {
        serde_json::json!([])
    }
    fn plugins(&self, _: &TenantName) -> serde_json::Value {
        serde_json::json!([])
    }
    async fn state(
        &self,
        tenant: TenantName,
        stream: String,
        request: StateRequest,
    ) -> Result<serde_json::Value, StateDeskError> {
        if stream != "access" || !tenant.is_default() {
            return Err(StateDeskError::NoStream { stream });
        }
        Ok(serde_json::json!(format!("{request:?}")))
    }
    fn decider(&self, _tenant: &TenantName, _name: &str) -> Option<crate::pipeline::Decider> {
        None
    }
    async fn dead_letters(
        &self,
        tenant: TenantName,
        stream: String,
        request: LettersRequest,
    ) -> Result<serde_json::Value, LettersError> {
        if stream != "access" || !tenant.is_default() {
            return Err(LettersError::NoStream { stream });
        }
        match request {
            LettersRequest::Get(number) => Err(LettersError::NoLetter { stream, number }),
            LettersRequest::Replay { .. } => Err(LettersError::Busy { stream }),
            request => Ok(serde_json::json!(format!("{request:?}"))),
        }
    }
    async fn replays(
        &self,
        tenant: TenantName,
        stream: String,
        request: ReplaysRequest,
    ) -> Result<serde_json::Value, HistoryError> {
        if !tenant.is_default() {
            return Err(HistoryError::NoStream { stream });
        }
        match request {
            ReplaysRequest::Get(id) => Err(HistoryError::NoReplay { stream, id }),
            ReplaysRequest::Start(plan) if plan.from == "now" => Err(HistoryError::Busy { running: 2 }),
            request => Ok(serde_json::json!(format!("{request:?}"))),
        }
    }
    async fn sample(
        &self,
        tenant: TenantName,
        stream: String,
        records: usize,
        _wait: Duration,
    ) -> Result<SampledSlice, SampleError> {
        if !tenant.is_default() {
            return Err(SampleError::NoStream { stream });
        }
        match records {
            _ if stream != "access" => Err(SampleError::NoStream { stream }),
            7 => Err(SampleError::TooMany),
            _ => Ok(SampledSlice::default()),
        }
    }
    async fn versions(
        &self,
        tenant: TenantName,
        plugin: String,
        request: VersionsRequest,
    ) -> Result<serde_json::Value, VersionsError> {
        if plugin != "parse" || !tenant.is_default() {
            return Err(VersionsError::NoPlugin { name: plugin, nearest: Some("parse".to_owned()) });
        }
        match request {
            VersionsRequest::Promote(None) => {
                Err(VersionsError::NotNow { code: "already_live", message: "it is live".to_owned() })
            }
            VersionsRequest::Rollback => Err(VersionsError::Unfit {
                digest: crate::pipeline::Digest([0; 32]),
                reasons: "no".to_owned(),
            }),
            request => Ok(serde_json::json!(format!("{request:?}"))),
        }
    }
    async fn upload(
        &self,
        _: TenantName,
        name: Option<String>,
        file: PluginFile,
        _signature: Option<Vec<u8>>,
    ) -> Result<serde_json::Value, VersionsError> {
        match &file.wasm[..] {
            b"bad" => {
                let reason = "it is no component".to_owned();
                Err(VersionsError::File(crate::pipeline::AddError::Refused { reason }))
            }
            _ => Ok(serde_json::json!({ "plugin": name })),
        }
    }
    fn file(&self) -> serde_json::Value {
        serde_json::json!({})
    }
    async fn ready(&self) -> Result<(), String> {
        Err("stream access is starting".to_owned())
    }
    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }
}

/// All routes.
pub(super) fn heads() -> Vec<RouteHead> {
    super::routes::routes::<Program>().iter().map(|route| route.head).collect()
}

/// Of a data directory.
fn access(data: &Path, keys: bool) -> Access {
    let (control, audit) = (Control::open(data).unwrap(), AuditLog::new(data));
    Access::new(Arc::new(control), Arc::new(audit), keys, false)
}

/// Sends one request with these header lines; the whole answer.
pub(super) async fn request(fake: &Arc<Fake>, head: &str, body: &[u8]) -> String {
    let head = format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n");
    send(fake, &[head.as_bytes(), body].concat()).await
}

pub(super) const LIMITS: ApiLimits = ApiLimits {
    max_body: 1000,
    max_record: 100,
    max_records: 3,
    read_timeout: Duration::from_millis(200),
    max_plugin: 2000,
    plugin_uploads: true,
};

/// A server, and a connection to it.
pub(super) async fn connect(fake: &Arc<Fake>) -> (tokio::task::JoinHandle<()>, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let data = tempfile::tempdir().unwrap();
    let routes = router(Arc::new(Program(Arc::clone(fake))), LIMITS, access(data.path(), false));
    let listen = ListenLimits { max_connections: 4, head_timeout: Duration::from_millis(200) };
    let server = tokio::spawn(async move {
        serve(listener, listen, routes, None, std::future::pending()).await;
        drop(data);
    });
    (server, tokio::net::TcpStream::connect(address).await.unwrap())
}

/// Sends these bytes and reads until the server closes the connection.
async fn send(fake: &Arc<Fake>, bytes: &[u8]) -> String {
    let (server, mut socket) = connect(fake).await;
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A server that refuses before it has read the body may reset the connection behind its answer.
    drop(socket.read_to_end(&mut answer).await);
    server.abort();
    String::from_utf8(answer).unwrap()
}

async fn push(fake: &Arc<Fake>, headers: &str, body: &[u8]) -> String {
    let length = body.len();
    let head = format!("POST /v1/streams/access/records HTTP/1.1\r\ncontent-length: {length}\r\n{headers}");
    request(fake, &head, body).await
}

pub(super) const NDJSON: &str = "content-type: application/x-ndjson";

#[tokio::test]
async fn push_is_answered_with_count_and_offsets() {
    let fake = Arc::default();
    let first = push(&fake, NDJSON, b"{}\n{}\n").await;
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    let second = push(&fake, "content-type: application/json; charset=utf-8", b"[1, 2]").await;
    assert!(second.ends_with(r#"{"first_offset":2,"last_offset":3,"records":2}"#), "{second}");
}

#[tokio::test]
async fn push_that_is_numbered_says_whether_it_was_stored_before() {
    let fake = Arc::default();
    let numbered = format!("{NDJSON}\r\nWasmill-Producer: p\r\nWasmill-Sequence: 0");
    let first = push(&fake, &numbered, b"{}\n").await;
    assert!(
        first.ends_with(r#"{"duplicate":false,"first_offset":0,"last_offset":0,"records":1}"#),
        "{first}"
    );
    let second = push(&fake, &numbered, b"{}\n").await;
    assert!(second.contains(r#""duplicate":true"#), "{second}");
    let wrong = push(&fake, &format!("{NDJSON}\r\nWasmill-Producer: p"), b"{}\n").await;
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("bad_producer"), "{wrong}");
    let wrong = push(&fake, &format!("{numbered}x"), b"{}\n").await;
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("Wasmill-Sequence"), "{wrong}");
}

#[tokio::test]
async fn head_that_does_not_come_ends_its_connection() {
    let answer = send(&Arc::default(), b"POST /v1/streams/access/records HTTP/1.1\r\nhost:").await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn stop_finishes_the_request_that_has_begun() {
    let fake = Arc::<Fake>::default();
    let limits = ApiLimits {
        max_body: 1000,
        max_record: 100,
        max_records: 3,
        read_timeout: Duration::from_secs(5),
        max_plugin: 2000,
        plugin_uploads: true,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let data = tempfile::tempdir().unwrap();
    let routes = router(Arc::new(Program(Arc::clone(&fake))), limits, access(data.path(), false));
    let listen = ListenLimits { max_connections: 4, head_timeout: Duration::from_secs(5) };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, listen, routes, None, async { drop(stopped.await) }));
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/streams/access/records HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n{NDJSON}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body once its handler runs.
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"), "{go_on:?}");
    stop.send(()).unwrap();
    socket.write_all(b"{}\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn push_compressed_is_opened_under_the_limit() {
    let fake = Arc::default();
    // "{}\n" as one gzip member.
    let gzip = [31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 174, 229, 2, 0, 6, 176, 161, 221, 3, 0, 0, 0];
    let answer = push(&fake, &format!("{NDJSON}\r\ncontent-encoding: gzip"), &gzip).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"records\":1"), "{answer}");
    let broken = push(&fake, &format!("{NDJSON}\r\ncontent-encoding: zstd"), b"nonsense").await;
    assert!(broken.starts_with("HTTP/1.1 400") && broken.contains("corrupt_body"), "{broken}");
}

#[tokio::test]
async fn push_over_a_limit_is_413_and_stores_nothing() {
    let fake: Arc<Fake> = Arc::default();
    for (body, code) in [
        (vec![b'x'; 1001], "body_too_large"),
        (vec![b'x'; 101], "record_too_large"),
        (b"1\n2\n3\n4\n".to_vec(), "too_many_records"),
    ] {
        let answer = push(&fake, NDJSON, &body).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains(code), "{answer}");
    }
    assert_eq!(*fake.count.lock().unwrap(), 0);
}

#[tokio::test]
async fn push_refused_by_the_buffer_maps_to_its_status() {
    let fake: Arc<Fake> = Arc::default();
    for (error, status, what) in [
        (AppendError::Full { retry_after: Duration::from_millis(1500) }, 429, "retry-after: 2"),
        (AppendError::Producers { max: 9, retry_after: Duration::from_secs(60) }, 429, "retry-after: 60"),
        (
            AppendError::Conflict { producer: "p".into(), sequence: 7, first_offset: 3, last_offset: 4 },
            409,
            "\"sequence_conflict\",\"message\":\"sequence 7 of producer \\\"p\\\" was used before, for other records (offsets 3 to 4)",
        ),
        (
            AppendError::Forgotten { producer: "p".into(), sequence: 7, floor: 9 },
            409,
            "\"sequence_forgotten\",\"message\":\"sequence 7 of producer \\\"p\\\" is no longer remembered",
        ),
        (
            AppendError::Unavailable { reason: "the disk is full".into() },
            503,
            "\"unavailable\",\"message\":\"buffer is unavailable: the disk is full\"",
        ),
        (AppendError::Unknown, 503, "\"unknown\""),
        (AppendError::Closed, 503, "\"closed\""),
    ] {
        *fake.next.lock().unwrap() = Some(error);
        let answer = push(&fake, NDJSON, b"{}\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(what), "{answer}");
    }
}

#[tokio::test]
async fn push_that_cannot_be_understood_is_refused() {
    let fake = Arc::default();
    let unknown = "POST /v1/streams/other/records HTTP/1.1\r\ncontent-length: 0";
    assert!(request(&fake, unknown, b"").await.starts_with("HTTP/1.1 404"));
    assert!(push(&fake, "content-type: text/html", b"x").await.starts_with("HTTP/1.1 415"));
    let utf_16 = push(&fake, &format!("{NDJSON}; charset=utf-16"), b"x").await;
    assert!(utf_16.starts_with("HTTP/1.1 415") && utf_16.contains("utf-8 or us-ascii"), "{utf_16}");
    assert!(
        push(&fake, &format!("{NDJSON}\r\ncontent-encoding: br"), b"x").await.starts_with("HTTP/1.1 415")
    );
    assert!(push(&fake, "content-type: application/json", b"{}").await.starts_with("HTTP/1.1 400"));
    let slow = format!("POST /v1/streams/access/records HTTP/1.1\r\ncontent-length: 9\r\n{NDJSON}");
    assert!(request(&fake, &slow, b"{}").await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn state_routes_answer() {
    let fake = Arc::default();
    for (path, status) in [
        ("/healthz", 200),
        ("/metrics", 200),
        ("/readyz", 503),
        ("/v1/streams", 200),
        ("/v1/plugins", 200),
        ("/x", 404),
    ] {
        let answer = request(&fake, &format!("GET {path} HTTP/1.1"), b"").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

#[test]
fn page_names_every_route_and_code() {
    let page = include_str!("../../../docs/http.md");
    let routes: Vec<&str> = heads().iter().map(|head| head.path).collect();
    let codes: Vec<&str> = include_str!("error.rs")
        .split("StatusCode::")
        .skip(1)
        .filter_map(|rest| {
            rest.split_once(", \"").filter(|(name, _)| !name.contains([' ', ';']))?.1.split('"').next()
        })
        .collect();
    assert!(routes.len() >= 6 && codes.len() >= 18, "{routes:?} {codes:?}");
    for name in routes.iter().chain(&codes) {
        let named = page.contains(&format!("{name}`"));
        assert!(named, "docs/http.md does not name {name}");
    }
}

#[tokio::test]
async fn header_that_is_there_twice_is_refused_and_one_that_is_missing_named() {
    let fake = Arc::default();
    for (headers, name) in [
        ("content-type: application/json\r\ncontent-type: text/plain", "content-type"),
        (
            "content-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-encoding: identity",
            "content-encoding",
        ),
    ] {
        let refused = push(&fake, headers, b"[1]").await;
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("header_twice"), "{refused}");
        assert!(refused.contains(&format!("header {name} is there twice")), "{refused}");
    }
    let bare = push(&fake, "accept: */*", b"[1]").await;
    assert!(bare.starts_with("HTTP/1.1 415") && bare.contains("header content-type is missing"), "{bare}");
}

#[tokio::test]
async fn sample_answers_with_records_or_a_reason() {
    let fake = Arc::default();
    for (path, status, text) in [
        ("access/sample?records=3&wait=0s", "200", "\"records\":[]"),
        ("access/sample?records=7", "409", "others wait for records"),
        ("other/sample", "404", "no stream \\\"other\\\""),
        ("access/sample?records=0", "400", "expected 1 to 100"),
    ] {
        let answer = request(&fake, &format!("GET /v1/streams/{path} HTTP/1.1"), b"").await;
        let is_it = answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text);
        assert!(is_it, "{path}: {answer}");
    }
}
