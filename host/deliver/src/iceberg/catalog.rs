//! The catalog: opened, asked, and what its refusals mean.
//!
//! Errors of the `iceberg` crate may hold bodies of answers, and these may hold credentials: what is told of them is chosen
//! here, and nothing else of them is shown.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ::iceberg::io::StorageFactory;
use ::iceberg::table::Table;
use ::iceberg::{
    Catalog, CatalogBuilder as _, Error, ErrorKind, Namespace, NamespaceIdent, TableCommit, TableCreation,
    TableIdent,
};
use async_trait::async_trait;
use iceberg_catalog_rest::{
    REST_CATALOG_PROP_URI, REST_CATALOG_PROP_WAREHOUSE, RestCatalog, RestCatalogBuilder,
};

use crate::destination::{Setting, Wrong};
use crate::fault::{DeliverError, Fault, Retry};
use crate::http::{HttpConfig, Silence, client, shown};

/// What the crate says where an answer has another status than those that it knows.
const UNEXPECTED_STATUS: &str = "Received response with unexpected status code";

/// A catalog with the REST interface of Iceberg.
#[derive(Clone)]
pub struct RestConfig {
    /// Where it is, without `/v1`.
    pub http: HttpConfig,
    /// Which of its warehouses.
    pub warehouse: Option<String>,
    /// Sent with every request.
    pub token: Option<String>,
    /// `ID:SECRET`, for which a token is asked for.
    pub credential: Option<String>,
    /// Where that is; `None`: at the catalog.
    pub oauth2_url: Option<String>,
    /// What is asked for there.
    pub scope: Option<String>,
}

impl fmt::Debug for RestConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestConfig")
            .field("http", &self.http)
            .field("warehouse", &self.warehouse)
            .finish_non_exhaustive()
    }
}

impl RestConfig {
    /// Everything for which it cannot be opened.
    pub(super) fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = self.http.wrong();
        let own = ["authorization", "x-iceberg-access-delegation"];
        for name in self.http.headers.keys().filter(|name| own.contains(&name.to_ascii_lowercase().as_str()))
        {
            let message = format!("the header {name} is set by the host");
            wrong.push(Wrong { at: Setting::Header(name.clone()), message });
        }
        let unfit = |text: &Option<String>| {
            text.as_ref().is_some_and(|text| reqwest::header::HeaderValue::from_str(text).is_err())
        };
        if unfit(&self.token) {
            let message = "the token does not fit into a header".to_owned();
            wrong.push(Wrong { at: Setting::Token, message });
        }
        wrong
    }
}

/// An open catalog.
pub(super) struct Opened {
    rest: RestCatalog,
    /// Tokens are asked for, and run out.
    has_credential: bool,
    /// Scheme, host and port, for the operator.
    place: String,
}

impl Opened {
    /// Touches no network.
    pub(super) async fn open(
        config: &RestConfig,
        files: Arc<dyn StorageFactory>,
    ) -> Result<Opened, DeliverError> {
        let (url, headers) = config.http.opened()?;
        let mut given = HashMap::from([
            (REST_CATALOG_PROP_URI.to_owned(), url.as_str().trim_end_matches('/').to_owned()),
            ("header.x-iceberg-access-delegation".to_owned(), "vended-credentials".to_owned()),
        ]);
        let optional = [
            (REST_CATALOG_PROP_WAREHOUSE, &config.warehouse),
            ("token", &config.token),
            ("credential", &config.credential),
            ("oauth2-server-uri", &config.oauth2_url),
            ("scope", &config.scope),
        ];
        for (name, value) in optional {
            given.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
        }
        for (name, value) in &headers {
            given.extend(value.to_str().ok().map(|value| (format!("header.{name}"), value.to_owned())));
        }
        let place = url.origin().ascii_serialization();
        let rest = RestCatalogBuilder::default()
            .with_client(client(&config.http, &url)?)
            .with_storage_factory(files)
            .load("wasmill", given)
            .await
            .map_err(|error| told(&place, "the catalog cannot be opened", &error))?;
        Ok(Opened { rest, has_credential: config.credential.is_some(), place })
    }

    /// The table as it is now; `None`: there is none.
    pub(super) async fn load(&self, table: &TableIdent) -> Result<Option<Table>, DeliverError> {
        match self.rest.load_table(table).await {
            Ok(table) => Ok(Some(table)),
            Err(error) if matches!(error.kind(), ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound) => {
                Ok(None)
            }
            Err(error) => Err(self.failed("the table cannot be loaded", &error).await),
        }
    }

    /// Makes the table, and its namespace where that is missing; `None`: somebody else did in between.
    pub(super) async fn create(
        &self,
        namespace: &NamespaceIdent,
        creation: impl Fn() -> TableCreation,
    ) -> Result<Option<Table>, DeliverError> {
        let mut created = self.rest.create_table(namespace, creation()).await;
        if created.as_ref().is_err_and(|error| error.kind() == ErrorKind::NamespaceNotFound) {
            match self.rest.create_namespace(namespace, HashMap::new()).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NamespaceAlreadyExists => {}
                Err(error) => return Err(self.failed("the namespace cannot be made", &error).await),
            }
            created = self.rest.create_table(namespace, creation()).await;
        }
        match created {
            Ok(table) => Ok(Some(table)),
            Err(error) if error.kind() == ErrorKind::TableAlreadyExists => Ok(None),
            Err(error) => Err(self.failed("the table cannot be made", &error).await),
        }
    }

    /// For one commit upon `table` and nothing newer.
    pub(super) fn pinned<'c>(&'c self, table: &Table) -> Pinned<'c> {
        Pinned { catalog: &self.rest, table: table.clone(), refused: Mutex::default() }
    }

    /// What an error comes to. A token that has run out is forgotten.
    pub(super) async fn failed(&self, message: &str, error: &Error) -> DeliverError {
        let told = told(&self.place, message, error);
        if self.has_credential && matches!(status(error), Some(401 | 403 | 419)) {
            // It was there: else nothing was asked. The next attempt asks for another.
            drop(self.rest.invalidate_token().await);
        }
        told
    }
}

