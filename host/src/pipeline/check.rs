//! `wasmill check`: everything that can be said about a configuration without touching its data directory's journal
//! or any destination.

use wasmill_config::{Problem, Settings};

use super::host::HostOptions;
use super::opening::{StartError, first_chains, on_guest_thread, open_plugins, template_problems};
use super::reload::GivenPlugins;
use super::sources::with_causes;

/// Loads the plugins, builds and probes every chain, parses every template; all problems at once. Compiled code is
/// kept in the data directory, as a run would keep it.
pub async fn check(settings: &Settings, options: &HostOptions) -> Vec<Problem> {
    let mut problems = template_problems(settings);
    let (job_settings, job_options) = (settings.clone(), options.clone());
    let chains = on_guest_thread(move || {
        let given = GivenPlugins::default();
        let (engine, catalog) = open_plugins(&job_settings, &job_options, &given)?;
        first_chains(&job_settings, &engine, &catalog, &given).map(|_| ()).map_err(StartError::Invalid)
    })
    .await
    .and_then(|result| result);
    match chains {
        Ok(()) => {}
        Err(StartError::Invalid(found)) => problems.extend(found),
        Err(error) => {
            let key = if matches!(error, StartError::Catalog(_)) { "plugin_dir" } else { "data_dir" };
            problems.push(settings.problem(key, with_causes(&error)));
        }
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}
