//! Requests that somebody else made up: each is judged by its URL and headers, and by every address that its host stands
//! for as it is connected to.
//!
//! Owns what such a request may be, how many of one call are on their way at a time, and how much of the answers is kept. It
//! follows no redirect, uses no proxy, decompresses nothing, says nothing of headers that it adds, and sends them to nobody who
//! was not asked for who he is.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, Url, redirect};

use super::CONNECT_TIMEOUT;
use super::reach::{Guide, Reach};
use super::share::{self, CallerShare};

/// Requests of one call that are on their way at a time: as many calls as a tenant has threads for find room.
const AT_ONCE: usize = 8;
/// Of one request.
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Of one answer.
const ANSWER_HEADERS_MAX: usize = 100;
const ANSWER_HEAD_BYTES_MAX: usize = 64 << 10;
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A client for each port, as the looking up of names is: past it they are made anew.
const CLIENTS_MAX: usize = 8;
/// Connections that are kept for the next call, of one host and port, and of all hosts of one port together.
const IDLE_MAX: usize = AT_ONCE;
const IDLE_OF_ALL_MAX: usize = 64;
/// For so long.
const IDLE_FOR: Duration = Duration::from_secs(5);
/// Headers that belong to the connection, or are set here.
const RESERVED: [&str; 13] = [
    "host",
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Where somebody's requests may go, and what they get.
pub struct CallerConfig {
    /// Hosts of URLs.
    pub reach: Reach,
    /// Networks beside public addresses that a name may stand for.
    pub behind: Reach,
    /// Headers that every request to such hosts gets; values may be secrets and are never logged.
    pub headers: Vec<(Reach, Vec<(String, String)>)>,
    /// With the other callers of the tenant.
    pub share: CallerShare,
}

/// A request as it was made up.
pub struct Call {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Called {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Uncalled {
    /// It was not sent: the host is not listed.
    NotListed { place: String },
    /// It was not sent: it is no request that may be.
    Refused(String),
    /// It may have been sent.
    Failed(String),
}

/// Sends such requests.
pub struct Caller {
    reach: Reach,
    behind: Reach,
    headers: Vec<(Reach, HeaderMap)>,
    share: CallerShare,
    tls: rustls::ClientConfig,
    clients: Mutex<HashMap<u16, Client>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Caller {
    /// Touches no network; the first one reads the certificates of the machine.
    ///
    /// # Errors
    /// A header that requests may not have, by its name.
    pub fn new(config: CallerConfig) -> Result<Caller, String> {
        let CallerConfig { reach, behind, headers, share } = config;
        let headers = headers.into_iter().map(|(reach, headers)| {
            let pairs = headers.iter().map(|(name, value)| {
                let (name, mut value) = header(name, value)?;
                value.set_sensitive(true);
                Ok((name, value))
            });
            Ok((reach, pairs.collect::<Result<HeaderMap, String>>()?))
        });
        let headers = headers.collect::<Result<_, String>>()?;
        Ok(Caller { reach, behind, headers, share, tls: share::tls()?, clients: Mutex::default() })
    }

    /// Sends all of them, some at a time. One answer for each, in their order, at the latest at `until`; bodies and headers
    /// of the answers take at most so many bytes together.
    pub async fn call(
        &self,
        calls: Vec<Call>,
        until: Instant,
        answer_bytes: usize,
    ) -> Vec<Result<Called, Uncalled>> {
        let room = &Room(AtomicUsize::new(answer_bytes));
        let sent = calls.into_iter().enumerate().map(|(place, call)| async move {
            let answer = match Instant::now() < until {
                true => self.one(call, until, room).await,
                false => Err(Uncalled::Refused(
                    "not sent: others of the same call took all of its time".to_owned(),
                )),
            };
            (place, answer)
        });
        // One that hangs must not hold back those behind it.
        let mut answers: Vec<_> = futures::stream::iter(sent).buffer_unordered(AT_ONCE).collect().await;
        answers.sort_unstable_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn one(&self, call: Call, until: Instant, room: &Room) -> Result<Called, Uncalled> {
        let Ready { client, method, url, headers, body } = self.ready(call)?;
        let placed = tokio::time::timeout_at(until.into(), self.share.place()).await;
        let Ok(Ok(_places)) = placed else {
            return Err(Uncalled::Refused("not sent: too many requests are on their way".to_owned()));
        };
        let exchange = async {
            let sent = client.request(method, url).headers(headers).body(body).send().await;
            read(sent.map_err(|error| failed(&error))?, room).await
        };
        let late = |_elapsed| Uncalled::Failed("no answer in time".to_owned());
        tokio::time::timeout_at(until.into(), exchange).await.map_err(late)?
    }

    /// What is sent, if it may be.
    fn ready(&self, call: Call) -> Result<Ready, Uncalled> {
        let refused = |reason: String| Err(Uncalled::Refused(format!("not sent: {reason}")));
        let Call { method, url: written, headers: wanted, body } = call;
        let head: usize = wanted.iter().map(|(name, value)| name.len() + value.len()).sum();
        if wanted.len() > HEADERS_MAX || head + written.len() > HEAD_BYTES_MAX {
            return refused(format!(
                "a request has at most {HEADERS_MAX} headers, and {HEAD_BYTES_MAX} bytes of them and its URL"
            ));
        }
        let url = match Url::parse(&written) {
            Ok(url) => url,
            Err(error) => return refused(format!("the URL is not valid: {error}")),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refused(format!("the URL's scheme is {} instead of http or https", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("the URL has a user or a password".to_owned());
        }
        if self.reach.refuses(&url).is_some() {
            let port = url.port_or_known_default().unwrap_or(0);
            return Err(Uncalled::NotListed {
                place: format!("{}:{port}", url.host_str().unwrap_or_default()),
            });
        }
        let method = match Method::from_bytes(method.as_bytes()) {
            // Both make something else of the connection.
            Ok(method) if ["CONNECT", "TRACE"].iter().any(|no| method.as_str().eq_ignore_ascii_case(no)) => {
                return refused(format!("the method {method}"));
            }
            Ok(method) => method,
            Err(_invalid) => return refused("the method is none".to_owned()),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &wanted {
            match header(name, value) {
                Ok((name, value)) => headers.append(name, value),
                Err(reason) => return refused(reason),
            };
        }
        let added = self.headers.iter().filter(|(reach, _)| reach.refuses(&url).is_none());
        for (name, value) in added.flat_map(|(_, headers)| headers) {
            if !is_sure(&url) {
                return refused(format!(
                    "the transform's config sets the header {name}, which goes over https alone, or to an address that is listed"
                ));
            }
            if wanted.iter().any(|(wanted, _)| plain(wanted) == plain(name.as_str())) {
                return refused(format!("the transform's config sets the header {name}"));
            }
            headers.insert(name.clone(), value.clone());
        }
        let client = self.client(&url)?;
        Ok(Ready { client, method, url, headers, body })
    }

    fn client(&self, url: &Url) -> Result<Client, Uncalled> {
        let port = url.port_or_known_default().unwrap_or(0);
        let clients = || self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients().get(&port) {
            return Ok(client.clone());
        }
        let look_ups = Some(Arc::clone(&self.share.look_ups));
        let guide = Guide { reach: self.behind.clone(), port, look_ups };
        let client = Client::builder()
            .no_proxy()
            .dns_resolver(Arc::new(guide))
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .use_preconfigured_tls(self.tls.clone())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(self.idle_max())
            .user_agent(concat!("wasmill/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                Uncalled::Refused(format!("not sent: no HTTP client: {}", error.without_url()))
            })?;
        let mut clients = clients();
        if clients.len() >= CLIENTS_MAX
            && let Some(one) = clients.keys().next().copied()
        {
            clients.remove(&one);
        }
        clients.insert(port, client.clone());
        Ok(client)
    }

    /// Idle connections that are kept of each host: none where there are more hosts than connections may be kept.
    fn idle_max(&self) -> usize {
        let Reach { names, networks } = &self.reach;
        let whole = |network: &(std::net::IpAddr, u8, Option<u16>)| {
            network.1 == if network.0.is_ipv4() { 32 } else { 128 }
        };
        let hosts = names.len() + networks.len();
        if networks.iter().all(whole) { (IDLE_OF_ALL_MAX / hosts.max(1)).min(IDLE_MAX) } else { 0 }
    }
}

/// A request that may be sent.
struct Ready {
    client: Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Whether what is sent gets to who is meant: by TLS, by an address, or on this machine.
fn is_sure(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    url.scheme() == "https"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
        || host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

/// A header's name as servers that know no other characters than letters and one more have it.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// A header that requests may have.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        let shown: String = name.chars().take(60).collect();
        return Err(format!("{shown:?} is not a header name"));
    };
    if RESERVED.contains(&plain(header.as_str()).as_str()) {
        return Err(format!("the header {header} is set by the host"));
    }
    match HeaderValue::from_str(value) {
        Ok(value) => Ok((header, value)),
        Err(_invalid) => Err(format!("the value of the header {header} is not valid")),
    }
}

/// Bytes that are left for answers.
struct Room(AtomicUsize);

impl Room {
    fn take(&self, bytes: usize) -> Result<(), Uncalled> {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        let full = |_left| Uncalled::Failed("the answers of this call are larger than it may get".to_owned());
        left.map(|_before| ()).map_err(full)
    }
}

async fn read(mut answer: Response, room: &Room) -> Result<Called, Uncalled> {
    let too_large = |what: &str| Uncalled::Failed(format!("the answer has {what}"));
    let mut bytes = 0;
    let mut headers = Vec::with_capacity(answer.headers().len());
    for (name, value) in answer.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        bytes += name.as_str().len() + value.len();
        headers.push((name.as_str().to_owned(), value));
    }
    if headers.len() > ANSWER_HEADERS_MAX || bytes > ANSWER_HEAD_BYTES_MAX {
        return Err(too_large(&format!(
            "more than {ANSWER_HEADERS_MAX} headers or {ANSWER_HEAD_BYTES_MAX} bytes of them"
        )));
    }
    let limit = || too_large(&format!("more than {ANSWER_BYTES_MAX} bytes"));
    if answer.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
        return Err(limit());
    }
    room.take(bytes)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(limit());
        }
        room.take(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    Ok(Called { status: answer.status().as_u16(), headers, body })
}

/// In words, without the URL: it may hold tokens.
fn failed(error: &reqwest::Error) -> Uncalled {
    let mut text = if error.is_connect() {
        "the host cannot be reached".to_owned()
    } else if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        "the request was cut off".to_owned()
    };
    // The first cause is the URL's.
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    Uncalled::Failed(text)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use axum::Router;
    use axum::body::Bytes;
    use axum::http::HeaderMap as Headers;
    use axum::response::Redirect;
    use axum::routing::{get, post};

    use super::*;

    async fn server() -> SocketAddr {
        let routes = Router::new()
            .route(
                "/echo",
                post(|headers: Headers, body: Bytes| async move {
                    let token = headers.get("authorization").map(|value| value.as_bytes().to_vec());
                    [token.unwrap_or_default(), body.to_vec()].concat()
                }),
            )
            .route("/away", get(|| async { Redirect::temporary("http://169.254.169.254/") }))
            .route("/large", get(|| async { vec![0u8; ANSWER_BYTES_MAX + 1] }))
            .route("/half", get(|| async { vec![0u8; 600] }))
            .route("/hang", get(|| async { std::future::pending::<()>().await }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    fn reach(networks: &[SocketAddr], names: &[&str]) -> Reach {
        Reach {
            names: names.iter().map(|name| ((*name).to_owned(), None)).collect(),
            networks: networks.iter().map(|at| (at.ip(), 32, Some(at.port()))).collect(),
        }
    }

    fn caller(at: SocketAddr, names: &[&str], behind: &[SocketAddr]) -> Caller {
        let headers = vec![("authorization".to_owned(), "Bearer hush".to_owned())];
        let config = CallerConfig {
            reach: reach(&[at], names),
            behind: reach(behind, &[]),
            headers: vec![(reach(&[at], &["named.example"]), headers)],
            share: CallerShare::default(),
        };
        Caller::new(config).unwrap()
    }

    fn call(method: &str, url: String) -> Call {
        Call { method: method.to_owned(), url, headers: Vec::new(), body: b"body".to_vec() }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    async fn one(caller: &Caller, call: Call) -> Result<Called, Uncalled> {
        caller.call(vec![call], soon(), 1 << 20).await.remove(0)
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_requests_with_the_header_that_nobody_sees() {
        let at = server().await;
        let caller = caller(at, &[], &[]);
        let calls = (0..40).map(|number| Call {
            body: format!(" {number}").into_bytes(),
            ..call("POST", format!("http://{at}/echo"))
        });
        let answers = caller.call(calls.collect(), soon(), 1 << 20).await;
        for (number, answer) in answers.iter().enumerate() {
            let answer = answer.as_ref().unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (200, format!("Bearer hush {number}").as_bytes())
            );
        }
        assert_eq!(answers.len(), 40);
        assert!(!format!("{caller:?}").contains("hush"));
        let away = one(&caller, call("GET", format!("http://{at}/away"))).await.unwrap();
        assert_eq!(away.status, 307);
        assert!(away.headers.contains(&("location".to_owned(), "http://169.254.169.254/".to_owned())));
    }

    #[tokio::test]
    async fn what_may_not_be_sent_is_not_and_the_reason_says_why() {
        let at = server().await;
        let caller = caller(at, &["localhost", "named.example"], &[]);
        for url in [
            "http://[::ffff:169.254.169.254]/",
            "http://169.254.169.254/latest",
            "http://0x7f.1:1/",
            "http://evil.example/",
            &format!("http://localhost.evil.example:{}/", at.port()),
        ] {
            let answer = one(&caller, call("GET", url.to_owned())).await;
            assert!(matches!(answer, Err(Uncalled::NotListed { .. })), "{url}: {answer:?}");
        }
        for (method, url, header, part) in [
            ("GET", "file:///etc/passwd".to_owned(), None, "scheme"),
            ("GET", "//x".to_owned(), None, "not valid"),
            ("GET", format!("http://user:pass@{at}/"), None, "user"),
            ("GET", format!("http://@{at}/{}", "x".repeat(HEAD_BYTES_MAX)), None, "at most"),
            ("CONNECT", format!("http://{at}/"), None, "CONNECT"),
            ("trace", format!("http://{at}/"), None, "trace"),
            ("GET", "http://named.example/".to_owned(), None, "https alone"),
            ("GET", format!("http://{at}/"), Some(("content_length", "1")), "set by the host"),
            ("GET / HTTP/1.1\r\nx: y", format!("http://{at}/"), None, "method"),
            ("GET", format!("http://{at}/"), Some(("host", "other")), "set by the host"),
            ("GET", format!("http://{at}/"), Some(("Transfer-Encoding", "chunked")), "set by the host"),
            ("GET", format!("http://{at}/"), Some(("x", "a\r\nhost: other")), "not valid"),
            ("GET", format!("http://{at}/"), Some(("x\r\ny", "a")), "not a header name"),
            ("GET", format!("http://{at}/"), Some(("Authorization", "mine")), "config sets"),
        ] {
            let headers = header.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let wanted = Call { headers: headers.collect(), ..call(method, url.clone()) };
            match one(&caller, wanted).await {
                Err(Uncalled::Refused(reason)) => assert!(reason.contains(part), "{url}: {reason}"),
                answer => panic!("{url}: {answer:?}"),
            }
        }
    }

    #[tokio::test]
    async fn name_of_this_machine_is_reached_only_where_its_network_is_listed() {
        let at = server().await;
        let url = format!("http://localhost:{}/half", at.port());
        let Err(Uncalled::Failed(reason)) =
            one(&caller(at, &["localhost"], &[]), call("GET", url.clone())).await
        else {
            panic!("it was reached")
        };
        assert!(reason.contains("stands for no address"), "{reason}");
        let answer = one(&caller(at, &["localhost"], &[at]), call("GET", url)).await.unwrap();
        assert_eq!(answer.body.len(), 600);
    }

    #[tokio::test]
    async fn answer_that_is_late_or_too_large_is_none_and_holds_up_no_other() {
        let at = server().await;
        let caller = caller(at, &[], &[]);
        let get = |path: &str| call("GET", format!("http://{at}/{path}"));
        let until = Instant::now() + Duration::from_millis(300);
        let answers =
            caller.call(vec![get("hang"), get("large"), get("half"), get("half")], until, 1000).await;
        let reason = |answer: &Result<Called, Uncalled>| match answer {
            Err(Uncalled::Failed(reason)) => reason.clone(),
            other => panic!("{other:?}"),
        };
        assert!(reason(&answers[0]).contains("in time"));
        assert!(reason(&answers[1]).contains(&ANSWER_BYTES_MAX.to_string()));
        // Both do not fit.
        let fit = answers[2..].iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(fit, 1, "{answers:?}");
        assert!(
            answers[2..]
                .iter()
                .filter(|answer| answer.is_err())
                .all(|answer| reason(answer).contains("larger"))
        );
    }

    #[tokio::test]
    async fn request_that_hangs_keeps_none_behind_it_from_being_answered() {
        let at = server().await;
        let caller = caller(at, &[], &[]);
        let get = |path: &str| call("GET", format!("http://{at}/{path}"));
        let mut calls = vec![get("hang")];
        calls.extend((0..40).map(|_| get("half")));
        let answers = caller.call(calls, Instant::now() + Duration::from_secs(3), 1 << 20).await;
        assert!(answers[0].is_err());
        assert!(answers[1..].iter().all(Result::is_ok), "{answers:?}");

        // All places are held by such as hang: the others are not sent.
        let calls = (0..AT_ONCE).map(|_| get("hang")).chain([get("half")]).collect();
        let answers = caller.call(calls, Instant::now() + Duration::from_millis(300), 1 << 20).await;
        assert!(
            answers[..AT_ONCE].iter().all(|answer| matches!(answer, Err(Uncalled::Failed(_)))),
            "{answers:?}"
        );
        let Err(Uncalled::Refused(reason)) = &answers[AT_ONCE] else { panic!("{answers:?}") };
        assert!(reason.contains("all of its time"), "{reason}");
    }

    #[tokio::test]
    async fn caller_of_a_tenant_whose_places_are_taken_sends_nothing() {
        let at = server().await;
        let caller = caller(at, &[], &[]);
        let mut places = Vec::new();
        while let Ok(place) = tokio::time::timeout(Duration::from_millis(100), caller.share.place()).await {
            places.push(place.unwrap());
        }
        let soon = Instant::now() + Duration::from_millis(200);
        let answers = caller.call(vec![call("GET", format!("http://{at}/half"))], soon, 1 << 20).await;
        assert!(
            matches!(&answers[0], Err(Uncalled::Refused(reason)) if reason.contains("on their way")),
            "{answers:?}"
        );
        drop(places);
        assert!(one(&caller, call("GET", format!("http://{at}/half"))).await.is_ok());
    }
}
