//! Where models lie: a directory of each tenant, in which transforms name files without saying where in the machine they are.
//!
//! It refuses to look at them: a model may come later, or be the one that ran last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::resolve::Resolver;
use crate::tree;

impl Resolver<'_> {
    /// The directory of a tenant, whose streams are about to be looked at.
    pub(crate) fn tenant_models(
        &mut self,
        key: &str,
        name: &str,
        written: Option<&str>,
        all: &Path,
    ) -> PathBuf {
        let directory = match written {
            Some(written) => self.directory(&format!("{key}.model_dir"), written),
            None => all.join(name),
        };
        self.model_dir = Some(directory.clone());
        directory
    }

    /// Files of the models that a transform names, by the names under which its plugin loads them.
    pub(crate) fn models(
        &mut self,
        key: &str,
        named: &BTreeMap<String, String>,
    ) -> BTreeMap<String, PathBuf> {
        let mut models = BTreeMap::new();
        for (name, written) in named {
            let key = format!("{key}.{}", tree::segment(name));
            self.name(&key, "model", name);
            self.name(&key, "model", written);
            match &self.model_dir {
                Some(directory) => {
                    models.insert(name.clone(), directory.join(format!("{written}.onnx")));
                }
                None => self.problem(
                    &key,
                    "the tenant has no directory of models: there is no [tenants.NAME] of it in the configuration",
                ),
            }
        }
        models
    }
}
