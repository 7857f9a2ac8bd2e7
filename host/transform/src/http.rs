//! Requests that a plugin sends: what goes out and comes back, who sends it, and what one call may ask for.
//!
//! Owns the bounds of a call, the count of what was sent, and the words in which a request is refused; it knows no
//! network. Where a request may go is judged by who sends it ([`Outbound`]), and nothing is sent outside `process`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::chain::ChainOptions;
use crate::fault::cut_text;
use crate::limits::{HTTP_HEADS_BYTES_MAX, HTTP_PER_CALL_MAX, HTTP_PER_PROCESS_MAX, HTTP_WAITS_PER_SLICE};
use crate::step::Step;

/// Longest text of why there is no answer.
const REASON_BYTES_MAX: usize = 512;
/// Hosts that a refusal names.
const NAMED_MAX: usize = 10;

/// As in the WIT.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift)]
#[component(record)]
pub struct HttpRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// As in the WIT.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lower)]
#[component(record)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HttpRequest {
    fn head_bytes(&self) -> usize {
        // Two lengths for each header, so that many empty ones are not for nothing.
        let headers: usize = self.headers.iter().map(|(name, value)| 16 + name.len() + value.len()).sum();
        self.method.len() + self.url.len() + headers
    }
}

impl HttpResponse {
    pub(crate) fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        headers + self.body.len()
    }
}

/// What all requests of one call have together.
#[derive(Clone, Copy, Debug)]
pub struct HttpBounds {
    /// Who has no answer then gets none.
    pub until: Instant,
    /// Headers and bodies of all answers.
    pub answer_bytes: usize,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It was not sent: the transform does not list this host.
    NotListed { place: String },
    /// It was not sent: it is no request that plugins may send.
    Refused(String),
    /// It may have been sent.
    Failed(String),
}

/// Sends requests of one transform's plugin.
pub trait Outbound: Send + Sync {
    /// Sends all of them, each on its own. One answer for each, in their order. Blocks, until `bounds.until` at the latest.
    fn send(&self, requests: Vec<HttpRequest>, bounds: HttpBounds) -> Vec<Result<HttpResponse, Unanswered>>;
}

/// What a transform is granted of the network.
#[derive(Clone)]
pub struct HttpGrant {
    /// Hosts, as the transform lists them.
    pub hosts: Vec<String>,
    pub outbound: Arc<dyn Outbound>,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpUse {
    /// Whatever the status.
    pub answered: u64,
    /// Sent, perhaps, and without an answer.
    pub failed: u64,
    /// Not sent: not granted, or no request that plugins may send.
    pub refused: u64,
    pub bytes_out: u64,
    pub bytes_in: u64,
    /// Time for which calls waited.
    pub waited: Duration,
}

impl HttpUse {
    /// Whatever became of them.
    pub(crate) fn requests(&self) -> u64 {
        self.answered.saturating_add(self.failed).saturating_add(self.refused)
    }

    /// Counts more.
    pub fn add(&mut self, more: HttpUse) {
        let HttpUse { answered, failed, refused, bytes_out, bytes_in, waited } = more;
        self.answered += answered;
        self.failed += failed;
        self.refused += refused;
        self.bytes_out += bytes_out;
        self.bytes_in += bytes_in;
        self.waited += waited;
    }
}

pub(crate) type Answers = Vec<Result<HttpResponse, String>>;

/// What a call may send.
#[derive(Clone, Copy)]
pub(crate) enum Sending {
    /// Nothing, and why.
    Nothing(&'static str),
    /// What its slice has left of waiting, and of requests of its transform.
    Slice { wait: Duration, requests: u64 },
}

impl Sending {
    /// Of a version before it is used.
    pub(crate) const PROBE: Sending = Sending::Nothing("nothing is sent while a plugin is only tried");
    /// Of one whose rows are thrown away.
    pub(crate) const BESIDE: Sending =
        Sending::Nothing("nothing is sent while a version is tried beside the live one");
}

/// How long the guests of a chain may wait in one slice, all together.
pub(crate) fn wait_max(steps: &[Step]) -> Duration {
    let may_wait = steps.iter().filter(|step| step.grants.http.is_some());
    let longest = may_wait.map(|step| step.limits.http_deadline).max().unwrap_or_default();
    longest.saturating_mul(HTTP_WAITS_PER_SLICE)
}

/// Requests of one transform in so many chunks of a slice, with those that run again in parts.
pub(crate) fn requests_max(options: &ChainOptions, chunks: u64) -> u64 {
    let runs = u64::from(options.bisect_deadlines).saturating_add(2);
    chunks.saturating_mul(runs).saturating_mul(HTTP_PER_PROCESS_MAX as u64)
}

/// What one call of `process` has left of what it may send, and what it sent.
pub(crate) struct HttpCall {
    /// Time for waiting.
    left: Duration,
    /// That is all that is left of the slice's.
    last_of_slice: bool,
    requests: u64,
    requests_max: u64,
    /// Of answers.
    bytes_left: usize,
    silent: Option<&'static str>,
    used: HttpUse,
}

impl HttpCall {
    /// It may wait for so long and get so many bytes, and no more than `sending` has.
    pub(crate) fn new(deadline: Duration, answer_bytes: usize, sending: Sending) -> HttpCall {
        let (wait, requests, silent) = match sending {
            Sending::Nothing(why) => (Duration::ZERO, 0, Some(why)),
            Sending::Slice { wait, requests } => (wait, requests, None),
        };
        HttpCall {
            left: deadline.min(wait),
            last_of_slice: wait < deadline,
            requests: 0,
            requests_max: requests.min(HTTP_PER_PROCESS_MAX as u64),
            bytes_left: answer_bytes,
            silent,
            used: HttpUse::default(),
        }
    }