/// The status of an answer with which the crate did nothing.
fn status(error: &Error) -> Option<u16> {
    if error.message() != UNEXPECTED_STATUS {
        return None;
    }
    let text = error.to_string();
    let (_, from) = text.split_once("status: ")?;
    from.get(..3)?.parse().ok()
}

/// An error for the operator and for everyone, without what may be secret.
fn told(place: &str, message: &str, error: &Error) -> DeliverError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(found) = cause {
        // Of our own store of files.
        if let Some(own) = found.downcast_ref::<DeliverError>() {
            return own.clone();
        }
        if let Some(silent) = found.downcast_ref::<reqwest::Error>() {
            let why = match Silence::of(silent) {
                Silence::Late => "the catalog did not answer in time",
                Silence::Unreachable => "the catalog cannot be reached",
                Silence::CutOff => "the request to the catalog was cut off",
            };
            return DeliverError::later(format!("{message}: {why}"), place);
        }
        cause = found.source();
    }
    let status = status(error);
    let (fault, why) = match (error.kind(), status) {
        (_, Some(401 | 403 | 419)) => (Fault::Destination, "the catalog denies access".to_owned()),
        (_, Some(status @ 400..=499)) => (Fault::Client, format!("the catalog answered {status}")),
        (_, Some(status)) => (Fault::Destination, format!("the catalog answered {status}")),
        (ErrorKind::Unexpected, None) => (Fault::Destination, error.message().to_owned()),
        (_, None) => (Fault::Client, error.message().to_owned()),
    };
    // Of answers that have a status the text is an error's own; others may be anything.
    let text = error.to_string();
    let body = text.split_once("json: ").map_or("", |(_, body)| body);
    let detail = match status {
        Some(_) if !text.contains("operation: auth") => format!("{place}: {}", shown(body)),
        _ => place.to_owned(),
    };
    DeliverError::new(fault, Retry::Later { after: None }, format!("{message}: {why}"), detail)
}

/// The catalog for one commit upon the table as it was looked at: not upon a newer one, in which the batch may be already.
///
/// A transaction of the crate loads the table anew and, when it conflicts, tries again on what it finds, without looking
/// for the batch in between. Here the table that it loads is the one that was looked at, and the commit says that nothing
/// was committed since; when that is not so, it conflicts, once.
pub(super) struct Pinned<'c> {
    catalog: &'c RestCatalog,
    table: Table,
    refused: Mutex<Option<Error>>,
}

impl fmt::Debug for Pinned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}

impl Pinned<'_> {
    /// Why the catalog refused the commit, if it was asked.
    pub(super) fn refused(&self) -> Option<Error> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn none<T>() -> ::iceberg::Result<T> {
    Err(Error::new(ErrorKind::FeatureUnsupported, "a commit asks for nothing else"))
}

#[async_trait]
impl Catalog for Pinned<'_> {
    async fn load_table(&self, _table: &TableIdent) -> ::iceberg::Result<Table> {
        Ok(self.table.clone())
    }

    async fn update_table(&self, commit: TableCommit) -> ::iceberg::Result<Table> {
        self.catalog.update_table(commit).await.map_err(|error| {
            // One that may be tried again would be.
            let stop = Error::new(ErrorKind::Unexpected, "the commit was refused");
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            stop
        })
    }

    async fn list_namespaces(&self, _: Option<&NamespaceIdent>) -> ::iceberg::Result<Vec<NamespaceIdent>> {
        none()
    }
    async fn create_namespace(
        &self,
        _: &NamespaceIdent,
        _: HashMap<String, String>,
    ) -> ::iceberg::Result<Namespace> {
        none()
    }
    async fn get_namespace(&self, _: &NamespaceIdent) -> ::iceberg::Result<Namespace> {
        none()
    }
    async fn namespace_exists(&self, _: &NamespaceIdent) -> ::iceberg::Result<bool> {
        none()
    }
    async fn update_namespace(
        &self,
        _: &NamespaceIdent,
        _: HashMap<String, String>,
    ) -> ::iceberg::Result<()> {
        none()
    }
    async fn drop_namespace(&self, _: &NamespaceIdent) -> ::iceberg::Result<()> {
        none()
    }
    async fn list_tables(&self, _: &NamespaceIdent) -> ::iceberg::Result<Vec<TableIdent>> {
        none()
    }
    async fn create_table(&self, _: &NamespaceIdent, _: TableCreation) -> ::iceberg::Result<Table> {
        none()
    }
    async fn drop_table(&self, _: &TableIdent) -> ::iceberg::Result<()> {
        none()
    }
    async fn purge_table(&self, _: &TableIdent) -> ::iceberg::Result<()> {
        none()
    }
    async fn table_exists(&self, _: &TableIdent) -> ::iceberg::Result<bool> {
        none()
    }
    async fn rename_table(&self, _: &TableIdent, _: &TableIdent) -> ::iceberg::Result<()> {
        none()
    }
    async fn register_table(&self, _: &TableIdent, _: String) -> ::iceberg::Result<Table> {
        none()
    }
}
