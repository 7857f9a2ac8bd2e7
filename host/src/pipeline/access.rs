//! Tenants, keys and the audit log of a host: opened at its start, and when keys were last used stored while it runs; and
//! the first key of a data directory on which none runs.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmill_buffer::{Disk, RealDisk};
use wasmill_config::{Jwks, Problem, Settings};
use wasmill_control::{Actor, AuditLog, Control, ControlError, KeyView, NewEntry, SigningPair};
use wasmill_tenant::{KeyText, NewKey, Quotas, Scope, TenantName};

use super::follow::FileChange;
use super::opening::StartError;
use super::sources::with_causes;
use super::stats::wall_clock_ns;
use crate::api;

/// How often it is stored when keys were last used.
const STORE_EVERY: Duration = Duration::from_secs(60);

/// What the listener needs.
pub(crate) struct Opened {
    pub(crate) control: Arc<Control>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) access: api::Access,
    pub(crate) used: LastUses,
    pub(crate) tls: Option<Arc<api::Tls>>,
    /// Those that were set at run time.
    pub(crate) quotas: Vec<(TenantName, Quotas)>,
}

/// Reads what is in the data directory, which must be locked.
pub(crate) async fn open(settings: &Settings) -> Result<Opened, StartError> {
    let data_dir = settings.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Control::open(&data_dir)).await;
    let opened = opened.map_err(|error| StartError::Thread(std::io::Error::other(error)))?;
    let control = opened.map_err(|error| StartError::Directory {
        action: "read",
        path: settings.data_dir.join("control"),
        error: std::io::Error::other(error),
    })?;
    let control = Arc::new(control);
    let audit = Arc::new(AuditLog::new(&settings.data_dir));
    let named = (Arc::clone(&control), Arc::clone(&audit), settings.tenants.clone());
    let known = tokio::task::spawn_blocking(move || know(&named.0, &named.1, &named.2)).await;
    known.map_err(|error| StartError::Thread(std::io::Error::other(error)))??;
    tell_left(&control, settings);
    let auth = &settings.http.auth;
    if let Some(address) = settings.http.listen.filter(|address| !auth.keys && !address.ip().is_loopback()) {
        tracing::warn!(
            %address,
            "whoever reaches the HTTP listener may do everything: set \"mode\" in [http.auth] to \"keys\", or bind it to loopback"
        );
    }
    let mut access = api::Access::new(Arc::clone(&control), Arc::clone(&audit), auth.keys, auth.metrics_open);
    if let Some(tokens) = tokens(settings).map_err(|problem| StartError::Invalid(vec![problem]))? {
        access = access.with_tokens(tokens);
    }
    let tls = tls(settings)?;
    let quotas = control.all_quotas();
    Ok(Opened { access, used: LastUses(Arc::clone(&control)), control, audit, tls, quotas })
}

/// The tokens of others that are taken, if any are.
pub(super) fn tokens(settings: &Settings) -> Result<Option<api::Tokens>, Problem> {
    let Some(jwt) = &settings.http.auth.jwt else { return Ok(None) };
    let rules = api::TokenRules {
        keys: match &jwt.jwks {
            Jwks::File(path) => api::KeySetPlace::File(path.clone()),
            Jwks::Url(url) => api::KeySetPlace::Url(url.clone()),
        },
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        tenant_claim: jwt.tenant_claim.clone(),
        scope_claim: jwt.scope_claim.clone(),
    };
    let tokens = api::Tokens::new(rules).map_err(|error| {
        let message = format!("no client for it can be made: {}", with_causes(&error));
        settings.problem("http.auth.jwt.jwks", message)
    });
    tokens.map(Some)
}

/// What of the listener can change while it runs.
pub(super) struct Doors {
    tokens: Arc<api::TakenTokens>,
    tls: Option<Arc<api::Tls>>,
}

impl Doors {
    pub(super) fn of(opened: &Opened) -> Doors {
        Doors { tokens: opened.access.tokens(), tls: opened.tls.clone() }
    }

    pub(super) fn take(&self, tokens: Option<api::Tokens>) {
        self.tokens.put(tokens);
    }

    /// Clients of certificates, as the file names them.
    pub(super) fn know(&self, settings: &Settings) {
        if let (Some(tls), Some(written)) = (&self.tls, &settings.http.tls) {
            tls.know(clients(written));
        }
    }
}

/// Sees to it that the tenants of the configuration are among those that have keys; what another one had left that was
/// of the name has been put aside before. Blocks.
pub(super) fn know(
    control: &Control,
    audit: &AuditLog,
    tenants: &[wasmill_config::Tenant],
) -> Result<(), StartError> {
    for tenant in tenants {
        // Names were checked with the configuration.
        let Ok(name) = TenantName::new(&tenant.name) else { continue };
        let now = u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000;
        let made = control.file_names(audit, &name, now).map_err(|error| StartError::Directory {
            action: "write",
            path: "control".into(),
            error: std::io::Error::other(error),
        })?;
        if made {
            FileChange::of_tenant(name.as_str(), "ADD").write(audit);
        }
    }
    Ok(())
}

