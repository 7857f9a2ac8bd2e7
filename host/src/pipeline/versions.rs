//! Versions of one plugin, as the API and the command line ask for them: which there are, and what is decided about them.
//!
//! Deciding is the reloader's, one decision after another; this is the way there, and the answer.

use serde::Serialize;
use serde_json::Value;
use wasmill_catalog::{
    AddError, Catalog, CatalogError, Demotion, FindError, Live, PluginState, VersionState,
};
use wasmill_transform::Digest;

use super::reload::Decider;

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
}

/// What the reloader is to do.
#[derive(Debug)]
pub(crate) enum Decision {
    Pin(Option<Digest>),
    Unpin,
    Rollback,
    Promote(Option<Digest>),
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
    #[error("{0}")]
    Wrong(String),
    /// A stream cannot run it.
    #[error("{digest} cannot go live: {reasons}")]
    Unfit { digest: Digest, reasons: String },
    #[error(transparent)]
    File(#[from] AddError),
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
    /// What the plugin directory has.
    newest: Option<Digest>,
    /// Versions that streams took; the last one first.
    live: Vec<Live>,
    demoted: Vec<Demotion>,
    versions: Vec<PluginState>,
}

/// Does what is asked and says how things stand then.
pub(crate) async fn answer(
    catalog: &Catalog,
    decider: &Decider,
    plugin: String,
    request: VersionsRequest,
) -> Result<Value, VersionsError> {
    catalog.knows(&plugin).map_err(|nearest| VersionsError::NoPlugin { name: plugin.clone(), nearest })?;
    let decision = match request {
        VersionsRequest::Show => return Ok(standing(catalog, plugin, None)),
        VersionsRequest::Pin(digest) => Decision::Pin(digest),
        VersionsRequest::Unpin => Decision::Unpin,
        VersionsRequest::Rollback => Decision::Rollback,
        VersionsRequest::Promote(digest) => Decision::Promote(digest),
    };
    let message = decider.decide(plugin.clone(), decision).await?;
    Ok(standing(catalog, plugin, Some(message)))
}

fn standing(catalog: &Catalog, plugin: String, message: Option<String>) -> Value {
    let control = catalog.control(&plugin);
    let mut versions = catalog.plugins();
    versions.retain(|version| version.name == plugin);
    let newest = versions
        .iter()
        .find(|version| matches!(version.state, VersionState::Current | VersionState::Removed))
        .and_then(|version| version.digest);
    let live = control.live.into_iter().rev().collect();
    let (pinned, demoted) = (control.pinned, control.demoted);
    let standing = Standing { plugin, message, pinned, newest, live, demoted, versions };
    serde_json::to_value(standing).unwrap_or_default()
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
