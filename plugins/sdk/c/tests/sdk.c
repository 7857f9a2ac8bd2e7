//! The SDK beyond what wit/vectors.json says: records one at a time, configs, numbers, memory, and the test kit itself.

#include <math.h>
#include <stdlib.h>

#include "../src/json.h"
#include "../test/wasmill_test.h"

typedef struct state {
    wm_field what, value, words, other;
    wm_output bad;
    size_t calls;
} state;

static wm_error configure(void *given, wm_setup *setup) {
    state *self = given;
    self->what = wm_top(setup, "what");
    self->value = wm_nested(setup, "out", "value");
    self->words = wm_top(setup, "words");
    self->other = wm_top(setup, "other");
    // The same field is the same slot.
    wm_expect(wm_top(setup, "what").slot == self->what.slot);
    return wm_find_output(setup, "bad", &self->bad);
}

static bool is(wm_string text, const char *wanted) { return wm_equal(text, wm_str(wanted)); }

static wm_error record(void *given, wm_row *row) {
    state *self = given;
    wm_string what, words;
    if (wm_row_text(row, self->what, &what) != WM_VALUE) {
        return WM_OK;
    }
    if (is(what, "text")) {
        wm_row_set_text(row, self->value, wm_str("first"));
        wm_row_set_text(row, self->value, wm_str("\"quoted\"\n"));
    } else if (is(what, "int")) {
        wm_row_set_int(row, self->value, -7);
    } else if (is(what, "float")) {
        wm_row_set_float(row, self->value, 0.1);
    } else if (is(what, "nan")) {
        wm_row_set_float(row, self->value, (double)NAN);
    } else if (is(what, "raw")) {
        wm_row_set_raw(row, self->value, wm_str("[1,2]"));
    } else if (is(what, "null")) {
        wm_row_set_null(row, self->value);
    } else if (is(what, "remove")) {
        wm_row_remove(row, self->what);
    } else if (is(what, "drop")) {
        wm_row_drop(row);
    } else if (is(what, "route")) {
        wm_row_route(row, self->bad);
    } else if (is(what, "fail")) {
        wm_row_set_int(row, self->value, 1);
        return wm_errorf("row %zu of offset %lld cannot be", wm_row_number(row), (long long)wm_row_offset(row));
    } else if (is(what, "split") && wm_row_text(row, self->words, &words) == WM_VALUE) {
        for (size_t at = 0; at < words.len; at++) {
            wm_row *copy = wm_row_copy(row);
            wm_row_set_text(copy, self->words, wm_bytes(words.data + at, 1));
            wm_row_set_int(copy, self->other, (int64_t)at);
            if (words.data[at] == 'b') {
                wm_row_route(copy, self->bad);
            }
        }
    }
    return WM_OK;
}

static const wm_plugin by_record = {.state_size = sizeof(state), .configure = configure, .record = record};

