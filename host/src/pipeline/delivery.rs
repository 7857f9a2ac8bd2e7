//! Takes the sealed batches of one output to its destination.
//!
//! One task per output, so that an output that is down holds up nobody else. Batches of an ordered destination
//! go one by one; others go several at a time, and what goes into a directory goes in groups that share its syncs.
//! A batch that is given up goes to the fallback output, becomes a dead letter with its object, or stops its output; rows that
//! their destination refuses by themselves become letters of their own (`letters`).
//! The task never moves checkpoints: it reports each batch, and the stream does.

mod letters;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wasmill_deliver::{
    BatchOwner, DeliverError, Delivered, Destination, Fault, GaveUp, Object, ObjectMeta, Retry, with_retry,
};

use self::letters::{Elsewhere, GivenUp};
use super::commit::Ready;
use super::context::{Output, StreamContext};
use super::outcome;
use super::probe;

/// Batches on their way at the same time, for destinations that allow it.
const IN_FLIGHT_MAX: usize = 4;
/// Batches that go into a directory together.
const GROUP_MAX: usize = 64;
/// How long an output that is stopped waits before it looks again, where its longest pause is not shorter.
const STOPPED_RETRY_MAX: Duration = Duration::from_secs(30);
const STOPPED_RETRY_MIN: Duration = Duration::from_millis(10);

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ready: Ready,
    /// Records that were not delivered.
    pub(crate) failed: u64,
}

/// Delivers until `batches` closes and everything taken is finished, or `stop` is cancelled.
pub(crate) async fn run(
    context: Arc<StreamContext>,
    number: usize,
    mut batches: mpsc::Receiver<Ready>,
    finished: mpsc::Sender<Finished>,
    stop: CancellationToken,
) {
    let output = &context.outputs[number];
    let owner = BatchOwner::new(context.buffer.incarnation(), &output.name);
    let destination = &output.destination;
    let in_flight_max = if destination.ordered() { 1 } else { IN_FLIGHT_MAX };
    let group_max = if matches!(**destination, Destination::Directory(_)) { GROUP_MAX } else { 1 };
    let label = context.label();
    tokio::select! {
        biased;
        () = probe::abort_orphans(&label, output, &owner) => {}
        () = stop.cancelled() => return,
    }
    let mut in_flight = JoinSet::new();
    let mut open = true;
    while open || !in_flight.is_empty() {
        let mut group = Vec::new();
        tokio::select! {
            biased;
            taken = batches.recv_many(&mut group, group_max), if open && in_flight.len() < in_flight_max => {
                open = taken > 0;
            }
            done = in_flight.join_next(), if !in_flight.is_empty() => match done {
                Some(Err(error)) if error.is_panic() => tracing::error!(
                    stream = %context.label(), %error, "a delivery panicked; its batches wait for the next start"
                ),
                _ => {}
            },
            () = stop.cancelled() => return,
        }
        if !group.is_empty() {
            in_flight.spawn(deliver_group(context.clone(), number, group, finished.clone(), stop.clone()));
        }
    }
}

/// A first attempt for all together where the destination can do that; what fails goes on alone.
async fn deliver_group(
    context: Arc<StreamContext>,
    number: usize,
    group: Vec<Ready>,
    finished: mpsc::Sender<Finished>,
    stop: CancellationToken,
) {
    let (delivered, left) = match &*context.outputs[number].destination {
        Destination::Directory(_) => together(&context, number, group).await,
        _ => (Vec::new(), group),
    };
    for ready in delivered {
        let done = Finished { ready, failed: 0 };
        // The stream has ended: the next start finds the objects in place.
        if finished.send(done).await.is_err() {
            return;
        }
    }
    // Each has its own time for retries, which runs for all of them at once.
    let mut going = left.into_iter().map(|ready| deliver(&context, number, ready, &stop)).collect();
    let going: &mut FuturesUnordered<_> = &mut going;
    while let Some(done) = going.next().await {
        let Some(done) = done else { continue };
        if finished.send(done).await.is_err() {
            return;
        }
    }
}

