//! Versions of one plugin, as the API and the command line ask for them: which there are, and what is decided about them.
//!
//! Deciding is the reloader's, one decision after another; this is the way there, and the answer.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use wasmill_catalog::{
    AddError, Catalog, CatalogError, Control, Demotion, FindError, Live, PluginState, RemoveError, ShadowOf,
    VersionState,
};
use wasmill_transform::Digest;

use super::quotas::{QuotaRefusal, TenantQuota};
use super::reload::Reloader;
use super::shadow::{ShadowReport, StreamShadows};

/// A plugin file that came over HTTP.
pub struct PluginFile {
    pub wasm: Bytes,
    /// What it takes up, until nobody works on it any more: also where the client has gone.
    pub room: Box<dyn Send + Sync>,
}

impl fmt::Debug for PluginFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginFile").field("bytes", &self.wasm.len()).finish_non_exhaustive()
    }
}

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
        file: PluginFile,
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
    File(AddError),
    #[error(transparent)]
    Quota(QuotaRefusal),
    #[error(transparent)]
    Remove(RemoveError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("the tenant's plugins cannot be opened; the log of the host says why")]
    Closed,
    #[error("the tenant's streams are being changed: try again")]
    Changing,
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
    pub(crate) quota: Arc<TenantQuota>,
    pub(crate) reloader: Arc<Reloader>,
    /// Of every stream.
    pub(crate) shadows: Vec<Arc<StreamShadows>>,
    /// Versions that streams name by their digests, whether or not they run.
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
            VersionsRequest::ShadowFile { file, sample_percent } => {
                let digest = self.add(&plugin, file).await?;
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

    async fn add(&self, plugin: &str, file: PluginFile) -> Result<Digest, VersionsError> {
        if !self.shadows.iter().any(|shadows| shadows.plugins().iter().any(|name| name == plugin)) {
            return Err(VersionsError::Unused { name: plugin.to_owned() });
        }
        let (catalog, name) = (self.catalog.clone(), plugin.to_owned());
        taken(&self.quota, file, move |wasm| catalog.add(&name, wasm)).await
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

/// Does something with a file that may wait for the compiler.
async fn taken<T: Send + 'static>(
    quota: &TenantQuota,
    file: PluginFile,
    take: impl FnOnce(Vec<u8>) -> Result<T, AddError> + Send + 'static,
) -> Result<T, VersionsError> {
    let taken = tokio::task::spawn_blocking(move || {
        let PluginFile { wasm, room } = file;
        let taken = take(wasm.into());
        drop(room);
        taken
    });
    taken.await.map_err(|_panicked| VersionsError::Stopping)?.map_err(|error| match error {
        // Told with when there is time again.
        AddError::Compile { .. } => {
            quota.compile_refusal().map_or(VersionsError::File(error), VersionsError::Quota)
        }
        error => VersionsError::File(error),
    })
}

/// Takes a plugin file as what stands for its name.
pub(crate) async fn upload(
    catalog: &Catalog,
    quota: &TenantQuota,
    name: Option<String>,
    file: PluginFile,
    signature: Option<Vec<u8>>,
) -> Result<Value, VersionsError> {
    let uploading = catalog.clone();
    let upload = move |wasm| uploading.upload(name.as_deref(), wasm, signature);
    let (name, digest) = taken(quota, file, upload).await?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmill_tenant::{Quota, Quotas as Limits};

    use super::super::quotas::{Past, Quotas};
    use super::*;

    #[tokio::test]
    async fn compiler_that_may_not_run_now_is_told_with_when_it_may_and_the_room_is_free() {
        let limits = Limits { compile_seconds: Some(1), ..Limits::default() };
        let quota = Quotas::default().set("team", &limits);
        let take = async || {
            let room = Box::new(quota.upload_turn().unwrap());
            let file = PluginFile { wasm: Bytes::from_static(b"x"), room };
            let busy = |_| Err::<(), _>(AddError::Compile { reason: "no process".to_owned() });
            taken(&quota, file, busy).await.unwrap_err()
        };
        assert!(matches!(take().await, VersionsError::File(AddError::Compile { .. })));
        quota.charge_compile(Duration::from_secs(2));
        for _ in 0..9 {
            let VersionsError::Quota(refusal) = take().await else { panic!("it was no refusal") };
            assert_eq!(refusal.quota, Quota::CompileSeconds);
            assert!(
                matches!(refusal.why, Past::Now { retry_after } if retry_after > Duration::from_secs(3000))
            );
        }
    }
}
