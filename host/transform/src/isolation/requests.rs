//! Requests of guests in a process that has no network: over the socket to the host, which judges, sends and counts them.
//!
//! Nothing that the process says of its grants counts here: which transform may send what, for how long and how much, is
//! what the host has. Heads are small, so that what they become in memory is, too.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::answer::Asked;
use super::messages::{Answer, AnswerHead, HttpAsk, Request, RequestHead};
use super::process::Process;
use super::wire::{Body, Channel};
use crate::http::{
    Answers, HttpBounds, HttpCall, HttpRequest, HttpResponse, HttpUse, Outbound, Sending, Unanswered,
    requests_max, too_many, wait_max,
};

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
        let answer_bytes = bounds.answer_bytes as u64;
        match self.exchange(HttpAsk { step: self.step, wait, answer_bytes, requests: heads }, &bodies) {
            Ok(answers) => answers.into_iter().map(|answer| answer.map_err(Unanswered::Failed)).collect(),
            // A host that is gone is found out at the next answer.
            Err(error) => vec![Err(Unanswered::Failed(format!("the host: {error}"))); count],
        }
    }
}

fn unfit() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "answers that do not fit their body")
}

/// On the host: what was sent for a slice, whatever processes it ran in.
pub(super) struct Sent {
    pub(super) of_steps: Vec<HttpUse>,
    /// Requests of each transform from the process that runs a part of it now.
    now: Vec<u64>,
}

impl Sent {
    pub(super) fn new(steps: usize) -> Sent {
        Sent { of_steps: vec![HttpUse::default(); steps], now: vec![0; steps] }
    }

    /// Another process, or another part.
    pub(super) fn begin(&mut self) {
        self.now.fill(0);
    }

    pub(super) fn waited(&self) -> Duration {
        self.of_steps.iter().map(|sent| sent.waited).sum()
    }
}

/// On the host: sends what a process asks for, as far as the transform may, and answers it. `None`: no honest process asks so,
/// since in there it is refused before it is sent here.
pub(super) fn answer(
    process: &mut Process,
    asked: &Asked<'_>,
    ask: HttpAsk,
    body: &[u8],
    sent: &mut Sent,
    end: Instant,
) -> Option<io::Result<()>> {
    let (steps, options) = (&asked.chain.steps, &asked.chain.options);
    let of_slice = wait_max(steps).saturating_sub(sent.waited());
    let (place, count) = (ask.step as usize, ask.requests.len());
    let (step, now, sent) = (steps.get(place)?, sent.now.get_mut(place)?, sent.of_steps.get_mut(place)?);
    let output_bytes = usize::try_from(step.limits.output_bytes).unwrap_or(usize::MAX);
    *now = now.saturating_add(count as u64);
    if count == 0
        || too_many(count)
        || body.len() > output_bytes.saturating_add(HEADS_BYTES)
        || !options.sends
        || *now > requests_max(options, asked.chunks() as u64)
        || of_slice.is_zero()
    {
        return None;
    }
    let mut body = Body(body);
    let requests = ask.requests.into_iter().map(|RequestHead { method, url, headers, bytes }| {
        Some(HttpRequest { method, url, headers, body: body.bytes(bytes as usize)?.to_vec() })
    });
    let requests = requests.collect::<Option<Vec<_>>>()?;
    let left = end.saturating_duration_since(Instant::now());
    let wait: Duration = ask.wait.min(step.limits.http_deadline).min(of_slice).min(left);
    let answer_bytes =
        usize::try_from(ask.answer_bytes).map_or(output_bytes, |bytes| bytes.min(output_bytes));
    let mut call =
        HttpCall::new(wait, answer_bytes, Sending::Slice { wait: Duration::MAX, requests: u64::MAX });
    let asked = &step.plugin.manifest.grants.http;
    let answers: Answers = call.send(step.grants.http.as_ref(), asked, requests);
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
