//! One stream as the reloader sees it: the chain that it was given, the one before, and what it does not want.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use wasmill_catalog::{Catalog, CatalogError, ShadowOf};
use wasmill_transform::{Chain, Digest, Engine, Plugin};

use super::{Blame, Reloading, Request};
use crate::pipeline::granted::{self, GrantWatch, Kept, There};
use crate::pipeline::plan::{ChainProblem, ChainVersion};
use crate::pipeline::shadow::{Candidate, CandidateLog, Shadow, candidate_options};
use crate::pipeline::stats::wall_clock_ns;

/// Refused sets of plugins that a stream remembers.
const REFUSED_MAX: usize = 16;

/// Plugins, and what they were granted.
struct Tried {
    plugins: Vec<Arc<Plugin>>,
    granted: Vec<String>,
    /// It passed, and then failed too many records.
    ran: bool,
}

/// See the head of this file.
pub(super) struct Slot {
    pub(super) stream: Reloading,
    before: Option<Arc<ChainVersion>>,
    /// Sets of plugins that did not pass, or failed too much; the newest.
    refused: VecDeque<Tried>,
    /// What the directory has and does not go live, once it was tried.
    probed: Option<Vec<Arc<Plugin>>>,
    /// Of what its transforms are granted, where there is something.
    watch: Option<GrantWatch>,
}

