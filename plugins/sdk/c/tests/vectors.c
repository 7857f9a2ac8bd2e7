//! Runs every case of wit/vectors.json through the SDK's calls on its in-memory chunk: what a plugin sees and does must
//! be what the host and a real component do. The format is described in that file. `get-strings` and `set-strings` are
//! for interpreters and have no name in C: here they are texts, which is what they stand for.
//!
//!     cc -std=c11 -Iinclude -Itest tests/vectors.c test/*.c src/{memory,columns,chunk,row,setup,instance,json}.c -lm
//!     ./a.out ../../../wit/vectors.json

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../test/table.h"
#include "../test/wasmill_test.h"

WM_PLUGIN(.state_size = 0);

static const char *case_name = "?";
static size_t checks;

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        checks++;                                                                                                      \
        if (!(condition)) {                                                                                            \
            wm_expected(false, wm_format("%s: " #condition "\n    " __VA_ARGS__).data, __FILE__, __LINE__);            \
        }                                                                                                              \
    } while (0)

static const wm_string none = {"", 0};

static wm_string get(wm_string object, const char *key) {
    wm_string value;
    return object.len > 0 && wm_json_find(object, wm_str(key), &value) ? value : none;
}

static size_t count(wm_string array) {
    size_t items = 0, at = 1;
    wm_string item;
    while (array.len > 0 && wm_json_item(array, &at, &item)) {
        items++;
    }
    return items;
}

static wm_string item(wm_string array, size_t number) {
    size_t at = 1;
    wm_string found;
    while (wm_json_item(array, &at, &found)) {
        if (number-- == 0) {
            return found;
        }
    }
    return none;
}

static int64_t integer(wm_string number, int64_t fallback) {
    int64_t value;
    return number.len > 0 && wm_json_int(number, &value) ? value : fallback;
}

static wm_string bytes(wm_string value) {
    if (value.len == 0 || value.data[0] == '"') {
        return value.len == 0 ? none : wm_json_text(value);
    }
    wm_string digits = wm_json_text(get(value, "hex"));
    char *out = wm_alloc(digits.len / 2 + 1);
    for (size_t at = 0; at + 1 < digits.len; at += 2) {
        char pair[3] = {digits.data[at], digits.data[at + 1], 0};
        out[at / 2] = (char)strtol(pair, NULL, 16);
    }
    return wm_bytes(out, digits.len / 2);
}

static double number(wm_string value) {
    if (value.len == 0 || value.data[0] != '"') {
        double read = 0;
        (void)(value.len > 0 && wm_json_float(value, &read));
        return read;
    }
    wm_string text = wm_json_text(value);
    return text.data[0] == 'N' ? (double)NAN : text.data[0] == '-' ? -(double)INFINITY : (double)INFINITY;
}

/// A cell of set-strings is a string or null; all others are [state] or [state, value].
static wm_state cell(wm_string given, wm_string *value) {
    if (given.data[0] != '[') {
        *value = given;
        return given.data[0] == '"' ? WM_VALUE : WM_LEAVE;
    }
    *value = item(given, 1);
    return (wm_state)integer(item(given, 0), 0);
}

static wm_texts texts(wm_string cells) {
    wm_texts column = {0};
    for (size_t row = 0; row < count(cells); row++) {
        wm_string value;
        wm_state state = cell(item(cells, row), &value);
        if (state == WM_VALUE) {
            wm_put_text(&column, row, bytes(value));
        } else {
            wm_mark_text(&column, row, state);
        }
    }
    return column;
}

static wm_ints ints(wm_string cells) {
    wm_ints column = {0};
    for (size_t row = 0; row < count(cells); row++) {
        wm_string value;
        wm_state state = cell(item(cells, row), &value);
        wm_put_int(&column, row, integer(value, 0));
        column.state[row] = state;
    }
    return column;
}

static wm_floats floats(wm_string cells) {
    wm_floats column = {0};
    for (size_t row = 0; row < count(cells); row++) {
        wm_string value;
        wm_state state = cell(item(cells, row), &value);
        wm_put_float(&column, row, number(value));
        column.state[row] = state;
    }
    return column;
}

static uint32_t *numbers(wm_string list) {
    uint32_t *out = wm_alloc(count(list) * sizeof *out + 1);
    for (size_t at = 0; at < count(list); at++) {
        out[at] = (uint32_t)integer(item(list, at), 0);
    }
    return out;
}

static uint8_t *marks(wm_string list) {
    uint8_t *out = wm_alloc(count(list) + 1);
    for (size_t at = 0; at < count(list); at++) {
        out[at] = (uint8_t)integer(item(list, at), 0);
    }
    return out;
}

static void expect_texts(wm_string expected, const wm_texts *got, bool strings) {
    CHECK(count(expected) == got->rows, "%zu, not %zu rows", case_name, got->rows, count(expected));
    for (size_t row = 0; row < got->rows; row++) {
        wm_string value, wanted = item(expected, row);
        wm_state state = cell(wanted, &value);
        bool same = strings && state != WM_VALUE ? got->state[row] != WM_VALUE : got->state[row] == state;
        CHECK(same, "row %zu: state %d", case_name, row, got->state[row]);
        wm_string found = wm_text_at(got, row);
        CHECK(state != WM_VALUE || wm_equal(bytes(value), found), "row %zu: %.*s", case_name, row, WM_ARG(found));
    }
}

static void expect_numbers(wm_string expected, const wm_ints *got_ints, const wm_floats *got_floats) {
    size_t rows = got_ints != NULL ? got_ints->rows : got_floats->rows;
    CHECK(count(expected) == rows, "%zu rows", case_name, rows);
    for (size_t row = 0; row < rows; row++) {
        wm_string value;
        wm_state state = cell(item(expected, row), &value);
        wm_state got = got_ints != NULL ? got_ints->state[row] : got_floats->state[row];
        CHECK(got == state, "row %zu: state %d", case_name, row, got);
        bool same = got_ints != NULL ? got_ints->values[row] == integer(value, 0) : got_floats->values[row] == number(value);
        CHECK(state != WM_VALUE || same, "row %zu", case_name, row);
    }
}

static void expect_longs(wm_string expected, const int64_t *got) {
    for (size_t row = 0; row < count(expected); row++) {
        CHECK(got[row] == integer(item(expected, row), 0), "row %zu: %lld", case_name, row, (long long)got[row]);
    }
}

enum { NAMES_MAX = 16 };
static struct {
    wm_string name;
    wm_chunk *chunk;
} named[NAMES_MAX];
static size_t named_count;

static wm_chunk *on(wm_string op, wm_chunk *main_rows) {
    wm_string name = get(op, "on");
    for (size_t at = 0; at < named_count; at++) {
        if (name.len > 0 && wm_equal(named[at].name, name)) {
            return named[at].chunk;
        }
    }
    CHECK(name.len == 0, "no chunk of that name", case_name);
    return main_rows;
}

static void run_op(wm_string op, wm_chunk *main_rows) {
    wm_chunk *rows = on(op, main_rows), *made = NULL;
    const char *call = wm_copy(wm_json_text(get(op, "call"))).data;
    const char *name = get(op, "name").len > 0 ? wm_copy(wm_json_text(get(op, "name"))).data : "";
    wm_field field = {(uint32_t)integer(get(op, "slot"), 0)};
    wm_string cells = get(op, "cells"), expected = get(op, "expect");
#define IS(text) (strcmp(call, text) == 0)
    if (IS("get-text") || IS("get-strings") || IS("get-raw") || IS("keys") || IS("attributes")) {
        wm_texts got = IS("get-raw")      ? wm_get_raw(rows, field)
                       : IS("keys")       ? wm_keys(rows)
                       : IS("attributes") ? wm_attributes(rows, name)
                                          : wm_get_text(rows, field);
        expect_texts(expected, &got, IS("get-strings"));
    } else if (IS("payloads")) {
        wm_texts got = wm_payloads(rows);
        CHECK(count(expected) == got.rows, "%zu rows", case_name, got.rows);
        for (size_t row = 0; row < got.rows; row++) {
            CHECK(wm_equal(bytes(item(expected, row)), wm_text_at(&got, row)), "row %zu", case_name, row);
        }
    } else if (IS("get-ints")) {
        wm_ints got = wm_get_ints(rows, field);
        expect_numbers(expected, &got, NULL);
    } else if (IS("get-floats")) {
        wm_floats got = wm_get_floats(rows, field);
        expect_numbers(expected, NULL, &got);
    } else if (IS("len")) {
        CHECK((int64_t)wm_rows(rows) == integer(expected, -1), "%zu", case_name, wm_rows(rows));
    } else if (IS("offsets")) {
        expect_longs(expected, wm_offsets(rows));
    } else if (IS("arrival-times")) {
        expect_longs(expected, wm_arrival_times(rows));
    } else if (IS("set-text") || IS("set-strings") || IS("set-raw") || IS("set-payloads") || IS("set-keys") ||
               IS("set-attributes") || IS("partition")) {
        wm_texts column = texts(cells);
        if (IS("set-raw")) {
            wm_set_raw(rows, field, &column);
        } else if (IS("set-payloads")) {
            wm_set_payloads(rows, &column);
        } else if (IS("set-keys")) {
            wm_set_keys(rows, &column);
        } else if (IS("set-attributes")) {
            wm_set_attributes(rows, name, &column);
        } else if (IS("partition")) {
            wm_partition(rows, name, &column);
        } else {
            wm_set_text(rows, field, &column);
        }
    } else if (IS("set-ints")) {
        wm_ints column = ints(cells);
        wm_set_ints(rows, field, &column);
    } else if (IS("set-floats")) {
        wm_floats column = floats(cells);
        wm_set_floats(rows, field, &column);
    } else if (IS("clear")) {
        wm_clear(rows, marks(get(op, "marks")));
    } else if (IS("keep")) {
        wm_keep(rows, marks(get(op, "marks")));
    } else if (IS("route")) {
        wm_route(rows, numbers(get(op, "outputs")));
    } else if (IS("fail")) {
        uint32_t *failed = numbers(get(op, "rows"));
        for (size_t at = 0; at < count(get(op, "rows")); at++) {
            wm_fail(rows, failed[at], "%s", wm_copy(bytes(item(get(op, "reasons"), at))).data);
        }
    } else if (IS("derive")) {
        made = wm_derive(rows, numbers(get(op, "sources")), count(get(op, "sources")));
    } else if (IS("fresh")) {
        made = wm_fresh((size_t)integer(get(op, "rows"), 0));
    } else if (IS("emit")) {
        wm_emit(rows);
    } else if (!IS("drop")) { // What is not emitted is dropped at the end anyway.
        CHECK(false, "unknown call %s", case_name, call);
    }
    if (made != NULL && named_count < NAMES_MAX) {
        named[named_count].name = get(op, "as");
        named[named_count++].chunk = made;
    }
}

static void run_transform(table *table, size_t number, wm_string transform) {
    wm_string fields = get(transform, "fields"), ops = get(transform, "ops");
    wm_path_of *paths = wm_alloc(count(fields) * sizeof *paths + 1);
    for (size_t slot = 0; slot < count(fields); slot++) {
        wm_string path = item(fields, slot);
        paths[slot].count = count(path);
        paths[slot].keys = wm_alloc(paths[slot].count * sizeof *paths[slot].keys + 1);
        for (size_t key = 0; key < paths[slot].count; key++) {
            paths[slot].keys[key] = bytes(item(path, key));
        }
    }
    wm_table_enter(table, number, paths, count(fields));
    named_count = 0;
    wm_chunk *rows = wm_chunk_of(0, false);
    for (size_t at = 0; at < count(ops); at++) {
        run_op(item(ops, at), rows);
    }
    wm_chunks_end(true);
    wm_table_apply(table);
}

static void expect_row(const table_row *got, wm_string wanted) {
    CHECK(wm_equal(got->payload, bytes(get(wanted, "payload"))), "%.*s", case_name, WM_ARG(got->payload));
    CHECK(got->offset == integer(get(wanted, "offset"), 0), "%lld", case_name, (long long)got->offset);
    CHECK(got->child == integer(get(wanted, "child"), 0), "%u", case_name, got->child);
    CHECK(got->route == integer(get(wanted, "route"), 0), "%u", case_name, got->route);
    wm_string key = get(wanted, "key"), partition = get(wanted, "partition");
    CHECK(got->has_key == (key.len > 0) && (key.len == 0 || wm_equal(got->key, bytes(key))), "key", case_name);
    CHECK(got->partition.count == count(partition), "%zu", case_name, got->partition.count);
    for (size_t at = 0; at < got->partition.count; at++) {
        value_of value = got->partition.values[at];
        wm_string pair = item(partition, at);
        CHECK(wm_equal(value.name, bytes(item(pair, 0))) && wm_equal(value.value, bytes(item(pair, 1))), "", case_name);
    }
}

static void run(wm_string given) {
    wm_string input = get(given, "input"), payloads = get(input, "payloads"), transforms = get(given, "transforms");
    table table = {.inputs = count(payloads), .arrival = integer(get(input, "arrival"), 0)};
    wm_table = &table;
    wm_memory = &table.memory;
    table.row_count = table.inputs;
    table.rows = TABLE_NEW(table_row, table.inputs);
    table.failed = TABLE_NEW(bool, table.inputs);
    wm_texts keys = texts(get(input, "keys"));
    for (size_t row = 0; row < table.row_count; row++) {
        table_row *to = &table.rows[row];
        wm_string deltas = get(input, "arrival_deltas"), attributes = get(input, "attributes");
        *to = (table_row){.payload = bytes(item(payloads, row)), .input = (int64_t)row, .key = none};
        to->offset = integer(get(input, "first_offset"), 0) + (int64_t)row;
        to->arrival = table.arrival + (deltas.len > 0 ? integer(item(deltas, row), 0) : 0);
        to->has_key = keys.rows > 0 && keys.state[row] == WM_VALUE;
        to->key = to->has_key ? wm_text_at(&keys, row) : none;
        size_t at = 1;
        wm_member member;
        while (attributes.len > 0 && wm_json_member(attributes, &at, &member)) {
            wm_texts values = texts(member.value);
            if (values.state[row] == WM_VALUE) {
                value_of *grown = TABLE_NEW(value_of, to->attributes.count + 1);
                for (size_t old = 0; old < to->attributes.count; old++) {
                    grown[old] = to->attributes.values[old];
                }
                grown[to->attributes.count++] = (value_of){wm_json_unescaped(member.key), wm_text_at(&values, row)};
                to->attributes.values = grown;
            }
        }
    }
    for (size_t at = 0; at < count(transforms) && table.row_count > 0; at++) {
        run_transform(&table, at, item(transforms, at));
    }
    table.transform = count(transforms);
    if (wm_equal(get(given, "require_json"), wm_str("true"))) {
        wm_table_require_json(&table);
    }
    wm_string output = get(given, "output"), failed = get(given, "failed");
    CHECK(table.row_count == count(output), "%zu rows leave", case_name, table.row_count);
    size_t passed = 0, lost = 0;
    bool *seen = TABLE_NEW(bool, table.inputs);
    for (size_t row = 0; row < table.row_count && row < count(output); row++) {
        expect_row(&table.rows[row], item(output, row));
    }
    for (size_t row = 0; row < table.row_count; row++) {
        if (table.rows[row].input != NO_INPUT && !seen[table.rows[row].input]) {
            seen[table.rows[row].input] = true;
            passed++;
        }
    }
    CHECK(table.failure_count == count(failed), "%zu failures", case_name, table.failure_count);
    for (size_t at = 0; at < table.failure_count && at < count(failed); at++) {
        failure got = table.failures[at];
        wm_string wanted = item(failed, at), row = get(wanted, "row"), reason = get(wanted, "reason");
        lost += got.input != NO_INPUT;
        CHECK(got.input == (row.data[0] == '"' ? NO_INPUT : integer(row, 0)), "%lld", case_name, (long long)got.input);
        CHECK((int64_t)got.transform == integer(get(wanted, "transform"), 0), "%zu", case_name, got.transform);
        CHECK(reason.len == 0 || wm_equal(got.reason, bytes(reason)), "%.*s", case_name, WM_ARG(got.reason));
        CHECK(got.child == integer(get(wanted, "child"), got.child), "%u", case_name, got.child);
    }
    CHECK((int64_t)(table.inputs - passed - lost) == integer(get(given, "dropped"), 0), "dropped", case_name);
    wm_arena_free(&table.memory);
}

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL) {
        fprintf(stderr, "usage: %s wit/vectors.json\n", argv[0]);
        return 2;
    }
    wm_arena memory = {0};
    wm_memory = &memory;
    wm_buffer text = {0};
    char piece[65536];
    for (size_t len; (len = fread(piece, 1, sizeof piece, file)) > 0;) {
        wm_append(&text, piece, len);
    }
    fclose(file);
    wm_string vectors, cases;
    wm_expect(wm_json_value(wm_buffer_string(&text), WM_JSON_DEPTH, &vectors));
    cases = get(vectors, "cases");
    size_t at = 1, ran = 0;
    for (wm_string given; wm_json_item(cases, &at, &given); ran++) {
        wm_memory = &memory;
        case_name = wm_copy(wm_json_text(get(given, "name"))).data;
        run(given);
    }
    printf("%zu cases, %zu checks\n", ran, checks);
    wm_expect(ran > 0);
    wm_arena_free(&memory);
    return wm_test_end();
}
