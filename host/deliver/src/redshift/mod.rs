//! Tables of Amazon Redshift: each batch is an object in S3 as the `s3` destination writes it, and a `COPY` of a manifest
//! that lists it, over PostgreSQL's protocol.
//!
//! A batch is loaded once, whatever fails. `COPY` and a row with the batch's id in a table beside go into one transaction,
//! which begins with the lock of that table:
//!
//! ```text
//! BEGIN; LOCK batches; SELECT the id (there: ROLLBACK, done); COPY; INSERT the id; COMMIT
//! ```
//!
//! The lock is there because Redshift enforces no keys, and because a session whose host has gone may still be at its
//! `COPY`, or at its `COMMIT`: the next one waits until the server has ended it, and only then looks, so that it sees
//! what became of it. Neither server takes a snapshot for `LOCK`, so what is looked at afterwards is what the one before
//! committed. A wait that lasts longer than a statement may is a failure like others, and tried again. The price is that
//! outputs which share the table load one after another, which is what Redshift does with one table's loads anyhow.
//!
//! Loads of one output go one by one over one connection, as with Firehose; uploads go several at a time. What is given up
//! stays in S3, and is listed in a manifest of its own under `errors/manifests/`, as Firehose does it.

mod answer;
mod session;
mod sql;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::sync::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use self::answer::{Failure, Place, Step};
use self::session::{Protection, Session};
use self::sql::{Batches, Identifier, Load};
use crate::batch_id::BatchOwner;
use crate::destination::{Capabilities, Setting, Wrong, refused};
use crate::fault::DeliverError;
use crate::object::{Delivered, Object, ObjectMeta};
use crate::s3::{S3, S3Config};
use crate::sent::Sent;

pub use self::session::{Server, TlsMode};
pub use self::sql::Authorization;

/// Uploads that are remembered while their load is tried again.
const UPLOADED_MAX: usize = 64;
/// Loads between two times that old rows of the table of batches are taken away; fewer than are taken away at once.
const PRUNED_EVERY: u32 = 100;

/// Checked settings of a Redshift destination.
#[derive(Clone, Debug)]
pub struct RedshiftConfig {
    pub s3: S3Config,
    pub server: Server,
    /// Table that is loaded, as SQL reads names, with up to three parts.
    pub table: String,
    /// Columns that are loaded; empty: all, in their order.
    pub columns: Vec<String>,
    pub authorization: Authorization,
    /// Of COPY, behind everything else; without `;`.
    pub options: String,
    /// The table of batches that were loaded; it is made where it is missing.
    pub batches: String,
    /// How long its rows are kept: longer than a batch is tried.
    pub batches_kept: Duration,
}

impl RedshiftConfig {
    /// Statements, or the names that are none.
    fn statements(&self) -> Result<(Load, Batches), Vec<Wrong>> {
        let mut wrong = Vec::new();
        let mut name = |at: Setting, written: &str, parts_max| {
            let parsed = Identifier::parse(written, parts_max);
            parsed.map_err(|message| wrong.push(Wrong { at, message })).ok()
        };
        let table = name(Setting::Table, &self.table, 3);
        let columns = self.columns.iter().filter_map(|column| name(Setting::Columns, column, 1)).collect();
        let batches = name(Setting::BatchesTable, &self.batches, 3);
        let (authorization, options) = (self.authorization.clone(), self.options.clone());
        match (table, batches) {
            (Some(table), Some(batches)) if wrong.is_empty() => {
                Ok((Load { table, columns, authorization, options }, Batches(batches)))
            }
            _ => Err(wrong),
        }
    }

    /// Everything for which no load could ever succeed and that shows without one.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = self.s3.wrong();
        let host = self.server.reach.as_ref();
        let refused = host.and_then(|reach| reach.refuses_place(&self.server.host, self.server.port));
        wrong.extend(refused.map(|message| Wrong { at: Setting::Host, message }));
        let protection = Protection::of(&self.server).err();
        wrong.extend(protection.map(|message| Wrong { at: Setting::Ca, message }));
        wrong.extend(self.statements().err().unwrap_or_default());
        wrong
    }
}

/// An open Redshift destination.
#[derive(Debug)]
pub struct Redshift {
    s3: S3,
    config: RedshiftConfig,
    /// `host:port/database`.
    place: String,
    protection: Protection,
    load: Load,
    batches: Batches,
    /// Held while a batch is loaded.
    session: Mutex<Option<Session>>,
    /// Batches whose objects are in S3 for certain: they are not sent again with each try.
    uploaded: std::sync::Mutex<VecDeque<String>>,
    loads: AtomicU32,
    sent: Arc<Sent>,
}

