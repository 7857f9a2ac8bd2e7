//! Iceberg tables: each batch is one data file, which one commit at the catalog makes visible.
//!
//! Before an append the table is loaded and searched for the batch id, and the commit holds only upon the table as it was
//! then: of two appends of one batch, of which the answer to the first was lost, at most one counts, whatever other writers
//! do in between. A commit that conflicts with one of theirs begins anew with that look. What failed leaves files that no
//! snapshot names, as every writer of such tables does; they are never written over.
//!
//! Tables are only appended to: no row is updated or removed, no schema changed, and partitioned tables are refused.

mod catalog;
mod columns;
mod file;
mod history;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::iceberg::spec::{DataFile, TableMetadata};
use ::iceberg::table::Table;
use ::iceberg::transaction::{ApplyTransactionAction as _, Transaction};
use ::iceberg::{ErrorKind, NamespaceIdent, TableCreation, TableIdent};
use parquet::file::metadata::ParquetMetaData;

pub use self::catalog::RestConfig;
pub use self::store::StoreConfig;

use self::catalog::Opened;
use self::store::{Body, Files, Store};
use crate::destination::{Capabilities, Setting, Wrong, body_error, checked_url, refused};
use crate::directory::on_blocking_thread;
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object, ObjectMeta};

/// Commits of one attempt that may conflict with other writers'.
const CONFLICTS_MAX: u32 = 10;
/// First pause after a conflict; it doubles up to [`PAUSE_MAX`], and half of it is left to chance.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Checked settings of a table.
#[derive(Clone, Debug)]
pub struct IcebergConfig {
    pub catalog: RestConfig,
    /// Its steps, the outermost first.
    pub namespace: Vec<String>,
    pub table: String,
    /// Whether a table that is missing is made.
    pub create: bool,
    pub store: StoreConfig,
    /// A file of Parquet without rows that has the columns, where they are known before the first batch.
    pub columns: Option<Vec<u8>>,
}

impl IcebergConfig {
    /// Everything for which it would not be opened.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = self.catalog.wrong();
        let endpoint = self.store.endpoint.as_deref().map(checked_url);
        wrong.extend(endpoint.and_then(Result::err).map(|message| Wrong { at: Setting::Endpoint, message }));
        wrong
    }
}

/// Why no table can have the columns of this file of Parquet.
pub fn unfit_for_tables(file: &[u8]) -> Option<String> {
    let footer = footer_of(file).map(|footer| columns::schema_for(root(&footer)).err());
    footer.unwrap_or_else(Some)
}

fn footer_of(file: &[u8]) -> Result<ParquetMetaData, String> {
    let reader = parquet::file::metadata::ParquetMetaDataReader::new();
    let bytes = bytes::Bytes::copy_from_slice(file);
    reader.parse_and_finish(&bytes).map_err(|error| error.to_string())
}

fn root(footer: &ParquetMetaData) -> &parquet::schema::types::Type {
    footer.file_metadata().schema_descr().root_schema()
}

/// A table at its catalog.
pub struct Iceberg {
    catalog: Opened,
    store: Arc<Store>,
    namespace: NamespaceIdent,
    table: TableIdent,
    create: bool,
    /// Of the columns, where they are known.
    columns: Option<ParquetMetaData>,
}

impl fmt::Debug for Iceberg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iceberg").field("table", &self.table.to_string()).finish_non_exhaustive()
    }
}

/// What became of one commit.
enum Append {
    Done,
    /// Another writer was faster: nothing of it is there.
    Conflict,
}

