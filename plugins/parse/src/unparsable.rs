//! Why a line is unparsable, said with the position in the line and a piece of it.

/// A fault of one line; `at` counts in the chunk's payload bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unparsable {
    /// Something that must be there is not.
    Missing { what: &'static str, at: usize },
    /// A part is there but means nothing.
    Bad { what: &'static str, at: usize },
    /// A value is not of the type that the config gives its field.
    Type { field: String, wanted: &'static str, value: String, at: usize },
    /// The number of values is not that of the names.
    Count { expected: usize, got: usize, at: usize },
}

/// So much of the line is shown.
const SHOWN: usize = 40;

impl Unparsable {
    /// The reason for a dead letter: what, where (column from 1), and the text there.
    #[cold]
    pub(crate) fn describe(&self, start: usize, line: &[u8]) -> String {
        let (what, at) = match self {
            Unparsable::Missing { what, at } => (format!("missing {what}"), *at),
            Unparsable::Bad { what, at } => (format!("bad {what}"), *at),
            Unparsable::Type { field, wanted, value, at } => {
                (format!("field `{field}`: `{}` is no {wanted}", shorten(value.as_bytes())), *at)
            }
            Unparsable::Count { expected, got, at } => (format!("{got} values for {expected} names"), *at),
        };
        let at = at.saturating_sub(start).min(line.len());
        let rest = &line[at..];
        if rest.is_empty() {
            return format!("{what} at column {}: the line ends there", at + 1);
        }
        format!("{what} at column {}: `{}`", at + 1, shorten(rest))
    }
}

/// The beginning of a text, cut at a character.
fn shorten(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * SHOWN)]).into_owned();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}
