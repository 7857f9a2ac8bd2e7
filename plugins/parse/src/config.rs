//! The transform's config: which format, and what each format may be told.

use serde::Deserialize;
use wasmill_sdk::Setup;

use crate::Parser;
use crate::access::Access;
use crate::csv::Csv;
use crate::named::Named;
use crate::pairs::{Pairs, Separators};
use crate::stamp_column::TimeAs;
use crate::syslog::{Kind, Syslog};
use crate::typed::Types;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    format: Format,
    time: Option<TimeAs>,
    /// `csv`: the header line as it stands in the file.
    header: Option<String>,
    /// `csv`: the names of the columns.
    names: Option<Vec<String>>,
    delimiter: Option<String>,
    /// `logfmt`, `key_value`: the keys that become typed fields.
    fields: Option<Vec<String>>,
    #[serde(default)]
    types: Types,
    rest: Option<String>,
    /// `key_value`: between pairs and between name and value.
    pair_separator: Option<String>,
    value_separator: Option<String>,
    /// `regex`.
    pattern: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Common,
    Combined,
    Syslog,
    Rfc3164,
    Rfc5424,
    Logfmt,
    KeyValue,
    Csv,
    Regex,
}

impl Config {
    pub(crate) fn parser(&self, setup: &mut Setup) -> Result<Parser, String> {
        self.refuse_unused()?;
        let time = self.time.unwrap_or_default();
        let pairs = |separators, setup: &mut Setup| {
            Pairs::new(separators, self.fields.as_deref(), &self.types, self.rest.as_deref(), setup)
                .map(Parser::Pairs)
        };
        match self.format {
            Format::Common => Ok(Parser::Access(Box::new(Access::new(false, time, setup)))),
            Format::Combined => Ok(Parser::Access(Box::new(Access::new(true, time, setup)))),
            Format::Syslog => Ok(Parser::Syslog(Box::new(Syslog::new(Kind::Either, time, setup)))),
            Format::Rfc3164 => Ok(Parser::Syslog(Box::new(Syslog::new(Kind::Rfc3164, time, setup)))),
            Format::Rfc5424 => Ok(Parser::Syslog(Box::new(Syslog::new(Kind::Rfc5424, time, setup)))),
            Format::Logfmt => pairs(Separators { pair: b' ', value: b'=', bare: true }, setup),
            Format::KeyValue => {
                let pair = byte("pair_separator", self.pair_separator.as_deref(), b' ')?;
                let value = byte("value_separator", self.value_separator.as_deref(), b'=')?;
                if pair == value {
                    return Err("config: `pair_separator` and `value_separator` are the same".to_owned());
                }
                pairs(Separators { pair, value, bare: false }, setup)
            }
            Format::Csv => {
                let delimiter = byte("delimiter", self.delimiter.as_deref(), b',')?;
                let names = match (&self.names, &self.header) {
                    (Some(names), None) => names.clone(),
                    (None, Some(header)) => header_names(header, delimiter),
                    _ => return Err("config: format `csv` needs either `names` or `header`".to_owned()),
                };
                if names.is_empty() || names.iter().any(String::is_empty) {
                    return Err("config: every column needs a name".to_owned());
                }
                Ok(Parser::Csv(Csv::new(delimiter, &names, &self.types, setup)?))
            }
            Format::Regex => {
                let pattern = self.pattern.as_deref().ok_or("config: format `regex` needs `pattern`")?;
                Ok(Parser::Named(Named::new(pattern, &self.types, setup)?))
            }
        }
    }

    /// A key that the format does not know is refused, as an unknown key is.
    fn refuse_unused(&self) -> Result<(), String> {
        let pairs = matches!(self.format, Format::Logfmt | Format::KeyValue);
        let typed = pairs || matches!(self.format, Format::Csv | Format::Regex);
        let keys = [
            ("time", self.time.is_some(), !typed),
            ("header", self.header.is_some(), self.format == Format::Csv),
            ("names", self.names.is_some(), self.format == Format::Csv),
            ("delimiter", self.delimiter.is_some(), self.format == Format::Csv),
            ("fields", self.fields.is_some(), pairs),
            ("rest", self.rest.is_some(), pairs),
            ("types", !self.types.is_empty(), typed),
            ("pair_separator", self.pair_separator.is_some(), self.format == Format::KeyValue),
            ("value_separator", self.value_separator.is_some(), self.format == Format::KeyValue),
            ("pattern", self.pattern.is_some(), self.format == Format::Regex),
        ];
        match keys.iter().find(|(_, given, used)| *given && !*used) {
            Some((key, ..)) => {
                let format = format!("{:?}", self.format).to_lowercase();
                Err(format!("config: `{key}` has no meaning for format `{format}`"))
            }
            None => Ok(()),
        }
    }
}

/// A separator of one byte.
fn byte(key: &str, text: Option<&str>, default: u8) -> Result<u8, String> {
    match text.map(str::as_bytes) {
        None => Ok(default),
        Some([b'"']) => Err(format!("config: `{key}` cannot be a quote")),
        Some([byte]) => Ok(*byte),
        Some(_) => Err(format!("config: `{key}` must be one ASCII character")),
    }
}

/// The names in a header line; quotes around a name are taken off.
fn header_names(header: &str, delimiter: u8) -> Vec<String> {
    let header = header.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    header.split(char::from(delimiter)).map(|name| name.trim().trim_matches('"').to_owned()).collect()
}
