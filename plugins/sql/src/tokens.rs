//! SQL as tokens, by the rules of SQLite: only as far as is needed to see where clauses begin and end.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in quotes: `"a"`, `[a]` or `` `a` ``.
    Quoted,
    /// A string, a number, a blob, a parameter.
    Literal,
    /// Anything else, a character.
    Mark,
}

/// A token of a query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Byte of the query.
    pub(crate) at: usize,
    /// In how many parentheses it is; an opening and a closing one are outside of their own.
    pub(crate) depth: usize,
}

impl Token<'_> {
    /// Whether it is this keyword.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether it is this character.
    pub(crate) fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }

    /// The name that it stands for.
    pub(crate) fn name(&self) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.text.to_owned()),
            Kind::Quoted => {
                let inner = self.text.get(1..self.text.len().saturating_sub(1))?;
                let quote = &self.text[..1];
                Some(if quote == "[" { inner.to_owned() } else { inner.replace(&quote.repeat(2), quote) })
            }
            Kind::Literal | Kind::Mark => None,
        }
    }
}

/// The tokens of a query without space and comments. What is not closed goes to the end; SQLite says what is wrong with it.
pub(crate) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(first) = bytes.get(at).copied() {
        let rest = sql.get(at..).unwrap_or_default();
        let until = |mark: &str, from: usize| {
            let inside = rest.get(from..).unwrap_or_default();
            inside.find(mark).map_or(rest.len(), |place| from + place + mark.len())
        };
        let (kind, len) = match first {
            b if b.is_ascii_whitespace() => (None, 1),
            b'-' if rest.starts_with("--") => (None, until("\n", 2)),
            b'/' if rest.starts_with("/*") => (None, until("*/", 2)),
            b'\'' => (Some(Kind::Literal), quoted(rest, '\'')),
            b'"' => (Some(Kind::Quoted), quoted(rest, '"')),
            b'`' => (Some(Kind::Quoted), quoted(rest, '`')),
            b'[' => (Some(Kind::Quoted), until("]", 1)),
            b'0'..=b'9' => {
                (Some(Kind::Literal), run(rest, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_')))
            }
            b if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 => (
                Some(Kind::Word),
                run(rest, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()),
            ),
            _ => (Some(Kind::Mark), 1),
        };
        let text = rest.get(..len).unwrap_or(rest);
        if let Some(kind) = kind {
            if kind == Kind::Mark && text == ")" {
                depth = depth.saturating_sub(1);
            }
            found.push(Token { kind, text, at, depth });
            if kind == Kind::Mark && text == "(" {
                depth += 1;
            }
        }
        at += text.len().max(1);
    }
    found
}

fn run(text: &str, goes_on: impl Fn(char) -> bool) -> usize {
    text.find(|c| !goes_on(c)).unwrap_or(text.len())
}

/// Length of a text in quotes, which stand for themselves twice.
fn quoted(text: &str, quote: char) -> usize {
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        if c != quote {
            continue;
        }
        match inside.peek() {
            Some((_, next)) if *next == quote => {
                inside.next();
            }
            _ => return at + 1,
        }
    }
    text.len()
}

/// Line and column of a byte, both from 1.
pub(crate) fn place(sql: &str, at: usize) -> (usize, usize) {
    let before = sql.get(..at).unwrap_or(sql);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_sqlite() {
        let sql = "SELECT a.\"b\"\"c\", 'x''(', [d e] -- no (\nFROM (t /* ) */) é";
        let found = tokens(sql);
        let texts: Vec<&str> = found.iter().map(|token| token.text).collect();
        assert_eq!(
            texts,
            ["SELECT", "a", ".", "\"b\"\"c\"", ",", "'x''('", ",", "[d e]", "FROM", "(", "t", ")", "é"]
        );
        assert_eq!(found[3].name().as_deref(), Some("b\"c"));
        assert_eq!(found[7].name().as_deref(), Some("d e"));
        assert_eq!(found[10].depth, 1);
        assert_eq!((found[9].depth, found[11].depth), (0, 0));
        assert_eq!(place(sql, found[8].at), (2, 1));
    }

    #[test]
    fn what_is_not_closed_goes_to_the_end() {
        for sql in ["'abc", "\"", "[a", "/* x", "-- x", "`a``"] {
            assert!(tokens(sql).len() <= 1, "{sql}");
        }
    }
}