impl Redshift {
    /// Touches no network.
    pub async fn open(config: &RedshiftConfig) -> Result<Redshift, DeliverError> {
        let wrong = config.wrong();
        if !wrong.is_empty() {
            return Err(refused(&wrong));
        }
        let protection = Protection::of(&config.server)
            .map_err(|message| refused(&[Wrong { at: Setting::Ca, message }]))?;
        let (load, batches) = config.statements().map_err(|wrong| refused(&wrong))?;
        let Server { host, port, database, .. } = &config.server;
        Ok(Redshift {
            s3: S3::open(&config.s3).await?,
            place: format!("{host}:{port}/{database}"),
            protection,
            load,
            batches,
            session: Mutex::new(None),
            uploaded: std::sync::Mutex::default(),
            loads: AtomicU32::new(0),
            sent: Arc::default(),
            config: config.clone(),
        })
    }

    /// The bucket, for what is asked of one.
    pub fn bucket(&self) -> &S3 {
        &self.s3
    }

    pub(crate) fn sent(&self) -> &Arc<Sent> {
        &self.sent
    }

    /// Writes into the bucket, logs in, and makes the table of batches.
    pub(crate) async fn probe(&self, owner: &BatchOwner) -> Result<Capabilities, DeliverError> {
        let capabilities = self.s3.probe(owner).await?;
        let mut slot = self.session.lock().await;
        let session =
            self.session(slot.take()).await.map_err(|(step, failure)| self.told(step, failure, None, ""))?;
        *slot = Some(session);
        Ok(capabilities)
    }