/// One hop to a blocking thread for the files, their syncs, the renames and the directories' syncs.
async fn together(
    context: &Arc<StreamContext>,
    number: usize,
    group: Vec<Ready>,
) -> (Vec<Ready>, Vec<Ready>) {
    let (job_context, group) = (context.clone(), Arc::new(group));
    let job_group = group.clone();
    let attempted = context
        .off_runtime_to(&context.outputs[number].destination, move || {
            let output = &job_context.outputs[number];
            let mut objects = Vec::with_capacity(job_group.len());
            for ready in job_group.iter() {
                let path = output.staging.path(&ready.sealed.staged);
                let made = meta(&job_context, output, ready)
                    .and_then(|meta| prepare(&job_context, output, ready, true).map(|()| meta));
                objects.push(made.map(|meta| (meta, path)));
            }
            let there: Vec<Object<'_>> = objects
                .iter()
                .filter_map(|made| made.as_ref().ok())
                .map(|(meta, path)| Object { meta, body: path })
                .collect();
            let mut results = output.destination.deliver_blocking(&there).unwrap_or_default().into_iter();
            objects
                .iter()
                .map(|made| made.is_ok() && matches!(results.next(), Some(Ok(_))))
                .collect::<Vec<_>>()
        })
        .await
        .unwrap_or_default();
    let group = Arc::unwrap_or_clone(group);
    let mut attempted = attempted.into_iter();
    let stats = &context.stats.outputs[number];
    let (delivered, left): (Vec<_>, Vec<_>) = group
        .into_iter()
        .map(|ready| (attempted.next().unwrap_or(false), ready))
        .partition(|(done, _)| *done);
    if !delivered.is_empty() && left.is_empty() {
        stats.error(None);
        context.outputs[number].staging.works();
    }
    (
        delivered.into_iter().map(|(_, ready)| ready).collect(),
        left.into_iter().map(|(_, ready)| ready).collect(),
    )
}

/// One batch, until it is delivered, kept as a dead letter, or the host stops (`None`).
async fn deliver(
    context: &Arc<StreamContext>,
    number: usize,
    ready: Ready,
    stop: &CancellationToken,
) -> Option<Finished> {
    let stats = &context.stats.outputs[number];
    let look_again = context.outputs[number].retry.max.clamp(STOPPED_RETRY_MIN, STOPPED_RETRY_MAX);
    // Rows that their destination refused, and that are letters.
    let refused = AtomicU64::new(0);
    loop {
        let (error, attempts) = match try_output(context, number, &ready, &refused, stop).await {
            Ok(()) => {
                stats.error(None);
                stats.stopped.store(false, Ordering::Relaxed);
                context.outputs[number].staging.works();
                discard_small(context, number, &ready).await;
                return Some(Finished { ready, failed: refused.into_inner() });
            }
            Err(GaveUp::Cancelled) => return None,
            Err(GaveUp::Expired { last, failures }) => (last, failures),
            Err(GaveUp::Refused(error)) => (error, 1),
        };
        stats.error(Some(error.to_string()));
        if error.fault == Fault::Foreign {
            stats.stopped.store(true, Ordering::Relaxed);
            tracing::error!(
                stream = %context.label(), output = %context.outputs[number].name, batch = %ready.sealed.batch_id,
                object = %ready.sealed.name, %error, detail = %error.detail,
                "output stopped: an object that is not ours stands where this batch belongs; nothing is overwritten"
            );
            tokio::select! {
                biased;
                () = tokio::time::sleep(look_again) => continue,
                () = stop.cancelled() => return None,
            }
        }
        let given_up = GivenUp { error: &error, attempts, refused: &refused };
        match letters::give_up(context, number, &ready, &given_up, stop).await {
            Elsewhere::Taken { delivered } => {
                discard_small(context, number, &ready).await;
                let failed = ready.sealed.records.saturating_sub(delivered);
                return Some(Finished { ready, failed });
            }
            // The staged object is all that there is of the batch: the next start needs it.
            Elsewhere::Cancelled => return None,
            Elsewhere::Refused => {}
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep(look_again) => {}
            () = stop.cancelled() => return None,
        }
    }
}

/// Tries one output, which need not be the batch's own, as long as its policy says.
async fn try_output(
    context: &Arc<StreamContext>,
    to: usize,
    ready: &Ready,
    refused: &AtomicU64,
    stop: &CancellationToken,
) -> Result<(), GaveUp> {
    let output = &context.outputs[to];
    let stats = &context.stats.outputs[to];
    let own = &context.outputs[ready.sealed.key.output as usize];
    let on_retry = |retrying: wasmill_deliver::Retrying<'_>| {
        stats.retries.add(1);
        stats.error(Some(retrying.error.to_string()));
        tracing::warn!(
            stream = %context.label(), output = %output.name, batch = %ready.sealed.batch_id,
            error = %retrying.error, detail = %retrying.error.detail, failures = retrying.failures,
            wait_ms = u64::try_from(retrying.wait.as_millis()).unwrap_or(u64::MAX),
            "delivery failed, trying again"
        );
    };
    let attempt = || async {
        // Until it is over, and not while it waits to be tried again.
        let mut turn = context.delivery_turn(&output.destination).await;
        let path = output.staging.path(&ready.sealed.staged);
        let meta = meta(context, own, ready)?;
        let (job_context, job_ready) = (context.clone(), ready.clone());
        let sync = output.destination.consumes_body();
        let prepare = move || prepare(&job_context, &job_context.outputs[to], &job_ready, sync);
        let blocking = context.off_runtime_to(&output.destination, prepare);
        blocking.await.map_err(|error| host_error("the delivery was interrupted", error.to_string()))??;
        let object = Object { meta: &meta, body: &path };
        loop {
            let attempted = output.destination.deliver(&object).await;
            // The store may be full.
            drop(turn);
            letters::keep_refused(context, output, ready, &object, refused).await?;
            match attempted? {
                Delivered::InPart => turn = context.delivery_turn(&output.destination).await,
                Delivered::Created | Delivered::AlreadyOurs => return Ok(()),
            }
        }
    };
    with_retry(&output.retry, stop.cancelled(), on_retry, attempt).await
}

