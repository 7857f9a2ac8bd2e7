//! Takes the sealed batches of one output to its destination.
//!
//! One task per output, so that an output that is down holds up nobody else. Batches of an ordered destination
//! go one by one; others go several at a time. A batch that is given up becomes a dead letter with its object.
//! The task never moves checkpoints: it reports each batch, and the stream does.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wasmill_deliver::{DeliverError, Destination, GaveUp, Object, ObjectMeta, with_retry};

use super::commit::Ready;
use super::context::{Output, StreamContext};
use super::dead_letters::{DeadLetter, Stage};

/// Batches on their way at the same time, for destinations that allow it.
const IN_FLIGHT_MAX: usize = 4;

/// How long an output that is stopped waits before it looks again.
const STOPPED_RETRY: Duration = Duration::from_secs(30);

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ready: Ready,
    pub(crate) delivered: bool,
}

/// Delivers until `batches` closes and everything taken is finished, or `stop` is cancelled.
pub(crate) async fn run(
    context: Arc<StreamContext>,
    number: usize,
    mut batches: mpsc::Receiver<Ready>,
    finished: mpsc::Sender<Finished>,
    stop: CancellationToken,
) {
    let in_flight_max = if context.outputs[number].destination.ordered() { 1 } else { IN_FLIGHT_MAX };
    let mut in_flight = JoinSet::new();
    let mut taken: VecDeque<Ready> = VecDeque::new();
    loop {
        while in_flight.len() < in_flight_max
            && let Some(ready) = taken.pop_front()
        {
            in_flight.spawn(deliver(context.clone(), number, ready, stop.clone()));
        }
        tokio::select! {
            ready = batches.recv(), if taken.is_empty() => match ready {
                Some(ready) => taken.push_back(ready),
                None if in_flight.is_empty() => return,
                None => {
                    if !report(&finished, in_flight.join_next().await).await { return }
                }
            },
            done = in_flight.join_next(), if !in_flight.is_empty() => {
                if !report(&finished, done).await { return }
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn report(
    finished: &mpsc::Sender<Finished>,
    done: Option<Result<Option<Finished>, tokio::task::JoinError>>,
) -> bool {
    match done {
        Some(Ok(Some(done))) => finished.send(done).await.is_ok(),
        Some(Ok(None)) | None => true,
        Some(Err(error)) => {
            tracing::error!(%error, "a delivery panicked; its batch stays undelivered until the next start");
            true
        }
    }
}

/// One batch, until it is delivered, kept as a dead letter, or the host stops (`None`).
async fn deliver(
    context: Arc<StreamContext>,
    number: usize,
    ready: Ready,
    stop: CancellationToken,
) -> Option<Finished> {
    let output = &context.outputs[number];
    let stats = &context.stats.outputs[number];
    loop {
        let attempt = || attempt(&context, output, &ready);
        let outcome = with_retry(&output.retry, stop.cancelled(), attempt, |retrying| {
            stats.retries.add(1);
            stats.error(Some(retrying.error.to_string()));
            tracing::warn!(
                stream = %context.name, output = %output.name, batch = %ready.sealed.batch_id,
                error = %retrying.error, detail = %retrying.error.detail, failures = retrying.failures,
                wait_ms = u64::try_from(retrying.wait.as_millis()).unwrap_or(u64::MAX),
                "delivery failed, trying again"
            );
        })
        .await;
        let error = match outcome {
            Ok(_created_or_ours) => {
                stats.error(None);
                stats.stopped.store(false, Ordering::Relaxed);
                discard_staged(&context, output, &ready);
                return Some(Finished { ready, delivered: true });
            }
            Err(GaveUp::Cancelled) => return None,
            Err(GaveUp::Expired { last, .. }) => last,
            Err(GaveUp::Refused(error)) => error,
        };
        stats.error(Some(error.to_string()));
        if error.is_foreign() {
            stats.stopped.store(true, Ordering::Relaxed);
            tracing::error!(
                stream = %context.name, output = %output.name, batch = %ready.sealed.batch_id,
                object = %ready.sealed.name, %error, detail = %error.detail,
                "output stopped: an object that is not ours stands where this batch belongs; nothing is overwritten"
            );
        } else {
            match keep_as_dead_letter(&context, output, &ready, &error).await {
                Ok(()) => {
                    tracing::error!(
                        stream = %context.name, output = %output.name, batch = %ready.sealed.batch_id, %error,
                        detail = %error.detail, records = ready.sealed.records,
                        "batch given up, its object is kept as a dead letter"
                    );
                    discard_staged(&context, output, &ready);
                    return Some(Finished { ready, delivered: false });
                }
                Err(error) => tracing::error!(
                    stream = %context.name, output = %output.name, batch = %ready.sealed.batch_id, %error,
                    "dead letter cannot be kept, delivering again"
                ),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(STOPPED_RETRY) => {}
            () = stop.cancelled() => return None,
        }
    }
}

async fn attempt(
    context: &Arc<StreamContext>,
    output: &Output,
    ready: &Ready,
) -> Result<wasmill_deliver::Delivered, DeliverError> {
    let path = output.staging.join(&ready.sealed.staged);
    let meta = meta(context, ready)?;
    if let Destination::Directory(_) = &*output.destination {
        // One hop to a blocking thread for the file, its sync, the rename and the directory's sync.
        let (context, ready, destination) = (context.clone(), ready.clone(), output.destination.clone());
        let blocking = tokio::task::spawn_blocking(move || {
            materialise(&ready, &path, true, &context)?;
            let Destination::Directory(directory) = &*destination else {
                return Err(DeliverError::host("the destination changed its kind", ""));
            };
            directory.deliver_blocking(&Object { meta: &meta, body: &path })
        });
        return blocking.await.map_err(|error| DeliverError::host("delivery panicked", error.to_string()))?;
    }
    materialise(ready, &path, false, context)?;
    output.destination.deliver(&Object { meta: &meta, body: &path }).await
}

/// Writes an object that its outcome carries into its staged file.
fn materialise(ready: &Ready, path: &Path, sync: bool, context: &StreamContext) -> Result<(), DeliverError> {
    let Some(object) = &ready.inline else { return Ok(()) };
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(object)?;
        if sync {
            file.sync_data()?;
            context.syncs.add(1);
        }
        Ok(())
    };
    write().map_err(|error| DeliverError::host("cannot write the staged object", format!("{}: {error}", path.display())))
}

fn meta(context: &StreamContext, ready: &Ready) -> Result<ObjectMeta, DeliverError> {
    let sealed = &ready.sealed;
    let digest = |text: &str| {
        u128::from_str_radix(text, 16).map_err(|_not_hex| DeliverError::host("outcome with a bad digest", text))
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
        output: sealed.output_name.clone(),
    })
}

/// The staged file has served; a directory has moved it away already.
fn discard_staged(context: &StreamContext, output: &Output, ready: &Ready) {
    let path = output.staging.join(&ready.sealed.staged);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(stream = %context.name, path = %path.display(), %error, "cannot remove a staged object");
    }
}

async fn keep_as_dead_letter(
    context: &Arc<StreamContext>,
    output: &Output,
    ready: &Ready,
    error: &DeliverError,
) -> Result<(), super::dead_letters::StoreError> {
    let staged = output.staging.join(&ready.sealed.staged);
    let sealed = &ready.sealed;
    let letter = DeadLetter {
        offset: i64::try_from(sealed.first_offset).unwrap_or(i64::MAX),
        child: 0,
        stage: Stage::Delivery,
        transform: format!("{}/{}", output.name, sealed.batch_id),
        plugin: String::new(),
        reason: error.to_string(),
        arrival: sealed.first_arrival,
        attempts: 1,
        payload: None,
        payload_base64: None,
        object: None,
        object_name: Some(sealed.name.clone()),
    };
    context.store_object(letter, staged, sealed.batch_id.clone()).await
}
