//! Bodies: a text with expressions between `{{` and `}}`.
//!
//! In JSON a value is escaped for the place in which it stands: between quotes as part of that text, elsewhere as a JSON
//! value of its own. Which of both it is follows from the template alone, so what is made is JSON whatever records
//! hold. A template that is none is refused when it is read. White space between JSON's tokens is left out, so that a
//! body is one line.

use wasmill_expr::{Columns, Fields, Program, Value};
use wasmill_keyed::key::quote;

use crate::config::BodyFormat;

/// Longest template in bytes.
const TEMPLATE_BYTES: usize = 16 << 10;
/// Most expressions of one.
const EXPRESSIONS_MAX: usize = 64;
/// Longest text of a value in bytes; what is longer is cut.
pub const TEXT_BYTES: usize = 4096;
/// Longest object or array in bytes; a longer one is null, because half of one is none.
pub const JSON_BYTES: usize = 16 << 10;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In plain text.
    Plain,
    /// Between the quotes of a JSON string.
    Quoted,
    /// Where JSON has a value.
    Value,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Expression(Program, Place),
}

/// A template, read.
#[derive(Debug)]
pub struct Template {
    parts: Vec<Part>,
    is_json: bool,
}

/// What JSON is in the middle of.
#[derive(Default)]
struct Scan {
    in_string: bool,
    after_backslash: bool,
}

impl Scan {
    /// Takes JSON text; gives it without the white space between its tokens.
    fn take(&mut self, text: &str) -> String {
        let mut kept = String::with_capacity(text.len());
        for letter in text.chars() {
            if !self.in_string && letter.is_ascii_whitespace() {
                continue;
            }
            kept.push(letter);
            match letter {
                _ if self.after_backslash => self.after_backslash = false,
                '\\' if self.in_string => self.after_backslash = true,
                '"' => self.in_string = !self.in_string,
                _ => {}
            }
        }
        kept
    }

    fn place(&self) -> Place {
        if self.in_string { Place::Quoted } else { Place::Value }
    }
}

impl Template {
    /// Reads one; its fields are numbered in `fields`.
    pub fn new(source: &str, format: BodyFormat, fields: &mut Fields) -> Result<Self, String> {
        if source.len() > TEMPLATE_BYTES {
            return Err(format!("body: it has {} bytes, more than {TEMPLATE_BYTES}", source.len()));
        }
        let is_json = format == BodyFormat::Json;
        let (mut parts, mut scan, mut rest) = (Vec::new(), Scan::default(), source);
        let mut expressions = 0;
        while let Some((literal, behind)) = rest.split_once("{{") {
            push(&mut parts, literal, is_json.then_some(&mut scan));
            let end = end_of(behind).ok_or_else(|| {
                let shown: String = behind.chars().take(40).collect();
                format!("body: `{{{{` without `}}}}` before {shown:?}")
            })?;
            let (expression, behind) = behind.split_at(end);
            let program =
                Program::compile(expression.trim(), fields).map_err(|error| format!("body: {error}"))?;
            let place = if is_json { scan.place() } else { Place::Plain };
            parts.push(Part::Expression(program, place));
            expressions += 1;
            rest = behind.strip_prefix("}}").unwrap_or_default();
        }
        push(&mut parts, rest, is_json.then_some(&mut scan));
        if expressions > EXPRESSIONS_MAX {
            return Err(format!("body: it has {expressions} expressions, more than {EXPRESSIONS_MAX}"));
        }
        let template = Self { parts, is_json };
        template.check()?;
        Ok(template)
    }

    /// Whether it makes JSON, if it is to.
    fn check(&self) -> Result<(), String> {
        if !self.is_json {
            return Ok(());
        }
        let mut sample = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => sample.extend_from_slice(text.as_bytes()),
                Part::Expression(_, place) => write(&Value::Null, *place, &mut sample),
            }
        }
        serde_json::from_slice::<serde::de::IgnoredAny>(&sample).map_err(|error| {
            let shown = String::from_utf8_lossy(&sample);
            let shown: String = shown.chars().take(120).collect();
            format!("body: it makes no JSON (`body_format = \"text\"` for anything else): {error} in {shown}")
        })?;
        Ok(())
    }

    /// Appends the body of a row.
    pub fn render(&self, columns: &Columns, row: usize, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Expression(program, place) => write(&program.value(columns, row), *place, out),
            }
        }
    }
}

fn push(parts: &mut Vec<Part>, literal: &str, scan: Option<&mut Scan>) {
    let literal = scan.map_or_else(|| literal.to_owned(), |scan| scan.take(literal));
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
}

