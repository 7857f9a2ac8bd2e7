//! Tenants, keys and the audit log of a host: opened at its start, and when keys were last used stored while it runs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use wasmill_config::Settings;
use wasmill_control::{AuditLog, Control};

use super::opening::StartError;
use super::sources::with_causes;
use crate::api;

/// How often it is stored when keys were last used.
const STORE_EVERY: Duration = Duration::from_secs(60);

/// Reads what is in the data directory, which must be locked.
pub(crate) async fn open(settings: &Settings) -> Result<(api::Access, LastUses), StartError> {
    let data_dir = settings.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Control::open(&data_dir)).await;
    let control = opened.map_err(|error| StartError::Thread(std::io::Error::other(error)))??;
    let control = Arc::new(control);
    let audit = Arc::new(AuditLog::new(&settings.data_dir));
    let auth = &settings.http.auth;
    if let Some(address) = settings.http.listen.filter(|address| !auth.keys && !address.ip().is_loopback()) {
        tracing::warn!(
            %address,
            "whoever reaches the HTTP listener may do everything: set \"mode\" in [http.auth] to \"keys\", or bind it to loopback"
        );
    }
    let access = api::Access::new(Arc::clone(&control), audit, auth.keys, auth.metrics_open);
    Ok((access, LastUses(control)))
}

/// Stores when keys were last used.
pub(crate) struct LastUses(Arc<Control>);

impl LastUses {
    /// Now and then while something runs, and when it has ended.
    pub(crate) async fn kept_during(self, runs: impl Future<Output = ()>) {
        let mut runs = std::pin::pin!(runs);
        let mut tick = tokio::time::interval(STORE_EVERY);
        loop {
            tokio::select! {
                () = &mut runs => break,
                _ = tick.tick() => self.store().await,
            }
        }
        self.store().await;
    }

    async fn store(&self) {
        let control = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || control.store_last_used()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = with_causes(&error), "cannot store when keys were last used")
            }
            Err(error) => tracing::error!(%error, "storing when keys were last used ended early"),
        }
    }
}
