//! Quotas of tenants that were set at run time.

use std::path::Path;

use wasmill_tenant::{Moment, Quotas, Tenant, TenantName};

use super::{Control, FORMAT, lock};
use crate::error::ControlError;
use crate::file;

impl Control {
    /// What was set for a tenant.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn quotas(&self, name: &TenantName) -> Result<Quotas, ControlError> {
        Ok(self.found(name)?.quotas.clone())
    }

    /// Of all tenants for which something was set.
    pub fn all_quotas(&self) -> Vec<(TenantName, Quotas)> {
        let directory = self.directory();
        let set = directory.tenants().filter(|tenant| !tenant.quotas.is_empty());
        set.map(|tenant| (tenant.name.clone(), tenant.quotas.clone())).collect()
    }

    /// Sets a tenant's quotas in the place of those that were set before, if `fits` says so of these. What is in use is
    /// told by `then`, so that two changes are in use in their order.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn set_quotas(
        &self,
        name: &TenantName,
        quotas: Quotas,
        fits: impl FnOnce(&Quotas) -> bool,
        then: impl FnOnce(&Quotas),
        now: Moment,
    ) -> Result<(), ControlError> {
        quotas.check()?;
        let _one = lock(&self.changing);
        let mut tenant = Tenant::clone(&*self.found(name)?);
        if !fits(&tenant.quotas) {
            return Err(ControlError::Changed { what: format!("quotas of tenant {:?}", name.as_str()) });
        }
        tenant.quotas = quotas.clone();
        self.put(tenant, now)?;
        then(&quotas);
        Ok(())
    }
}

/// What was set for tenants, as it is stored, whether or not a host runs on the directory. What cannot be read is left out:
/// whoever opens the directory is told.
pub fn stored_quotas(data_dir: &Path) -> Vec<(TenantName, Quotas)> {
    let files = std::fs::read_dir(data_dir.join("control").join("tenants")).into_iter().flatten().flatten();
    let paths =
        files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let tenants = paths.filter_map(|path| file::read::<Tenant>(&path, FORMAT).ok().flatten());
    tenants.map(|tenant| (tenant.name, tenant.quotas)).filter(|(_, quotas)| !quotas.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditLog;

    fn name(text: &str) -> TenantName {
        TenantName::new(text).unwrap()
    }

    #[test]
    fn quotas_are_there_after_the_next_start_and_change_only_as_they_were_seen() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let team = name("team");
        control.create_tenant(&AuditLog::new(dir.path()), &team, 1).unwrap();
        let some = Quotas { streams: Some(3), ..Quotas::default() };
        let mut used = Quotas::default();
        let then = |quotas: &Quotas| used = quotas.clone();
        control.set_quotas(&team, some.clone(), |before| before.is_empty(), then, 2).unwrap();
        assert_eq!(used, some);
        let late = control.set_quotas(&team, Quotas::default(), |before| before.is_empty(), |_| {}, 3);
        assert!(matches!(late, Err(ControlError::Changed { .. })));
        let bad = Quotas { requests: Some(0), ..Quotas::default() };
        let bad = control.set_quotas(&team, bad, |_| true, |_| {}, 3);
        assert!(bad.unwrap_err().to_string().contains("requests must be at least 1"));
        let again = Control::open(dir.path()).unwrap();
        assert_eq!(again.all_quotas(), [(team.clone(), some.clone())]);
        assert_eq!(again.quotas(&team).unwrap(), some);
        assert_eq!(stored_quotas(dir.path()), [(team, some)]);
        assert!(again.quotas(&name("nobody")).is_err());
    }
}
