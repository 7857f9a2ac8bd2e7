//! `wasmill check`: everything that can be said about a configuration without touching its data directory's journal
//! or any destination.

use std::path::{Path, PathBuf};

use wasmill_config::{Draft, Problem};

use super::granted::has_objects;
use super::host::HostOptions;
use super::opening::{StartError, in_order, on_guest_thread, open_plugins};
use super::output_problems::output_problems;
use super::plan::{ChainPlan, GivenPlugins};
use super::quotas::Quotas;
use super::sources::with_causes;

/// What the draft has found, and: loads the plugins, configures and probes every transform, judges every output as
/// its destination would; all problems at once. What is bad already is not judged again. Compiled code is kept in the data directory if there is
/// one; none is made.
pub async fn check(draft: &Draft, options: &HostOptions) -> Vec<Problem> {
    let settings = draft.settings();
    let mut problems = draft.problems().to_vec();
    problems.extend(output_problems(settings, &|key| draft.sound(key)));
    let (job_draft, job_options) = (draft.clone(), options.clone());
    let of_plugins = on_guest_thread(move || plugin_problems(&job_draft, &job_options)).await;
    match of_plugins.and_then(|result| result) {
        Ok(found) => problems.extend(found),
        Err(error) => {
            let key = if matches!(error, StartError::Catalog(_)) { "plugin_dir" } else { "data_dir" };
            problems.push(settings.problem(key, with_causes(&error)));
        }
    }
    in_order(problems)
}

fn plugin_problems(draft: &Draft, options: &HostOptions) -> Result<Vec<Problem>, StartError> {
    let settings = draft.settings();
    if settings.streams.iter().all(|stream| stream.transforms.is_empty()) {
        return Ok(Vec::new());
    }
    let data_dir = if draft.sound("data_dir") && settings.data_dir.is_dir() {
        DataDir { path: settings.data_dir.clone(), temporary: false }
    } else {
        DataDir::temporary()?
    };
    let given = GivenPlugins::default();
    let quotas = Quotas::new(settings);
    let (engine, catalogs, _apart) = open_plugins(settings, &data_dir.path, options, &given, &quotas)?;
    let sound = |transform: &wasmill_config::Transform| {
        let part = |part: &str| draft.sound(&format!("{}.{part}", transform.key));
        ["plugin", "config", "files", "secrets"].iter().all(|name| part(name))
    };
    let found = settings.streams.iter().flat_map(|stream| {
        let catalog = &catalogs[&stream.tenant];
        // Nobody is asked for an object here.
        let ready = |transform: &wasmill_config::Transform| {
            sound(transform) && has_objects(transform, catalog.data_dir())
        };
        let found = ChainPlan::of(stream, &given, catalog).problems(&engine, catalog, &ready);
        found.into_iter().filter(|problem| draft.sound(&problem.key))
    });
    Ok(found.map(|problem| settings.problem(&problem.key, problem.message)).collect())
}

/// Where a check keeps compiled code.
struct DataDir {
    path: PathBuf,
    temporary: bool,
}

impl DataDir {
    fn temporary() -> Result<DataDir, StartError> {
        let path = std::env::temp_dir().join(format!("wasmill-check-{}", std::process::id()));
        let private =
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path);
        private.map_err(|error| StartError::Directory { action: "make", path: path.clone(), error })?;
        Ok(DataDir { path, temporary: true })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "temporary directory cannot be removed");
    }
}
