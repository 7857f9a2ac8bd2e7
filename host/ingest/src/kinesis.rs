//! Kinesis Data Streams, shard by shard.
//!
//! A shard's position (the sequence number of its last record) becomes durable together with its records: from the shard into
//! the buffer exactly once. What shards were split from or merged of is read to its end before they are (`shards`). Requests
//! keep within what a shard gives: five answers and 2 MB in a second; what is refused is asked again later, without end. While the
//! buffer is full nothing more is asked for.
//!
//! It refuses to look into records: aggregates of the Kinesis Producer Library are a plugin's. It leaves partition keys and
//! arrivals in Kinesis behind, and shares no shard with another host: each reads all of them.

mod client;
mod saved;
mod shards;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::client::{Client, Listed, Page, Refused};
use self::saved::Saved;
use self::shards::{Due, Shards, Told, TooMany, pause};
use crate::append::{Append, Position, RecordBatch};
use crate::file::PARTITIONS_MAX;
use crate::lane::{Lane, LaneEnd, OnUnknown, now};
use crate::stats::SourceStats;

/// Requests for records on their way at a time. An answer has 10 MB at most, and about 1 MiB where records are of one size.
const READS_MAX: usize = 8;
/// Appends on the way at a time.
const ON_THE_WAY: usize = 4;
/// Bytes of records from which an append is closed.
const APPEND_BYTES: usize = 1 << 20;
/// How often shards are listed again, besides when one ends.
const LIST_INTERVAL: Duration = Duration::from_secs(30);
/// The same while new shards must be there and are not listed yet.
const LIST_SOON: Duration = Duration::from_secs(1);
/// How soon durable positions are asked for again that are not known yet.
const POSITIONS_RETRY: Duration = Duration::from_millis(500);

/// Where to begin in shards of which nothing is stored yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KinesisStart {
    /// At the oldest record that is there.
    TrimHorizon,
    /// Behind what is there at the first start.
    Latest,
    /// At what came into Kinesis from this moment on, in milliseconds since the Unix epoch.
    AtTimestamp(i64),
}

/// What to read and how.
#[derive(Clone, Debug)]
pub struct KinesisOptions {
    /// Name under which positions are kept; unique in the stream.
    pub name: String,
    /// Name or ARN of the stream in Kinesis.
    pub stream: String,
    /// `None` = from the environment or profile; with an endpoint of its own us-east-1, where these have none either.
    pub region: Option<String>,
    /// `None` = AWS.
    pub endpoint: Option<String>,
    pub from: KinesisStart,
    /// How often a shard is asked that had nothing more; at least 200 ms.
    pub poll_interval: Duration,
}

/// Reads a stream of Kinesis into a stream of this host.
pub struct KinesisSource<A> {
    options: KinesisOptions,
    append: Arc<A>,
    stats: Arc<SourceStats>,
}

/// Why a source of Kinesis ended early. What Kinesis refuses is tried again, and is none of these.
#[derive(Debug, thiserror::Error)]
pub enum KinesisError {
    #[error("stream {stream} has more than {limit} shards; positions are kept for no more")]
    TooManyShards { stream: String, limit: u32 },
    #[error("stream is closed")]
    Closed,
    #[error(
        "no region is known for the stream {stream} of Kinesis: set \"region\" of the source, name the stream by its ARN, or \
         set AWS_REGION"
    )]
    NoRegion { stream: String },
}

enum Ended {
    Finished,
    /// Positions have to be read again.
    Restart,
}

/// One answer, and the shard that it is of.
type Answer = (Due, Result<Page, Refused>);

/// What goes on between two listings.
struct Pass<A> {
    shards: Shards,
    lane: Lane<A>,
    reads: JoinSet<Answer>,
    list_at: Instant,
    /// A shard or the stream was not there: whatever it is now, it has to be looked at from the start.
    is_gone: bool,
}

impl<A: Append> KinesisSource<A> {
    pub fn new(options: KinesisOptions, append: Arc<A>) -> KinesisSource<A> {
        KinesisSource { options, append, stats: Arc::default() }
    }

    /// Counters, readable while it runs.
    pub fn stats(&self) -> Arc<SourceStats> {
        Arc::clone(&self.stats)
    }

