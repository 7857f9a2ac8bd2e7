//! What a stream's chain is built from, and every reason why it cannot be.
//!
//! A problem names the key of the configuration at which it is. Who builds a chain runs guests on the calling thread.

mod first;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use wasmill_catalog::{Catalog, FindError};
use wasmill_config::{self as config, PluginRef};
use wasmill_transform::{
    Chain, ChainError, ChainOptions, Digest, Engine, Limits, LogSink, Plugin, StateGrant, TransformError,
    TransformSpec,
};

pub(crate) use self::first::FirstChain;
use super::granted::{self, Contents, Followed, Kept};
use super::network;
use super::quotas::TenantQuota;
use super::sources::with_causes;
use super::stats::{TransformStats, label};
use super::ungranted;
use super::versions::known_versions;
use crate::telemetry::plugin_log;

type Found = Result<Arc<Plugin>, FindError>;

/// A chain that passed its probe.
pub(crate) struct ChainVersion {
    /// Grows with each version of a stream's chain in this process.
    pub(crate) generation: u64,
    pub(crate) chain: Arc<Chain>,
    /// Of plugins, granted files and models, for outcomes.
    pub(crate) digests: Vec<String>,
    /// Those of files and models, as [`granted::There`] has them.
    pub(crate) granted: Vec<String>,
    pub(crate) plugins: Vec<Arc<Plugin>>,
    /// Why it may not be used any more; nothing runs then.
    pub(crate) withdrawn: Option<String>,
}

impl ChainVersion {
    pub(crate) fn new(generation: u64, chain: Arc<Chain>, plugins: Vec<Arc<Plugin>>) -> ChainVersion {
        let of_plugins = chain.transforms().map(|(_, digest)| digest.to_string());
        let granted = granted::shown(&chain);
        let digests = of_plugins.chain(granted.iter().cloned()).collect();
        ChainVersion { generation, digests, granted, chain, plugins, withdrawn: None }
    }

    /// The same chain, which may not be used any more.
    pub(crate) fn withdrawn(&self, reason: String) -> ChainVersion {
        let next = ChainVersion::new(self.generation + 1, Arc::clone(&self.chain), self.plugins.clone());
        ChainVersion { withdrawn: Some(reason), ..next }
    }

    /// Writes names and versions into the counters, which go on counting.
    pub(crate) fn name_transforms(&self, transforms: &mut Vec<TransformStats>) {
        transforms.resize(self.plugins.len(), TransformStats::default());
        for ((stats, (name, digest)), plugin) in
            transforms.iter_mut().zip(self.chain.transforms()).zip(&self.plugins)
        {
            name.clone_into(&mut stats.name);
            stats.plugin.clone_from(&plugin.name);
            stats.version.clone_from(&plugin.manifest.version);
            stats.digest = digest.to_string();
            let files = self.chain.files().filter(|(transform, _, _)| *transform == name);
            stats.files = files.map(|(_, name, file)| (name.to_owned(), file.digest.to_string())).collect();
        }
    }

    /// Digests by transform, in no order.
    pub(crate) fn by_transform(&self) -> BTreeMap<String, String> {
        self.chain.transforms().map(|(name, digest)| (name.to_owned(), digest.to_string())).collect()
    }

    /// Name of the transform at this place.
    pub(crate) fn transform(&self, index: usize) -> &str {
        self.chain.transforms().nth(index).map_or("", |(name, _)| name)
    }
}

/// Why a chain is not there.
#[derive(Clone, Debug)]
pub(crate) struct ChainProblem {
    /// `None`: the chain as a whole.
    pub(crate) transform: Option<usize>,
    /// Where it stands in the configuration.
    pub(crate) key: String,
    pub(crate) message: String,
    /// The same for a tenant, where it differs.
    pub(crate) told: Option<String>,
}

