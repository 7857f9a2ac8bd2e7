//! What is asked of a destination beside and before its deliveries: what it can do, and to let go of what a crash left there.
//!
//! Nothing waits for an answer for long, and nothing fails without one: the deliveries say the rest.

use std::time::Duration;

use wasmill_deliver::{BatchOwner, DeliverError, GaveUp, RetryPolicy, Retrying, with_retry};

use super::context::Output;

/// How long the search for unfinished uploads may take.
const ORPHANS_WITHIN: Duration = Duration::from_secs(10);

/// Asks a destination what it can do until it answers, and says what the operator should know.
pub(crate) async fn ask(stream: &str, output: &Output, owner: &BatchOwner) {
    let unanswered = |error: &DeliverError| {
        tracing::warn!(
            stream, output = %output.name, %error, detail = %error.detail,
            "destination cannot be probed now; deliveries will be tried all the same"
        );
    };
    let on_retry = |retrying: Retrying<'_>| {
        // The deliveries say the rest.
        if retrying.failures == 1 {
            unanswered(retrying.error);
        }
    };
    let for_ever = RetryPolicy { for_: None, ..output.retry.clone() };
    let ask = || output.destination.probe(owner);
    match with_retry(&for_ever, std::future::pending(), on_retry, ask).await {
        Ok(capabilities) => {
            for warning in capabilities.warnings {
                tracing::warn!(stream, output = %output.name, warning, "destination probed");
            }
        }
        Err(GaveUp::Refused(error) | GaveUp::Expired { last: error, .. }) => unanswered(&error),
        Err(GaveUp::Cancelled) => {}
    }
}

/// Aborts uploads that a crash left unfinished; before anything is sent, so that no upload is ours and in use.
pub(crate) async fn abort_orphans(stream: &str, output: &Output, owner: &BatchOwner) {
    let Some(s3) = output.destination.bucket() else { return };
    let aborted = tokio::time::timeout(ORPHANS_WITHIN, s3.abort_orphans(|key| owner.owns(key))).await;
    match aborted {
        Ok(Ok(0)) => {}
        Ok(Ok(uploads)) => tracing::info!(
            stream, output = %output.name, uploads, "unfinished uploads of an earlier run aborted"
        ),
        Ok(Err(error)) => tracing::warn!(
            stream, output = %output.name, %error, detail = %error.detail,
            "unfinished uploads of an earlier run cannot be looked for; the next start tries again"
        ),
        Err(_late) => tracing::warn!(
            stream, output = %output.name,
            "unfinished uploads of an earlier run cannot be looked for in time; the next start tries again"
        ),
    }
}
