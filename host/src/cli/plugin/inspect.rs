//! `wasmill plugin inspect`: what a plugin file is, without running or compiling it.
//!
//! The file is a stranger: its size is bounded before it is read, and its texts are shown with control characters
//! escaped.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use wasmill_transform::{Inspection, Item, Kind, Limits, Manifest, PluginFault, inspect};

use crate::cli::output;

/// Functions of one interface that the text shows.
const FUNCTIONS_MAX: usize = 12;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing of the plugin is run or compiled. The exit code is 1 if a host would refuse the file.\n\n\
    Examples:\n  \
    wasmill plugin inspect plugins/parse.wasm\n  \
    wasmill plugin inspect --json plugins/parse.wasm | jq -r .digest"
)]
pub(in crate::cli) struct Arguments {
    /// A component, a core module with component metadata, or a module of a foreign system that runs as it is
    file: PathBuf,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let file = &arguments.file;
    let wasm = super::read(file)?;
    let inspection = match inspect(&wasm) {
        Ok(inspection) => inspection,
        Err(fault) if arguments.json => {
            let refused = [match fault {
                PluginFault::Refused { message } => message,
                fault => fault.to_string(),
            }];
            output::print_json(&json!({ "file": file.display().to_string(), "refused": refused }))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(PluginFault::Refused { message }) => {
            // The file is no plugin at all: there is nothing but the verdict.
            let mut text = Sheet(format!("{}\n", file.display()));
            text.line("size", &output::binary_size(wasm.len() as u64));
            text.line("verdict", &format!("a host would refuse it: {message}"));
            output::print(&text.0)?;
            return Ok(ExitCode::FAILURE);
        }
        Err(fault) => bail!("{}: {}", file.display(), output::plain(&fault.to_string())),
    };
    // What a transform gets whose configuration says nothing about limits.
    let asked = inspection.manifest.as_ref().map(|manifest| manifest.limits).unwrap_or_default();
    let limits = Limits::default().narrowed(&asked);
    if arguments.json {
        output::print_json(&as_json(file, &inspection, &limits))?;
    } else {
        output::print(&as_text(file, &inspection, &limits))?;
    }
    Ok(if inspection.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(file: &Path, inspection: &Inspection, limits: &Limits) -> Value {
    let mut value = json!(inspection);
    value["file"] = json!(file.display().to_string());
    value["limits"] = json!({
        "memory_bytes": limits.memory_bytes,
        "deadline_ms": limits.deadline.as_millis(),
        "configure_deadline_ms": limits.configure_deadline.as_millis(),
        "output_bytes": limits.output_bytes,
        "log_bytes": limits.log_bytes,
    });
    value
}

fn as_text(file: &Path, inspection: &Inspection, limits: &Limits) -> String {
    let mut text = Sheet(format!("{}\n", file.display()));
    match &inspection.manifest {
        Some(manifest) => {
            text.line("plugin", &format!("{} {}", manifest.name, manifest.version));
            if !manifest.description.is_empty() {
                text.line("what", &manifest.description);
            }
            if let Some(wit) = &manifest.wit {
                text.line("built for", &format!("wasmill:plugin {wit}"));
            }
        }
        None => {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            text.line("plugin", &format!("{stem} (named after the file: it has no manifest)"));
        }
    }
    text.line("digest", &inspection.digest.to_string());
    let kind = match inspection.kind {
        Kind::Component => "a component",
        Kind::CoreModule => "a core module, made a component when it is loaded",
        Kind::Door => "a core module, run as it is",
    };
    if let Some(door) = inspection.door {
        text.line("door", &door.to_string());
    }
    text.line("size", &format!("{} ({kind})", output::binary_size(inspection.bytes)));
    text.items("imports", &inspection.imports);
    text.items("exports", &inspection.exports);
    if let Some(manifest) = &inspection.manifest {
        text.grants(manifest);
    }
    text.line(
        "limits",
        &format!(
            "{} of memory, {:?} of CPU per call and {:?} to configure, {} out and {} of log per call",
            output::binary_size(limits.memory_bytes),
            limits.deadline,
            limits.configure_deadline,
            output::binary_size(limits.output_bytes),
            output::binary_size(limits.log_bytes),
        ),
    );
    match inspection.refused.as_slice() {
        [] => {
            text.line("verdict", "a host would load it; a stream that uses it configures and probes it first")
        }
        refused => text.line("verdict", &format!("a host would refuse it: {}", refused.join("; "))),
    }
    text.0
}

/// Lines of a label and a text.
struct Sheet(String);

impl Sheet {
    fn line(&mut self, label: &str, text: &str) {
        // Writing to a string does not fail.
        let _written = writeln!(self.0, "  {label:<10} {}", output::plain(text));
    }

    fn items(&mut self, label: &str, items: &[Item]) {
        if items.is_empty() {
            self.line(label, "nothing");
        }
        for (index, item) in items.iter().enumerate() {
            let mut functions: Vec<&str> = item.functions.iter().map(String::as_str).collect();
            let more = functions.len().saturating_sub(FUNCTIONS_MAX);
            functions.truncate(FUNCTIONS_MAX);
            let colon = if functions.is_empty() { "" } else { ": " };
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let line = format!("{}{colon}{}{more}", item.interface, functions.join(", "));
            self.line(if index == 0 { label } else { "" }, &line);
        }
    }

    fn grants(&mut self, manifest: &Manifest) {
        let named = |what: &str, names: &[String]| match names {
            [] => None,
            names => Some(format!("{what} {}", names.join(", "))),
        };
        let grants = &manifest.grants;
        let asked =
            [named("files", &grants.files), named("secrets", &grants.secrets), named("http", &grants.http)];
        let state = grants.state.then(|| "state".to_owned());
        let models = named("models", &grants.models);
        let asked: Vec<String> = asked.into_iter().chain([state, models]).flatten().collect();
        self.line("asks for", &if asked.is_empty() { "nothing".to_owned() } else { asked.join("; ") });
        if manifest.chunk.slice {
            self.line("chunks", "slices uncut, as far as that goes");
        }
        if let Some(sample) = &manifest.sample {
            self.line("sample", &crate::cli::check::counted(sample.records.len(), "record"));
        }
        let keys = manifest.config_schema.as_ref().and_then(|schema| schema.get("properties")?.as_object());
        if let Some(keys) = keys {
            let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
            self.line("config", &format!("keys {}", keys.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmill_transform::Chunks;

    use super::*;

    #[test]
    fn sheet_shows_what_a_manifest_says_without_control_characters() {
        let mut sheet = Sheet(String::new());
        sheet.line("what", "a\x1b[2J");
        assert_eq!(sheet.0, "  what       a\\u{1b}[2J\n");
    }

    #[test]
    fn sheet_says_of_a_plugin_that_it_asks_for_slices_uncut() {
        let shown = |slice| {
            let mut sheet = Sheet(String::new());
            sheet.grants(&Manifest { chunk: Chunks { slice }, ..Manifest::default() });
            sheet.0
        };
        assert_eq!(shown(false), "  asks for   nothing\n");
        assert_eq!(shown(true), "  asks for   nothing\n  chunks     slices uncut, as far as that goes\n");
    }
}
