//! From lines of the bundle to lines of the author's files: reads the map that the bundler writes, and writes what a
//! component carries of it for its tracebacks. Columns are left out; names of files outside the project too.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Lines of the bundle from `first` on, up to the next run.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// Counted from one.
    first: i64,
    /// `None`: lines that are not the author's.
    origin: Option<(usize, i64)>,
}

/// The table as JSON: `{"files": [name], "runs": [[first line, file or -1, line there]]}`. `keep` gives a source of the
/// map the name that authors know it by, or `None` if it is not theirs.
pub(super) fn table(map: &str, keep: impl Fn(&str) -> Option<String>) -> Result<Value> {
    let map: Value = serde_json::from_str(map).context("read the bundler's source map")?;
    let sources = map["sources"].as_array().context("a source map without sources")?;
    let kept: Vec<Option<String>> = sources.iter().map(|source| keep(source.as_str()?)).collect();
    let mappings = map["mappings"].as_str().context("a source map without mappings")?;
    let mut files: Vec<&str> = Vec::new();
    let mut rows = Vec::new();
    for run in runs(mappings, |source| kept.get(source).is_some_and(Option::is_some))? {
        let (file, line) = match run.origin {
            Some((source, line)) => {
                let name =
                    kept.get(source).and_then(Option::as_deref).context("a source that is not listed")?;
                let known = files.iter().position(|file| *file == name);
                let file = known.unwrap_or_else(|| {
                    files.push(name);
                    files.len() - 1
                });
                (i64::try_from(file)?, line)
            }
            None => (-1, 0),
        };
        rows.push(json!([run.first, file, line]));
    }
    Ok(json!({ "files": files, "runs": rows }))
}

/// One run for as many lines as follow each other in both files.
fn runs(mappings: &str, kept: impl Fn(usize) -> bool) -> Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    let (mut source, mut line) = (0_i64, 0_i64);
    for (generated, segments) in mappings.split(';').enumerate() {
        let generated = i64::try_from(generated)? + 1;
        let mut origin = None;
        for segment in segments.split(',').filter(|segment| !segment.is_empty()) {
            let fields = vlq(segment)?;
            if let [_, more_source, more_line, ..] = fields.as_slice() {
                source += more_source;
                line += more_line;
                let place = usize::try_from(source).context("a source before the first")?;
                origin = origin.or(kept(place).then_some((place, line + 1)));
            }
        }
        let continues = match (runs.last(), origin) {
            (Some(Run { first, origin: Some((file, start)) }), Some((place, line))) => {
                *file == place && line - start == generated - first
            }
            (Some(Run { origin: None, .. }), None) => true,
            _ => false,
        };
        if !continues {
            runs.push(Run { first: generated, origin });
        }
    }
    Ok(runs)
}

/// The numbers of a segment: base 64, five bits each, least significant first, the sign in the lowest bit.
fn vlq(segment: &str) -> Result<Vec<i64>> {
    let mut numbers = Vec::new();
    let (mut value, mut shift) = (0_i64, 0_u32);
    for byte in segment.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("a source map with {:?} in its mappings", char::from(byte)),
        };
        if shift > 50 {
            bail!("a source map with a number that is too large");
        }
        value |= i64::from(digit & 31) << shift;
        shift += 5;
        if digit & 32 == 0 {
            numbers.push(if value & 1 == 1 { -(value >> 1) } else { value >> 1 });
            (value, shift) = (0, 0);
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlq_signs_and_long_numbers() {
        assert_eq!(vlq("AAgBC").unwrap(), [0, 0, 16, 1]);
        assert_eq!(vlq("D").unwrap(), [-1]);
        assert!(vlq("A?").is_err());
        assert!(vlq(&"g".repeat(20)).is_err());
    }

    #[test]
    fn table_has_runs_of_the_sources_that_are_kept() {
        // Two lines of the first source, one that is nobody's, one of the second source from its fifth line on.
        let map = r#"{"sources":["vendor/x.js","src/p.js"],"mappings":"AAAA;AACA;;ACGA;AACA"}"#;
        let got = table(map, |name| name.strip_prefix("src/").map(str::to_owned)).unwrap();
        assert_eq!(got, json!({ "files": ["p.js"], "runs": [[1, -1, 0], [4, 0, 5]] }));
    }
}
