//! Requests of guests in a process that has no network: over the socket to the host, which judges, sends and counts them.
//!
//! Nothing that the process says of its grants counts here: which transform may send what, for how long and how much, is
//! what the host has. Heads are small, so that what they become in memory is, too.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::messages::{Answer, AnswerHead, HttpAsk, Request, RequestHead};
use super::process::Process;
use super::wire::{Body, Channel};
use crate::http::{
    Answers, HttpBounds, HttpCall, HttpRequest, HttpResponse, HttpUse, Outbound, Unanswered, too_many,
};
use crate::step::Step;

/// Of what one call sends, beside what it may hand over.
const HEADS_BYTES: usize = 1 << 20;

/// Inside the process: has the host send.
pub(super) struct ThroughHost {
    pub(super) channel: Arc<Mutex<Channel>>,
    /// Place of the transform in its chain.
    pub(super) step: u32,
}

impl ThroughHost {
    fn exchange(&self, ask: HttpAsk, bodies: &[&[u8]]) -> io::Result<Vec<Result<HttpResponse, String>>> {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(&Answer::Http(ask), bodies, None)?;
        let (Request::Answers(heads), body) = channel.receive(None)? else { return Err(unfit()) };
        let mut body = Body(&body);
        let answers = heads.into_iter().map(|head| match head {
            Ok(AnswerHead { status, headers, bytes }) => {
                let body = body.bytes(bytes as usize)?.to_vec();
                Some(Ok(HttpResponse { status, headers, body }))
            }
            Err(reason) => Some(Err(reason)),
        });
        answers.collect::<Option<_>>().ok_or_else(unfit)
    }
}

impl Outbound for ThroughHost {
    fn send(&self, requests: Vec<HttpRequest>, bounds: HttpBounds) -> Vec<Result<HttpResponse, Unanswered>> {
        let bodies: Vec<Vec<u8>>;
        let heads: Vec<RequestHead>;
        (heads, bodies) = requests
            .into_iter()
            .map(|HttpRequest { method, url, headers, body }| {
                let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
                (RequestHead { method, url, headers, bytes }, body)
            })
            .unzip();
        let count = heads.len();
        let wait = bounds.until.saturating_duration_since(Instant::now());
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        match self.exchange(HttpAsk { step: self.step, wait, requests: heads }, &bodies) {
            Ok(answers) => answers.into_iter().map(|answer| answer.map_err(Unanswered::Failed)).collect(),
            // A host that is gone is found out at the next answer.
            Err(error) => vec![Err(Unanswered::Failed(format!("the host: {error}"))); count],
        }
    }
}

fn unfit() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "answers that do not fit their body")
}

/// On the host: sends what a process asks for, as far as the transform may, and answers it. `None`: no honest process asks so.
pub(super) fn answer(
    process: &mut Process,
    steps: &[Step],
    ask: HttpAsk,
    body: &[u8],
    sent: &mut [HttpUse],
    end: Instant,
) -> Option<io::Result<()>> {
    let place = ask.step as usize;
    let (step, sent) = (steps.get(place)?, sent.get_mut(place)?);
    let output_bytes = usize::try_from(step.limits.output_bytes).unwrap_or(usize::MAX);
    if too_many(ask.requests.len()) || body.len() > output_bytes.saturating_add(HEADS_BYTES) {
        return None;
    }
    let mut body = Body(body);
    let requests = ask.requests.into_iter().map(|RequestHead { method, url, headers, bytes }| {
        Some(HttpRequest { method, url, headers, body: body.bytes(bytes as usize)?.to_vec() })
    });
    let requests = requests.collect::<Option<Vec<_>>>()?;
    let left = end.saturating_duration_since(Instant::now());
    let wait: Duration = ask.wait.min(step.limits.http_deadline).min(left);
    let mut call = HttpCall::new(wait, false);
    let asked = &step.plugin.manifest.grants.http;
    let answers: Answers = call.send(step.grants.http.as_ref(), asked, requests, output_bytes);
    sent.add(call.used());
    let (heads, bodies): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(HttpResponse { status, headers, body }) => {
                let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
                (Ok(AnswerHead { status, headers, bytes }), body)
            }
            Err(reason) => (Err(reason), Vec::new()),
        })
        .unzip();
    let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    Some(process.send(&Request::Answers(heads), &bodies, end))
}
