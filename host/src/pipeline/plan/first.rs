//! The first chain of a stream: at the start a plugin, file or model that is bad or missing is replaced by what the stream ran last,
//! which the data directory keeps; only without one is there no chain.
//!
//! `check` takes nothing of that in its place: each problem of what there is stays one, and says with what a start would go on.

use std::sync::Arc;

use wasmill_catalog::Catalog;
use wasmill_config::{self as config, PluginRef};
use wasmill_transform::{Chain, Engine, Plugin};

use super::{ChainPlan, ChainProblem, ChainVersion, all};
use crate::pipeline::granted::{self, Followed, Kept};

/// The first chain of a stream.
pub(crate) struct FirstChain {
    pub(crate) version: ChainVersion,
    /// The plugins that the directory has, where others run because one of these is not good.
    pub(crate) refused: Option<Vec<Arc<Plugin>>>,
    /// A version from before runs in the place of a bad or missing one.
    pub(crate) fell_back: bool,
    /// Until the stream follows them itself.
    pub(crate) _objects: Vec<Arc<Followed>>,
}

impl ChainPlan {
    /// Every problem of the chain with what is in the plugin directory, and with what files and models a start would go on in
    /// spite of it. Transforms that are not `ready` are looked for and not configured.
    pub(crate) fn problems(
        &self,
        engine: &Engine,
        catalog: &Catalog,
        ready: &dyn Fn(&config::Transform) -> bool,
    ) -> Vec<ChainProblem> {
        let found = self.find_each(catalog);
        let mut problems = self.problems_of(engine, &found, ready);
        let is_whole = granted::is_any(&self.transforms) && self.transforms.iter().all(ready);
        let Some(plugins) = all(found).ok().filter(|_| is_whole && !problems.is_empty()) else {
            return problems;
        };
        let kept = Kept::of(catalog, &self.stream);
        let with_kept = ChainPlan { kept: Some(kept.clone()), ..self.clone() };
        if with_kept.probe(engine, &plugins).is_ok() {
            for problem in &mut problems {
                let transform = problem.transform.and_then(|index| self.transforms.get(index));
                let instead = transform.map(|transform| kept.instead(transform)).unwrap_or_default();
                if !instead.is_empty() {
                    let told =
                        format!("; `wasmill run` would start with what ran last, {}", instead.join(", "));
                    problem.message.push_str(&told);
                }
            }
        }
        problems
    }

    /// The first version of a stream's chain. Runs guests on this thread.
    ///
    /// # Errors
    /// Every problem of the chain with what is in the plugin directory, if the versions that the stream ran last do not
    /// help.
    pub(crate) fn first(&self, engine: &Engine, catalog: &Catalog) -> Result<FirstChain, Vec<ChainProblem>> {
        self.objects.iter().for_each(|object| object.wait());
        let found = self.find_each(catalog);
        let whole = all(found.clone()).ok();
        let problems = match &whole {
            Some(plugins) => match self.build(engine, catalog, plugins) {
                Ok(chain) => {
                    return Ok(self.first_of(chain, plugins.clone(), None, false));
                }
                Err(problems) => problems,
            },
            None => self.problems_of(engine, &found, &|_| true),
        };
        if let Some(first) = self.first_with_kept(engine, catalog, whole.as_ref(), &problems) {
            return Ok(first);
        }
        let Some(plugins) = self.last_run(catalog, &found, &problems) else { return Err(problems) };
        let Ok(chain) = self.build(engine, catalog, &plugins) else { return Err(problems) };
        for problem in &problems {
            let runs = problem.transform.and_then(|index| plugins.get(index));
            tracing::error!(
                stream = %self.label(), reason = problem.message,
                plugin = runs.map(|plugin| plugin.name.as_str()),
                runs = runs.map(|plugin| plugin.digest.to_string()),
                "plugin is bad or missing, the stream starts with the version that it ran last"
            );
        }
        Ok(self.first_of(chain, plugins, whole, true))
    }

    fn first_of(
        &self,
        chain: Arc<Chain>,
        plugins: Vec<Arc<Plugin>>,
        refused: Option<Vec<Arc<Plugin>>>,
        fell_back: bool,
    ) -> FirstChain {
        let version = ChainVersion::new(1, chain, plugins);
        FirstChain { version, refused, fell_back, _objects: self.objects.clone() }
    }

    /// The same plugins with the files and models that ran last, if that helps.
    fn first_with_kept(
        &self,
        engine: &Engine,
        catalog: &Catalog,
        plugins: Option<&Vec<Arc<Plugin>>>,
        problems: &[ChainProblem],
    ) -> Option<FirstChain> {
        let plugins = plugins.filter(|_| granted::is_any(&self.transforms))?;
        let kept = Some(Kept::of(catalog, &self.stream));
        let chain = ChainPlan { kept, ..self.clone() }.build(engine, catalog, plugins).ok()?;
        for problem in problems {
            tracing::error!(
                stream = %self.label(), reason = problem.message,
                "a granted file or model is bad or missing, the stream starts with those that it ran last"
            );
        }
        Some(self.first_of(chain, plugins.clone(), Some(plugins.clone()), true))
    }

    /// What was found, with the version that ran last in the place of every bad one.
    fn last_run(
        &self,
        catalog: &Catalog,
        found: &[Result<Arc<Plugin>, ChainProblem>],
        problems: &[ChainProblem],
    ) -> Option<Vec<Arc<Plugin>>> {
        if problems.iter().any(|problem| problem.transform.is_none()) {
            return None;
        }
        let versions = self.transforms.iter().zip(found).enumerate().map(|(index, (transform, found))| {
            if !problems.iter().any(|problem| problem.transform == Some(index)) {
                return found.clone().ok();
            }
            let PluginRef { name, digest: None } = &transform.plugin else { return None };
            let last = catalog.last_run(&self.stream, name)?;
            catalog.find(name, Some(last)).ok()
        });
        versions.collect()
    }
}