/// A changed sidecar makes another plugin of the same digest, so digests do not tell.
pub(super) fn same(one: &[Arc<Plugin>], other: &[Arc<Plugin>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

impl Slot {
    pub(super) fn new(mut stream: Reloading) -> Slot {
        let there = || There::now(&stream.plan.transforms, &stream.plan.data_dir).shown;
        let refused = stream.refused.take().map(|plugins| Tried { plugins, granted: there(), ran: false });
        Slot { refused: refused.into_iter().collect(), stream, before: None, probed: None, watch: None }
    }

    /// Hears from now on when something of what its transforms are granted is another one.
    pub(super) fn watch(&mut self, requests: &SyncSender<Request>) {
        let Reloading { lane, plan, .. } = &self.stream;
        let paths = granted::paths(&plan.transforms, &plan.data_dir);
        if paths.is_empty() {
            return;
        }
        let (lane, requests) = (*lane, requests.clone());
        let tell =
            move || !matches!(requests.try_send(Request::GrantChanged { lane }), Err(TrySendError::Full(_)));
        match GrantWatch::start(paths, tell) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => tracing::warn!(
                stream = %plan.label(), %error,
                "granted files cannot be watched; they change at the next start"
            ),
        }
    }

    /// Versions that the configuration names by digest.
    pub(super) fn pinned(&self) -> impl Iterator<Item = Digest> {
        let transforms = self.stream.plan.transforms.iter();
        transforms.filter_map(|transform| transform.plugin.digest.as_ref()?.parse().ok())
    }

    /// For the next start, in case a file is bad by then.
    pub(super) fn note_running(&self, catalog: &Catalog) {
        let plan = &self.stream.plan;
        let before = self.before.as_deref().map(|before| &*before.chain);
        let kept = Kept::of(catalog, &plan.stream).keep(&plan.transforms, &self.current().chain, before);
        if let Err(error) = kept {
            tracing::warn!(
                stream = %plan.label(), error = &error as &dyn std::error::Error,
                "files and models that run cannot be kept; a bad one at the next start has none before"
            );
        }
        if let Err(error) = catalog.note_running(&plan.stream, &plan.versions(&self.current())) {
            tracing::warn!(
                stream = %plan.label(), error = &error as &dyn std::error::Error,
                "which plugin versions run cannot be noted; a bad file at the next start has no version before"
            );
        }
    }

    pub(super) fn current(&self) -> Arc<ChainVersion> {
        Arc::clone(&self.stream.chains.borrow())
    }

    /// Gives the stream what the catalog has for it now, if it passes.
    pub(super) fn reload(&mut self, engine: &Engine, catalog: &Catalog) {
        let plan = &self.stream.plan;
        let plugins = match plan.find(catalog) {
            Ok(plugins) => plugins,
            Err(problems) => {
                tracing::debug!(stream = %plan.label(), reasons = texts(&problems), "plugins are not all there, going on as before");
                return;
            }
        };
        let there = There::now(&plan.transforms, &plan.data_dir);
        let tried = |tried: &Tried| same(&tried.plugins, &plugins) && tried.granted == there.shown;
        let refused = self.refused.iter().any(tried);
        let current = self.current();
        // What is being written is waited for, unless there is something else to take.
        let others = current.granted != there.shown && !there.unsettled;
        let withdrawn = current.withdrawn.is_some();
        if !refused && (others || withdrawn || !same(&current.plugins, &plugins)) {
            match plan.build(engine, catalog, &plugins) {
                Ok(chain) => {
                    self.take(catalog, chain, plugins);
                    // What comes back behind something good is told again.
                    self.refused.retain(|tried| tried.ran);
                }
                Err(problems) => {
                    self.stream.stats.reloads_refused.add(1);
                    for problem in problems {
                        let (stream, reason) = (plan.label(), problem.message);
                        if others {
                            tracing::warn!(%stream, reason, "changed file or model refused, the one before goes on");
                        } else {
                            tracing::warn!(%stream, reason, "new plugin version refused, the one before goes on");
                        }
                    }
                    self.refuse(Tried { plugins, granted: there.shown, ran: false });
                }
            }
        }
        self.probe_newest(engine, catalog);
    }

    /// What the stream runs and may not be used gives way to what may be; without that, the stream halts.
    pub(super) fn judge(&mut self, engine: &Engine, catalog: &Catalog) {
        let plan = &self.stream.plan;
        let refused = |version: &ChainVersion| plan.unsigned(catalog, &version.plugins);
        if self.before.as_ref().is_some_and(|before| refused(before).is_some()) {
            self.before = None;
        }
        // Whoever stands beside the chain is looked for anew.
        self.stream.shadows.put(Vec::new());
        let current = self.current();
        let Some((_, reason)) = refused(&current).filter(|_| current.withdrawn.is_none()) else { return };
        let found = plan.find(catalog).and_then(|plugins| {
            let chain = plan.build(engine, catalog, &plugins)?;
            Ok((chain, plugins))
        });
        match found {
            Ok((chain, plugins)) => {
                self.take(catalog, chain, plugins);
                self.before = None;
            }
            Err(_) => {
                self.before = None;
                self.stream.chains.send_replace(Arc::new(current.withdrawn(reason)));
            }
        }
    }

    /// Gives the stream the same plugins within other bounds, if they pass.
    pub(super) fn rebuild(&mut self, engine: &Engine, catalog: &Catalog) {
        let plugins = self.current().plugins.clone();
        if plugins.is_empty() || self.current().withdrawn.is_some() {
            return;
        }
        match self.stream.plan.build(engine, catalog, &plugins) {
            Ok(chain) => self.take(catalog, chain, plugins),
            Err(problems) => tracing::warn!(
                stream = %self.stream.plan.label(), reason = texts(&problems),
                "plugins do not run within the changed quotas; they go on within those before"
            ),
        }
    }

    /// What does not go live is tried all the same, so that everybody sees whether it could.
    fn probe_newest(&mut self, engine: &Engine, catalog: &Catalog) {
        let Ok(newest) = self.stream.plan.find_newest(catalog) else { return };
        let refused = self.refused.iter().map(|tried| &tried.plugins);
        let tried = refused.chain(&self.probed).any(|tried| same(tried, &newest));
        if tried || same(&self.current().plugins, &newest) {
            return;
        }
        let stream = self.stream.plan.label();
        match self.stream.plan.build(engine, catalog, &newest) {
            Ok(_) => {
                tracing::info!(%stream, "new plugin version could go live; another is pinned, or it is demoted")
            }
            Err(problems) => {
                tracing::warn!(%stream, reason = texts(&problems), "new plugin version could not go live, were it not pinned");
            }
        }
        self.probed = Some(newest);
    }

    /// Gives the stream a chain that passed.
    pub(super) fn take(&mut self, catalog: &Catalog, chain: Arc<Chain>, plugins: Vec<Arc<Plugin>>) {
        let current = self.current();
        let next = ChainVersion::new(current.generation + 1, chain, plugins);
        self.before = Some(current).filter(|current| current.withdrawn.is_none());
        self.stream.chains.send_replace(Arc::new(next));
        self.note_running(catalog);
    }

    /// Sees to it that the candidates that are wanted, and no others, stand beside the chain that the stream has.
    pub(super) fn follow_shadows(&self, engine: &Engine, catalog: &Catalog) {
        let shadows = &self.stream.shadows;
        let (there, current) = (shadows.get(), self.current());
        if current.withdrawn.is_some() {
            return shadows.put(Vec::new());
        }
        let wanted = shadows.plugins().iter().filter_map(|name| Some((name, catalog.control(name).shadow?)));
        let next: Vec<Arc<Shadow>> = wanted
            .filter(|(name, _)| !self.stream.plan.places(name).is_empty())
            .map(|(name, of)| {
                let same = there.iter().find(|shadow| shadow.is(name, of, current.generation));
                same.cloned().unwrap_or_else(|| Arc::new(self.shadow(engine, catalog, &current, name, of)))
            })
            .collect();
        shadows.put(next);
    }

    fn shadow(
        &self,
        engine: &Engine,
        catalog: &Catalog,
        current: &ChainVersion,
        name: &str,
        of: ShadowOf,
    ) -> Shadow {
        let plan = &self.stream.plan;
        let places = plan.places(name);
        let live = places.first().and_then(|place| current.plugins.get(*place));
        let live = live.map_or(of.digest, |live| live.digest);
        let log = CandidateLog::default();
        let build = || {
            if live == of.digest {
                return Err("the candidate is the live version here".to_owned());
            }
            let candidate = catalog.find(name, Some(of.digest)).map_err(|error| error.to_string())?;
            let mut plugins = current.plugins.clone();
            for place in &places {
                if let Some(there) = plugins.get_mut(*place) {
                    *there = Arc::clone(&candidate);
                }
            }
            let chain = plan.candidate(engine, &plugins, candidate_options(), log.sink());
            let chain = chain.map_err(|problems| format!("it cannot run: {}", texts(&problems)))?;
            Ok(Candidate::new(chain, plugins, places, &log))
        };
        Shadow::new(&plan.stream, name, of, (live, current.generation), build())
    }

    fn refuse(&mut self, tried: Tried) {
        self.refused.push_back(tried);
        if self.refused.len() > REFUSED_MAX {
            self.refused.pop_front();
        }
    }

    /// Somebody wants this version in spite of what it did.
    pub(super) fn pardon(&mut self, digest: Digest) {
        self.refused.retain(|refused| refused.plugins.iter().all(|plugin| plugin.digest != digest));
    }

    /// Takes the stream back to what it ran before `generation`, if there is something.
    pub(super) fn demote(&mut self, engine: &Engine, catalog: &Catalog, generation: u64, blame: &Blame) {
        let current = self.current();
        if current.generation != generation {
            return;
        }
        // Sidecars, models or files: then the version before is one of the same plugins.
        let same_code = |before: &Arc<ChainVersion>| before.chain.transforms().eq(current.chain.transforms());
        let only_sidecars = self.before.as_ref().is_some_and(same_code);
        if blame.lasting && !only_sidecars && self.demote_for_good(engine, catalog, &current, blame) {
            return;
        }
        self.refuse(Tried { plugins: current.plugins.clone(), granted: current.granted.clone(), ran: true });
        if blame.lasting && !only_sidecars {
            return;
        }
        let Some(before) = self.before.take() else { return };
        let again = ChainVersion::new(generation + 1, Arc::clone(&before.chain), before.plugins.clone());
        self.stream.chains.send_replace(Arc::new(again));
        self.note_running(catalog);
    }

    /// Whether a fresh version was there to be blamed, and another could take over.
    fn demote_for_good(
        &mut self,
        engine: &Engine,
        catalog: &Catalog,
        current: &ChainVersion,
        blame: &Blame,
    ) -> bool {
        let fresh = self.fresh(catalog, current, blame.transform);
        if fresh.is_empty() {
            return false;
        }
        let stream = self.stream.plan.label();
        for (name, digest) in &fresh {
            if let Err(error) = demoted(catalog, &self.stream.plan.stream, name, *digest, &blame.reason) {
                tracing::error!(
                    %stream, plugin = name, %digest, error = &error as &dyn std::error::Error,
                    "plugin version cannot be demoted; the stream stays paused"
                );
                return false;
            }
        }
        let plan = &self.stream.plan;
        let before = self.before.take();
        let found = plan.find(catalog).and_then(|plugins| {
            let again = before.filter(|before| same(&before.plugins, &plugins));
            let chain = match again {
                Some(before) => Arc::clone(&before.chain),
                None => plan.build(engine, catalog, &plugins)?,
            };
            Ok((chain, plugins))
        });
        self.stream.stats.demotions.add(1);
        for (name, digest) in &fresh {
            tracing::error!(
                %stream, plugin = name, %digest, reason = blame.reason,
                "plugin version is demoted in this stream and not taken again unless it is promoted"
            );
        }
        match found {
            Ok((chain, plugins)) => {
                self.take(catalog, chain, plugins);
                true
            }
            Err(problems) => {
                tracing::error!(%stream, reason = texts(&problems), "the version before cannot go on; the stream stays paused");
                false
            }
        }
    }

    /// Of the chain's plugins, those that went live lately and have a version before: the one to blame, or else all.
    fn fresh(
        &self,
        catalog: &Catalog,
        current: &ChainVersion,
        to_blame: Option<usize>,
    ) -> Vec<(String, Digest)> {
        let (plan, now) = (&self.stream.plan, now_ms());
        let fresh = |place: usize| {
            let plugin = current.plugins.get(place)?;
            let name = &plan.transforms.get(place)?.plugin.name;
            let follows = plan.places(name).contains(&place);
            let control = catalog.control(name);
            let has_before = control.before(plugin.digest, &plan.stream).is_some();
            let fresh = follows && has_before && control.is_fresh(plugin.digest, now);
            fresh.then(|| (name.clone(), plugin.digest))
        };
        if let Some(one) = to_blame.and_then(fresh) {
            return vec![one];
        }
        let mut all: Vec<_> = (0..current.plugins.len()).filter_map(fresh).collect();
        all.dedup();
        all
    }
}

fn demoted(
    catalog: &Catalog,
    stream: &str,
    name: &str,
    digest: Digest,
    reason: &str,
) -> Result<(), CatalogError> {
    catalog.decide(name, |control| control.demote(digest, stream, reason, now_ms())).map(drop)
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    u64::try_from(wall_clock_ns() / 1_000_000).unwrap_or(0)
}

/// In one line.
pub(super) fn texts(problems: &[ChainProblem]) -> String {
    problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
}