    pub(crate) fn used(&self) -> HttpUse {
        self.used
    }

    /// Sends what may be sent. `asked` is what the manifest asks for.
    pub(crate) fn send(
        &mut self,
        grant: Option<&HttpGrant>,
        asked: &[String],
        requests: Vec<HttpRequest>,
    ) -> Answers {
        let count = requests.len();
        let refuse = |used: &mut HttpUse, reason: &dyn Fn() -> String| {
            used.refused += count as u64;
            (0..count).map(|_| Err(reason())).collect()
        };
        let Some(grant) = grant else {
            self.used.refused += count as u64;
            let reasons = requests.iter().map(|request| not_granted(&place(&request.url), asked, &[]));
            return reasons.map(Err).collect();
        };
        if let Some(silent) = self.silent {
            return refuse(&mut self.used, &|| silent.to_owned());
        }
        if count == 0 {
            return Vec::new();
        }
        self.requests = self.requests.saturating_add(count as u64);
        if self.requests > self.requests_max {
            let most = self.requests_max;
            let of = match most < HTTP_PER_PROCESS_MAX as u64 {
                true => "that are left of this slice",
                false => "in one call of process",
            };
            return refuse(&mut self.used, &|| format!("not sent: more than {most} requests {of}"));
        }
        if self.left.is_zero() {
            let text = match self.last_of_slice {
                true => format!(
                    "not sent: the time for requests of this slice is used up: {HTTP_WAITS_PER_SLICE} times the \
                     http_deadline for all of its calls"
                ),
                false => "not sent: the time for requests of this call is used up".to_owned(),
            };
            return refuse(&mut self.used, &|| text.clone());
        }
        let heads: usize = requests.iter().map(HttpRequest::head_bytes).sum();
        if heads > HTTP_HEADS_BYTES_MAX {
            return refuse(&mut self.used, &|| {
                format!("not sent: more than {HTTP_HEADS_BYTES_MAX} bytes of URLs and headers at once")
            });
        }
        let bodies: usize = requests.iter().map(|request| request.body.len()).sum();
        self.used.bytes_out += (heads + bodies) as u64;
        let began = Instant::now();
        let bounds = HttpBounds { until: began + self.left, answer_bytes: self.bytes_left };
        let answers = grant.outbound.send(requests, bounds);
        let waited = began.elapsed();
        self.left = self.left.saturating_sub(waited);
        self.used.waited += waited;
        // One for each, whoever sent them.
        let missing = || Err(Unanswered::Failed("no answer".to_owned()));
        let answers = answers.into_iter().chain(std::iter::repeat_with(missing)).take(count);
        answers.map(|answer| self.note(answer, asked, &grant.hosts)).collect()
    }

