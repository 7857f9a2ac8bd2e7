//! Unit tests: records in, rows and verdicts out, without Wasm. `make test` runs them.

#include "wasmill_test.h"

int main(void) {
    const wm_outcome *outcome = wm_test("{\"word\":\"good day\"}", "{\"name\":\"Ada\"}", "{}", "{\"name\":7}");
    wm_expect_rows(outcome, 2);
    wm_expect_row(outcome, 0, "{\"name\":\"Ada\",\"greeting\":\"good day, Ada\"}");
    wm_expect_row(outcome, 1, "{}");
    wm_expect_failed(outcome, 2, "name is no text");

    // A word that is misspelt is refused.
    wm_expect_refused(wm_test("{\"wrod\":\"x\"}", "{}"), "wrod");

    wm_test_cases("cases");
    return wm_test_end();
}
