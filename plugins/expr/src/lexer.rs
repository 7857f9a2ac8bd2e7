//! Text of an expression to tokens.

use std::ops::Range;

use crate::error::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Int(i64),
    Float(f64),
    /// Double or single quoted.
    Text(String),
    /// A bare word: keyword, function or the beginning of a path.
    Word(String),
    /// A name in backticks, verbatim.
    Name(String),
    Sign(&'static str),
    End,
}

/// Longest first.
const SIGNS: [&str; 26] = [
    "==", "!=", "<=", ">=", "=~", "!~", "&&", "||", "<", ">", "=", "~", "!", "+", "-", "*", "/", "%", "(",
    ")", "[", "]", ",", ".", "|", "&",
];

pub(crate) fn tokens(source: &str) -> Result<Vec<(Token, Range<usize>)>, Fault> {
    let mut tokens = Vec::new();
    let mut rest = source;
    loop {
        rest = skip_blank(rest);
        let start = source.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            tokens.push((Token::End, start..start));
            return Ok(tokens);
        };
        let (token, len) = if first == '"' || first == '\'' {
            quoted(rest, first, start)?
        } else if first == '`' {
            match rest.get(1..).and_then(|name| name.find('`').and_then(|end| name.get(..end))) {
                Some(name) => (Token::Name(name.to_owned()), name.len() + 2),
                None => return Err(Fault::new("a name in backticks does not end", start..source.len())),
            }
        } else if first.is_ascii_digit() {
            number(rest, start)?
        } else if is_word(first) {
            let len = rest.find(|c: char| !is_word(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
            (Token::Word(rest.get(..len).unwrap_or_default().to_owned()), len)
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Token::Sign(sign), sign.len())
        } else {
            return Err(Fault::new(format!("unexpected `{first}`"), start..start + first.len_utf8()));
        };
        tokens.push((token, start..start + len));
        rest = rest.get(len..).unwrap_or_default();
    }
}

fn is_word(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '@' || c == '$'
}

/// Blanks, and comments from `#` to the end of the line.
fn skip_blank(text: &str) -> &str {
    let mut rest = text.trim_start();
    while rest.starts_with('#') {
        rest = rest.find('\n').and_then(|end| rest.get(end..)).unwrap_or_default().trim_start();
    }
    rest
}

fn quoted(text: &str, quote: char, start: usize) -> Result<(Token, usize), Fault> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((Token::Text(value), at + 1)),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, escaped @ ('"' | '\'' | '\\'))) => value.push(escaped),
                // `\.` and `\d` reach the pattern as they are written.
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            _ => value.push(c),
        }
    }
    Err(Fault::new(format!("a text that begins with {quote} does not end"), start..start + text.len()))
}

fn number(text: &str, start: usize) -> Result<(Token, usize), Fault> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let tail = |from: usize| text.get(from..).unwrap_or_default();
    let mut len = digits(text);
    let mut float = false;
    if tail(len).starts_with('.') && tail(len + 1).starts_with(|c: char| c.is_ascii_digit()) {
        float = true;
        len += 1 + digits(tail(len + 1));
    }
    if tail(len).starts_with(['e', 'E']) {
        let sign = usize::from(tail(len + 1).starts_with(['+', '-']));
        if tail(len + 1 + sign).starts_with(|c: char| c.is_ascii_digit()) {
            float = true;
            len += 1 + sign + digits(tail(len + 1 + sign));
        }
    }
    let shown = text.get(..len).unwrap_or_default().replace('_', "");
    let token = if float { None } else { shown.parse().ok().map(Token::Int) };
    let token =
        token.or_else(|| shown.parse().ok().filter(|value: &f64| value.is_finite()).map(Token::Float));
    token.map(|token| (token, len)).ok_or_else(|| Fault::new("a number out of range", start..start + len))
}
