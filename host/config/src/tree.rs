//! The TOML tree with positions.
//!
//! It owns parsing, the way from a key (`streams.access.outputs[0].size`) or a byte to line and
//! column, and the conversion of values to JSON. It refuses to know which keys are valid.

use std::borrow::Cow;
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something wrong at a byte of the text.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// Byte offset.
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// Parses the text. With any syntax error there is no tree, because what follows one is guesswork.
pub(crate) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<Found>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table);
    }
    Err(errors
        .iter()
        .map(|error| Found {
            at: error.span().map_or(0, |span| span.start),
            message: error.message().replace('\n', ", "),
        })
        .collect())
}

/// Line and column (in characters) of a byte, both from 1.
pub(crate) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// A name as a part of a key: in quotes unless it is plain.
pub(crate) fn segment(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.bytes().all(plain) { name.into() } else { format!("{name:?}").into() }
}

/// A step of a key.
enum Step<'k> {
    Name(&'k str),
    /// Of a name in quotes what [`segment`] made of it.
    Quoted(&'k str),
    Index(usize),
}

/// The first step of a key and what follows it.
fn step(key: &str) -> Option<(Step<'_>, &str)> {
    let key = key.strip_prefix('.').unwrap_or(key);
    if let Some(rest) = key.strip_prefix('[') {
        let (index, rest) = rest.split_once(']')?;
        return Some((Step::Index(index.parse().ok()?), rest));
    }
    let end = if key.starts_with('"') {
        let mut escaped = true;
        key.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        })? + 1
    } else {
        key.find(['.', '[']).unwrap_or(key.len())
    };
    let (name, rest) = key.split_at(end);
    match name {
        "" => None,
        name if name.starts_with('"') => Some((Step::Quoted(name), rest)),
        name => Some((Step::Name(name), rest)),
    }
}

/// Keys under which a misspelt one is known, and the name that stands in the text.
pub(crate) type Aliases = BTreeMap<String, String>;

/// The value at a key.
pub(crate) fn value<'t>(
    root: &'t Spanned<DeTable<'_>>,
    key: &str,
    aliases: &Aliases,
) -> Option<&'t Spanned<DeValue<'t>>> {
    match follow(root, key, aliases) {
        (value, true) => value,
        (_, false) => None,
    }
}

/// The byte at which a key's value stands. A key that is not in the text stands at the nearest table
/// or array that is.
pub(crate) fn locate(root: &Spanned<DeTable<'_>>, key: &str, aliases: &Aliases) -> usize {
    follow(root, key, aliases).0.map_or(root.span().start, |value| value.span().start)
}

/// The deepest value on the way to a key, and whether it is the key's own.
fn follow<'t>(
    root: &'t Spanned<DeTable<'_>>,
    key: &str,
    aliases: &Aliases,
) -> (Option<&'t Spanned<DeValue<'t>>>, bool) {
    let mut at: Option<&'t Spanned<DeValue<'t>>> = None;
    let mut rest = key;
    while let Some((step, after)) = step(rest) {
        let table = match at {
            None => Some(root.get_ref()),
            Some(value) => value.get_ref().as_table(),
        };
        let next = match step {
            Step::Name(name) => {
                let written = || aliases.get(key.get(..key.len() - after.len())?);
                table.and_then(|table| table.get(name).or_else(|| table.get(written()?.as_str())))
            }
            Step::Quoted(quoted) => {
                let mut named = table.into_iter().flatten();
                named.find(|(name, _)| format!("{:?}", name.get_ref()) == quoted).map(|(_, value)| value)
            }
            Step::Index(index) => {
                at.and_then(|value| value.get_ref().as_array()).and_then(|array| array.get(index))
            }
        };
        let Some(next) = next else { return (at, false) };
        (at, rest) = (Some(next), after);
    }
    (at, rest.is_empty())
}

/// A value as JSON, with datetimes as text. Problems are added to `found`.
pub(crate) fn to_json(value: &Spanned<DeValue<'_>>, found: &mut Vec<Found>) -> Option<serde_json::Value> {
    let mut fail = |message: &str| {
        found.push(Found { at: value.span().start, message: message.to_owned() });
        None
    };
    match value.get_ref() {
        DeValue::String(text) => Some(text.as_ref().into()),
        DeValue::Boolean(flag) => Some((*flag).into()),
        DeValue::Datetime(datetime) => Some(datetime.to_string().into()),
        DeValue::Integer(_) => match integer(value) {
            Some(number) => Some(number.into()),
            None => fail("integer does not fit 64 bits"),
        },
        DeValue::Float(float) => {
            let number = float.as_str().replace('_', "").parse::<f64>().ok();
            match number.and_then(serde_json::Number::from_f64) {
                Some(number) => Some(number.into()),
                None => fail("JSON has no infinity and no NaN; write a finite number or text"),
            }
        }
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| to_json(item, found)).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(Into::into)
        }
        DeValue::Table(table) => {
            let mut object = serde_json::Map::new();
            let mut whole = true;
            for (key, item) in table {
                match to_json(item, found) {
                    Some(item) => drop(object.insert(key.get_ref().to_string(), item)),
                    None => whole = false,
                }
            }
            whole.then_some(object.into())
        }
    }
}

/// An integer's value.
pub(crate) fn integer(value: &Spanned<DeValue<'_>>) -> Option<i64> {
    let integer = value.get_ref().as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_located_at_its_value_or_the_nearest_table() {
        let text = "a = 1\n[b.c]\nd = [10, 20]\n[[e]]\nx = 1\n[[e]]\ny = { z = 3 }\n";
        let root = parse(text).unwrap();
        let place = |key| line_and_column(text, locate(&root, key, &Aliases::new()));
        assert_eq!(place("a"), (1, 5));
        assert_eq!(place("b.c.d[1]"), (3, 10));
        assert_eq!(place("b.c.missing"), (2, 1));
        assert_eq!(place("e[1].y.z"), (7, 11));
        assert_eq!(place("e[1].nothing"), (6, 1));
        assert_eq!(place("nothing.at.all"), (1, 1));
    }

    #[test]
    fn name_that_is_not_plain_is_located_in_quotes() {
        let text = "[a]\n\"b.c\" = { \"d\\\"[0]\" = 1 }\n";
        let root = parse(text).unwrap();
        let key = format!("a.{}.{}", segment("b.c"), segment("d\"[0]"));
        assert_eq!(key, r#"a."b.c"."d\"[0]""#);
        assert_eq!(line_and_column(text, locate(&root, &key, &Aliases::new())), (2, 22));
        assert!(value(&root, &key, &Aliases::new()).is_some());
        assert!(value(&root, "a.b.c", &Aliases::new()).is_none());
        let aliases = Aliases::from([("z".to_owned(), "a".to_owned())]);
        assert_eq!(line_and_column(text, locate(&root, &key.replacen('a', "z", 1), &aliases)), (2, 22));
        assert_eq!(segment("plain-1_2"), "plain-1_2");
    }

    #[test]
    fn value_as_json_keeps_numbers_and_refuses_what_json_lacks() {
        let root =
            parse("a = { h = 0xff, f = 1_0.5, t = 1979-05-27, n = [true, \"x\"] }\nb = inf\n").unwrap();
        let mut found = Vec::new();
        let a = to_json(root.get_ref().get("a").unwrap(), &mut found).unwrap();
        assert_eq!(a, serde_json::json!({"h": 255, "f": 10.5, "t": "1979-05-27", "n": [true, "x"]}));
        assert!(found.is_empty());
        assert_eq!(to_json(root.get_ref().get("b").unwrap(), &mut found), None);
        assert_eq!(found.len(), 1);
    }
}
