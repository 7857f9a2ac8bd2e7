//! Bad configurations, one folder each: `wasmill.toml` and the exact problems in `error.txt`.
//! `BLESS=1` rewrites the expected texts, the schema and the reference page.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use wasmill_config::Settings;

fn environment(name: &str) -> Option<String> {
    (name == "SET").then(|| "sesame".to_owned())
}

fn blessed(path: &Path, actual: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} is stale; run again with BLESS=1\n--- expected\n{expected}\n--- actual\n{actual}",
        path.display()
    );
}

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn bad_configuration_reports_every_problem_with_its_place() {
    let mut cases = 0;
    for case in std::fs::read_dir(crate_dir().join("tests/cases")).unwrap() {
        let folder = case.unwrap().path();
        let text = std::fs::read_to_string(folder.join("wasmill.toml")).unwrap();
        // A bare name, so that the expected text does not depend on where the checkout is.
        let invalid = Settings::from_toml_with(&text, Path::new("wasmill.toml"), &environment)
            .expect_err(&folder.display().to_string());
        assert!(!invalid.problems.is_empty());
        blessed(&folder.join("error.txt"), &format!("{invalid}\n"));
        cases += 1;
    }
    assert!(cases >= 10);
}

#[test]
fn schema_is_the_checked_in_one() {
    blessed(&crate_dir().join("schema.json"), &wasmill_config::schema());
}

#[test]
fn reference_page_is_the_checked_in_one() {
    blessed(&crate_dir().join("../../docs/config.md"), &wasmill_config::reference());
}
