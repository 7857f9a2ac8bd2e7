//! What the configuration file changed, in the audit logs of those whom it concerns.
//!
//! What concerns a tenant is in its own log: streams, policy, quotas, signing keys. That tenants came or went, and quotas of all,
//! is in that of `default`, as it is for changes over HTTP. An entry names the table in the place of a route.

use std::collections::BTreeSet;
use std::sync::Arc;

use wasmill_config::{self as config, DEFAULT_TENANT, Settings};
use wasmill_control::{Actor, AuditLog, NewEntry};
use wasmill_tenant::TenantName;

use crate::pipeline::host::Host;
use crate::pipeline::sources::with_causes;
use crate::pipeline::stats::wall_clock_ns;

/// In whose log, and what.
pub(in crate::pipeline) struct FileChange {
    tenant: String,
    /// `ADD`, `CHANGE` or `REMOVE`.
    what: &'static str,
    /// With `NAME` in the place of names.
    table: &'static str,
    key: String,
    /// Why it is not so yet.
    pending: Option<String>,
}

impl FileChange {
    pub(super) fn of_stream(
        stream: &config::Stream,
        what: &'static str,
        pending: Option<String>,
    ) -> FileChange {
        let table = match stream.tenant == DEFAULT_TENANT {
            true => "[streams.NAME]",
            false => "[tenants.NAME.streams.NAME]",
        };
        FileChange { tenant: stream.tenant.clone(), what, table, key: stream.key.clone(), pending }
    }

    pub(in crate::pipeline) fn of_tenant(name: &str, what: &'static str) -> FileChange {
        let key = format!("tenants.{name}");
        FileChange { tenant: DEFAULT_TENANT.to_owned(), what, table: "[tenants.NAME]", key, pending: None }
    }

    /// Everything else that two files say differently and that takes effect while the host runs.
    pub(super) fn of_tables(held: &Settings, file: &Settings) -> Vec<FileChange> {
        let mut changes = Vec::new();
        let (before, now) = (names(held), names(file));
        // That they came is told by who makes them.
        changes.extend(before.difference(&now).map(|name| FileChange::of_tenant(name, "REMOVE")));
        let mut change = |differs: bool, tenant: &str, table: &'static str| {
            if differs {
                let key = table.trim_matches(['[', ']']).replace("NAME", tenant);
                changes.push(FileChange {
                    tenant: tenant.to_owned(),
                    what: "CHANGE",
                    table,
                    key,
                    pending: None,
                });
            }
        };
        change(held.quota != file.quota, DEFAULT_TENANT, "[quota]");
        let all: BTreeSet<&str> = before.union(&now).copied().chain([DEFAULT_TENANT]).collect();
        for name in all {
            let own = |own, ours| if name == DEFAULT_TENANT { ours } else { own };
            let quotas = held.quotas.get(name) != file.quotas.get(name);
            change(quotas, name, "[tenants.NAME.quota]");
            let policies = held.policy_of(name) != file.policy_of(name);
            change(policies, name, own("[tenants.NAME.policy]", "[policy]"));
            let signing = held.signing_of(name) != file.signing_of(name);
            change(signing, name, own("[tenants.NAME.signing]", "[signing]"));
        }
        changes
    }

    /// Blocks on the disk.
    pub(in crate::pipeline) fn write(self, audit: &AuditLog) {
        let FileChange { tenant, what, table, key, pending } = self;
        // Names were checked with the configuration.
        let Ok(tenant) = TenantName::new(&tenant) else { return };
        let entry = NewEntry {
            at_ms: u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000,
            who: Actor { address: "configuration file".to_owned(), ..Actor::default() },
            method: what.to_owned(),
            route: table.to_owned(),
            target: format!("[{key}]"),
            status: if pending.is_some() { 409 } else { 200 },
            code: pending.as_ref().map(|_| "pending".to_owned()),
            reason: pending,
        };
        if let Err(error) = audit.changed(&tenant, entry) {
            tracing::error!(%tenant, table = key, error = with_causes(&error), "cannot write to the audit log");
        }
    }
}

fn names(settings: &Settings) -> BTreeSet<&str> {
    settings.tenants.iter().map(|tenant| tenant.name.as_str()).collect()
}

impl Host {
    pub(super) async fn note_changes(&self, changes: Vec<FileChange>) {
        let audit = Arc::clone(&self.inner.audit);
        let written = tokio::task::spawn_blocking(move || {
            changes.into_iter().for_each(|change| change.write(&audit));
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "writing to the audit log ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn told(before: &str, now: &str) -> Vec<(String, &'static str, &'static str, String)> {
        let read = |text: &str| {
            let stream = "[streams.s]\nsource = { type = \"http\" }\noutputs = [{ type = \"stdout\" }]\n";
            Settings::from_toml(&format!("{text}{stream}"), Path::new("/nowhere/wasmill.toml")).unwrap()
        };
        let changes = FileChange::of_tables(&read(before), &read(now));
        changes.into_iter().map(|change| (change.tenant, change.what, change.table, change.key)).collect()
    }

    fn change(
        tenant: &str,
        what: &'static str,
        table: &'static str,
        key: &str,
    ) -> (String, &'static str, &'static str, String) {
        (tenant.to_owned(), what, table, key.to_owned())
    }

    #[test]
    fn each_table_that_changed_is_told_to_whom_it_concerns() {
        let same = "[policy]\nhttp = [\"a\"]\n[quota]\nrequests = 1\n[tenants.a.quota]\nrequests = 1\n";
        assert_eq!(told(same, same), []);
        let keys = "keys = [\"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]\n";
        assert_eq!(
            told(
                same,
                &format!(
                    "[signing]\n{keys}[tenants.default.quota]\nrequests = 2\n[tenants.a.signing]\n{keys}"
                )
            ),
            [
                change("default", "CHANGE", "[quota]", "quota"),
                change("a", "CHANGE", "[tenants.NAME.quota]", "tenants.a.quota"),
                change("a", "CHANGE", "[tenants.NAME.signing]", "tenants.a.signing"),
                change("default", "CHANGE", "[tenants.NAME.quota]", "tenants.default.quota"),
                change("default", "CHANGE", "[policy]", "policy"),
                change("default", "CHANGE", "[signing]", "signing"),
            ]
        );
        // One that comes has what it comes with, and that it came is told where it is made.
        assert_eq!(
            told("[tenants.gone]\n", "[tenants.new.policy]\nhttp = [\"a\"]\n"),
            [
                change("default", "REMOVE", "[tenants.NAME]", "tenants.gone"),
                change("new", "CHANGE", "[tenants.NAME.policy]", "tenants.new.policy"),
            ]
        );
    }
}
