//! Where the files of a table are: objects in S3, or files below one directory.
//!
//! The catalog says where, and may hand out credentials for it; what the settings of the output say of S3 goes before what
//! the catalog says. Files are written durably, each under a name of its own, and none is written over.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::iceberg::io::{
    FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig, StorageFactory,
};
use ::iceberg::{Error, ErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use crate::directory::{Directory, DirectoryConfig, DirectoryThreads, SyncCount, done};
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object, ObjectMeta};
use crate::s3::{Credentials, S3, S3Config};

/// Largest file of metadata that is read or written: manifests, and lists of them.
const METADATA_BYTES_MAX: u64 = 64 << 20;
/// Clients that are kept, of different buckets or credentials.
const CLIENTS_MAX: usize = 4;

/// How files are reached, beside what the catalog says.
#[derive(Clone, Debug, Default)]
pub struct StoreConfig {
    /// The directory that all files are below, where they are files.
    pub root: Option<PathBuf>,
    /// Of S3; `None`: what the catalog says, else AWS.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: bool,
    pub syncs: SyncCount,
    /// Those of its tenant.
    pub threads: DirectoryThreads,
}

/// See the head of this file.
pub(super) struct Store {
    config: StoreConfig,
    directory: Option<Directory>,
    clients: Mutex<Vec<(Access, Arc<S3>)>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What tells clients apart. Never shown.
#[derive(Clone, PartialEq, Eq)]
struct Access {
    bucket: String,
    properties: BTreeMap<&'static str, String>,
}

/// Properties of a table that say how S3 is reached.
const S3_PROPERTIES: [&str; 7] = [
    "s3.endpoint",
    "s3.region",
    "client.region",
    "s3.path-style-access",
    "s3.access-key-id",
    "s3.secret-access-key",
    "s3.session-token",
];

/// What a location names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At<'l> {
    S3 {
        bucket: &'l str,
        key: &'l str,
    },
    /// An absolute path.
    File(&'l str),
}

/// Reads a location; `None`: it is in a store that is not known here.
pub(super) fn at(location: &str) -> Option<At<'_>> {
    if let Some(path) = location.strip_prefix("file:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return path.starts_with('/').then_some(At::File(path));
    }
    if location.starts_with('/') {
        return Some(At::File(location));
    }
    let of_s3 = ["s3://", "s3a://", "s3n://"].iter().find_map(|scheme| location.strip_prefix(scheme));
    let (bucket, key) = of_s3?.split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then_some(At::S3 { bucket, key })
}

/// Bytes on their way to a location.
pub(super) struct Body<'b> {
    /// A synced file, which stays for the caller to remove, and may be moved away.
    pub(super) file: &'b Path,
    pub(super) bytes: u64,
    /// xxh3-128.
    pub(super) digest: u128,
}

impl Store {
    /// Makes the directory, if there is one to be.
    pub(super) async fn open(config: &StoreConfig) -> Result<Store, DeliverError> {
        let directory = match &config.root {
            Some(root) => {
                let of = DirectoryConfig {
                    root: root.clone(),
                    syncs: config.syncs.clone(),
                    threads: config.threads.clone(),
                };
                Some(Directory::open(&of).await?)
            }
            None => None,
        };
        Ok(Store { config: config.clone(), directory, clients: Mutex::default() })
    }

    /// Where a file must be made that goes to `location`; `None`: anywhere.
    pub(super) fn staging(&self, location: &str) -> Result<Option<PathBuf>, DeliverError> {
        match at(location) {
            Some(At::File(path)) => self.below(path).map(|(directory, _)| Some(directory.staging())),
            Some(At::S3 { .. }) => Ok(None),
            None => Err(unknown(location)),
        }
    }

    /// Puts a data file of a batch there, once.
    pub(super) async fn put(
        &self,
        properties: &HashMap<String, String>,
        location: &str,
        of: &ObjectMeta,
        body: &Body<'_>,
    ) -> Result<Delivered, DeliverError> {
        let named = |name: &str| ObjectMeta {
            name: name.to_owned(),
            digest: body.digest,
            body_digest: body.digest,
            raw_bytes: body.bytes,
            bytes: body.bytes,
            ..of.clone()
        };
        match at(location) {
            Some(At::S3 { bucket, key }) => {
                let s3 = self.client(properties, bucket).await?;
                s3.deliver(&Object { meta: &named(key), body: body.file }).await
            }
            Some(At::File(path)) => {
                let (directory, name) = self.below(path)?;
                directory.deliver(&Object { meta: &named(name), body: body.file }).await
            }
            None => Err(unknown(location)),
        }
    }

    /// Writes a file of metadata.
    async fn write(
        &self,
        properties: &HashMap<String, String>,
        location: &str,
        bytes: Bytes,
    ) -> Result<(), DeliverError> {
        bounded(bytes.len() as u64, location)?;
        match at(location) {
            Some(At::S3 { bucket, key }) => self.client(properties, bucket).await?.write(key, bytes).await,
            Some(At::File(path)) => {
                let (directory, name) = self.below(path)?;
                let (directory, name) = (directory.clone(), name.to_owned());
                let threads = directory.threads().clone();
                done(threads.run(move || write_file(&directory, name, &bytes)).await)
            }
            None => Err(unknown(location)),
        }
    }