    /// Runs until `stop` is cancelled: a stream of Kinesis has no end.
    ///
    /// # Errors
    /// No region, more shards than positions are kept for, or a closed stream.
    pub async fn run(self, stop: CancellationToken) -> Result<(), KinesisError> {
        let client = Client::open(&self.options).await?;
        let mut began_ms = None;
        let result = loop {
            let pass = self.pass(&client, &mut began_ms, &stop);
            let ended = tokio::select! {
                // What is on its way and has no receipt is read again.
                () = stop.cancelled() => Ok(Ended::Finished),
                ended = pass => ended,
            };
            match ended {
                Ok(Ended::Restart) => {}
                Ok(Ended::Finished) => break Ok(()),
                Err(KinesisError::Closed) if stop.is_cancelled() => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        SourceStats::set(&self.stats.open, 0);
        result
    }

    /// From the durable positions on, until they have to be read again.
    async fn pass(
        &self,
        client: &Client,
        began_ms: &mut Option<i64>,
        stop: &CancellationToken,
    ) -> Result<Ended, KinesisError> {
        let (identity, listed) = self.begin(client).await;
        let known = self.positions().await;
        let (from, poll) = (self.options.from, self.options.poll_interval);
        let mut shards = Shards::new(identity, from, known, *began_ms, now() / 1_000_000, poll);
        *began_ms = Some(shards.began_ms());
        self.list(&mut shards, listed)?;
        let (append, stats) = (Arc::clone(&self.append), self.stats());
        let mut pass = Pass {
            shards,
            lane: Lane::new(append, stats, stop.clone(), OnUnknown::GiveBack, ON_THE_WAY),
            reads: JoinSet::new(),
            list_at: Instant::now() + LIST_INTERVAL,
            is_gone: false,
        };
        loop {
            while pass.reads.len() < READS_MAX
                && let Some(due) = pass.shards.due(Instant::now())
            {
                let client = client.clone();
                pass.reads.spawn(async move {
                    let Due { shard, place, iterator, limit } = &due;
                    let page = client.read(shard, place, iterator.clone(), *limit).await;
                    (due, page)
                });
            }
            let (open, behind_ms) = pass.shards.state();
            SourceStats::set(&self.stats.open, open);
            SourceStats::set(&self.stats.behind_ms, behind_ms);
            let room = pass.reads.len() < READS_MAX;
            let next = pass.shards.next_due().filter(|_| room);
            let wake = next.map_or(pass.list_at, |next| next.min(pass.list_at));
            tokio::select! {
                Some(answer) = pass.reads.join_next(), if !pass.reads.is_empty() => {
                    match self.take(&mut pass, answer.ok()).await {
                        Ok(()) => {}
                        Err(LaneEnd::Unknown) => return Ok(Ended::Restart),
                        Err(LaneEnd::Closed) => return Err(KinesisError::Closed),
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            if pass.is_gone {
                tokio::time::sleep(LIST_SOON).await;
                return Ok(Ended::Restart);
            }
            if pass.list_at <= Instant::now() {
                self.list_again(client, &mut pass).await?;
            }
        }
    }

    /// What stream it is, and its shards: asked until there is an answer.
    async fn begin(&self, client: &Client) -> (u64, Vec<Listed>) {
        let mut failures = 0;
        loop {
            let begun = async { Ok((client.identity().await?, client.shards().await?)) };
            match begun.await {
                Ok(begun) => return begun,
                Err(error) => self.note(&error, failures == 0),
            }
            tokio::time::sleep(pause(failures, rand::random())).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn list_again(&self, client: &Client, pass: &mut Pass<A>) -> Result<(), KinesisError> {
        let answer = client.shards().await;
        let mut pause = LIST_INTERVAL;
        match answer {
            Ok(listed) => self.list(&mut pass.shards, listed)?,
            Err(Refused::Gone(_)) => pass.is_gone = true,
            Err(error) => {
                self.note(&error, true);
                pause = LIST_SOON;
            }
        }
        if pass.shards.all_ended() {
            pause = LIST_SOON;
        }
        pass.list_at = Instant::now() + pause;
        Ok(())
    }

    fn list(&self, shards: &mut Shards, listed: Vec<Listed>) -> Result<(), KinesisError> {
        shards.list(listed, Instant::now()).map_err(|TooMany| KinesisError::TooManyShards {
            stream: self.options.stream.clone(),
            limit: PARTITIONS_MAX,
        })
    }

    /// Every durable position; waits while they are not known.
    async fn positions(&self) -> Vec<(u32, Saved)> {
        'again: loop {
            let mut known = Vec::new();
            for slot in 0..PARTITIONS_MAX {
                match self.append.position(&self.options.name, slot) {
                    Ok(Some(bytes)) => match Saved::read(&bytes) {
                        Some(saved) => known.push((slot, saved)),
                        None => tracing::error!(slot, "durable position in Kinesis is unreadable, ignored"),
                    },
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, "durable positions in Kinesis are not known yet");
                        tokio::time::sleep(POSITIONS_RETRY).await;
                        continue 'again;
                    }
                }
            }
            return known;
        }
    }

    /// Stores what has come, in order, and waits for the receipts. `None`: a request that panicked.
    async fn take(&self, pass: &mut Pass<A>, first: Option<Answer>) -> Result<(), LaneEnd> {
        // Without the answer nobody would ask for that shard again.
        pass.is_gone |= first.is_none();
        let mut next = first;
        while let Some((due, answer)) = next {
            match answer {
                Ok(page) => self.store(pass, &due, page).await?,
                Err(error) => self.refused(pass, &due, &error),
            }
            next = pass.reads.try_join_next().and_then(Result::ok);
        }
        pass.lane.flush().await
    }

    async fn store(&self, pass: &mut Pass<A>, due: &Due, page: Page) -> Result<(), LaneEnd> {
        let Page { records, next, behind_ms } = page;
        let mut told = Told { next, behind_ms, records: records.len() as u64, ..Told::default() };
        let arrival = now();
        let (mut payload, mut ends) = (Vec::new(), Vec::new());
        let mut records = records.into_iter().peekable();
        while let Some(record) = records.next() {
            let data = record.data.as_ref();
            told.bytes += data.len() as u64;
            payload.extend_from_slice(data);
            ends.push(u32::try_from(payload.len()).unwrap_or(u32::MAX));
            let is_last = records.peek().is_none();
            if payload.len() >= APPEND_BYTES || is_last {
                let ended = is_last && told.next.is_none();
                let place = pass.shards.position(&due.shard, &record.sequence_number, ended);
                let source = place.map(|(partition, saved)| Position {
                    name: self.options.name.clone(),
                    partition,
                    position: saved.write(),
                });
                let (payload, ends) = (std::mem::take(&mut payload).into(), std::mem::take(&mut ends));
                pass.lane
                    .send(RecordBatch { payload, ends, arrival, source, numbered: None, early: false })
                    .await?;
            }
            if is_last {
                told.last = Some(record.sequence_number);
            }
        }
        if pass.shards.page(&due.shard, &told) {
            tracing::info!(shard = due.shard, "shard was read to its end");
            pass.list_at = Instant::now();
        }
        Ok(())
    }

    fn refused(&self, pass: &mut Pass<A>, due: &Due, error: &Refused) {
        let is_expired = matches!(error, Refused::Expired(_));
        pass.is_gone |= matches!(error, Refused::Gone(_));
        let is_first = pass.shards.failed(&due.shard, is_expired, Instant::now(), rand::random());
        self.note(error, is_first);
    }

    /// Counts a refusal; it is told once while it goes on.
    fn note(&self, error: &Refused, is_first: bool) {
        let stream = &self.options.stream;
        match error {
            Refused::Throttled(_) => {
                SourceStats::add(&self.stats.throttled, 1);
                tracing::debug!(stream, %error, "Kinesis asks for a pause");
            }
            Refused::Expired(_) => tracing::debug!(stream, %error, "an iterator has expired"),
            Refused::Gone(_) | Refused::Other(_) => {
                SourceStats::add(&self.stats.failed, 1);
                if is_first {
                    tracing::warn!(stream, %error, "Kinesis cannot be read, trying again");
                } else {
                    tracing::debug!(stream, %error, "Kinesis cannot be read, trying again");
                }
            }
        }
    }
}
