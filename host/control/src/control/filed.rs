//! Tenants that a configuration file names.

use std::path::Path;

use wasmill_tenant::{Moment, Tenant, TenantName};

use super::{Control, lock};
use crate::audit::AuditLog;
use crate::error::ControlError;

impl Control {
    /// Sees to it that a tenant is there which a file names, and stays known as one. Tells whether it was made.
    ///
    /// # Errors
    /// See [`Control::create_tenant`].
    pub fn file_names(&self, audit: &AuditLog, name: &TenantName, now: Moment) -> Result<bool, ControlError> {
        let made = match self.create_tenant(audit, name, now) {
            Ok(_) => true,
            Err(ControlError::TenantExists { .. }) => false,
            Err(error) => return Err(error),
        };
        let _one = lock(&self.changing);
        let mut tenant = Tenant::clone(&*self.found(name)?);
        if !tenant.filed {
            tenant.filed = true;
            self.put(tenant, now)?;
        }
        Ok(made)
    }
}

/// Whether a data directory has a tenant, whether or not a host runs on it.
pub fn is_stored(data_dir: &Path, name: &TenantName) -> bool {
    data_dir.join("control").join("tenants").join(format!("{name}.json")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_that_a_file_names_is_made_once_and_known_as_such_after_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let audit = AuditLog::new(dir.path());
        let (ours, theirs) = (TenantName::new("ours").unwrap(), TenantName::new("theirs").unwrap());
        let control = Control::open(dir.path()).unwrap();
        control.create_tenant(&audit, &theirs, 1).unwrap();
        assert!(!is_stored(dir.path(), &ours) && is_stored(dir.path(), &theirs));
        assert!(control.file_names(&audit, &ours, 2).unwrap());
        assert!(!control.file_names(&audit, &ours, 3).unwrap());
        let control = Control::open(dir.path()).unwrap();
        assert!(control.tenant(&ours, 4).unwrap().filed && !control.tenant(&theirs, 4).unwrap().filed);
        assert!(is_stored(dir.path(), &ours));
        // One that was made by hand is the file's from then on.
        assert!(!control.file_names(&audit, &theirs, 5).unwrap());
        assert!(control.tenant(&theirs, 6).unwrap().filed);
    }

    #[test]
    fn tenant_that_the_file_names_is_not_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let name = TenantName::new("team").unwrap();
        control.file_names(&AuditLog::new(dir.path()), &name, 1).unwrap();
        control.disable_tenant(&name, true, 2).unwrap();
        let refused = control.delete_tenant(&name, 0, || Some("w.toml".to_owned()), || panic!("it is there"));
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("[tenants.team]") && told.contains("w.toml"), "{told}");
        control.delete_tenant(&name, 0, || None, || ()).unwrap();
    }
}
