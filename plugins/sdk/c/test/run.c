//! Runs of a plugin over records: cut into chunks, and record by record where the plugin fails as a whole.

#include <stdio.h>

#include "table.h"
#include "wasmill_test.h"

/// Arrival of the first record: 2026-11-22T00:00:00Z. Each arrives a millisecond after the one before.
static const int64_t ARRIVAL = 1795305600000000000, ARRIVAL_STEP = 1000000;
static const uint64_t SEED = 0x9e3779b97f4a7c15;
enum { CHUNK_ROWS = 500 };

static int faults;

typedef struct outcome {
    wm_outcome shown;
    wm_arena memory;
    size_t row_room;
    wm_test_row *rows;
    wm_verdict *verdicts;
    wm_string *reasons;
} outcome;

typedef struct session {
    const wm_run *run;
    grants grants;
    wm_instance instance;
    bool configured;
    outcome *outcome;
} session;

static wm_error configure(session *session) {
    const wm_run *run = session->run;
    if (session->configured) {
        wm_instance_free(&session->instance);
        wm_arena_free(&session->grants.memory);
    }
    session->configured = true;
    session->grants = (grants){.file_count = run->file_count, .files = run->files, .secret_count = run->secret_count,
                               .secrets = run->secrets, .output_count = run->output_count, .outputs = run->outputs};
    wm_grants = &session->grants;
    const wm_plugin *plugin = run->plugin == NULL ? &wm_this_plugin : run->plugin;
    return wm_instance_configure(&session->instance, plugin, wm_str(run->config == NULL ? "" : run->config));
}

static void take_row(outcome *outcome, const table_row *row) {
    wm_memory = &outcome->memory;
    if (outcome->shown.row_count == outcome->row_room) {
        size_t old = outcome->row_room, room = old == 0 ? 64 : 2 * old;
        outcome->rows = wm_arena_grow(wm_memory, outcome->rows, old * sizeof *outcome->rows, room * sizeof *outcome->rows);
        outcome->row_room = room;
    }
    wm_string *names = wm_alloc(row->partition.count * sizeof *names + 1);
    wm_string *values = wm_alloc(row->partition.count * sizeof *values + 1);
    for (size_t at = 0; at < row->partition.count; at++) {
        names[at] = wm_copy(row->partition.values[at].name);
        values[at] = wm_copy(row->partition.values[at].value);
    }
    outcome->rows[outcome->shown.row_count++] = (wm_test_row){
        wm_copy(row->payload), row->offset, row->child, row->route,
        row->has_key, wm_copy(row->key), row->partition.count, names, values};
}

static void fail(outcome *outcome, size_t record, wm_string reason) {
    wm_memory = &outcome->memory;
    outcome->verdicts[record] = WM_FAILED;
    outcome->reasons[record] = wm_copy(reason);
}

/// NULL, or why a fresh plugin refuses its config.
static wm_error run_chunk(session *session, size_t first, const wm_string *records, size_t count) {
    table table = {.arrival = ARRIVAL + (int64_t)first * ARRIVAL_STEP, .seed = SEED ^ first, .inputs = count};
    wm_table = &table;
    table.rows = TABLE_NEW(table_row, count);
    table.failed = TABLE_NEW(bool, count);
    table.row_count = count;
    for (size_t row = 0; row < count; row++) {
        table.rows[row] = (table_row){.payload = records[row], .input = (int64_t)row, .offset = (int64_t)(first + row),
                                      .arrival = table.arrival + (int64_t)row * ARRIVAL_STEP, .key = wm_bytes("", 0)};
    }
    wm_table_enter(&table, 0, session->grants.fields, session->grants.field_count);
    wm_error error = wm_instance_process(&session->instance, 0), refusal = WM_OK;
    if (error == WM_OK) {
        wm_table_apply(&table);
        for (size_t row = 0; row < table.row_count; row++) {
            take_row(session->outcome, &table.rows[row]);
            if (table.rows[row].input != NO_INPUT) {
                session->outcome->verdicts[first + (size_t)table.rows[row].input] = WM_PASSED;
            }
        }
        for (size_t at = 0; at < table.failure_count; at++) {
            if (table.failures[at].input != NO_INPUT) {
                fail(session->outcome, first + (size_t)table.failures[at].input, table.failures[at].reason);
            }
        }
    } else if (count == 1) {
        fail(session->outcome, first, wm_str(error));
    } else {
        // As the host does: a fresh plugin for each record, so that only the guilty ones fail.
        for (size_t row = 0; row < count && refusal == WM_OK; row++) {
            refusal = configure(session);
            refusal = refusal == WM_OK ? run_chunk(session, first + row, records + row, 1) : refusal;
        }
    }
    if (error == WM_OK || count == 1) {
        wm_arena_reset(&session->instance.call);
    }
    wm_arena_free(&table.memory);
    return refusal;
}

