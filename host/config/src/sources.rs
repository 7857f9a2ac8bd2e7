//! Checks of a stream's sources: the one that has no name, or several by name.
//!
//! It owns how many there are, their names, and what each type wants. Addresses and standard input, which streams share,
//! are with `listeners`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use crate::raw;
use crate::resolve::Resolver;
use crate::settings::{FileSource, Source, SourceBuffer, Start, StreamSource, TcpSource};
use crate::tree;

/// Sources of one stream.
const SOURCES_MAX: usize = 16;

const EXPECTED: &str =
    "a table with a type that is one of \"http\", \"file\", \"stdin\", \"tcp\", \"kinesis\"";

impl Resolver<'_> {
    /// Those of a stream; never empty: where none can be read, one without a name stands in, and nothing is compared with it.
    pub(crate) fn sources(
        &mut self,
        stream: &str,
        single: Option<raw::Source>,
        named: Option<BTreeMap<String, raw::Source>>,
    ) -> Vec<StreamSource> {
        let (single_key, named_key) = (format!("{stream}.source"), format!("{stream}.sources"));
        let has_single = single.is_some() || self.bad.within(&single_key);
        let has_named = named.is_some() || self.bad.within(&named_key);
        match (has_single, has_named) {
            (true, true) => self.problem(
                &named_key,
                "there is \"source\", too; expected either \"source\", one without a name, or \"sources\", several by name",
            ),
            (false, false) => self.problem(
                &single_key,
                format!("missing key \"source\" in stream, expected {EXPECTED}, or \"sources\" with such tables by name"),
            ),
            _ => {}
        }
        let named = named.unwrap_or_default();
        if has_named && named.is_empty() && !self.bad.within(&named_key) {
            self.problem(&named_key, "\"sources\" is empty, expected at least one source by name");
        }
        if named.len() > SOURCES_MAX {
            let count = named.len();
            self.problem(&named_key, format!("\"sources\" has {count}, expected at most {SOURCES_MAX}"));
        }
        let mut sources = Vec::with_capacity(named.len());
        for (name, written) in named {
            let key = format!("{named_key}.{}", tree::segment(&name));
            self.name(&key, "source", &name);
            let source = self.source(&key, &written);
            sources.push(StreamSource { name: Some(name), key, source });
        }
        if let Some(written) = single {
            let source = self.source(&single_key, &written);
            sources.push(StreamSource { name: None, key: single_key, source });
        } else if sources.is_empty() {
            let key = if has_named { named_key } else { single_key };
            sources.push(StreamSource { name: None, key, source: Source::Http });
        }
        sources
    }

    fn source(&mut self, key: &str, source: &raw::Source) -> Source {
        let max_record = |this: &mut Self, size: crate::units::Size| {
            if !(1..=1 << 30).contains(&size.0) {
                this.problem(&format!("{key}.max_record"), "\"max_record\" must be from 1 byte to 1GiB");
            }
            size.0
        };
        match source {
            raw::Source::Http {} => Source::Http,
            raw::Source::Stdin { max_record: size } => Source::Stdin { max_record: max_record(self, *size) },
            raw::Source::File { paths, follow, from, buffer, max_record: size } => {
                let mut resolved = Vec::with_capacity(paths.len());
                for (index, pattern) in paths.iter().enumerate() {
                    let key = format!("{key}.paths[{index}]");
                    let path = self.path(&key, pattern);
                    if let Err(error) = glob::Pattern::new(pattern) {
                        self.problem(&key, format!("{pattern:?} is no glob pattern: {}", error.msg));
                    }
                    // The directory of the configuration is no pattern, whatever characters it has.
                    let base = self.base.to_str().map(glob::Pattern::escape);
                    match (base, path.to_str()) {
                        (Some(_), Some(whole)) if Path::new(pattern).is_absolute() => {
                            resolved.push(whole.to_owned())
                        }
                        (Some(base), Some(_)) if base.is_empty() => resolved.push(pattern.clone()),
                        (Some(base), Some(_)) => {
                            resolved.push(format!("{}/{pattern}", base.trim_end_matches('/')))
                        }
                        _ => self.problem(&key, "the directory of this file has a name that is not UTF-8"),
                    }
                }
                let follow_key = format!("{key}.follow");
                if matches!(from, raw::Start::End) && !follow && self.sound(&follow_key) {
                    self.problem(
                        &format!("{key}.from"),
                        "from = \"end\" needs follow = true, or nothing would be read",
                    );
                }
                Source::File(FileSource {
                    paths: resolved,
                    follow: *follow,
                    from: match from {
                        raw::Start::Start => Start::Start,
                        raw::Start::End => Start::End,
                    },
                    buffer: match buffer {
                        raw::SourceBuffer::Auto => SourceBuffer::Auto,
                        raw::SourceBuffer::Forced => SourceBuffer::Forced,
                    },
                    max_record: max_record(self, *size),
                })
            }
            raw::Source::Kinesis(written) => Source::Kinesis(self.kinesis(key, written)),
            raw::Source::Tcp { listen, max_record: size, max_connections } => {
                Source::Tcp(TcpSource {
                    // The structural check has parsed it before.
                    listen: listen.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0))),
                    max_record: max_record(self, *size),
                    max_connections: *max_connections,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const HEAD: &str = "[streams.s]\noutputs = [{ type = \"stdout\" }]\n";

    fn read(text: &str) -> Result<Settings, String> {
        Settings::from_toml(text, Path::new("/srv/wasmill.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn named_sources_are_in_the_order_of_their_names_and_one_without_a_name_stays_so() {
        let settings = read(&format!(
            "{HEAD}[streams.s.sources]\nweb = {{ type = \"http\" }}\nlogs = {{ type = \"file\", paths = [\"*.log\"] }}\n"
        ))
        .unwrap();
        let sources = &settings.streams[0].sources;
        let names: Vec<_> = sources.iter().map(|source| source.name.as_deref()).collect();
        assert_eq!(names, [Some("logs"), Some("web")]);
        assert_eq!(sources[0].key, "streams.s.sources.logs");
        assert!(matches!(&sources[0].source, Source::File(file) if file.paths == ["/srv/*.log"]));
        assert_eq!(sources[1].source, Source::Http);
        let single = read(&format!("{HEAD}source = {{ type = \"http\" }}\n")).unwrap();
        let sources = &single.streams[0].sources;
        assert_eq!((sources.len(), sources[0].name.as_deref()), (1, None));
    }

    #[test]
    fn what_is_wrong_with_sources_is_told_once_and_where() {
        let http = "{ type = \"http\" }";
        let many: String = (0..17).map(|n| format!("s{n} = {http}\n")).collect();
        for (sources, told) in [
            (String::new(), "1:1: missing key \"source\" in stream"),
            (format!("source = {http}\nsources = {{ a = {http} }}\n"), "4:11: there is \"source\", too"),
            ("sources = {}\n".to_owned(), "3:11: \"sources\" is empty"),
            ("sources = 5\n".to_owned(), "3:11: \"sources\" is the integer 5, expected a table"),
            (format!("[streams.s.sources]\n{many}"), "\"sources\" has 17, expected at most 16"),
            (
                format!("sources.\"a.b\" = {http}\n"),
                "source name \"a.b\" is not valid, expected 1 to 64 letters",
            ),
            (
                "sources.clicks = { type = \"htp\" }\n".to_owned(),
                "unknown source type \"htp\"; did you mean \"http\"",
            ),
            ("sources.clicks = {}\n".to_owned(), "missing key \"type\" in source, expected one of \"http\""),
            (
                "sources.clicks = \"http\"\n".to_owned(),
                "\"clicks\" is the string \"http\", expected a table with a type",
            ),
            ("sources.logs = { type = \"file\" }\n".to_owned(), "missing key \"paths\" in file source"),
            (
                "sources = { a = { type = \"stdin\" }, b = { type = \"stdin\" } }\n".to_owned(),
                "standard input is read by source \"a\" of stream \"s\" already",
            ),
            (
                "sources.a = { type = \"tcp\", listen = \"127.0.0.1:5140\" }\n\
                 sources.b = { type = \"tcp\", listen = \"127.0.0.1:5140\" }\n"
                    .to_owned(),
                "127.0.0.1:5140 is taken by source \"a\" of stream \"s\" already",
            ),
            (
                "sources.a = { type = \"stdin\" }\ndecide = {}\n".to_owned(),
                "\"decide\" wants a source of type \"http\"",
            ),
        ] {
            let problem = read(&format!("{HEAD}{sources}")).unwrap_err();
            assert!(problem.contains(told), "{sources}: {problem}");
            assert_eq!(problem.lines().count(), 1, "{problem}");
        }
    }
}
