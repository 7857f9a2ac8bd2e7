//! The network as plugins have it: what a transform's configuration grants, carried out by callers on threads of their own.
//!
//! Owns the one runtime on which requests of plugins are sent, which starts with the first transform that may send any:
//! neither pushes nor deliveries wait for it, and until when they are: with a stream ends whatever its plugins wait for. Whether a
//! request may be sent is the caller's to judge.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use wasmill_config::{HttpReach, PluginHttp};
use wasmill_deliver::{Call, Called, Caller, CallerConfig, CallerShare, Reach, Uncalled};
use wasmill_transform::{HttpBounds, HttpGrant, HttpRequest, HttpResponse, Outbound, Unanswered};

/// Names that are looked up at a time, of all tenants; each has its own part.
const LOOK_UPS_MAX: usize = 256;

/// Lives as long as the process.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

thread_local! {
    /// Ends the requests of the guests that run on this thread.
    static OVER: RefCell<Option<CancellationToken>> = const { RefCell::new(None) };
}

/// Runs guests whose requests get no answer any more once it is over.
pub(super) fn until<T>(over: CancellationToken, run: impl FnOnce() -> T) -> T {
    /// Also after a panic: the thread goes on with others' guests.
    struct Restored(Option<CancellationToken>);
    impl Drop for Restored {
        fn drop(&mut self) {
            OVER.set(self.0.take());
        }
    }
    let _restored = Restored(OVER.replace(Some(over)));
    run()
}

/// What all callers of a tenant have together.
fn share_of(tenant: &str) -> CallerShare {
    static SHARES: OnceLock<Mutex<HashMap<String, CallerShare>>> = OnceLock::new();
    let shares = SHARES.get_or_init(Mutex::default);
    let mut shares = shares.lock().unwrap_or_else(PoisonError::into_inner);
    // Who has no caller has nothing on its way.
    shares.retain(|_, share| share.is_shared());
    shares.entry(tenant.to_owned()).or_default().clone()
}

fn runtime() -> io::Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(LOOK_UPS_MAX).thread_name("plugin-http").enable_all();
    let started = builder.build()?;
    // Somebody else's may be there by now; then this one ends.
    if let Err(second) = RUNTIME.set(started) {
        second.shutdown_background();
    }
    RUNTIME.get().ok_or_else(|| io::Error::other("no runtime"))
}

fn reach(reach: &HttpReach) -> Reach {
    Reach { names: reach.names.clone(), networks: reach.networks.clone() }
}

/// What a transform of this tenant is granted.
///
/// # Errors
/// Why it cannot be.
pub(super) fn grant(tenant: &str, http: &PluginHttp) -> Result<HttpGrant, String> {
    let headers = http.headers.iter().map(|of_host| {
        let pairs = of_host.headers.iter();
        let pairs = pairs.map(|(name, value)| (name.clone(), value.reveal().to_owned()));
        (reach(&of_host.reach), pairs.collect())
    });
    let caller = Caller::new(CallerConfig {
        reach: reach(&http.reach),
        behind: Reach { names: Vec::new(), networks: http.networks.clone() },
        headers: headers.collect(),
        share: share_of(tenant),
    })?;
    let runtime = runtime().map_err(|error| format!("start the threads for requests of plugins: {error}"))?;
    Ok(HttpGrant { hosts: http.hosts.clone(), outbound: Arc::new(Sender { caller, runtime }) })
}

struct Sender {
    caller: Caller,
    runtime: &'static Runtime,
}

impl Outbound for Sender {
    fn send(&self, requests: Vec<HttpRequest>, bounds: HttpBounds) -> Vec<Result<HttpResponse, Unanswered>> {
        let count = requests.len();
        let calls = requests.into_iter().map(|request| {
            let HttpRequest { method, url, headers, body } = request;
            Call { method, url, headers, body }
        });
        let called = self.caller.call(calls.collect(), bounds.until, bounds.answer_bytes);
        let over = OVER.with_borrow(Option::clone).unwrap_or_default();
        let Some(called) = self.runtime.block_on(over.run_until_cancelled(called)) else {
            let ended = || Err(Unanswered::Failed("the stream has ended".to_owned()));
            return std::iter::repeat_with(ended).take(count).collect();
        };
        let answers = called.into_iter().map(|answer| match answer {
            Ok(Called { status, headers, body }) => Ok(HttpResponse { status, headers, body }),
            Err(Uncalled::NotListed { place }) => Err(Unanswered::NotListed { place }),
            Err(Uncalled::Refused(reason)) => Err(Unanswered::Refused(reason)),
            Err(Uncalled::Failed(reason)) => Err(Unanswered::Failed(reason)),
        });
        answers.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_a_guest_waits_for_ends_with_its_stream_and_not_with_that_of_others() {
        // It takes connections and says nothing.
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let network = (address.ip(), 32, Some(address.port()));
        let http = PluginHttp {
            hosts: vec![address.to_string()],
            reach: HttpReach { names: Vec::new(), networks: vec![network] },
            ..PluginHttp::default()
        };
        let granted = grant("ends", &http).unwrap();
        let send = |wait: u64| {
            let request = HttpRequest {
                method: "GET".to_owned(),
                url: format!("http://{address}/"),
                headers: Vec::new(),
                body: Vec::new(),
            };
            let until = Instant::now() + Duration::from_millis(wait);
            let mut answers = granted.outbound.send(vec![request], HttpBounds { until, answer_bytes: 100 });
            match answers.remove(0) {
                Err(Unanswered::Failed(reason)) => reason,
                _ => panic!("it was answered"),
            }
        };
        let over = CancellationToken::new();
        let began = Instant::now();
        let reason = std::thread::scope(|threads| {
            let waits = threads.spawn(|| until(over.clone(), || send(60_000)));
            let _connection = server.accept().unwrap();
            over.cancel();
            waits.join().unwrap()
        });
        assert!(reason.contains("the stream has ended"), "{reason}");
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(until(over.clone(), || send(60_000)).contains("the stream has ended"));
        assert!(send(100).contains("in time"));
    }
}