/// What a stream's chain is built from.
#[derive(Clone)]
pub(crate) struct ChainPlan {
    tenant: String,
    pub(crate) stream: String,
    key: String,
    pub(crate) transforms: Vec<config::Transform>,
    /// The first is the default.
    outputs: Vec<String>,
    event_time: bool,
    /// Those that have a name.
    sources: Vec<String>,
    given: GivenPlugins,
    /// Of the tenant.
    quota: Option<Arc<TenantQuota>>,
    /// Of the tenant.
    pub(crate) data_dir: PathBuf,
    /// What ran last of what transforms are granted, in the place of what there is.
    kept: Option<Kept>,
    /// Objects that transforms are granted, where they are followed.
    objects: Vec<Arc<Followed>>,
}

/// Plugins that do not come from the plugin directory, by name; they stay for as long as the host runs. For
/// measurements of the pipeline with other code in the place of plugins.
pub type GivenPlugins = Arc<BTreeMap<String, Arc<Plugin>>>;

impl ChainPlan {
    pub(crate) fn of(stream: &config::Stream, given: &GivenPlugins, catalog: &Catalog) -> ChainPlan {
        ChainPlan {
            tenant: stream.tenant.clone(),
            stream: stream.name.clone(),
            key: stream.key.clone(),
            transforms: stream.transforms.clone(),
            outputs: stream.routes().map(|output| output.name.clone()).collect(),
            event_time: stream.event_time.is_some(),
            sources: stream.sources.iter().filter_map(|source| source.name.clone()).collect(),
            given: Arc::clone(given),
            quota: None,
            data_dir: catalog.data_dir().to_owned(),
            kept: None,
            objects: Vec::new(),
        }
    }

    /// The same, and for as long as it is there granted objects are read again and again, on the runtime of whoever calls.
    /// Without it, they are what was read last.
    pub(crate) fn following(self) -> ChainPlan {
        let objects = granted::follow_objects(&self.transforms, &self.data_dir);
        ChainPlan { objects, ..self }
    }

    /// Where its guests' log lines go.
    fn log(&self) -> Arc<dyn LogSink> {
        plugin_log(&self.tenant, &self.label())
    }

    /// The stream for people: the tenant is told where it is not the first one.
    pub(crate) fn label(&self) -> String {
        label(&self.tenant, &self.stream)
    }

    /// The same within what its tenant may use.
    pub(crate) fn within(self, quota: Arc<TenantQuota>) -> ChainPlan {
        ChainPlan { quota: Some(quota), ..self }
    }

    /// The live plugin of every transform, or the version that the configuration names.
    pub(crate) fn find(&self, catalog: &Catalog) -> Result<Vec<Arc<Plugin>>, Vec<ChainProblem>> {
        all(self.find_each(catalog))
    }

    /// The same with what the plugin directory has, whatever is pinned or demoted.
    pub(crate) fn find_newest(&self, catalog: &Catalog) -> Result<Vec<Arc<Plugin>>, Vec<ChainProblem>> {
        all(self.find_each_by(&|name, digest| catalog.find(name, digest)))
    }

    /// Places of the transforms that take whatever version of this plugin is live.
    pub(crate) fn places(&self, plugin: &str) -> Vec<usize> {
        let follows = |transform: &config::Transform| {
            let PluginRef { name, digest } = &transform.plugin;
            name == plugin && digest.is_none() && !self.given.contains_key(name)
        };
        let places = self.transforms.iter().enumerate().filter(|(_, transform)| follows(transform));
        places.map(|(place, _)| place).collect()
    }

    fn find_each(&self, catalog: &Catalog) -> Vec<Result<Arc<Plugin>, ChainProblem>> {
        self.find_each_by(&|name, digest| match digest {
            Some(_) => catalog.find(name, digest),
            None => catalog.find_live(&self.stream, name),
        })
    }

