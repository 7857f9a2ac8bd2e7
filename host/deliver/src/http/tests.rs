//! Requests as an endpoint sees them, and what its answers mean.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap as Headers, StatusCode as Status};
use axum::response::IntoResponse;
use axum::routing::post;

use super::*;
use crate::retry::{RetryPolicy, with_retry};
use crate::staged::Staged;

type Answer = (u16, Vec<(&'static str, String)>, String);

#[derive(Clone, Default)]
struct Endpoint {
    answers: Arc<Mutex<Vec<Answer>>>,
    got: Arc<Mutex<Vec<(Headers, Bytes)>>>,
}

async fn take(State(endpoint): State<Endpoint>, headers: Headers, body: Bytes) -> impl IntoResponse {
    endpoint.got.lock().unwrap().push((headers, body));
    let (status, headers, text) =
        endpoint.answers.lock().unwrap().pop().unwrap_or((200, vec![], String::new()));
    let mut answer = (Status::from_u16(status).unwrap(), text).into_response();
    for (name, value) in headers {
        answer.headers_mut().insert(name, value.parse().unwrap());
    }
    answer
}

impl Endpoint {
    /// Serves these answers, last first, and then 200 for ever.
    async fn start(answers: Vec<Answer>) -> (Endpoint, String) {
        let endpoint = Endpoint { answers: Arc::new(Mutex::new(answers)), ..Endpoint::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/take?token=s3cr3t", listener.local_addr().unwrap());
        let router = Router::new().route("/take", post(take)).with_state(endpoint.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (endpoint, url)
    }
}

fn open(url: &str) -> Http {
    let headers = BTreeMap::from([("Authorization".to_owned(), "Bearer s3cr3t".to_owned())]);
    Http::open(&HttpConfig {
        url: url.to_owned(),
        headers,
        timeout: Duration::from_secs(5),
        ca: None,
        reach: None,
    })
    .unwrap()
}

async fn send(http: &Http) -> Result<Delivered, DeliverError> {
    let staged = Staged::new();
    let (mut meta, body) = staged.object("a/b", b"{\"n\":1}\n");
    meta.content_encoding = Some("zstd".to_owned());
    http.deliver(&Object { meta: &meta, body: &body }).await
}

async fn refusal(answer: Answer) -> DeliverError {
    let (_, url) = Endpoint::start(vec![answer]).await;
    send(&open(&url)).await.unwrap_err()
}

#[tokio::test]
async fn http_batch_arrives_whole_with_its_headers() {
    let (endpoint, url) = Endpoint::start(vec![]).await;
    assert_eq!(send(&open(&url)).await, Ok(Delivered::Created));
    let got = endpoint.got.lock().unwrap();
    let (headers, body) = &got[0];
    assert_eq!(&body[..], b"{\"n\":1}\n");
    for (name, value) in [
        ("idempotency-key", "batch-of-a-b"),
        ("content-type", "application/x-ndjson"),
        ("content-encoding", "zstd"),
        ("content-length", "8"),
        ("authorization", "Bearer s3cr3t"),
        ("wasmill-records", "1"),
    ] {
        assert_eq!(headers[name], value);
    }
    assert!(!headers.contains_key("transfer-encoding"));
}

#[tokio::test]
async fn http_content_type_of_settings_takes_the_place_of_the_formats() {
    let (endpoint, url) = Endpoint::start(vec![]).await;
    let headers = BTreeMap::from([("Content-Type".to_owned(), "application/json".to_owned())]);
    let config = HttpConfig { url, headers, timeout: Duration::from_secs(5), ca: None, reach: None };
    send(&Http::open(&config).unwrap()).await.unwrap();
    let got = endpoint.got.lock().unwrap();
    let types: Vec<_> = got[0].0.get_all("content-type").iter().collect();
    assert_eq!(types, ["application/json"]);
    assert!(config.wrong_of_objects().is_empty());
    // A protocol says itself what its bodies are.
    assert!(config.wrong()[0].message.contains("set by the host"));
}

#[tokio::test]
async fn http_large_body_arrives_whole() {
    let endpoint = Endpoint::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/take", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/take", post(take))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(endpoint.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let body: Vec<u8> = (0..20_u32 << 20).map(|n| (n % 251) as u8).collect();
    let staged = Staged::new();
    let (meta, path) = staged.object("large", &body);
    open(&url).deliver(&Object { meta: &meta, body: &path }).await.unwrap();
    assert!(endpoint.got.lock().unwrap()[0].1 == body);
}

#[tokio::test]
async fn http_busy_answers_are_later_with_their_wish() {
    for status in [408, 425, 429, 500, 502, 503] {
        let error = refusal((status, vec![("retry-after", "7".to_owned())], String::new())).await;
        let after = Some(Duration::from_secs(7));
        assert_eq!((error.fault, error.retry), (Fault::Destination, Retry::Later { after }), "{status}");
    }
    let date = jiff::Timestamp::now() + Duration::from_secs(100);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
    let error = refusal((503, vec![("retry-after", date)], String::new())).await;
    let Retry::Later { after: Some(after) } = error.retry else { panic!("{error:?}") };
    assert!((90..=100).contains(&after.as_secs()), "{after:?}");
}

#[tokio::test]
async fn http_client_errors_are_never_with_bounded_detail() {
    for status in [400, 401, 403, 404, 413, 422] {
        let error = refusal((status, vec![], "no\n".repeat(100_000))).await;
        assert_eq!((error.fault, error.retry), (Fault::Client, Retry::Never), "{status}");
        assert!(error.detail.contains("no\\nno"), "{error:?}");
        assert!(error.detail.len() < 2000);
    }
}

#[tokio::test]
async fn http_redirect_is_not_followed() {
    let (elsewhere, url) = Endpoint::start(vec![]).await;
    let error = refusal((307, vec![("location", url)], String::new())).await;
    assert_eq!(error.retry, Retry::Never);
    assert!(error.message.contains("redirects are not followed"), "{error}");
    assert!(elsewhere.got.lock().unwrap().is_empty());
}

#[tokio::test]
async fn http_endpoint_down_then_up_is_delivered_by_retries() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let http = open(&format!("http://{address}/take?token=s3cr3t"));
    let error = send(&http).await.unwrap_err();
    assert_eq!((error.fault, error.retry), (Fault::Destination, Retry::Later { after: None }));
    let endpoint = Endpoint::default();
    endpoint.answers.lock().unwrap().push((503, vec![], String::new()));
    let policy = RetryPolicy {
        initial: Duration::from_millis(5),
        max: Duration::from_millis(20),
        for_: Some(Duration::from_secs(20)),
        ..RetryPolicy::default()
    };
    let (started, mut start) = tokio::sync::oneshot::channel();
    let mut started = Some(started);
    let on_retry = |_: crate::Retrying<'_>| {
        if let Some(started) = started.take() {
            started.send(()).unwrap();
        }
    };
    let up = async {
        (&mut start).await.unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let router = Router::new().route("/take", post(take)).with_state(endpoint.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    };
    let (result, ()) =
        tokio::join!(with_retry(&policy, std::future::pending(), on_retry, || send(&http)), up);
    assert_eq!(result, Ok(Delivered::Created));
    assert_eq!(endpoint.got.lock().unwrap().len(), 2, "503 once, then taken");
}

#[tokio::test]
async fn http_endpoint_silent_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let timeout = Duration::from_millis(100);
    let http =
        Http::open(&HttpConfig { url, headers: BTreeMap::new(), timeout, ca: None, reach: None }).unwrap();
    let error = send(&http).await.unwrap_err();
    assert_eq!(error.message, "the endpoint did not answer in time");
    assert_eq!(error.retry, Retry::Later { after: None });
}

#[tokio::test]
async fn http_errors_and_debug_hide_secrets() {
    let http = open("http://127.0.0.1:1/take?token=s3cr3t");
    let error = send(&http).await.unwrap_err();
    assert!(!format!("{error:?} {http:?}").contains("s3cr3t"), "{error:?}");
    let config = HttpConfig {
        url: "http://u:s3cr3t@x/".to_owned(),
        headers: BTreeMap::from([("a".to_owned(), "s3cr3t".to_owned())]),
        timeout: Duration::ZERO,
        ca: None,
        reach: None,
    };
    assert!(!format!("{config:?}").contains("s3cr3t"));
}

#[test]
fn http_bad_settings_refused() {
    let refused = |url: &str, header: &str, value: &str| {
        let headers = BTreeMap::from([(header.to_owned(), value.to_owned())]);
        Http::open(&HttpConfig {
            url: url.to_owned(),
            headers,
            timeout: Duration::from_secs(1),
            ca: None,
            reach: None,
        })
        .unwrap_err()
        .message
    };
    assert!(refused("not a url", "a", "b").starts_with("the URL is not valid"));
    assert!(refused("ftp://x/", "a", "b").contains("ftp"));
    assert!(refused("http://x/", "a b", "b").contains("not a header name"));
    assert!(refused("http://x/", "Content-Length", "7").contains("set by the host"));
    assert!(!refused("http://x/", "a", "s3cr3t\n").contains("s3cr3t"));
    let headers = ["a b", "Host", "x", "X"].map(|name| (name.to_owned(), "1".to_owned())).into();
    let config = HttpConfig {
        url: "http://[::1".into(),
        headers,
        timeout: Duration::from_secs(1),
        ca: None,
        reach: None,
    };
    let at: Vec<Setting> = config.wrong().into_iter().map(|wrong| wrong.at).collect();
    let header = |name: &str| Setting::Header(name.to_owned());
    assert_eq!(at, [Setting::Url, header("Host"), header("a b"), header("x")]);
    let said = Http::open(&config).unwrap_err().message;
    assert!(config.wrong().iter().all(|wrong| said.contains(&wrong.message)), "{said}");
}

#[test]
fn authorities_are_certificates_and_for_https_alone() {
    // PEM around what is no certificate.
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (url, ca, part) in [
        ("https://a.example/", "a.example", "has no certificate, expected PEM"),
        ("https://a.example/", broken, "cannot be read"),
        ("http://a.example/", broken, "https alone"),
    ] {
        let config = HttpConfig {
            url: url.to_owned(),
            headers: BTreeMap::new(),
            ca: Some(ca.to_owned()),
            timeout: Duration::from_secs(1),
            reach: None,
        };
        let wrong = config.wrong();
        assert_eq!(wrong.iter().map(|wrong| &wrong.at).collect::<Vec<_>>(), [&Setting::Ca], "{ca}");
        assert!(wrong[0].message.contains(part), "{}", wrong[0].message);
        assert!(Http::open(&config).is_err());
    }
}