    /// The bytes of a file of metadata, or this part of them.
    async fn read(
        &self,
        properties: &HashMap<String, String>,
        location: &str,
        range: Option<Range<u64>>,
    ) -> Result<Bytes, DeliverError> {
        if let Some(range) = &range {
            bounded(range.end.saturating_sub(range.start), location)?;
        }
        match at(location) {
            Some(At::S3 { bucket, key }) => {
                self.client(properties, bucket).await?.read(key, range, METADATA_BYTES_MAX).await
            }
            Some(At::File(path)) => {
                let (directory, _name) = self.below(path)?;
                let path = PathBuf::from(path);
                done(directory.threads().run(move || read_file(&path, range)).await)
            }
            None => Err(unknown(location)),
        }
    }

    /// The size of a file; `None`: there is none.
    async fn size(
        &self,
        properties: &HashMap<String, String>,
        location: &str,
    ) -> Result<Option<u64>, DeliverError> {
        match at(location) {
            Some(At::S3 { bucket, key }) => self.client(properties, bucket).await?.size(key).await,
            Some(At::File(path)) => {
                self.below(path)?;
                match tokio::fs::metadata(path).await {
                    Ok(found) => Ok(Some(found.len())),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(unreadable(path, &error)),
                }
            }
            None => Err(unknown(location)),
        }
    }

    /// The directory, and the path below it.
    fn below<'p>(&self, path: &'p str) -> Result<(&Directory, &'p str), DeliverError> {
        let Some(directory) = &self.directory else {
            return Err(misplaced(path, "the output has no \"path\", below which files may be written"));
        };
        let staging = directory.staging();
        let roots = [self.config.root.as_deref(), staging.parent()];
        let below = roots.into_iter().flatten().find_map(|root| Path::new(path).strip_prefix(root).ok());
        let name = below
            .and_then(Path::to_str)
            .filter(|name| !name.is_empty() && name.split('/').all(|step| !matches!(step, "" | "." | "..")));
        match name {
            Some(name) => Ok((directory, name)),
            None => Err(misplaced(path, "it is not below \"path\" of the output")),
        }
    }

    /// A client for this bucket, with what the catalog and the settings say.
    async fn client(
        &self,
        properties: &HashMap<String, String>,
        bucket: &str,
    ) -> Result<Arc<S3>, DeliverError> {
        let given = S3_PROPERTIES.iter().filter_map(|name| Some((*name, properties.get(*name)?.clone())));
        let access = Access { bucket: bucket.to_owned(), properties: given.collect() };
        let mut clients = self.clients.lock().await;
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == access) {
            return Ok(Arc::clone(client));
        }
        let said = |name: &str| access.properties.get(name).cloned();
        let keys = said("s3.access-key-id").zip(said("s3.secret-access-key"));
        let client = Arc::new(
            S3::open(&S3Config {
                endpoint: self.config.endpoint.clone().or_else(|| said("s3.endpoint")),
                region: self
                    .config
                    .region
                    .clone()
                    .or_else(|| said("s3.region"))
                    .or_else(|| said("client.region")),
                path_style: self.config.path_style
                    || said("s3.path-style-access").is_some_and(|text| text.eq_ignore_ascii_case("true")),
                credentials: match keys {
                    Some((access_key_id, secret_access_key)) => Credentials::Static {
                        access_key_id,
                        secret_access_key,
                        session_token: said("s3.session-token"),
                    },
                    None => Credentials::Chain,
                },
                ..S3Config::new(bucket)
            })
            .await?,
        );
        if clients.len() == CLIENTS_MAX {
            clients.remove(0);
        }
        clients.push((access, Arc::clone(&client)));
        Ok(client)
    }
}

fn unknown(location: &str) -> DeliverError {
    misplaced(location, "files are written to s3://BUCKET/KEY, and to file: below \"path\" of the output")
}

fn misplaced(location: &str, why: &str) -> DeliverError {
    let message = format!("the table is where nothing can be written: {why}");
    DeliverError::new(Fault::Client, Retry::Later { after: None }, message, location)
}

fn unreadable(path: &str, error: &std::io::Error) -> DeliverError {
    DeliverError::later(format!("a file of the table cannot be read: {error}"), path)
}

fn bounded(bytes: u64, location: &str) -> Result<(), DeliverError> {
    if bytes <= METADATA_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a file of the table's metadata has more than {METADATA_BYTES_MAX} bytes");
    Err(DeliverError::new(Fault::Client, Retry::Later { after: None }, message, location))
}