/// Says of which tenants the file had a table and has none now: they stay.
pub(super) fn tell_left(control: &Control, settings: &Settings) {
    let named = |name: &TenantName| settings.tenants.iter().any(|tenant| tenant.name == name.as_str());
    for tenant in control.tenants(0).into_iter().filter(|tenant| tenant.filed && !named(&tenant.name)) {
        tracing::warn!(
            tenant = %tenant.name,
            "a tenant is in the configuration no more; it stays, with its keys and uploads, until it is deleted over HTTP"
        );
    }
}

/// The certificate of the listener, if it is to have one. Blocks.
pub(crate) fn tls(settings: &Settings) -> Result<Option<Arc<api::Tls>>, StartError> {
    let Some(tls) = &settings.http.tls else { return Ok(None) };
    let files = api::TlsFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
    };
    let loaded = api::Tls::load(files, clients(tls)).map_err(|error| {
        let message = with_causes(&error);
        StartError::Invalid(vec![settings.problem("http.tls", message)])
    });
    Ok(Some(Arc::new(loaded?)))
}

fn clients(tls: &wasmill_config::Tls) -> Vec<api::TlsClient> {
    // Names were checked with the configuration.
    let clients = tls.clients.iter().filter_map(|client| {
        Some(api::TlsClient {
            uri: client.uri.clone(),
            name: client.name.clone(),
            tenant: TenantName::new(&client.tenant).ok()?,
            scopes: client.scopes.iter().filter_map(|scope| scope.parse::<Scope>().ok()).collect(),
        })
    });
    clients.collect()
}

/// Stores when keys were last used.
pub(crate) struct LastUses(Arc<Control>);

impl LastUses {
    /// Now and then while something runs, and when it has ended.
    pub(crate) async fn kept_during(self, runs: impl Future<Output = ()>) {
        let now_and_then = async {
            let mut tick = tokio::time::interval(STORE_EVERY);
            loop {
                tick.tick().await;
                self.store().await;
            }
        };
        tokio::select! {
            () = runs => {}
            () = now_and_then => {}
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

/// Why no key was made in a data directory.
#[derive(Debug, thiserror::Error)]
pub enum OfflineKeyError {
    #[error("a host (process {pid}) runs on this data directory")]
    Running { pid: String },
    #[error("lock the data directory")]
    Lock(#[source] std::io::Error),
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Makes a key in a data directory on which no host runs; it need not be there yet. Blocks.
///
/// # Errors
/// See [`OfflineKeyError`].
pub fn create_key_offline(
    data_dir: &Path,
    tenant: &TenantName,
    new: NewKey,
) -> Result<(KeyText, KeyView, Option<SigningPair>), OfflineKeyError> {
    let journal = data_dir.join("journal");
    std::fs::create_dir_all(&journal).map_err(OfflineKeyError::Lock)?;
    let lock = RealDisk.lock(&journal.join("lock")).map_err(OfflineKeyError::Lock)?;
    let _lock = lock.map_err(|pid| OfflineKeyError::Running { pid })?;
    let now = u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000;
    let control = Control::open(data_dir)?;
    let (text, key) = control.create_key(tenant, new, now)?;
    let pair = control.signing_pair(tenant, &key.id)?;
    let entry = NewEntry {
        at_ms: now,
        who: Actor { address: "command line".to_owned(), ..Actor::default() },
        method: "POST".to_owned(),
        route: "/v1/keys".to_owned(),
        target: format!("/v1/keys/{}", key.id),
        status: 201,
        code: None,
        reason: None,
    };
    AuditLog::new(data_dir).changed(tenant, entry).map_err(ControlError::Store)?;
    Ok((text, key, pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_key_of_a_data_directory_is_made_unless_a_host_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let tenant = TenantName::default_tenant();
        let new = NewKey {
            name: "first".to_owned(),
            scopes: [Scope::Operator].into_iter().collect(),
            expires_ms: None,
            signs: true,
        };
        let (text, key, pair) = create_key_offline(&data, &tenant, new.clone()).unwrap();
        assert_eq!(pair.unwrap().access_key_id, key.id);
        let who = Control::open(&data).unwrap().verify(&text, 1).unwrap();
        assert!(who.scopes.is_operator() && who.key == key.id);
        let log = AuditLog::new(&data).page(&tenant, 0, 9).unwrap();
        assert_eq!(log.entries[0].target, format!("/v1/keys/{}", key.id));
        let _held = RealDisk.lock(&data.join("journal/lock")).unwrap().unwrap();
        let error = create_key_offline(&data, &tenant, new).unwrap_err();
        assert!(
            matches!(&error, OfflineKeyError::Running { pid } if pid.contains(&std::process::id().to_string()))
        );
    }
}