const wm_outcome *wm_run_records(const wm_run *run, const wm_string *records, size_t count) {
    static outcome all;
    wm_arena_free(&all.memory);
    all = (outcome){0};
    wm_memory = &all.memory;
    all.verdicts = wm_alloc(count * sizeof *all.verdicts + 1);
    all.reasons = wm_alloc(count * sizeof *all.reasons + 1);
    session session = {.run = run, .outcome = &all};
    wm_error refusal = configure(&session);
    size_t rows = run->chunk_rows == 0 ? CHUNK_ROWS : run->chunk_rows;
    for (size_t first = 0; refusal == WM_OK && first < count; first += rows) {
        if (run->fresh && first > 0) {
            refusal = configure(&session);
        }
        if (refusal == WM_OK) {
            refusal = run_chunk(&session, first, records + first, count - first < rows ? count - first : rows);
        }
    }
    wm_memory = &all.memory;
    all.shown.refusal = refusal == WM_OK ? NULL : wm_copy(wm_str(refusal)).data;
    wm_instance_free(&session.instance);
    wm_arena_free(&session.grants.memory);
    all.shown.rows = all.rows;
    all.shown.record_count = count;
    all.shown.verdicts = all.verdicts;
    all.shown.reasons = all.reasons;
    return &all.shown;
}

const wm_outcome *wm_test_texts(const char *config, const char *const *records, size_t count) {
    static wm_arena memory;
    wm_arena_free(&memory);
    wm_string *texts = wm_arena_take(&memory, count * sizeof *texts + 1);
    for (size_t at = 0; at < count; at++) {
        texts[at] = wm_str(records[at]);
    }
    wm_run run = {.config = config};
    return wm_run_records(&run, texts, count);
}

// --- Expectations ---

static void fault(const char *file, int line) {
    faults++;
    fprintf(stderr, "%s:%d: ", file, line);
}

void wm_expected(bool holds, const char *what, const char *file, int line) {
    if (!holds) {
        fault(file, line);
        fprintf(stderr, "does not hold: %s\n", what);
    }
}

static bool accepted(const wm_outcome *outcome, const char *file, int line) {
    if (outcome->refusal != NULL) {
        fault(file, line);
        fprintf(stderr, "the config is refused: %s\n", outcome->refusal);
    }
    return outcome->refusal == NULL;
}

void wm_expected_row(const wm_outcome *outcome, size_t number, const char *payload, const char *file, int line) {
    if (!accepted(outcome, file, line)) {
        return;
    }
    if (number >= outcome->row_count) {
        fault(file, line);
        fprintf(stderr, "row %zu of %zu that left\n  expected: %s\n", number, outcome->row_count, payload);
    } else if (!wm_equal(outcome->rows[number].payload, wm_str(payload))) {
        fault(file, line);
        fprintf(stderr, "row %zu\n  expected: %s\n  got:      %.*s\n", number, payload, WM_ARG(outcome->rows[number].payload));
    }
}

void wm_expected_rows(const wm_outcome *outcome, size_t count, const char *file, int line) {
    if (accepted(outcome, file, line) && outcome->row_count != count) {
        fault(file, line);
        fprintf(stderr, "%zu rows left, expected %zu\n", outcome->row_count, count);
    }
}

void wm_expected_failed(const wm_outcome *outcome, size_t record, const char *reason, const char *file, int line) {
    if (!accepted(outcome, file, line)) {
        return;
    }
    if (record >= outcome->record_count || outcome->verdicts[record] != WM_FAILED) {
        fault(file, line);
        fprintf(stderr, "record %zu did not fail; expected: %s\n", record, reason);
    } else if (!wm_equal(outcome->reasons[record], wm_str(reason))) {
        fault(file, line);
        fprintf(stderr, "record %zu\n  expected: %s\n  got:      %.*s\n", record, reason, WM_ARG(outcome->reasons[record]));
    }
}

void wm_expected_refused(const wm_outcome *outcome, const char *part, const char *file, int line) {
    if (outcome->refusal == NULL) {
        fault(file, line);
        fprintf(stderr, "the config is not refused; expected: %s\n", part);
    } else if (strstr(outcome->refusal, part) == NULL) {
        fault(file, line);
        fprintf(stderr, "the refusal has no \"%s\": %s\n", part, outcome->refusal);
    }
}

int wm_test_end(void) {
    if (faults > 0) {
        fprintf(stderr, "%d failed\n", faults);
    } else {
        printf("ok\n");
    }
    return faults == 0 ? 0 : 1;
}