impl Iceberg {
    /// Checks the settings and makes the directory of files, if there is one; touches no network.
    pub async fn open(config: &IcebergConfig) -> Result<Iceberg, DeliverError> {
        let wrong = config.wrong();
        if !wrong.is_empty() {
            return Err(refused(&wrong));
        }
        let unfit = |message: String| DeliverError::new(Fault::Client, Retry::Never, message, "");
        let namespace = NamespaceIdent::from_vec(config.namespace.clone())
            .map_err(|error| unfit(error.message().to_owned()))?;
        let store = Arc::new(Store::open(&config.store).await?);
        let catalog = Opened::open(&config.catalog, Arc::new(Files::of(&store))).await?;
        let table = TableIdent::new(namespace.clone(), config.table.clone());
        let columns = config.columns.as_deref().map(footer_of).transpose().map_err(unfit)?;
        Ok(Iceberg { catalog, store, namespace, table, create: config.create, columns })
    }

    /// Whether the table is there and takes the columns.
    pub(crate) async fn probe(&self) -> Result<Capabilities, DeliverError> {
        match self.catalog.load(&self.table).await? {
            Some(table) => {
                appendable(&table)?;
                self.store.staging(&data_location(table.metadata(), "a"))?;
                if let Some(columns) = &self.columns {
                    columns::numbered(root(columns), table.metadata().current_schema())
                        .map_err(|message| self.unfit(&message))?;
                }
            }
            None if self.create => {}
            None => return Err(self.missing()),
        }
        Ok(Capabilities { conditional_create: true, conditional_multipart: true, warnings: Vec::new() })
    }

