//! Any text as a configuration: settings, or problems that have a place in it.

use std::path::Path;

use wasmill_config::Settings;

/// Longest text. Places are what is wrong in configurations, not sizes.
const TEXT_MAX: usize = 32 << 10;

fn environment(name: &str) -> Option<String> {
    (name == "SET").then(|| "sesame".to_owned())
}

/// `data` is the text.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(TEXT_MAX)]);
    // A directory that is not there: files that the text grants are not found, rather than read.
    let file = Path::new("/nonexistent/wasmill.toml");
    let parsed = Settings::from_toml_with(&text, file, &environment);
    match &parsed {
        Ok(settings) => {
            assert!(!settings.streams.is_empty(), "settings without a stream");
            let problem = settings.problem("streams.nothing[7].here", "unheard of");
            is_inside(&text, problem.line, problem.column);
        }
        Err(invalid) => {
            assert!(!invalid.problems.is_empty(), "refused without a problem");
            let mut before = (0, 0);
            for problem in &invalid.problems {
                assert_eq!(problem.file, file);
                assert!(!problem.message.is_empty());
                assert!(!problem.message.contains('\n'), "two lines: {:?}", problem.message);
                is_inside(&text, problem.line, problem.column);
                let place = (problem.line, problem.column);
                assert!(before <= place, "{before:?} before {place:?}");
                before = place;
            }
        }
    }
    let again = Settings::from_toml_with(&text, file, &environment);
    assert_eq!(parsed.err(), again.err(), "the same text gave two answers");
}

fn is_inside(text: &str, line: usize, column: usize) {
    let found = line.checked_sub(1).and_then(|above| text.split('\n').nth(above));
    let length = found.map(|found| found.chars().count());
    assert!(length.is_some_and(|length| (1..=length + 1).contains(&column)), "no place {line}:{column}");
}
