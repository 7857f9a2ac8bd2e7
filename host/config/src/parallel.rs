//! Checks of a stream's `parallel` table.

use crate::raw;
use crate::resolve::Resolver;
use crate::settings::Parallel;
use crate::state::path;

/// Most strands: each has warm instances of the plugins, and tables of its own.
const STRANDS_MAX: u8 = 64;
/// Longest key as it is written: it stands in the name of every table.
const KEY_BYTES_MAX: usize = 128;

/// Of a stream that is `transformed`, or not.
pub(crate) fn parallel(
    resolver: &mut Resolver<'_>,
    stream: &str,
    transformed: bool,
    written: raw::Parallel,
) -> Parallel {
    let at = format!("{stream}.parallel");
    if !transformed {
        let message = "\"parallel\" is for streams with transforms: without any there is nothing to run";
        resolver.problem(&at, message);
    }
    let strands = written.strands.and_then(|strands| u8::try_from(strands).ok());
    let strands = strands.filter(|strands| (2..=STRANDS_MAX).contains(strands));
    if written.strands.is_some() && strands.is_none() {
        let message =
            format!("\"strands\" must be from 2 to {STRANDS_MAX}; without \"parallel\" there is one");
        resolver.problem(&format!("{at}.strands"), message);
    }
    let is_there = written.key.is_some();
    let key = written.key.unwrap_or_default();
    let found = path(&key);
    if is_there && found.is_none() {
        let message = format!("{key:?} is no field, expected its name, such as \"card\" or \"user.id\"");
        resolver.problem(&format!("{at}.key"), message);
    } else if key.len() > KEY_BYTES_MAX {
        let message = format!("the field takes {} bytes, the limit is {KEY_BYTES_MAX}", key.len());
        resolver.problem(&format!("{at}.key"), message);
    }
    Parallel { path: found.unwrap_or_default(), key, strands: strands.unwrap_or(2) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Parallel, Settings};

    fn read(transforms: &str, parallel: &str) -> Result<Option<Parallel>, String> {
        let text = format!(
            "[streams.s]\nsource = {{ type = \"http\" }}\noutputs = [{{ type = \"http\", url = \"http://a.example/\" }}]\n\
             {transforms}\n{parallel}"
        );
        match Settings::from_toml(&text, Path::new("wasmill.toml")) {
            Ok(settings) => Ok(settings.streams[0].parallel.clone()),
            Err(error) => Err(error.to_string()),
        }
    }

    const TRANSFORMS: &str = "transforms = [{ plugin = \"p\" }]";

    #[test]
    fn key_and_strands_are_read() {
        assert_eq!(read(TRANSFORMS, "").unwrap(), None);
        let parallel = read(TRANSFORMS, r"parallel = { key = 'user.a\.b', strands = 64 }").unwrap().unwrap();
        assert_eq!((parallel.path, parallel.strands), (vec!["user".to_owned(), "a.b".to_owned()], 64));
        assert_eq!(parallel.key, r"user.a\.b");
    }

    #[test]
    fn what_cannot_be_parted_is_refused_with_what_could() {
        for (transforms, parallel, told) in [
            ("", "parallel = { key = 'card', strands = 2 }", "is for streams with transforms"),
            (TRANSFORMS, "parallel = { key = 'card', strands = 1 }", "from 2 to 64"),
            (TRANSFORMS, "parallel = { key = 'card', strands = 65 }", "from 2 to 64"),
            (TRANSFORMS, "parallel = { key = 'card', strands = 300 }", "from 2 to 64"),
            (TRANSFORMS, "parallel = { key = 'a..b', strands = 2 }", "is no field, expected its name"),
            (TRANSFORMS, "parallel = { strands = 2 }", "key"),
            (TRANSFORMS, "parallel = { key = 'card' }", "strands"),
            (TRANSFORMS, "parallel = { key = 'card', count = 2 }", "count"),
        ] {
            let error = read(transforms, parallel).unwrap_err();
            assert!(error.contains(told), "{parallel}: {error}");
        }
        let long = format!("parallel = {{ key = '{}', strands = 2 }}", "x".repeat(129));
        let error = read(TRANSFORMS, &long).unwrap_err();
        assert!(error.contains("the limit is 128"), "{error}");
    }
}