    pub(crate) async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        let meta = object.meta;
        self.upload(object).await?;
        // One load at a time, and at most one connection.
        let mut slot = self.session.lock().await;
        let opened = self.session(slot.take()).await;
        let mut session = opened.map_err(|(step, failure)| self.told(step, failure, None, &meta.name))?;
        self.sent.tried(meta.records, meta.raw_bytes);
        let (result, is_good) = match self.transaction(&session, meta).await {
            Ok(delivered) => {
                self.sent.taken(meta.records, meta.raw_bytes);
                self.forget(&meta.batch_id);
                (Ok(delivered), self.prune(&session, meta).await)
            }
            Err((step, failure)) => {
                if failure.is_of_objects() {
                    self.forget(&meta.batch_id);
                }
                // An answer leaves the session open, in a transaction that can only be taken back.
                let is_good =
                    matches!(failure, Failure::Refused { .. }) && session.run("ROLLBACK").await.is_ok();
                let why = match failure.details_table().filter(|_| is_good) {
                    Some(table) => load_error(&session, table).await,
                    None => None,
                };
                (Err(self.told(step, failure, why, &meta.name)), is_good)
            }
        };
        if is_good {
            session.touch();
            *slot = Some(session);
        }
        result
    }

    /// Lists a batch that is given up where a person finds it. Its object stays.
    pub(crate) async fn give_up(&self, object: &Object<'_>) {
        let meta = object.meta;
        let listed = async {
            if !self.s3.has(meta).await? {
                return Ok(false);
            }
            self.write_manifest(meta, &format!("errors/{}", manifest_name(meta))).await?;
            Ok(true)
        };
        match listed.await {
            Ok(true) => tracing::warn!(
                stream = %meta.stream, output = %meta.output, batch = %meta.batch_id,
                manifest = self.s3.url(&format!("errors/{}", manifest_name(meta))),
                "a batch was not loaded; its object stays in the bucket and is listed in a manifest"
            ),
            Ok(false) => {}
            Err(error) => {
                let DeliverError { message, detail, .. } = &error;
                tracing::warn!(
                    stream = %meta.stream, output = %meta.output, batch = %meta.batch_id, message, detail,
                    "a batch was not loaded, and the manifest that should list it cannot be written"
                );
            }
        }
    }

    /// The object, and the manifest that lists it; once, as long as that is remembered.
    async fn upload(&self, object: &Object<'_>) -> Result<(), DeliverError> {
        let meta = object.meta;
        let is_there = self.uploads().iter().any(|batch| *batch == meta.batch_id);
        if is_there {
            return Ok(());
        }
        self.s3.deliver(object).await?;
        self.write_manifest(meta, &manifest_name(meta)).await?;
        let mut uploaded = self.uploads();
        if uploaded.len() >= UPLOADED_MAX {
            uploaded.pop_front();
        }
        uploaded.push_back(meta.batch_id.clone());
        Ok(())
    }

    fn uploads(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.uploaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, batch: &str) {
        self.uploads().retain(|other| other != batch);
    }

    async fn write_manifest(&self, meta: &ObjectMeta, name: &str) -> Result<(), DeliverError> {
        let manifest = json!({ "entries": [{ "url": self.s3.url(&meta.name), "mandatory": true }] });
        let body = Bytes::from(manifest.to_string());
        let digest = xxh3_128(&body);
        let of_manifest = ObjectMeta {
            name: name.to_owned(),
            content_type: "application/json".to_owned(),
            content_encoding: None,
            digest,
            body_digest: digest,
            raw_bytes: body.len() as u64,
            bytes: body.len() as u64,
            ..meta.clone()
        };
        self.s3.create(&of_manifest, body).await.map(drop)
    }

    /// The one that is left of the load before, or a new one, with the table of batches at its place.
    async fn session(&self, kept: Option<Session>) -> Result<Session, (Step, Failure)> {
        if let Some(session) = kept.filter(Session::is_fresh) {
            return Ok(session);
        }
        let opened = Session::open(&self.config.server, &self.protection).await;
        let session = opened.map_err(|failure| (Step::Connect, failure))?;
        let prepared = match session.run(&self.batches.is_there()).await {
            // Whoever may not make tables may have been given one.
            Err(failure) if failure.is_missing_table() => session.run(&self.batches.create()).await,
            other => other,
        };
        prepared.map_err(|failure| (Step::Prepare, failure))?;
        Ok(session)
    }

    /// One transaction; see the head of this file.
    async fn transaction(&self, session: &Session, meta: &ObjectMeta) -> Result<Delivered, (Step, Failure)> {
        let run = async |step, sql: &str| session.run(sql).await.map_err(|failure| (step, failure));
        run(Step::Lock, "BEGIN").await?;
        run(Step::Lock, &self.batches.lock()).await?;
        let found = run(Step::LookUp, &self.batches.look_up(&meta.batch_id)).await?;
        if !found.is_empty() {
            run(Step::LookUp, "ROLLBACK").await?;
            return Ok(Delivered::AlreadyOurs);
        }
        run(Step::Copy, &self.load.copy(&self.s3.url(&manifest_name(meta)))).await?;
        let owner = (meta.stream.as_str(), meta.output.as_str());
        run(Step::Note, &self.batches.note(&meta.batch_id, owner, meta.records, Timestamp::now())).await?;
        run(Step::Commit, "COMMIT").await?;
        Ok(Delivered::Created)
    }

    /// Takes away rows that are too old, from time to time; whether the session is still good.
    async fn prune(&self, session: &Session, meta: &ObjectMeta) -> bool {
        if !self.loads.fetch_add(1, Ordering::Relaxed).is_multiple_of(PRUNED_EVERY) {
            return true;
        }
        let kept = SignedDuration::try_from(self.config.batches_kept).unwrap_or(SignedDuration::MAX);
        let Ok(before) = Timestamp::now().checked_sub(kept) else { return true };
        let prune = self.batches.prune((&meta.stream, &meta.output), before);
        for sql in ["BEGIN", &self.batches.lock(), &prune, "COMMIT"] {
            if let Err(failure) = session.run(sql).await {
                tracing::warn!(
                    stream = %meta.stream, output = %meta.output, error = ?failure,
                    "old rows of the table of batches cannot be taken away now"
                );
                return false;
            }
        }
        true
    }

    fn told(&self, step: Step, failure: Failure, why: Option<String>, name: &str) -> DeliverError {
        let place = Place {
            server: &self.place,
            table: &self.load.table,
            batches: &self.batches.0,
            object: &self.s3.url(name),
        };
        answer::told(step, failure, why, &place)
    }
}

/// Of the batch's id alone, so that nothing of a record is ever part of a statement.
fn manifest_name(meta: &ObjectMeta) -> String {
    format!("manifests/{}.manifest", meta.batch_id)
}

/// What Redshift has written down of the load that this session has just tried.
async fn load_error(session: &Session, table: &str) -> Option<String> {
    let sql = match table {
        "stl_load_errors" => {
            "SELECT line_number, trim(colname), trim(err_reason) FROM stl_load_errors \
             WHERE session = pg_backend_pid() ORDER BY starttime DESC LIMIT 1"
        }
        _ => {
            "SELECT line_number, trim(column_name), trim(error_message) FROM sys_load_error_detail \
             WHERE session_id = pg_backend_pid() ORDER BY start_time DESC LIMIT 1"
        }
    };
    let found = session.run(sql).await.ok()?;
    match found.first().map(Vec::as_slice) {
        Some([line, column, reason]) => Some(format!("line {line}, column {column}: {reason}")),
        _ => None,
    }
}
