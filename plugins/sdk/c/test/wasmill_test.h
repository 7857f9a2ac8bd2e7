//! Unit tests of a plugin without Wasm: records in, rows and verdicts out, on a chunk in memory that does what the
//! host's does. A test program calls what is here and returns `wm_test_end()`.
#ifndef WASMILL_TEST_H
#define WASMILL_TEST_H

#include "wasmill.h"

#ifdef __cplusplus
extern "C" {
#endif

/// A row that left.
typedef struct wm_test_row {
    wm_string payload;
    int64_t offset; ///< Of its record; -1 for fresh rows.
    uint32_t child; ///< Among the rows of its record.
    uint32_t route; ///< Number of the output.
    bool has_key;
    wm_string key;
    size_t partition_count;
    const wm_string *partition_names, *partition_values;
} wm_test_row;

typedef enum wm_verdict { WM_DROPPED, WM_PASSED, WM_FAILED } wm_verdict;

/// What became of a run. It is valid until the next run.
typedef struct wm_outcome {
    const char *refusal; ///< Why configure refused its config, else NULL: then there is nothing else.
    size_t row_count;
    const wm_test_row *rows;
    size_t record_count;
    const wm_verdict *verdicts;  ///< One per record.
    const wm_string *reasons;    ///< One per record, empty where it did not fail.
} wm_outcome;

typedef struct wm_grant {
    const char *name;
    wm_string content;
} wm_grant;

/// How to run; zero what does not matter.
typedef struct wm_run {
    const char *config;
    size_t file_count, secret_count, output_count;
    const wm_grant *files, *secrets;
    const char *const *outputs; ///< Behind the default one.
    size_t chunk_rows;          ///< 0: 500.
    bool fresh;                 ///< A fresh plugin for every chunk.
    const wm_plugin *plugin;    ///< NULL: the one of WM_PLUGIN.
} wm_run;

const wm_outcome *wm_run_records(const wm_run *run, const wm_string *records, size_t count);
/// wm_test("{}", "{\"a\":1}", "{\"a\":2}"): the config, then the records.
const wm_outcome *wm_test_texts(const char *config, const char *const *records, size_t count);
#define wm_test(config, ...)                                                                                           \
    wm_test_texts(config, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/// Runs the folders below `dir` three ways (at once, record by record, fresh plugins) and compares with what they expect.
/// A case is config.json, the input (input.ndjson or input.txt, one record per line) and either expected.ndjson (the rows
/// that leave, in the order of their records) with dead-letters.ndjson (for each record that fails
/// {"offset":2,"reason":"..."}; reason_contains asks for a part, neither for any reason), or error.txt (the refusal; after
/// a ~, a part of it). Files below files/ are granted by their name. `wasmill plugin test` runs the same through the
/// component, and with `--bless` writes what came.
void wm_test_cases(const char *dir);

// Each says where and what if it does not hold, and the program goes on.
#define wm_expect(condition) wm_expected(condition, #condition, __FILE__, __LINE__)
#define wm_expect_row(outcome, number, payload) wm_expected_row(outcome, number, payload, __FILE__, __LINE__)
#define wm_expect_rows(outcome, count) wm_expected_rows(outcome, count, __FILE__, __LINE__)
#define wm_expect_failed(outcome, record, reason) wm_expected_failed(outcome, record, reason, __FILE__, __LINE__)
#define wm_expect_refused(outcome, part) wm_expected_refused(outcome, part, __FILE__, __LINE__)
void wm_expected(bool holds, const char *what, const char *file, int line);
void wm_expected_row(const wm_outcome *outcome, size_t number, const char *payload, const char *file, int line);
void wm_expected_rows(const wm_outcome *outcome, size_t count, const char *file, int line);
void wm_expected_failed(const wm_outcome *outcome, size_t record, const char *reason, const char *file, int line);
void wm_expected_refused(const wm_outcome *outcome, const char *part, const char *file, int line);
/// 0: all held. For `main` to return.
int wm_test_end(void);

#ifdef __cplusplus
}
#endif

#endif