/// Where the `}}` of an expression is; those in its quotes are none.
fn end_of(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(letter),
            (None, '}') if text.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return Some(at),
            _ => {}
        }
    }
    None
}

fn write(value: &Value<'_>, place: Place, out: &mut Vec<u8>) {
    let is_text = matches!(value, Value::Text(_));
    let text = match value {
        Value::Json(json) if json.is_empty() || json.len() > JSON_BYTES => None,
        value => value.clone().into_text(),
    };
    let Some(text) = text else {
        if place == Place::Value {
            out.extend_from_slice(b"null");
        }
        return;
    };
    let text = if is_text { cut(&text) } else { &*text };
    match place {
        Place::Plain => out.extend_from_slice(text.as_bytes()),
        Place::Value if is_text => quote(text.as_bytes(), out),
        Place::Value => out.extend_from_slice(text.as_bytes()),
        Place::Quoted => {
            let start = out.len();
            quote(text.as_bytes(), out);
            // Its own quotes are the template's.
            out.pop();
            out.remove(start);
        }
    }
}

/// At most [`TEXT_BYTES`], whole characters.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(source: &str) -> Result<Template, String> {
        Template::new(source, BodyFormat::Json, &mut Fields::new())
    }

    fn written(value: Value<'_>) -> [String; 3] {
        [Place::Plain, Place::Quoted, Place::Value].map(|place| {
            let mut out = Vec::new();
            write(&value, place, &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn values_are_escaped_for_their_place() {
        let text = Value::Text("a\"b\\c\n".into());
        assert_eq!(written(text), ["a\"b\\c\n", r#"a\"b\\c\n"#, r#""a\"b\\c\n""#]);
        assert_eq!(written(Value::Int(7)), ["7", "7", "7"]);
        assert_eq!(written(Value::Float(1.5)), ["1.5", "1.5", "1.5"]);
        assert_eq!(written(Value::Bool(true)), ["true", "true", "true"]);
        assert_eq!(written(Value::Missing), ["", "", "null"]);
        assert_eq!(
            written(Value::Json(br#"{"a":"b"}"#)),
            [r#"{"a":"b"}"#, r#"{\"a\":\"b\"}"#, r#"{"a":"b"}"#]
        );
    }

    #[test]
    fn long_values_are_cut_and_long_objects_are_null() {
        let text = "ü".repeat(TEXT_BYTES);
        assert_eq!(written(Value::Text(text.into()))[0].len(), TEXT_BYTES);
        let array = format!("[{}1]", "1,".repeat(JSON_BYTES));
        assert_eq!(written(Value::Json(array.as_bytes())), ["", "", "null"]);
    }

    #[test]
    fn place_follows_from_the_template() {
        let template = json("{ \"a \\\" {{x}}\" : {{ y }},\n \"b\":[{{z}}]}").unwrap();
        let places: Vec<Place> = template
            .parts
            .iter()
            .filter_map(|part| if let Part::Expression(_, place) = part { Some(*place) } else { None })
            .collect();
        assert_eq!(places, [Place::Quoted, Place::Value, Place::Value]);
        let Part::Literal(first) = &template.parts[0] else { panic!() };
        assert_eq!(first, r#"{"a \" "#);
    }

    #[test]
    fn end_of_an_expression_is_not_in_its_quotes() {
        assert_eq!(end_of(r#" "}}" + x }}"#), Some(10));
        assert_eq!(end_of(r#" "\"}}" + '}}' }} }}"#), Some(15));
        assert_eq!(end_of("x}}}}"), Some(1));
        assert_eq!(end_of("x } }"), None);
        json(r#"{"a":{"b":{{x}}}}"#).unwrap();
    }

    #[test]
    fn what_makes_no_json_is_refused() {
        for (source, part) in [
            ("{\"a\":{{x}}", "makes no JSON"),
            ("text {{x}}", "makes no JSON"),
            ("{\"a\":\"{{x}}}", "makes no JSON"),
            ("{\"a\":{{x}", "without `}}`"),
            ("{\"a\":{{}}}", "body: "),
            ("{\"a\":{{lowr(x)}}}", "did you mean `lower`"),
        ] {
            let error = json(source).unwrap_err();
            assert!(error.contains(part), "{source}: {error}");
        }
        let text = Template::new("text {{x}", BodyFormat::Text, &mut Fields::new()).unwrap_err();
        assert!(text.contains("without"), "{text}");
        let many = format!("[{}1]", "{{x}},".repeat(EXPRESSIONS_MAX + 1));
        assert!(json(&many).unwrap_err().contains("more than 64"));
    }
}
