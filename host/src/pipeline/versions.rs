//! Versions of one plugin, as the API and the command line ask for them: which there are, and what is decided about them.
//!
//! Deciding is the reloader's, one decision after another; this is the way there, and the answer.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use wasmill_catalog::{
    AddError, Catalog, CatalogError, Control, Demotion, FindError, Live, PluginState, RemoveError, ShadowOf,
    VersionState,
};
use wasmill_transform::Digest;

use super::reload::Reloader;
use super::shadow::{ShadowReport, StreamShadows};

/// What a client asks of a plugin's versions.
#[derive(Debug)]
pub enum VersionsRequest {
    Show,
    /// `None`: what streams run now.
    Pin(Option<Digest>),
    Unpin,
    Rollback,
    /// `None`: the shadow.
    Promote(Option<Digest>),
    Shadow(ShadowOf),
    /// A plugin file that nobody knows yet.
    ShadowFile {
        wasm: Bytes,
        sample_percent: u8,
    },
    ShadowStop,
    ShadowReport,
    /// A kept version that nobody uses.
    Remove(Digest),
}

/// What the reloader is to do.
#[derive(Debug)]
pub(crate) enum Decision {
    Pin(Option<Digest>),
    Unpin,
    Rollback,
    Promote(Option<Digest>),
    Shadow(ShadowOf),
    ShadowStop,
}

