//! What is wrong with the outputs of a configuration and shows without opening anything: templates, URLs, headers, and
//! directories that are somebody else's already.
//!
//! `check` and the start of a host ask the same questions here. Paths are compared as they are written: what links make of
//! them is not looked at.

use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use wasmill_columnar::Schema;
use wasmill_config as config;
use wasmill_config::{Destination, Problem, SchemaSource, Settings, Source, Stream};
use wasmill_deliver::{NameContext, NameTemplate, STAGING_NAME, batch_id};
use wasmill_encode::extension;

use super::outputs;
use super::stats::wall_clock_ns;

/// As a source of files expands its patterns.
const AS_FILES: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Every problem of every output, where nothing is wrong already.
pub(crate) fn output_problems(settings: &Settings, sound: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let mut problems = problems_of(settings, &settings.streams, sound);
    for (table, columns) in &settings.firehose.schemas {
        let key = settings.firehose.schema_key(table);
        if let SchemaSource::Columns(text) = columns
            && sound(&key)
            && let Err(error) = Schema::from_config(text)
        {
            problems.push(settings.problem(&key, error.to_string()));
        }
    }
    problems
}

/// The same for streams that need not be in the configuration.
pub(crate) fn problems_of(
    settings: &Settings,
    streams: &[Stream],
    sound: &dyn Fn(&str) -> bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for stream in streams {
        let of_letters = stream.dead_letters.output.iter().map(|letters| &letters.output);
        for output in stream.outputs.iter().chain(of_letters) {
            let template =
                sound(&format!("{}.object", output.key)).then(|| outputs::template(settings, output));
            if let Some(Err(problem)) = &template {
                problems.push(problem.clone());
            }
            problems.extend(outputs::wrong_settings(settings, output, sound));
            if sound(&format!("{}.parquet", output.key)) {
                problems.extend(outputs::columns(settings, output).err());
            }
            if let Destination::Directory(directory) = &output.destination
                && sound(&format!("{}.path", output.key))
            {
                let template = template.and_then(Result::ok);
                problems.extend(misplaced(settings, stream, output, &directory.path, template.as_ref()));
            }
        }
    }
    problems
}

/// A directory in which objects would meet what is not theirs.
fn misplaced(
    settings: &Settings,
    stream: &Stream,
    output: &config::Output,
    path: &Path,
    template: Option<&NameTemplate>,
) -> Option<Problem> {
    let root = plain(path);
    if root.starts_with(plain(&settings.data_dir)) {
        let (path, data) = (path.display(), settings.data_dir.display());
        let message = format!(
            "{path} is inside the data directory {data}, which is the host's own; give objects another directory"
        );
        return Some(settings.problem(&format!("{}.path", output.key), message));
    }
    let template = template?;
    let files = stream.sources.iter().filter_map(|of| match &of.source {
        Source::File(file) => Some(&file.paths),
        _ => None,
    });
    let mut read = files.flatten().peekable();
    read.peek()?;
    let batch = batch_id([0; 16], 0, &output.name, 0, &[] as &[(&str, &[u8])]);
    let object = template.render(&NameContext {
        stream: &stream.name,
        output: &output.name,
        batch_id: &batch,
        extension: &extension(outputs::format(output), outputs::compression(output)),
        codec_extension: outputs::compression(output).extension(),
        arrival: wall_clock_ns(),
        partition: &[],
        error: None,
    });
    let made = [root.join(object), root.join(STAGING_NAME).join(&batch)];
    let reads = read.find(|pattern| {
        let pattern = plain(Path::new(pattern));
        // What is no pattern is told by the source.
        let pattern = Pattern::new(&pattern.display().to_string()).ok();
        pattern.is_some_and(|pattern| made.iter().any(|file| pattern.matches_path_with(file, AS_FILES)))
    })?;
    let message = format!(
        "the stream would read its own objects: {} of this output matches {reads:?} of its source",
        made.first()?.display()
    );
    Some(settings.problem(&format!("{}.path", output.key), message))
}

/// Absolute, without `.` and `..`; of files that are not there nothing else is known.
fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_no_cwd| path.to_owned());
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            component => plain.push(component),
        }
    }
    plain
}