    fn find_each_by(
        &self,
        find: &dyn Fn(&str, Option<Digest>) -> Found,
    ) -> Vec<Result<Arc<Plugin>, ChainProblem>> {
        let found = self.transforms.iter().enumerate().map(|(index, transform)| {
            if let Some(plugin) = self.given.get(&transform.plugin.name) {
                return Ok(Arc::clone(plugin));
            }
            let digest = transform.plugin.digest.as_ref();
            let digest = digest.map(|text| text.parse::<Digest>()).transpose();
            let place = |key, message, told| ChainProblem { transform: Some(index), key, message, told };
            let at_plugin = |message, told| place(format!("{}.plugin", transform.key), message, told);
            let digest = digest.map_err(|error| at_plugin(error.to_string(), None))?;
            find(&transform.plugin.name, digest).map_err(|error| match error {
                // One cause, however many plugins are missing.
                FindError::NoDirectory { .. } => {
                    place("plugin_dir".to_owned(), error.to_string(), Some(error.to_tenant()))
                }
                error => at_plugin(with_causes(&error), Some(error.to_tenant())),
            })
        });
        found.collect()
    }

    /// Builds and probes, and tells the catalog which versions passed. Runs guests on this thread.
    pub(crate) fn build(
        &self,
        engine: &Engine,
        catalog: &Catalog,
        plugins: &[Arc<Plugin>],
    ) -> Result<Arc<Chain>, Vec<ChainProblem>> {
        if let Some((index, message)) = self.unsigned(catalog, plugins) {
            let key = self.transforms.get(index).map(|transform| format!("{}.plugin", transform.key));
            let key = key.unwrap_or_else(|| self.key.clone());
            return Err(vec![ChainProblem { transform: Some(index), key, message, told: None }]);
        }
        let built = self.probe(engine, plugins);
        match &built {
            Ok(_) => {
                for plugin in plugins {
                    catalog.note_probe(plugin.digest, &self.stream, Ok(()));
                }
            }
            Err(problems) => {
                for problem in problems {
                    if let Some(plugin) = problem.transform.and_then(|index| plugins.get(index)) {
                        catalog.note_probe(plugin.digest, &self.stream, Err(problem.message.clone()));
                    }
                }
            }
        }
        built
    }

    /// The first of these plugins that may not be used, and why: it is not signed as it must be. Blocks on the disk.
    pub(crate) fn unsigned(&self, catalog: &Catalog, plugins: &[Arc<Plugin>]) -> Option<(usize, String)> {
        plugins.iter().enumerate().find_map(|(index, plugin)| {
            let name = &self.transforms.get(index)?.plugin.name;
            if self.given.contains_key(name) {
                return None;
            }
            let reason = catalog.refuses(plugin.digest)?;
            Some((index, format!("plugin {name:?} ({}) is refused: {reason}", plugin.digest)))
        })
    }

    /// Builds and probes, and tells nobody; what the guests log goes to `log` alone. Runs guests on this thread.
    pub(crate) fn candidate(
        &self,
        engine: &Engine,
        plugins: &[Arc<Plugin>],
        options: ChainOptions,
        log: Arc<dyn LogSink>,
    ) -> Result<Arc<Chain>, Vec<ChainProblem>> {
        self.chain_of(engine, plugins.iter().enumerate().collect(), options, log)
    }

    fn probe(&self, engine: &Engine, plugins: &[Arc<Plugin>]) -> Result<Arc<Chain>, Vec<ChainProblem>> {
        let log = self.log();
        self.chain_of(engine, plugins.iter().enumerate().collect(), ChainOptions::default(), log)
    }