    pub(crate) async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        let footer = {
            let body = object.body.to_owned();
            on_blocking_thread(move || {
                let opened = std::fs::File::open(&body).map_err(|error| body_error(&body, &error))?;
                file::read_footer(&opened).map_err(|message| damaged(&body, &message))
            })
            .await?
        };
        // Of the schema and at the place for which it was written.
        let mut written: Option<(i32, String, DataFile)> = None;
        let mut pause = PAUSE_MIN;
        for _ in 0..CONFLICTS_MAX {
            let table = self.table_for(&footer).await?;
            if history::has(table.metadata(), object.meta) {
                return Ok(Delivered::AlreadyOurs);
            }
            appendable(&table)?;
            let (schema, location) = (table.metadata().current_schema_id(), table.metadata().location());
            let file = match &written {
                Some((of, at, file)) if *of == schema && at == location => file.clone(),
                _ => {
                    let file = self.write(&table, &footer, object).await?;
                    written = Some((schema, location.to_owned(), file.clone()));
                    file
                }
            };
            match self.append(&table, file, object.meta).await? {
                Append::Done => return Ok(Delivered::Created),
                Append::Conflict => {
                    tracing::debug!(table = %self.table, "a commit conflicts with another writer's");
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        let message = format!("{CONFLICTS_MAX} commits in turn conflicted with those of other writers");
        Err(DeliverError::later(message, self.table.to_string()))
    }

    /// The table, made if it is missing and may be.
    async fn table_for(&self, footer: &ParquetMetaData) -> Result<Table, DeliverError> {
        if let Some(table) = self.catalog.load(&self.table).await? {
            return Ok(table);
        }
        if !self.create {
            return Err(self.missing());
        }
        let schema = columns::schema_for(root(footer)).map_err(|message| self.unfit(&message))?;
        let creation =
            || TableCreation::builder().name(self.table.name.clone()).schema(schema.clone()).build();
        if let Some(table) = self.catalog.create(&self.namespace, creation).await? {
            tracing::info!(table = %self.table, "table was made");
            return Ok(table);
        }
        self.catalog.load(&self.table).await?.ok_or_else(|| self.missing())
    }

    /// Puts the data file where the table has its own.
    async fn write(
        &self,
        table: &Table,
        footer: &ParquetMetaData,
        object: &Object<'_>,
    ) -> Result<DataFile, DeliverError> {
        let metadata = table.metadata();
        let schema = metadata.current_schema();
        let columns = columns::numbered(root(footer), schema).map_err(|message| self.unfit(&message))?;
        let name = &object.meta.batch_id;
        let staging = self.store.staging(&data_location(metadata, name))?;
        let beside = object.body.parent().map(Path::to_owned);
        // It has the batch id in its name, by which the next start removes what a crash leaves.
        let staged = staging.or(beside).unwrap_or_default().join(format!("{name}.data-file"));
        let removed = Removed(staged.clone());
        let made = {
            let (body, footer) = (object.body.to_owned(), footer.clone());
            on_blocking_thread(move || {
                file::renumber(&body, &footer, columns, &staged).map_err(|error| {
                    let message = format!("the data file cannot be made: {error}");
                    let detail = staged.display().to_string();
                    DeliverError::new(Fault::Host, Retry::Later { after: None }, message, detail)
                })
            })
            .await?
        };
        // Numbered otherwise, the same batch is another file.
        let location = data_location(metadata, &format!("{name}-{:016x}", made.digest >> 64));
        let body = Body { file: &removed.0, bytes: made.bytes, digest: made.digest };
        self.store.put(table.file_io().config().props(), &location, object.meta, &body).await?;
        file::entry(&made, &location, schema, metadata.default_partition_spec_id())
            .map_err(|message| self.unfit(&message))
    }

    /// One commit upon this table and no newer one.
    async fn append(&self, table: &Table, file: DataFile, meta: &ObjectMeta) -> Result<Append, DeliverError> {
        let pinned = self.catalog.pinned(table);
        let committed = async {
            let transaction = Transaction::new(table);
            let append = transaction
                .fast_append()
                // It reads all manifests of the table; the history has said that the file is not there.
                .with_check_duplicate(false)
                .add_data_files([file])
                .set_snapshot_properties(history::summary(meta).collect::<HashMap<_, _>>());
            let transaction = append.apply(transaction)?;
            let noted = history::with(table.metadata(), meta);
            let transaction = transaction
                .update_table_properties()
                .set(history::property(meta), noted)
                .apply(transaction)?;
            transaction.commit(&pinned).await
        }
        .await;
        let Err(error) = committed else { return Ok(Append::Done) };
        let refused = pinned.refused();
        if refused.as_ref().is_some_and(|refused| refused.kind() == ErrorKind::CatalogCommitConflicts) {
            return Ok(Append::Conflict);
        }
        // Whether it was committed may not be known: the next attempt looks.
        Err(self.catalog.failed("the append failed", refused.as_ref().unwrap_or(&error)).await)
    }

    fn missing(&self) -> DeliverError {
        let message =
            format!("there is no table {} at the catalog: make it, or let create = true make it", self.table);
        DeliverError::new(Fault::Client, Retry::Later { after: None }, message, "")
    }

    fn unfit(&self, message: &str) -> DeliverError {
        let message = format!("the columns do not fit the table {}: {message}", self.table);
        DeliverError::new(Fault::Client, Retry::Later { after: None }, message, "")
    }
}

/// Refuses what nothing can be appended to here.
fn appendable(table: &Table) -> Result<(), DeliverError> {
    if table.metadata().default_partition_spec().is_unpartitioned() {
        return Ok(());
    }
    let message = format!(
        "the table {} is partitioned, and rows are appended to tables without partitions alone",
        table.identifier()
    );
    Err(DeliverError::new(Fault::Client, Retry::Later { after: None }, message, ""))
}

/// Where the table has a data file of this name.
fn data_location(table: &TableMetadata, name: &str) -> String {
    let set = ["write.data.path", "write.folder-storage.path"]
        .iter()
        .find_map(|property| table.properties().get(*property));
    match set {
        Some(path) => format!("{}/{name}.parquet", path.trim_end_matches('/')),
        None => format!("{}/data/{name}.parquet", table.location().trim_end_matches('/')),
    }
}

fn damaged(body: &Path, message: &str) -> DeliverError {
    let detail = format!("{}: {message}", body.display());
    DeliverError::new(Fault::Host, Retry::Never, "the staged body is no file of Parquet", detail)
}

/// A file that goes when this does, unless it was moved away.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // What cannot be removed now the next start removes.
        drop(std::fs::remove_file(&self.0));
    }
}