/// Why a request about versions is refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    #[error(
        "there is no plugin {name:?}{}",
        match .nearest { Some(nearest) => format!("; did you mean {nearest:?}?"), None => String::new() }
    )]
    NoPlugin { name: String, nearest: Option<String> },
    #[error("{error}; known versions: {known}")]
    NoVersion { error: Box<FindError>, known: String },
    #[error("plugin {name:?} has no shadow: start one with a candidate, or name a version")]
    NoShadow { name: String },
    #[error("no stream follows plugin {name:?}, so there are no slices to run a candidate on")]
    Unused { name: String },
    /// As things stand; the same request may be right at another time.
    #[error("{message}")]
    NotNow { code: &'static str, message: String },
    /// A stream cannot run it.
    #[error("{digest} cannot go live: {reasons}")]
    Unfit { digest: Digest, reasons: String },
    #[error(transparent)]
    File(#[from] AddError),
    #[error(transparent)]
    Remove(RemoveError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("the host is stopping, or has too much to decide; try again")]
    Stopping,
}

/// All that there is to know.
#[derive(Debug, Serialize)]
struct Standing {
    plugin: String,
    /// What was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    pinned: Option<Digest>,
    shadow: Option<ShadowOf>,
    /// What the plugin directory has.
    newest: Option<Digest>,
    /// Versions that streams took; the last one first.
    live: Vec<Live>,
    demoted: Vec<Demotion>,
    versions: Vec<PluginState>,
}

/// Where requests about versions are answered.
pub(crate) struct VersionsDesk {
    pub(crate) catalog: Catalog,
    pub(crate) reloader: Arc<Reloader>,
    /// Of every stream.
    pub(crate) shadows: Vec<Arc<StreamShadows>>,
    /// Versions that streams name by their digests.
    pub(crate) named: HashSet<Digest>,
}

impl VersionsDesk {
    /// Does what is asked and says how things stand then.
    pub(crate) async fn answer(
        &self,
        plugin: String,
        request: VersionsRequest,
    ) -> Result<Value, VersionsError> {
        let missing = |nearest| VersionsError::NoPlugin { name: plugin.clone(), nearest };
        self.catalog.knows(&plugin).map_err(missing)?;
        let decision = match request {
            VersionsRequest::Show => return Ok(standing(&self.catalog, plugin, None)),
            VersionsRequest::ShadowReport => return self.report(plugin),
            VersionsRequest::Remove(digest) => return self.remove(plugin, digest).await,
            VersionsRequest::ShadowFile { wasm, sample_percent } => {
                let digest = self.add(&plugin, wasm).await?;
                Decision::Shadow(ShadowOf { digest, sample_percent })
            }
            VersionsRequest::Pin(digest) => Decision::Pin(digest),
            VersionsRequest::Unpin => Decision::Unpin,
            VersionsRequest::Rollback => Decision::Rollback,
            VersionsRequest::Promote(digest) => Decision::Promote(digest),
            VersionsRequest::Shadow(of) => Decision::Shadow(of),
            VersionsRequest::ShadowStop => Decision::ShadowStop,
        };
        let last = matches!(decision, Decision::ShadowStop).then(|| self.reports(Some(&plugin)));
        let message = self.reloader.decide(plugin.clone(), decision).await?;
        let mut answer = standing(&self.catalog, plugin, Some(message));
        if let (Some(last), Some(answer)) = (last, answer.as_object_mut()) {
            answer.insert("reports".to_owned(), serde_json::to_value(last).unwrap_or_default());
        }
        Ok(answer)
    }

    /// Reports of every shadow, or of those of one plugin.
    pub(crate) fn reports(&self, plugin: Option<&str>) -> Vec<ShadowReport> {
        let reports = self.shadows.iter().flat_map(|shadows| shadows.reports());
        reports.filter(|report| plugin.is_none_or(|plugin| report.plugin == plugin)).collect()
    }

    fn report(&self, plugin: String) -> Result<Value, VersionsError> {
        let shadow = self.catalog.control(&plugin).shadow;
        let shadow = shadow.ok_or_else(|| VersionsError::NoShadow { name: plugin.clone() })?;
        let reports = self.reports(Some(&plugin));
        Ok(json!({ "plugin": plugin, "shadow": shadow, "reports": reports }))
    }

    async fn remove(&self, plugin: String, digest: Digest) -> Result<Value, VersionsError> {
        let (catalog, name, named) = (self.catalog.clone(), plugin.clone(), self.named.clone());
        let removed = tokio::task::spawn_blocking(move || catalog.remove(&name, digest, &named)).await;
        removed.map_err(|_panicked| VersionsError::Stopping)?.map_err(VersionsError::Remove)?;
        Ok(standing(&self.catalog, plugin, Some(format!("{digest} is removed"))))
    }

    async fn add(&self, plugin: &str, wasm: Bytes) -> Result<Digest, VersionsError> {
        if !self.shadows.iter().any(|shadows| shadows.plugins().iter().any(|name| name == plugin)) {
            return Err(VersionsError::Unused { name: plugin.to_owned() });
        }
        let (catalog, name) = (self.catalog.clone(), plugin.to_owned());
        let added = tokio::task::spawn_blocking(move || catalog.add(&name, wasm.into())).await;
        Ok(added.map_err(|_panicked| VersionsError::Stopping)??)
    }
}

fn standing(catalog: &Catalog, plugin: String, message: Option<String>) -> Value {
    let control = catalog.control(&plugin);
    let mut versions = catalog.plugins();
    versions.retain(|version| version.name == plugin);
    let newest = versions
        .iter()
        .find(|version| matches!(version.state, VersionState::Current | VersionState::Removed))
        .and_then(|version| version.digest);
    let live = control.live.iter().rev().copied().collect();
    let Control { pinned, shadow, demoted, .. } = control;
    let standing = Standing { plugin, message, pinned, shadow, newest, live, demoted, versions };
    serde_json::to_value(standing).unwrap_or_default()
}

/// Takes a plugin file as what stands for its name.
pub(crate) async fn upload(
    catalog: &Catalog,
    name: Option<String>,
    wasm: Bytes,
    signature: Option<Vec<u8>>,
) -> Result<Value, VersionsError> {
    let uploading = catalog.clone();
    let done =
        tokio::task::spawn_blocking(move || uploading.upload(name.as_deref(), wasm.into(), signature)).await;
    let (name, digest) = done.map_err(|_panicked| VersionsError::Stopping)??;
    let mut answer = standing(catalog, name, Some(format!("{digest} is uploaded")));
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("digest".to_owned(), digest.to_string().into());
    }
    Ok(answer)
}

/// For people who named one that is not there.
pub(crate) fn known_versions(catalog: &Catalog, name: &str, missing: Option<Digest>) -> String {
    let plugins = catalog.plugins();
    let known = plugins.iter().filter(|plugin| plugin.name == name && plugin.digest != missing);
    let texts: Vec<String> = known
        .filter(|plugin| !matches!(plugin.state, VersionState::Refused { .. }))
        .filter_map(|plugin| {
            let current = if plugin.state == VersionState::Current { " (current)" } else { "" };
            Some(format!("{}{current}", plugin.digest?))
        })
        .collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}
