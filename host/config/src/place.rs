//! From what a plugin says about its config to the key that it means.
//!
//! A plugin is handed its config as one line of JSON, and its error names a column of that line or begins with a key;
//! the user wrote TOML. It owns the way back. It refuses to guess: where neither is there, the config as a whole is meant.

use crate::settings::Transform;
use crate::tree;

/// A complaint about a config, in terms of what the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// For [`crate::Settings::problem`].
    pub key: String,
    /// The key below `config`; empty for the config as a whole.
    pub field: String,
    /// Without the column.
    pub message: String,
}

impl Transform {
    /// Where in the config an error of the plugin's `configure` is.
    pub fn complaint(&self, error: &str) -> Complaint {
        let error = error.strip_prefix("config: ").unwrap_or(error);
        let (field, message) = match column(error) {
            Some((column, message)) => (field_at(&self.config, column), message),
            None => (first_word(&self.config, error), error.to_owned()),
        };
        let dot = if field.is_empty() { "" } else { "." };
        Complaint { key: format!("{}.config{dot}{field}", self.key), field, message }
    }
}

/// The column that a JSON reader names, and the text without it.
fn column(error: &str) -> Option<(usize, String)> {
    const MARK: &str = " at line 1 column ";
    let (before, after) = error.split_once(MARK)?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = after.split_at(digits);
    Some((number.parse().ok()?, format!("{before}{after}")))
}

/// The key of the config that a text begins with.
fn first_word(json: &str, error: &str) -> String {
    let word = error.split_once(':').map_or("", |(word, _)| word);
    let config: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    if config.get(word).is_some() { tree::segment(word).into_owned() } else { String::new() }
}

/// The key whose name or value a reader was in when it had read `column` bytes of compact, valid JSON.
fn field_at(json: &str, column: usize) -> String {
    // Of each open table its present key, of each open array its present index.
    let mut open: Vec<String> = Vec::new();
    let mut tables: Vec<bool> = Vec::new();
    let mut string: Option<usize> = None;
    let mut escaped = false;
    // A string is a key if it is the first thing in a table or follows a comma in one.
    let mut key_next = false;
    for (at, byte) in json.bytes().enumerate().take(column) {
        if let Some(from) = string {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            if ends {
                string = None;
                if std::mem::take(&mut key_next)
                    && let (Some(present), Some(text)) = (open.last_mut(), json.get(from..=at))
                {
                    *present = serde_json::from_str::<String>(text).unwrap_or_default();
                }
            }
            continue;
        }
        match byte {
            b'"' => string = Some(at),
            b'{' | b'[' => {
                key_next = byte == b'{';
                tables.push(key_next);
                open.push(if key_next { String::new() } else { "0".to_owned() });
            }
            b'}' | b']' => {
                open.pop();
                tables.pop();
                key_next = false;
            }
            b',' => {
                key_next = tables.last() == Some(&true);
                if let (false, Some(present)) = (key_next, open.last_mut()) {
                    *present = (present.parse::<usize>().unwrap_or(0) + 1).to_string();
                }
            }
            _ => {}
        }
    }
    let mut field = String::new();
    for (present, table) in open.iter().zip(&tables).filter(|(present, _)| !present.is_empty()) {
        match table {
            true if field.is_empty() => field.push_str(&tree::segment(present)),
            true => field.push_str(&format!(".{}", tree::segment(present))),
            false => field.push_str(&format!("[{present}]")),
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_of_the_json_is_the_key_whose_name_or_value_was_read_there() {
        let json = r#"{"a":{"b":[1,{"c.d":"x\"},{"}]},"e":"y"}"#;
        let of = |text: &str| field_at(json, json.find(text).unwrap() + text.len());
        assert_eq!(of("{\"a\""), "a");
        assert_eq!(of("[1"), "a.b[0]");
        assert_eq!(of("\"c.d\""), "a.b[1].\"c.d\"");
        assert_eq!(of("x\\\"},{\""), "a.b[1].\"c.d\"");
        assert_eq!(of("},{\"}"), "a.b[1]", "a table that lacks something has just ended");
        assert_eq!(of("\"y\""), "e");
        assert_eq!((of("\"y\"}"), field_at(json, 999), field_at("", 3)), Default::default());
    }

    #[test]
    fn complaint_without_a_column_is_about_the_key_that_it_begins_with() {
        let settings = crate::Settings::from_toml(
            "[streams.a]\nsource = { type = \"http\" }\noutputs = [{ type = \"stdout\" }]\n\
             transforms = [{ plugin = \"p\", config = { keep = \"1 +\", n = 7 } }]\n",
            std::path::Path::new("x.toml"),
        )
        .unwrap();
        let transform = &settings.streams[0].transforms[0];
        let of = |error: &str| {
            let Complaint { key, field, message } = transform.complaint(error);
            (settings.problem(&key, "").column, field, message)
        };
        assert_eq!(of("keep: not whole"), (49, "keep".to_owned(), "keep: not whole".to_owned()));
        assert_eq!(
            of("config: invalid type at line 1 column 17; hm"),
            (60, "n".to_owned(), "invalid type; hm".to_owned())
        );
        assert_eq!(of("config: other: bad"), (40, String::new(), "other: bad".to_owned()));
    }
}