    /// A chain of these transforms alone, or why each of them cannot be in one.
    fn chain_of(
        &self,
        engine: &Engine,
        plugins: Vec<(usize, &Arc<Plugin>)>,
        options: ChainOptions,
        log: Arc<dyn LogSink>,
    ) -> Result<Arc<Chain>, Vec<ChainProblem>> {
        let mut specs = Vec::with_capacity(plugins.len());
        let mut places = Vec::with_capacity(plugins.len());
        let mut taken = Vec::with_capacity(plugins.len());
        let mut problems = Vec::new();
        for (index, plugin) in plugins {
            let Some(transform) = self.transforms.get(index) else { continue };
            match self.spec(engine, transform, plugin) {
                Ok(mut spec) => {
                    if let Some(quota) = &self.quota {
                        spec.limits.memory_bytes = quota.plugin_memory(spec.limits.memory_bytes);
                    }
                    specs.push(spec);
                    places.push(index);
                    taken.push(plugin);
                }
                Err((key, message)) => {
                    problems.push(ChainProblem { transform: Some(index), key, message, told: None });
                }
            }
        }
        let sources = Some(self.sources.clone());
        let options = ChainOptions { event_time: self.event_time, sources, ..options };
        let built = match engine.isolation(&self.tenant) {
            Some(apart) => Chain::build_apart(engine, &apart, specs, &self.outputs, options, log),
            None => Chain::build(engine, specs, &self.outputs, options, log),
        };
        match built {
            Ok(chain) if problems.is_empty() => return Ok(chain),
            Ok(_) => {}
            Err(ChainError::Transforms(errors)) => {
                problems.extend(errors.into_iter().map(|error| {
                    let plugin = taken.get(error.index);
                    let mut problem = self.refused(&places, error);
                    let transform = problem.transform.and_then(|index| self.transforms.get(index));
                    if let (Some(plugin), Some(transform)) = (plugin, transform) {
                        let told = ungranted::told(&plugin.manifest, transform, &problem.message);
                        problem.message.push_str(&told);
                    }
                    problem
                }));
            }
            Err(error) => {
                let (key, message) = (self.key.clone(), with_causes(&error));
                problems.push(ChainProblem { transform: None, key, message, told: None });
            }
        }
        problems.sort_by_key(|problem| problem.transform);
        Err(problems)
    }

    fn refused(&self, places: &[usize], error: TransformError) -> ChainProblem {
        let transform = places.get(error.index).copied();
        let written = transform.and_then(|index| self.transforms.get(index));
        let (key, message) = match written {
            Some(written) if error.of_config => {
                let complaint = written.complaint(&error.fault.to_string());
                let what = match complaint.field.as_str() {
                    "" => "its config".to_owned(),
                    field => format!("\"{field}\" in its config"),
                };
                (complaint.key, format!("{error} refuses {what}: {}", complaint.message))
            }
            Some(written) => (format!("{}.plugin", written.key), with_causes(&error)),
            None => (self.key.clone(), with_causes(&error)),
        };
        ChainProblem { transform, key, message, told: None }
    }

    fn problems_of(
        &self,
        engine: &Engine,
        found: &[Result<Arc<Plugin>, ChainProblem>],
        ready: &dyn Fn(&config::Transform) -> bool,
    ) -> Vec<ChainProblem> {
        let missing = found.iter().filter_map(|found| found.as_ref().err().cloned());
        let plugins = found.iter().enumerate().filter_map(|(index, found)| {
            let plugin = found.as_ref().ok()?;
            self.transforms.get(index).is_some_and(ready).then_some((index, plugin))
        });
        let log = self.log();
        let built = self.chain_of(engine, plugins.collect(), ChainOptions::default(), log);
        missing.chain(built.err().unwrap_or_default()).collect()
    }

    /// The version of every plugin that is not pinned or given, for the next start.
    pub(crate) fn versions(&self, running: &ChainVersion) -> BTreeMap<String, Digest> {
        let transforms = self.transforms.iter().zip(&running.plugins);
        let free = transforms.filter(|(transform, _)| {
            transform.plugin.digest.is_none() && !self.given.contains_key(&transform.plugin.name)
        });
        free.map(|(transform, plugin)| (transform.plugin.name.clone(), plugin.digest)).collect()
    }
}

/// A plugin's name and digest out of `name@sha256:…`.
///
/// # Errors
/// What would be right.
pub fn plugin_version(text: &str) -> Result<(String, Digest), String> {
    text.split_once('@')
        .and_then(|(name, digest)| Some((name.to_owned(), digest.parse().ok()?)))
        .ok_or_else(|| format!("plugin {text:?} is no version, expected name@sha256:<64 hex digits>"))
}