pub(crate) fn host_error(message: &str, detail: String) -> DeliverError {
    DeliverError::new(Fault::Host, Retry::Later { after: None }, message, detail)
}

/// One attempt, whatever comes of it: for a planted bug.
#[cfg(test)]
pub(crate) async fn send_once(context: &Arc<StreamContext>, ready: &Ready) {
    let output = &context.outputs[ready.sealed.key.output as usize];
    let path = output.staging.path(&ready.sealed.staged);
    if let Ok(meta) = meta(context, output, ready)
        && prepare(context, output, ready, true).is_ok()
    {
        drop(output.destination.deliver(&Object { meta: &meta, body: &path }).await);
    }
}

/// Puts the object where the destination of `output`, which need not be the batch's own, takes it from; also where that
/// place went with a directory that is there again.
fn prepare(context: &StreamContext, output: &Output, ready: &Ready, sync: bool) -> Result<(), DeliverError> {
    match stage(context, output, ready, sync) {
        Err(error) => match output.destination.restage()? {
            true => stage(context, output, ready, sync),
            false => Err(error),
        },
        staged => staged,
    }
}

fn stage(context: &StreamContext, output: &Output, ready: &Ready, sync: bool) -> Result<(), DeliverError> {
    let sealed = &ready.sealed;
    if sealed.inline.is_some() {
        return output.staging.materialise(&small(context, ready)?, &sealed.staged, sync);
    }
    let own = &context.outputs[sealed.key.output as usize];
    output.staging.fetch(&own.staging.made(sealed), &sealed.staged)
}

/// An object that its outcome carries.
fn small(context: &StreamContext, ready: &Ready) -> Result<Bytes, DeliverError> {
    match (&ready.inline, &ready.sealed.inline) {
        (Some(object), _) => Ok(object.clone()),
        (None, Some(range)) => read_back(context, ready, range.clone()),
        (None, None) => Ok(Bytes::new()),
    }
}

/// The object out of its outcome in the journal.
fn read_back(
    context: &StreamContext,
    ready: &Ready,
    range: std::ops::Range<usize>,
) -> Result<Bytes, DeliverError> {
    let failed = |error: &dyn std::error::Error| {
        host_error("cannot read the object back from the journal", super::sources::with_causes(error))
    };
    let body = context.buffer.read_entry(ready.at).map_err(|error| failed(&error))?;
    let (_, blobs_at) = outcome::read(&body).map_err(|error| failed(&error))?;
    Ok(body.slice(range.start + blobs_at..range.end + blobs_at))
}

fn meta(context: &StreamContext, output: &Output, ready: &Ready) -> Result<ObjectMeta, DeliverError> {
    let sealed = &ready.sealed;
    let digest = |text: &str| {
        u128::from_str_radix(text, 16).map_err(|_not_hex| {
            DeliverError::new(Fault::Host, Retry::Never, "the outcome has a bad digest", text)
        })
    };
    Ok(ObjectMeta {
        name: sealed.name.clone(),
        content_type: sealed.content_type.clone(),
        content_encoding: sealed.content_encoding.clone(),
        batch_id: sealed.batch_id.clone(),
        digest: digest(&sealed.digest)?,
        body_digest: digest(&sealed.body_digest)?,
        raw_bytes: sealed.raw_bytes,
        bytes: sealed.bytes,
        records: sealed.records,
        stream: context.name.clone(),
        output: output.name.clone(),
        arrival: sealed.first_arrival,
        first_row: 0,
    })
}

/// A small object has served. A file that its outcome does not carry stays until it is durable that it is done.
async fn discard_small(context: &StreamContext, number: usize, ready: &Ready) {
    if ready.sealed.inline.is_none() {
        return;
    }
    let output = &context.outputs[number];
    let (staging, file) = (output.staging.clone(), ready.sealed.staged.clone());
    let discarded = context.off_runtime_to(&output.destination, move || staging.discard(&file)).await;
    if let Ok(Err((path, error))) = discarded {
        tracing::warn!(stream = %context.label(), path = %path.display(), %error, "staged object cannot be removed");
    }
}
