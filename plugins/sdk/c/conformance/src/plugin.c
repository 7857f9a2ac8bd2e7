//! What `plugins/sdk/conformance/README.md` asks for, in C.

#include <stdlib.h>

#include "wasmill.h"

typedef struct conformance conformance;
typedef void (*now_function)(conformance *self, wm_chunk *rows, size_t row);

struct conformance {
    wm_error (*work)(conformance *self, wm_chunk *rows);
    now_function now;
    wm_field name, greeting, length, n, x, half, text, code, city;
    wm_string cities;
};

static wm_error pass(conformance *self, wm_chunk *rows) {
    (void)self, (void)rows;
    return WM_OK;
}

static wm_error filter(conformance *self, wm_chunk *rows) {
    wm_ints n = wm_get_ints(rows, self->n);
    uint8_t *keep = wm_alloc(n.rows);
    for (size_t row = 0; row < n.rows; row++) {
        keep[row] = n.state[row] == WM_VALUE && n.values[row] % 2 == 0;
    }
    wm_keep(rows, keep);
    return WM_OK;
}

static int64_t scalars(wm_string text) {
    int64_t count = 0;
    for (size_t at = 0; at < text.len; at++) {
        count += ((unsigned char)text.data[at] & 0xc0) != 0x80;
    }
    return count;
}

static wm_error map(conformance *self, wm_chunk *rows) {
    wm_texts names = wm_get_text(rows, self->name), greetings = {0};
    wm_ints n = wm_get_ints(rows, self->n), lengths = {0}, doubles = {0};
    wm_floats x = wm_get_floats(rows, self->x), halves = {0};
    for (size_t row = 0; row < wm_rows(rows); row++) {
        if (names.state[row] == WM_VALUE) {
            wm_string name = wm_text_at(&names, row);
            wm_put_all(&greetings, row, wm_str("hello, "), name);
            wm_put_int(&lengths, row, scalars(name));
        }
        if (n.state[row] == WM_VALUE) {
            wm_put_int(&doubles, row, n.values[row] * 2);
        }
        if (x.state[row] == WM_VALUE) {
            wm_put_float(&halves, row, x.values[row] / 2);
        }
    }
    wm_set_text(rows, self->greeting, &greetings);
    wm_set_ints(rows, self->length, &lengths);
    wm_set_ints(rows, self->n, &doubles);
    wm_set_floats(rows, self->half, &halves);
    return WM_OK;
}

/// The next word of a text, and the text behind it; empty at the end.
static wm_string next_word(wm_string *text) {
    while (text->len > 0 && text->data[0] == ' ') {
        *text = wm_bytes(text->data + 1, text->len - 1);
    }
    size_t len = 0;
    while (len < text->len && text->data[len] != ' ') {
        len++;
    }
    wm_string word = wm_bytes(text->data, len);
    *text = wm_bytes(text->data + len, text->len - len);
    return word;
}

static wm_error split(conformance *self, wm_chunk *rows) {
    wm_texts texts = wm_get_text(rows, self->text), words = {0};
    uint8_t *keep = wm_alloc(texts.rows);
    size_t bytes = texts.rows == 0 ? 0 : texts.ends[texts.rows - 1], count = 0;
    // There are at most as many words as bytes.
    uint32_t *sources = wm_alloc(bytes * sizeof *sources);
    for (size_t row = 0; row < texts.rows; row++) {
        size_t before = count;
        wm_string text = wm_text_at(&texts, row);
        for (wm_string word = next_word(&text); word.len > 0; word = next_word(&text)) {
            sources[count] = (uint32_t)row;
            wm_put_text(&words, count++, word);
        }
        // Rows that others come of are replaced; what has no word is dropped.
        keep[row] = texts.state[row] != WM_VALUE || count > before;
    }
    wm_chunk *derived = wm_derive(rows, sources, count);
    wm_set_text(derived, self->text, &words);
    wm_keep(rows, keep);
    wm_emit(derived);
    return WM_OK;
}

/// The name behind a code in the lines of the table.
static bool find_city(wm_string table, wm_string code, wm_string *name) {
    size_t start = 0;
    for (size_t at = 0; at <= table.len; at++) {
        if (at < table.len && table.data[at] != '\n') {
            continue;
        }
        const char *comma = at > start ? memchr(table.data + start, ',', at - start) : NULL;
        if (comma != NULL && wm_equal(code, wm_bytes(table.data + start, (size_t)(comma - table.data) - start))) {
            *name = wm_bytes(comma + 1, at - (size_t)(comma + 1 - table.data));
            return true;
        }
        start = at + 1;
    }
    return false;
}

