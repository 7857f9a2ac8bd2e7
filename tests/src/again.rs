//! Runs a test's own body again in a child process with another environment: what reads credentials reads them there.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::process::Command;

const MARK: &str = "WASMILL_TEST_AGAIN";

/// Runs `body` in a child with these variables. `test` is the name of the calling test with its modules.
///
/// # Panics
/// The child fails.
pub fn with_environment(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let program = std::env::current_exe().expect("the test's own program");
    let mut child = Command::new(program);
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, "1");
    child.envs(variables.iter().copied());
    let output = child.output().expect("a child process");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