impl ChainPlan {
    /// The chain with other versions of some of its plugins (`name@sha256:…`), for a replay. Runs guests on this thread.
    pub(crate) fn with_versions(
        &self,
        engine: &Engine,
        catalog: &Catalog,
        wanted: &[String],
    ) -> Result<ChainVersion, String> {
        let wanted = wanted.iter().map(|text| plugin_version(text)).collect::<Result<Vec<_>, _>>()?;
        let mut plan = self.clone();
        for (name, digest) in &wanted {
            let mut found = false;
            for transform in plan.transforms.iter_mut().filter(|transform| transform.plugin.name == *name) {
                transform.plugin.digest = Some(digest.to_string());
                found = true;
            }
            if !found {
                let known: Vec<&str> =
                    self.transforms.iter().map(|known| known.plugin.name.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(format!(
                    "stream {:?} has no plugin {name:?}; its plugins are: {known}",
                    self.stream
                ));
            }
        }
        let texts = |problems: Vec<ChainProblem>| {
            problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
        };
        let plugins = plan.find(catalog).map_err(|problems| {
            let known = wanted.iter().map(|(name, digest)| {
                format!("known versions of {name:?}: {}", known_versions(catalog, name, Some(*digest)))
            });
            [texts(problems)].into_iter().chain(known).collect::<Vec<_>>().join("; ")
        })?;
        let chain = plan.probe(engine, &plugins).map_err(texts)?;
        Ok(ChainVersion::new(0, chain, plugins))
    }
}

fn all(found: Vec<Result<Arc<Plugin>, ChainProblem>>) -> Result<Vec<Arc<Plugin>>, Vec<ChainProblem>> {
    let mut plugins = Vec::with_capacity(found.len());
    let mut problems = Vec::new();
    for found in found {
        match found {
            Ok(plugin) => plugins.push(plugin),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(plugins) } else { Err(problems) }
}

impl ChainPlan {
    /// An error has its key.
    fn spec(
        &self,
        engine: &Engine,
        transform: &config::Transform,
        plugin: &Arc<Plugin>,
    ) -> Result<TransformSpec, (String, String)> {
        let secrets =
            transform.secrets.iter().map(|(name, secret)| (name.clone(), secret.reveal().to_owned()));
        let http = transform.http.as_ref().map(|http| network::grant(&self.tenant, http)).transpose();
        let http = http.map_err(|message| (format!("{}.http", transform.key), message))?;
        let Contents { files, models } =
            granted::contents(engine, transform, &self.data_dir, self.kept.as_ref())?;
        Ok(TransformSpec {
            name: transform.name.clone(),
            plugin: Arc::clone(plugin),
            config: transform.config.clone(),
            files,
            secrets: secrets.collect(),
            http,
            state: StateGrant { key: transform.state_key.clone(), denied: transform.state_denied.clone() },
            models,
            limits: plugin_limits(&transform.limits),
        })
    }
}

/// The limits of a configuration as transforms take them.
fn plugin_limits(limits: &wasmill_config::Limits) -> Limits {
    Limits {
        memory_bytes: limits.memory,
        deadline: limits.deadline,
        configure_deadline: limits.configure_deadline,
        output_bytes: limits.output,
        log_bytes: limits.log,
        http_deadline: limits.http_deadline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that a plugin which passes its author's tests runs in a host whose configuration says nothing of limits.
    #[test]
    fn limits_of_an_empty_configuration_are_those_of_transforms() {
        let text = "[streams.s]\nsource = { type = \"http\" }\n[[streams.s.transforms]]\nplugin = \"p\"\n\
                    [[streams.s.outputs]]\ntype = \"stdout\"\n";
        let settings = config::Settings::from_toml(text, std::path::Path::new("wasmill.toml")).unwrap();
        assert_eq!(plugin_limits(&settings.streams[0].transforms[0].limits), Limits::default());
    }
}