static const wm_outcome *run(const wm_plugin *plugin, const char *config, const char *const *records, size_t count) {
    static wm_string texts[64];
    static const char *const outputs[] = {"bad"};
    for (size_t at = 0; at < count; at++) {
        texts[at] = wm_str(records[at]);
    }
    static wm_run how;
    how = (wm_run){.config = config, .plugin = plugin, .outputs = outputs, .output_count = 1};
    return wm_run_records(&how, texts, count);
}
#define RUN(plugin, config, ...)                                                                                       \
    run(plugin, config, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void records_one_at_a_time(void) {
    const wm_outcome *got =
        RUN(&by_record, "{}", "{\"what\":\"text\"}", "{\"what\":\"int\"}", "{\"what\":\"float\"}", "{\"what\":\"raw\"}",
            "{\"what\":\"null\"}", "{\"what\":\"remove\",\"a\":1}", "{\"what\":\"drop\"}", "{\"what\":\"route\"}",
            "{\"what\":\"fail\"}", "no json", "{\"what\":\"nan\"}", "{\"what\":\"split\",\"words\":\"abc\"}",
            "{\"what\":\"split\",\"words\":\"\"}");
    wm_expect_row(got, 0, "{\"what\":\"text\",\"out\":{\"value\":\"\\\"quoted\\\"\\n\"}}");
    wm_expect_row(got, 1, "{\"what\":\"int\",\"out\":{\"value\":-7}}");
    wm_expect_row(got, 2, "{\"what\":\"float\",\"out\":{\"value\":0.1}}");
    wm_expect_row(got, 3, "{\"what\":\"raw\",\"out\":{\"value\":[1,2]}}");
    wm_expect_row(got, 4, "{\"what\":\"null\",\"out\":{\"value\":null}}");
    wm_expect_row(got, 5, "{\"a\":1}");
    wm_expect_row(got, 6, "{\"what\":\"route\"}");
    wm_expect(got->rows[6].route == 1 && got->rows[5].route == 0);
    wm_expect_row(got, 7, "no json");
    wm_expect_row(got, 8, "{\"what\":\"split\",\"words\":\"\"}");
    wm_expect_row(got, 9, "{\"what\":\"split\",\"words\":\"a\",\"other\":0}");
    wm_expect_row(got, 10, "{\"what\":\"split\",\"words\":\"b\",\"other\":1}");
    wm_expect_row(got, 11, "{\"what\":\"split\",\"words\":\"c\",\"other\":2}");
    wm_expect(got->rows[10].route == 1 && got->rows[11].route == 0 && got->rows[11].child == 2);
    wm_expect_rows(got, 12);
    wm_expect_failed(got, 8, "row 8 of offset 8 cannot be");
    wm_expect_failed(got, 10, "field out.value: the raw text is not one JSON value");
    wm_expect(got->verdicts[6] == WM_DROPPED && got->verdicts[7] == WM_PASSED);
}

static wm_error columns(void *given, wm_chunk *rows) {
    state *self = given;
    wm_texts what = wm_get_text(rows, self->what), copied = wm_get_raw(rows, self->words);
    wm_floats halves = {0};
    for (size_t row = 0; row < what.rows; row++) {
        if (is(wm_text_at(&what, row), "error")) {
            return "cannot go on";
        }
        if (is(wm_text_at(&what, row), "fail")) {
            wm_fail(rows, row, "%s", "first");
            wm_fail(rows, row, "%s", "second");
        }
        if (row == 1) {
            wm_put_float(&halves, row, 0.5);
        }
    }
    // A column as read may be written elsewhere, and what is derived but not emitted is discarded.
    wm_set_raw(rows, self->other, &copied);
    wm_set_floats(rows, self->value, &halves);
    uint32_t sources[] = {0, 0};
    wm_fail(wm_derive(rows, sources, 2), 1, "discarded");
    return WM_OK;
}

static const wm_plugin by_column = {.state_size = sizeof(state), .configure = configure, .process = columns};

static void columns_and_errors(void) {
    const wm_outcome *got = RUN(&by_column, "{}", "{\"words\":[1]}", "{}", "{\"what\":\"fail\"}");
    wm_expect_row(got, 0, "{\"words\":[1],\"other\":[1]}");
    wm_expect_row(got, 1, "{\"out\":{\"value\":0.5}}");
    wm_expect_rows(got, 2);
    wm_expect_failed(got, 2, "first");
    // An error of the whole chunk costs the guilty record alone.
    got = RUN(&by_column, "{}", "{\"words\":1}", "{\"what\":\"error\"}", "{}");
    wm_expect_row(got, 0, "{\"words\":1,\"other\":1}");
    wm_expect_rows(got, 2);
    wm_expect_failed(got, 1, "cannot go on");
}

static wm_error read_config(void *given, wm_setup *setup) {
    (void)given;
    wm_expect(is(wm_config_text(setup, "text", "none"), "a\nb"));
    wm_expect(wm_config_int(setup, "int", 1) == -3);
    wm_expect(wm_config_number(setup, "number", 1) == 2.5);
    wm_expect(wm_config_bool(setup, "bool", false));
    wm_expect(wm_config_int(setup, "absent", 9) == 9);
    wm_expect(is(wm_config_raw(setup, "list"), "[1, 2]"));
    wm_expect(!wm_config_has(setup, "nothing") && wm_config_has(setup, "list"));
    return WM_OK;
}

static wm_error typed_config(void *given, wm_setup *setup) {
    (void)given;
    (void)wm_config_text(setup, "name", NULL);
    (void)wm_config_int(setup, "count", 0);
    (void)wm_config_bool(setup, "on", false);
    return WM_OK;
}

static wm_error grants(void *given, wm_setup *setup) {
    (void)given;
    wm_string content;
    return wm_file(setup, "cities.csv", &content);
}

static wm_error nothing(void *given, wm_chunk *rows) {
    (void)given, (void)rows;
    return WM_OK;
}

static void configs(void) {
    static const wm_plugin reads = {.configure = read_config, .process = nothing};
    wm_expect_rows(RUN(&reads, "{\"text\":\"a\\nb\",\"int\":-3.0,\"number\":25e-1,\"bool\":true,\"list\":[1, 2],"
                               "\"nothing\":null}",
                       "x"),
                   1);
    static const wm_plugin typed = {.configure = typed_config, .process = nothing};
    wm_expect_rows(RUN(&typed, "{\"name\":\"n\"}", "x"), 1);
    wm_expect_refused(RUN(&typed, "", "x"), "\"name\" is missing");
    wm_expect_refused(RUN(&typed, "{\"name\":7}", "x"), "\"name\" is 7, which is not a text");
    wm_expect_refused(RUN(&typed, "{\"name\":\"n\",\"count\":1.5}", "x"), "\"count\" is 1.5");
    wm_expect_refused(RUN(&typed, "{\"name\":\"n\",\"on\":1}", "x"), "true or false");
    wm_expect_refused(RUN(&typed, "{\"name\":\"n\",\"onn\":1}", "x"), "unknown key \"onn\"; there are name, count, on");
    wm_expect_refused(RUN(&typed, "[1]", "x"), "not an object");
    wm_expect_refused(RUN(&typed, "{\"name\":", "x"), "not JSON");
    static const wm_plugin granted = {.configure = grants, .process = nothing};
    wm_expect_refused(RUN(&granted, "{}", "x"), "cities.csv is not granted");
}

static void numbers(void) {
    static const struct {
        const char *text;
        bool is;
        int64_t value;
    } ints[] = {
        {"0", true, 0}, {"-0.0e-5", true, 0}, {"0e99999999999999999999", true, 0}, {"1e3", true, 1000},
        {"12.50e1", true, 125}, {"1500e-2", true, 15}, {"1.5", false, 0}, {"1e-1", false, 0},
        {"9223372036854775807", true, INT64_MAX}, {"9223372036854775808", false, 0},
        {"-9223372036854775808", true, INT64_MIN}, {"-9223372036854775809", false, 0},
        {"9223372036854775807.000", true, INT64_MAX}, {"1e18", true, 1000000000000000000}, {"1e19", false, 0},
        {"1e999999999999999999999", false, 0}, {"1e-999999999999999999999", false, 0}, {"100000000000000000000", false, 0},
        {"10000000000000000000000e-4", true, 1000000000000000000}, {"0.00000000000000000000000001e26", true, 1},
    };
    for (size_t at = 0; at < sizeof ints / sizeof *ints; at++) {
        int64_t value = 0;
        bool is = wm_json_int(wm_str(ints[at].text), &value);
        wm_expected(is == ints[at].is && (!is || value == ints[at].value), ints[at].text, __FILE__, __LINE__);
    }
    static const struct {
        double value;
        const char *text;
    } floats[] = {
        {1.0, "1.0"}, {0.1, "0.1"}, {-0.0, "-0.0"}, {1e16, "1e+16"}, {1e15, "1000000000000000.0"}, {1e-7, "1e-7"},
        {1.5e300, "1.5e+300"}, {5e-324, "5e-324"}, {123.25, "123.25"}, {0.00001, "0.00001"}, {1.0 / 3, "0.3333333333333333"},
    };
    wm_arena memory = {0};
    wm_memory = &memory;
    for (size_t at = 0; at < sizeof floats / sizeof *floats; at++) {
        wm_buffer text = {0};
        wm_json_put_float(floats[at].value, &text);
        wm_expected(is(wm_buffer_string(&text), floats[at].text), floats[at].text, __FILE__, __LINE__);
    }
    wm_arena_free(&memory);
}

static void memory_is_kept_within_bounds(void) {
    wm_arena memory = {0};
    char *small = wm_arena_take(&memory, 10);
    memcpy(small, "0123456789", 10);
    char *grown = wm_arena_grow(&memory, small, 10, 1000);
    wm_expect(grown == small);
    (void)wm_arena_take(&memory, 1);
    char *moved = wm_arena_grow(&memory, grown, 1000, 1 << 20);
    wm_expect(moved != grown && memcmp(moved, "0123456789", 10) == 0);
    wm_arena_reset(&memory);
    // The large block is used again.
    wm_expect(wm_arena_take(&memory, 1 << 20) == (void *)moved);
    (void)wm_arena_take(&memory, 64 << 20);
    wm_arena_reset(&memory);
    wm_expect(wm_arena_take(&memory, 16) == (void *)moved);
    wm_arena_free(&memory);
}

WM_PLUGIN(.process = nothing);

int main(void) {
    records_one_at_a_time();
    columns_and_errors();
    configs();
    numbers();
    memory_is_kept_within_bounds();
    return wm_test_end();
}
