//! How the fields of a log line look as text: `name=value`, on one line whatever the values hold.
//!
//! Names of files, plugins and objects are data: a line feed or an escape code in one is written as `\n` and `\u{1b}`,
//! so that no name can write a line of its own. In JSON the format does this.

use std::error::Error;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Writes the fields of text lines.
pub(super) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

/// A line as far as it is written.
struct Line<'w> {
    writer: Writer<'w>,
    empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::take(&mut self.empty) {
            self.writer.write_char(' ')?;
        }
        if field.name() != "message" {
            if self.writer.has_ansi_escapes() {
                write!(self.writer, "\x1b[3m{}\x1b[0m\x1b[2m=\x1b[0m", field.name())?;
            } else {
                write!(self.writer, "{}=", field.name())?;
            }
        }
        Escaped(&mut self.writer).write_fmt(value)
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_ok() {
            self.result = self.field(field, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        let text = causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
            // Some libraries say the cause themselves.
            if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
        });
        self.record_debug(field, &format_args!("{text}"));
    }
}

/// Writes control characters as Rust escapes.
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.chars().any(is_escaped) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        if is_escaped(c) { write!(self.0, "{}", c.escape_default()) } else { self.0.write_char(c) }
    }
}

/// Control characters, and what Unicode takes for the end of a line.
fn is_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn captured(ansi: bool, say: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let log = tracing_subscriber::fmt().without_time().with_target(false).fmt_fields(TextFields);
        let log = log.with_writer(move || writer.clone()).with_ansi(ansi);
        tracing::subscriber::with_default(log.finish(), say);
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn name_with_control_characters_stays_on_its_line() {
        let name = Path::new("a\nINFO forged\r\t\x1b[31m\u{2028}ä.wasm");
        let text = captured(false, || {
            tracing::warn!(file = %name.display(), number = 7, text = "x y", "refused {}", name.display());
        });
        let shown = r"a\nINFO forged\r\t\u{1b}[31m\u{2028}ä.wasm";
        assert_eq!(text, format!(" WARN refused {shown} file={shown} number=7 text=\"x y\"\n"));
    }

    #[test]
    fn error_is_followed_by_its_causes() {
        let error = super::super::LogError::Filter {
            filter: "x".into(),
            source: "a=b=c".parse::<tracing_subscriber::EnvFilter>().unwrap_err(),
        };
        let cause = error.source().unwrap().to_string();
        let text = captured(false, || tracing::warn!(error = &error as &dyn Error, "failed"));
        assert_eq!(text, format!(" WARN failed error={error}: {cause}\n"));
    }

    #[test]
    fn field_names_are_marked_on_a_terminal_only() {
        let text = captured(true, || tracing::warn!(number = 7, "said"));
        assert!(text.contains("\x1b[3mnumber\x1b[0m\x1b[2m=\x1b[0m7"), "{text}");
    }
}