static wm_error enrich(conformance *self, wm_chunk *rows) {
    wm_texts codes = wm_get_text(rows, self->code), names = {0};
    for (size_t row = 0; row < codes.rows; row++) {
        wm_string name;
        if (codes.state[row] == WM_VALUE && find_city(self->cities, wm_text_at(&codes, row), &name)) {
            wm_put_text(&names, row, name);
        }
    }
    wm_set_text(rows, self->city, &names);
    return WM_OK;
}

static wm_error check(conformance *self, wm_chunk *rows) {
    wm_ints n = wm_get_ints(rows, self->n), doubles = {0};
    for (size_t row = 0; row < n.rows; row++) {
        if (n.state[row] == WM_VALUE) {
            wm_put_int(&doubles, row, n.values[row] * 2);
        } else {
            wm_fail(rows, row, "n is no integer");
        }
    }
    wm_set_ints(rows, self->half, &doubles);
    return WM_OK;
}

/// Over one record at a time.
static wm_error raise_record(void *state, wm_row *row) {
    conformance *self = state;
    wm_string text;
    if (wm_row_text(row, self->text, &text) == WM_VALUE && wm_starts_with(text, wm_str("boom"))) {
        return wm_errorf("cannot work on %.*s", WM_ARG(text));
    }
    return WM_OK;
}

static wm_error raise_all(conformance *self, wm_chunk *rows) { return wm_each_row(rows, raise_record, self); }

static wm_error at_now(conformance *self, wm_chunk *rows) {
    wm_texts texts = wm_get_text(rows, self->text);
    for (size_t row = 0; row < texts.rows; row++) {
        if (texts.state[row] == WM_VALUE && wm_equal(wm_text_at(&texts, row), wm_str("now"))) {
            self->now(self, rows, row);
        }
    }
    return WM_OK;
}

static void trap(conformance *self, wm_chunk *rows, size_t row) {
    (void)self, (void)rows, (void)row;
    abort();
}

static void loop(conformance *self, wm_chunk *rows, size_t row) {
    (void)self, (void)rows, (void)row;
    for (volatile bool forever = true; forever;) {
    }
}

static void hoard(conformance *self, wm_chunk *rows, size_t row) {
    (void)self, (void)rows, (void)row;
    for (;;) {
        (void)wm_alloc(1 << 20);
    }
}

static void flood(conformance *self, wm_chunk *rows, size_t row) {
    const size_t len = 20 << 20;
    char *data = wm_alloc(len);
    memset(data, 'x', len);
    wm_texts texts = {0};
    wm_put_text(&texts, row, wm_bytes(data, len));
    wm_set_text(rows, self->text, &texts);
}

static wm_error configure(void *state, wm_setup *setup) {
    conformance *self = state;
    wm_string what = wm_config_text(setup, "do", NULL);
    static const struct {
        const char *name;
        wm_error (*work)(conformance *self, wm_chunk *rows);
        now_function now;
    } all[] = {
        {"pass", pass, NULL},       {"filter", filter, NULL}, {"map", map, NULL},       {"split", split, NULL},
        {"enrich", enrich, NULL},   {"check", check, NULL},   {"raise", raise_all, NULL}, {"trap", at_now, trap},
        {"loop", at_now, loop},     {"hoard", at_now, hoard}, {"flood", at_now, flood},
    };
    for (size_t at = 0; at < sizeof all / sizeof *all; at++) {
        if (wm_equal(what, wm_str(all[at].name))) {
            self->work = all[at].work;
            self->now = all[at].now;
        }
    }
    if (self->work == NULL) {
        return wm_errorf("do is \"%.*s\", which is nothing that this plugin does", WM_ARG(what));
    }
    self->name = wm_nested(setup, "user", "name");
    self->greeting = wm_top(setup, "greeting");
    self->length = wm_top(setup, "length");
    self->n = wm_top(setup, "n");
    self->x = wm_top(setup, "x");
    self->half = wm_top(setup, self->work == check ? "double" : "half");
    self->text = wm_top(setup, "text");
    self->code = wm_top(setup, "code");
    self->city = wm_top(setup, "city");
    return self->work == enrich ? wm_file(setup, "cities.csv", &self->cities) : WM_OK;
}

static wm_error process(void *state, wm_chunk *rows) {
    conformance *self = state;
    return self->work(self, rows);
}

WM_PLUGIN(.state_size = sizeof(conformance), .configure = configure, .process = process);
