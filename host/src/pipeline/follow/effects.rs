//! What of a file takes effect beside its streams: quotas, signatures of plugins, and who is known at the listener.

use std::sync::Arc;

use wasmill_config::{Problem, Settings};

use crate::api;
use crate::pipeline::access;
use crate::pipeline::host::Host;
use crate::pipeline::opening::signing_policy;
use crate::pipeline::tenants::Tenant;

/// What can fail is made before the file holds.
pub(super) struct Effects {
    /// Where the rules for them changed.
    tokens: Option<Option<api::Tokens>>,
}

impl Effects {
    pub(super) fn of(held: &Settings, file: &Settings) -> Result<Effects, Problem> {
        let changed = held.http.auth.jwt != file.http.auth.jwt;
        Ok(Effects { tokens: changed.then(|| access::tokens(file)).transpose()? })
    }
}

impl Host {
    pub(super) async fn take_effect(&self, effects: Effects, settings: &Settings) {
        let doors = &self.inner.doors;
        if let Some(tokens) = effects.tokens {
            doors.take(tokens);
        }
        doors.know(settings);
        self.take_quotas(settings);
        for tenant in self.inner.tenants.all() {
            self.ask_signatures(&tenant, settings).await;
        }
    }

    fn take_quotas(&self, settings: &Settings) {
        let inner = &self.inner;
        for (quota, before) in inner.opening.quotas.follow(settings) {
            tracing::info!(tenant = quota.tenant(), "quotas of a tenant changed with the configuration file");
            let reloader = inner.tenants.get(quota.tenant()).and_then(|tenant| tenant.reloader());
            if let Some(reloader) = reloader.filter(|_| before.plugin_memory != quota.limits().plugin_memory)
            {
                reloader.rebuild();
            }
        }
        inner.opening.workers.look_again();
    }

    /// What a tenant asks of signatures; its plugins are judged again where that is news.
    async fn ask_signatures(&self, tenant: &Arc<Tenant>, settings: &Settings) {
        let policy = signing_policy(settings, &tenant.name);
        let catalog = tenant.catalog.clone();
        match tokio::task::spawn_blocking(move || catalog.ask_signatures(policy)).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(
                    tenant = tenant.name,
                    "plugins are judged again by the keys of the configuration file"
                );
                if let Some(reloader) = tenant.reloader() {
                    reloader.judge().await;
                }
            }
            Err(error) => tracing::error!(%error, tenant = tenant.name, "judging plugins again ended early"),
        }
    }
}
