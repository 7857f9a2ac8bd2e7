//! Guests' log lines as events of the target `plugin`.
//!
//! What a guest says is data: it stands in the field `line`, escaped in text and JSON alike, so that no guest can
//! write a log line of the host. Each says whose it is: `tenant`, and `stream` as people are told it. Rates and
//! lengths are capped before lines come here.

use std::sync::Arc;

use wasmill_transform::{Level, LogSink};

/// Where the log lines of one stream's guests go; `stream` is its label.
pub fn plugin_log(tenant: &str, stream: &str) -> Arc<dyn LogSink> {
    Arc::new(PluginLog { tenant: tenant.to_owned(), stream: stream.to_owned() })
}

struct PluginLog {
    tenant: String,
    stream: String,
}

impl LogSink for PluginLog {
    fn line(&self, transform: &str, level: Level, message: &str) {
        let (tenant, stream) = (self.tenant.as_str(), self.stream.as_str());
        // The level of an event is fixed where it stands.
        match level {
            Level::Debug => {
                tracing::debug!(target: "plugin", tenant, stream, transform, line = message, "plugin log");
            }
            Level::Info => {
                tracing::info!(target: "plugin", tenant, stream, transform, line = message, "plugin log");
            }
            Level::Warn => {
                tracing::warn!(target: "plugin", tenant, stream, transform, line = message, "plugin log");
            }
            Level::Error => {
                tracing::error!(target: "plugin", tenant, stream, transform, line = message, "plugin log");
            }
        }
    }

    fn dropped(&self, transform: &str, lines: u64) {
        let (tenant, stream) = (self.tenant.as_str(), self.stream.as_str());
        tracing::warn!(target: "plugin", tenant, stream, transform, lines, "plugin log lines dropped");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn captured(json: bool, say: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
        if json {
            tracing::subscriber::with_default(log.json().flatten_event(true).finish(), say);
        } else {
            tracing::subscriber::with_default(log.finish(), say);
        }
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn line_with_line_feeds_stays_one_line_in_text() {
        let text = captured(false, || {
            plugin_log("acme", "acme/access").line(
                "parse",
                Level::Warn,
                "one\n2026-01-01 ERROR forged \x1b[31m",
            );
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains(
                "WARN plugin: plugin log tenant=\"acme\" stream=\"acme/access\" transform=\"parse\""
            ),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn line_in_json_is_what_the_guest_said() {
        let text =
            captured(true, || plugin_log("acme", "acme/access").line("parse", Level::Info, "say \"hi\"\n"));
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["line"], "say \"hi\"\n");
        assert_eq!(event["target"], "plugin");
        assert_eq!((&event["tenant"], &event["stream"]), (&"acme".into(), &"acme/access".into()));
    }

    #[test]
    fn dropped_lines_are_reported_with_their_number() {
        let text = captured(false, || plugin_log("acme", "acme/access").dropped("parse", 17));
        assert!(text.contains("plugin log lines dropped") && text.contains("lines=17"), "{text}");
    }
}
