//! A configuration that may have problems: what can be made of it all the same, and every problem.
//!
//! It owns the way from text to settings. Checks that need more than this crate (plugins, templates) look at the
//! settings of a draft, so that a problem of one kind hides none of another; only a draft without problems becomes
//! [`Settings`] that may run.

use std::path::Path;

use crate::authority::Authority;
use crate::describe;
use crate::problem::{Invalid, LoadError, Problem};
use crate::raw;
use crate::resolve::Resolver;
use crate::settings::{Settings, Text, at};
use crate::structure::{self, Bad, Checked};
use crate::tree::{self, Found};

/// Longest configuration, in bytes.
const TEXT_MAX: u64 = 16 << 20;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Draft {
    settings: Settings,
    problems: Vec<Problem>,
    bad: [Bad; 2],
}

impl Draft {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or is no TOML: of that nothing can be made.
    pub fn load(file: &Path) -> Result<Draft, LoadError> {
        let read = |source| LoadError::Read { file: file.to_owned(), source };
        let size = std::fs::metadata(file).map_err(read)?.len();
        if size > TEXT_MAX {
            return Err(LoadError::TooLarge { file: file.to_owned(), size, limit: TEXT_MAX });
        }
        let text = std::fs::read_to_string(file).map_err(read)?;
        Ok(Draft::parse(&text, file, &|name| std::env::var(name).ok())?)
    }

    /// See [`Settings::from_toml_with`].
    pub(crate) fn parse(
        text: &str,
        file: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Draft, Invalid> {
        let invalid = |mut found: Vec<Found>| {
            found.sort();
            found.dedup();
            found.into_iter().map(|found| at(file, text, found)).collect()
        };
        let root = tree::parse(text).map_err(|errors| Invalid { problems: invalid(errors) })?;
        let mut found = Vec::new();
        let Checked { json, bad, aliases } = structure::check(&root, describe::schema(), &mut found);
        // The structural check lets nothing through that the raw types refuse; if it does after all, the user still
        // gets a message.
        let raw: raw::Config = serde_json::from_value(json).map_err(|error| {
            found.push(Found { at: 0, message: error.to_string() });
            Invalid { problems: invalid(std::mem::take(&mut found)) }
        })?;
        let base = file.parent().unwrap_or(Path::new(""));
        let judged = Bad::default();
        let mut resolver = Resolver {
            root: &root,
            base,
            environment,
            found: &mut found,
            bad: &bad,
            aliases: &aliases,
            policy: None,
            model_dir: None,
            authority: Authority::Operator,
            judged,
        };
        let resolved = resolver.configuration(raw);
        let judged = resolver.judged;
        Ok(Draft {
            settings: Settings {
                file: file.to_owned(),
                text: Text(text.into()),
                aliases,
                data_dir: resolved.data_dir,
                plugin_dir: resolved.plugin_dir,
                model_dir: resolved.model_dir,
                workers: resolved.workers,
                http: resolved.http,
                buffer: resolved.buffer,
                signing: resolved.signing,
                streams: resolved.streams,
                tenants: resolved.tenants,
                warm_instances: resolved.warm_instances,
                warm_memory: resolved.warm_memory,
                quota: resolved.quota,
                quotas: resolved.quotas,
                policy: resolved.policy,
                isolation: resolved.isolation,
                firehose: resolved.firehose,
            },
            problems: invalid(found),
            bad: [bad, judged],
        })
    }

    /// Every problem so far, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What can be made of it, with stand-ins for what is bad: to be looked at, never to be run.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether nothing is wrong at a key and below it: only then is it worth more checks.
    pub fn sound(&self, key: &str) -> bool {
        !self.bad.iter().any(|bad| bad.within(key))
    }

    /// Settings that may run.
    ///
    /// # Errors
    /// Every problem.
    pub fn finish(self) -> Result<Settings, Invalid> {
        if self.problems.is_empty() { Ok(self.settings) } else { Err(Invalid { problems: self.problems }) }
    }
}