    fn note(
        &mut self,
        answer: Result<HttpResponse, Unanswered>,
        asked: &[String],
        listed: &[String],
    ) -> Result<HttpResponse, String> {
        let reason = match answer {
            Ok(answer) => {
                self.used.answered += 1;
                self.used.bytes_in += answer.bytes() as u64;
                self.bytes_left = self.bytes_left.saturating_sub(answer.bytes());
                return Ok(answer);
            }
            Err(Unanswered::NotListed { place }) => {
                self.used.refused += 1;
                not_granted(&place, asked, listed)
            }
            Err(Unanswered::Refused(reason)) => {
                self.used.refused += 1;
                reason
            }
            Err(Unanswered::Failed(reason)) => {
                self.used.failed += 1;
                reason
            }
        };
        Err(cut_text(&reason, REASON_BYTES_MAX))
    }
}

/// More than this in one call is not lifted out of the guest any further.
pub(crate) fn too_many(count: usize) -> bool {
    count > HTTP_PER_CALL_MAX
}

/// What a URL names, for a text; nothing is decided by it.
fn place(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    cut_text(host, 100)
}

/// Says of all three sides what they have of it.
fn not_granted(place: &str, asked: &[String], listed: &[String]) -> String {
    let manifest = match asked.iter().any(|entry| covers(entry, place)) {
        true => "the plugin's manifest asks for it".to_owned(),
        false => format!("the plugin's manifest does not name it in \"grants.http\" ({})", named(asked)),
    };
    format!(
        "not granted: {place}: {manifest}, the transform's \"http\" does not list it ({}), and for tenants other than \
         \"default\" the tenant's policy must grant it, too ([tenants.NAME.grants] http)",
        named(listed)
    )
}

fn named(hosts: &[String]) -> String {
    let mut text = hosts.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match hosts.len() {
        0 => text.push_str("nothing"),
        more if more > NAMED_MAX => text.push_str(", ..."),
        _ => {}
    }
    text
}

/// Whether what a manifest asks for has this host of a transform: anything, the same, or the same with a port.
pub fn covers(asked: &str, host: &str) -> bool {
    let with_port = |rest: &str| {
        rest.strip_prefix(':')
            .is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let starts = host.get(..asked.len()).is_some_and(|start| start.eq_ignore_ascii_case(asked));
    // An address of version 6 has colons of its own: with a port it has brackets.
    let may_have_port = !asked.contains(':') || asked.ends_with(']');
    asked == "*" || starts && (host.len() == asked.len() || may_have_port && with_port(&host[asked.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_asks_for_a_host_with_any_port_or_for_one() {
        for (asked, host) in [
            ("*", "10.0.0.0/8"),
            ("a.example", "A.example"),
            ("a.example", "a.example:8443"),
            ("a.example:1", "a.example:1"),
            ("[::1]", "[::1]:9"),
            ("::1", "::1"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            assert!(covers(asked, host), "{asked} {host}");
        }
        for (asked, host) in [
            ("a.example", "a.example.evil"),
            ("a.example", "b.a.example"),
            ("a.example", "a.example:"),
            ("a.example", "a.example:8x"),
            ("a.example:1", "a.example"),
            ("a.example:1", "a.example:12"),
            ("a.example:1", "a.example:1:2"),
            ("::1", "::1:9"),
            ("10.0.0.0/8", "10.0.0.1"),
            ("", "a"),
        ] {
            assert!(!covers(asked, host), "{asked} {host}");
        }
    }

    #[test]
    fn refusal_names_the_place_without_what_is_secret_in_a_url_and_all_three_sides() {
        let text = not_granted(
            &place("https://user:hush@b.example:8443/x?key=hush"),
            &["a.example".to_owned()],
            &[],
        );
        for part in ["b.example:8443", "grants.http", "a.example", "\"http\"", "[tenants.NAME.grants]"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("hush") && !text.contains("user"), "{text}");
        let text = not_granted("a.example:80", &["a.example".to_owned()], &["c.example".to_owned()]);
        assert!(text.contains("manifest asks for it") && text.contains("c.example"), "{text}");
    }

    /// Answers the first of them, and is late with that.
    struct Late;

    impl Outbound for Late {
        fn send(
            &self,
            _requests: Vec<HttpRequest>,
            bounds: HttpBounds,
        ) -> Vec<Result<HttpResponse, Unanswered>> {
            while Instant::now() < bounds.until {
                std::thread::yield_now();
            }
            vec![Ok(HttpResponse { status: 200, headers: Vec::new(), body: b"abc".to_vec() })]
        }
    }

    #[test]
    fn call_gets_one_answer_for_each_request_until_its_time_is_used_up() {
        let grant = HttpGrant { hosts: Vec::new(), outbound: Arc::new(Late) };
        let request = HttpRequest {
            method: "GET".to_owned(),
            url: String::new(),
            headers: Vec::new(),
            body: vec![0; 7],
        };
        let slice = |wait, requests| Sending::Slice { wait, requests };
        let long = Duration::from_secs(9);
        let mut call = HttpCall::new(Duration::from_millis(20), 100, slice(long, 100));
        let answers = call.send(Some(&grant), &[], vec![request.clone(), request.clone()]);
        assert!(answers.len() == 2 && answers[0].is_ok() && answers[1].is_err());
        let late = call.send(Some(&grant), &[], vec![request.clone()]);
        assert!(late[0].as_ref().is_err_and(|text| text.contains("of this call is used up")));
        assert_eq!(call.bytes_left, 97);
        let HttpUse { answered, failed, refused, bytes_out, bytes_in, waited } = call.used();
        assert_eq!((answered, failed, refused, bytes_out, bytes_in), (1, 1, 1, 20, 3));
        assert!(waited >= Duration::from_millis(20));
        for (sending, part) in [
            (Sending::PROBE, "only tried"),
            (Sending::BESIDE, "beside the live one"),
            (slice(Duration::ZERO, 9), "of this slice is used up"),
            (slice(long, 0), "more than 0 requests that are left of this slice"),
        ] {
            let mut call = HttpCall::new(long, 100, sending);
            let answers = call.send(Some(&grant), &[], vec![request.clone()]);
            assert!(
                answers[0].as_ref().is_err_and(|text| text.contains(part)),
                "{part}: {:?}",
                answers.len()
            );
            assert_eq!((call.used().refused, call.used().waited), (1, Duration::ZERO), "{part}");
        }
    }
}
