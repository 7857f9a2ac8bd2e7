//! HTTP endpoints that break connections, lose answers and are slow: what comes again comes under the same key with the
//! same bytes, and nothing is lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use wasmill_tests::objects;
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::serve::{self, Broken, Fault, answer};
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

/// What happens to the first requests of each batch, in their order.
const FAULTS: [Fault; 6] = [
    Fault::BrokenBefore,
    Fault::BrokenWithin,
    Fault::BrokenAfterBody,
    Fault::AnswerLost,
    Fault::SlowBody(Duration::from_millis(300)),
    Fault::SlowAnswer(Duration::from_millis(300)),
];

/// What an endpoint that minds keys has.
#[derive(Default)]
struct Taken {
    /// Requests that came, by key.
    came: HashMap<String, usize>,
    /// Keys with their bodies, in the order in which each first arrived whole.
    bodies: Vec<(String, Bytes)>,
    /// Bodies that came again.
    again: usize,
}

impl Taken {
    fn take(&mut self, key: &str, body: Bytes) {
        match self.bodies.iter().find(|(known, _)| known == key) {
            Some((_, before)) => {
                assert_eq!(*before, body, "a key came with two bodies");
                self.again += 1;
            }
            None => self.bodies.push((key.to_owned(), body)),
        }
    }
}

#[test]
fn requests_whose_connection_breaks_or_whose_answer_is_lost_come_again_under_their_key() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let taken = Arc::new(Mutex::new(Taken::default()));
    let served = taken.clone();
    let endpoint = serve::start(&runtime, move |request| {
        let taken = served.clone();
        async move {
            let key = request.headers()["idempotency-key"].to_str().unwrap().to_owned();
            let fault = {
                let mut taken = taken.lock().unwrap();
                let came = taken.came.entry(key.clone()).or_default();
                *came += 1;
                FAULTS.get(*came - 1).copied().unwrap_or(Fault::None)
            };
            match fault {
                Fault::BrokenBefore => return Err(Broken),
                Fault::BrokenWithin => {
                    serve::piece(request.into_body()).await;
                    return Err(Broken);
                }
                Fault::SlowBody(wait) => tokio::time::sleep(wait).await,
                _ => {}
            }
            let body = serve::whole(request.into_body()).await?;
            if fault == Fault::BrokenAfterBody {
                return Err(Broken);
            }
            taken.lock().unwrap().take(&key, body);
            if let Fault::SlowAnswer(wait) = fault {
                tokio::time::sleep(wait).await;
            }
            if fault == Fault::AnswerLost { Err(Broken) } else { Ok(answer(200, String::new())) }
        }
    })
    .unwrap();
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "http"
        url = "http://{endpoint}/"
        interval = "0s"
        retry = {{ initial = "10ms", max = "50ms" }}
        [streams.calm]
        source = {{ type = "http" }}
        outputs = [{{ type = "directory", path = "out", interval = "0s" }}]
        "#
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    for n in 0..5 {
        host.push("events", &numbered(n * 10, 10));
    }
    host.push("calm", &numbered(0, 10));
    let (stats, calm) = (host.stats("events"), host.stats("calm"));
    wait_until("the other stream delivers", || calm.outputs[0].delivered.get() == 10);
    wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 50);
    host.drain();
    let taken = taken.lock().unwrap();
    let text: String = taken.bodies.iter().map(|(_, body)| String::from_utf8_lossy(body)).collect();
    let found: Vec<u64> = text.lines().map(|line| objects::number(line, "n")).collect();
    assert_eq!(found, (0..50).collect::<Vec<_>>());
    // Each batch came whole once before its answer was lost, and once more.
    assert_eq!(taken.again, taken.bodies.len());
    assert!(stats.outputs[0].retries.get() >= 4 * taken.bodies.len() as u64);
    assert!(scratch.letters("events").is_empty());
}
