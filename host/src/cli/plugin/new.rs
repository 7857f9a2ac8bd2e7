//! `wasmill plugin new`: a project from a language's template.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use wasmill_author::Language;

use crate::cli::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is fetched: the SDK goes along. What the language's own tools fetch when they build is \
    theirs.\n\n\
    Examples:\n  \
    wasmill plugin new --lang rust geo\n  \
    wasmill plugin new --lang rust geo --dir plugins-src/geo"
)]
pub(in crate::cli) struct Arguments {
    /// The language
    #[arg(long = "lang", value_name = "LANGUAGE", value_parser = PossibleValuesParser::new(Language::ALL.map(Language::name)))]
    language: String,
    /// The plugin's name, as streams will use it: a-z, 0-9 and -
    name: String,
    /// Where the project goes [default: a directory with the plugin's name]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { language, name, dir } = arguments;
    let language = Language::parse(language)?;
    let dir = dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let files = wasmill_author::create(language, name, &dir)?;
    let mut text = format!("{} is a plugin in {}:\n", dir.display(), language.name());
    for file in &files {
        writeln!(text, "  {file}")?;
    }
    writeln!(text, "next:\n  cd {}\n  wasmill plugin build", dir.display())?;
    let missing: Vec<_> = language.needs().into_iter().filter(|need| need.found.is_none()).collect();
    if !missing.is_empty() {
        text.push_str("before that, install what is missing here:\n");
        for need in missing {
            writeln!(text, "  {}: {}", need.what, need.how)?;
        }
    }
    output::print(&text)
}
