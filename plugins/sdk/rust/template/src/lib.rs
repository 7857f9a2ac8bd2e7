//! Greets everybody who has a name: `{"name":"Ada"}` becomes `{"name":"Ada","greeting":"hello, Ada"}`.

use serde::Deserialize;
use wasmill_sdk::{Cell, Chunk, Field, Plugin, Setup, TextColumn, config};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "hello")]
    word: String,
}

fn hello() -> String {
    "hello".to_owned()
}

/// The fields that the plugin uses are declared once, then read and written a whole chunk of records at a time.
pub struct Greet {
    word: String,
    name: Field,
    greeting: Field,
    greetings: TextColumn,
}

impl Plugin for Greet {
    fn configure(text: &str, setup: &mut Setup) -> Result<Self, String> {
        let Config { word } = config::read(text)?;
        let (name, greeting) = (setup.top("name"), setup.top("greeting"));
        Ok(Greet { word, name, greeting, greetings: TextColumn::new() })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        self.greetings.clear();
        let names = rows.text(self.name);
        for row in 0..names.len() {
            match names.cell(row) {
                Cell::Value(_) => {
                    let name = names.str(row).unwrap_or_default();
                    self.greetings.push(&format!("{}, {name}", self.word));
                }
                // No name: the record passes as it is.
                Cell::Missing | Cell::Null => self.greetings.push_missing(),
                // A record that makes no sense becomes a dead letter with this reason; the others go on.
                Cell::Other => {
                    self.greetings.push_missing();
                    rows.fail(row, "name is no text");
                }
            }
        }
        rows.set_text(self.greeting, &self.greetings);
        Ok(())
    }
}

wasmill_sdk::export!(Greet);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing;

    #[test]
    fn who_has_a_name_is_greeted() {
        let outcome = testing::run::<Greet>(r#"{"word":"good day"}"#, &[r#"{"name":"Ada"}"#, "{}", r#"{"name":7}"#]);
        assert_eq!(outcome.rows(), [r#"{"name":"Ada","greeting":"good day, Ada"}"#, "{}"]);
        assert_eq!(outcome.reasons(), [(2, "name is no text")]);
    }

    #[test]
    fn word_that_is_misspelt_is_refused() {
        assert!(testing::refusal::<Greet>(r#"{"wrod":"x"}"#).contains("wrod"));
    }

    #[test]
    fn cases() {
        testing::cases::<Greet>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases").as_ref());
    }
}
