//! The network as plugins have it: what a transform's configuration grants, carried out by callers on threads of their own.
//!
//! Owns the one runtime on which requests of plugins are sent, which starts with the first transform that may send any:
//! neither pushes nor deliveries wait for it. Whether a request may be sent is the caller's to judge.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::runtime::{Builder, Runtime};
use wasmill_config::{HttpReach, PluginHttp};
use wasmill_deliver::{Call, Called, Caller, CallerConfig, Reach, Uncalled};
use wasmill_transform::{HttpBounds, HttpGrant, HttpRequest, HttpResponse, Outbound, Unanswered};

/// Names that are looked up at a time.
const LOOK_UPS_MAX: usize = 64;

/// Lives as long as the process.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

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

/// What a transform is granted.
///
/// # Errors
/// Why it cannot be.
pub(super) fn grant(http: &PluginHttp) -> Result<HttpGrant, String> {
    let headers = http.headers.iter().map(|of_host| {
        let pairs = of_host.headers.iter();
        let pairs = pairs.map(|(name, value)| (name.clone(), value.reveal().to_owned()));
        (reach(&of_host.reach), pairs.collect())
    });
    let caller = Caller::new(CallerConfig {
        reach: reach(&http.reach),
        behind: Reach { names: Vec::new(), networks: http.networks.clone() },
        headers: headers.collect(),
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
        let calls = requests.into_iter().map(|request| {
            let HttpRequest { method, url, headers, body } = request;
            Call { method, url, headers, body }
        });
        let called = self.caller.call(calls.collect(), bounds.until, bounds.answer_bytes);
        let answers = self.runtime.block_on(called).into_iter().map(|answer| match answer {
            Ok(Called { status, headers, body }) => Ok(HttpResponse { status, headers, body }),
            Err(Uncalled::NotListed { place }) => Err(Unanswered::NotListed { place }),
            Err(Uncalled::Refused(reason)) => Err(Unanswered::Refused(reason)),
            Err(Uncalled::Failed(reason)) => Err(Unanswered::Failed(reason)),
        });
        answers.collect()
    }
}