fn write_file(directory: &Directory, name: String, bytes: &[u8]) -> Result<(), DeliverError> {
    // The last step is a name that nobody else has.
    let staged = directory.staging().join(name.rsplit('/').next().unwrap_or(&name));
    let write = || {
        let mut file = std::fs::File::create(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        let message = format!("a file of the table cannot be written: {error}");
        DeliverError::later(message, staged.display().to_string())
    })?;
    let length = bytes.len() as u64;
    let meta = ObjectMeta {
        name,
        content_type: String::new(),
        content_encoding: None,
        batch_id: String::new(),
        digest: 0,
        body_digest: xxh3_128(bytes),
        raw_bytes: length,
        bytes: length,
        records: 0,
        stream: String::new(),
        output: String::new(),
        arrival: 0,
        first_row: 0,
    };
    let mut results = directory.deliver_blocking(&[Object { meta: &meta, body: &staged }]);
    results.pop().map_or(Ok(()), |result| result.map(drop))
}

fn read_file(path: &Path, range: Option<Range<u64>>) -> Result<Bytes, DeliverError> {
    use std::io::{Seek as _, SeekFrom};
    let shown = path.display().to_string();
    let failed = |error: std::io::Error| unreadable(&shown, &error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let range = match range {
        Some(range) => range,
        None => 0..file.metadata().map_err(failed)?.len(),
    };
    let length = range.end.saturating_sub(range.start);
    bounded(length, &shown)?;
    file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

/// Opens files for tables of a catalog.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Files {
    #[serde(skip)]
    store: Option<Arc<Store>>,
}

impl Files {
    pub(super) fn of(store: &Arc<Store>) -> Files {
        Files { store: Some(Arc::clone(store)) }
    }
}

#[typetag::serde(name = "wasmill")]
impl StorageFactory for Files {
    fn build(&self, config: &StorageConfig) -> ::iceberg::Result<Arc<dyn Storage>> {
        Ok(Arc::new(Opened { store: self.store.clone(), properties: config.props().clone() }))
    }
}

/// The files of one table, with the credentials that the catalog gave for it.
#[derive(Clone, Serialize, Deserialize)]
struct Opened {
    #[serde(skip)]
    store: Option<Arc<Store>>,
    #[serde(skip)]
    properties: HashMap<String, String>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Opened {
    fn store(&self) -> ::iceberg::Result<&Arc<Store>> {
        self.store.as_ref().ok_or_else(|| Error::new(ErrorKind::FeatureUnsupported, "a store from elsewhere"))
    }
}

fn carried(error: DeliverError) -> Error {
    Error::new(ErrorKind::Unexpected, "a file of the table").with_source(error)
}

fn unused<T>() -> ::iceberg::Result<T> {
    Err(Error::new(ErrorKind::FeatureUnsupported, "nothing is removed from a table here"))
}

#[async_trait]
#[typetag::serde(name = "wasmill")]
impl Storage for Opened {
    async fn exists(&self, path: &str) -> ::iceberg::Result<bool> {
        Ok(self.store()?.size(&self.properties, path).await.map_err(carried)?.is_some())
    }

    async fn metadata(&self, path: &str) -> ::iceberg::Result<FileMetadata> {
        let size = self.store()?.size(&self.properties, path).await.map_err(carried)?;
        let missing = || carried(DeliverError::later("a file of the table is missing", path));
        size.map(|size| FileMetadata { size }).ok_or_else(missing)
    }

    async fn read(&self, path: &str) -> ::iceberg::Result<Bytes> {
        self.store()?.read(&self.properties, path, None).await.map_err(carried)
    }

    async fn reader(&self, path: &str) -> ::iceberg::Result<Box<dyn FileRead>> {
        Ok(Box::new(Reader { files: self.clone(), path: path.to_owned() }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> ::iceberg::Result<()> {
        self.store()?.write(&self.properties, path, bytes).await.map_err(carried)
    }

    async fn writer(&self, path: &str) -> ::iceberg::Result<Box<dyn FileWrite>> {
        Ok(Box::new(Writer { files: self.clone(), path: path.to_owned(), bytes: Vec::new() }))
    }

    async fn delete(&self, _path: &str) -> ::iceberg::Result<()> {
        unused()
    }

    async fn delete_prefix(&self, _path: &str) -> ::iceberg::Result<()> {
        unused()
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> ::iceberg::Result<()> {
        if paths.next().await.is_none() { Ok(()) } else { unused() }
    }

    fn new_input(&self, path: &str) -> ::iceberg::Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> ::iceberg::Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct Reader {
    files: Opened,
    path: String,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> ::iceberg::Result<Bytes> {
        self.files.store()?.read(&self.files.properties, &self.path, Some(range)).await.map_err(carried)
    }
}

/// Gathers a file of metadata, which is written when it is closed.
struct Writer {
    files: Opened,
    path: String,
    bytes: Vec<u8>,
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bytes: Bytes) -> ::iceberg::Result<()> {
        bounded((self.bytes.len() + bytes.len()) as u64, &self.path).map_err(carried)?;
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(&mut self) -> ::iceberg::Result<()> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        self.files.write(&self.path, bytes).await
    }
}
