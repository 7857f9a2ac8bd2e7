//! One record at a time: reads come from columns that are fetched once, writes are gathered into columns.

#include "json.h"

typedef struct reads {
    bool has_text, has_raw, has_ints, has_floats;
    wm_texts text, raw;
    wm_ints ints;
    wm_floats floats;
} reads;

typedef enum kind { NOTHING, TEXT, RAW, INTS, FLOATS } kind;

/// What was written to one field: one column, of raw JSON as soon as rows differ in kind.
typedef struct writes {
    kind kind;
    wm_texts texts;
    wm_ints ints;
    wm_floats floats;
} writes;

typedef struct work {
    wm_chunk *chunk;
    reads *reads;
    bool has_payloads, has_keys;
    wm_texts payloads, keys;
    const int64_t *offsets, *arrivals;
    uint8_t *keep;
    /// Of the rows themselves and of their copies.
    writes *writes[2];
    uint32_t *routes[2];
    size_t route_room[2];
    uint32_t *sources;
    size_t copies, copy_room;
} work;

struct wm_row {
    work *work;
    size_t at;     ///< The row that is read.
    size_t target; ///< The row that is written, of the chunk or of the copies.
    int copy;      ///< 0 or 1: which writes.
};

static reads *read_of(const wm_row *row, wm_field field) {
    if (field.slot >= wm_slots_now) {
        wm_panic("a field that was not declared in configure");
    }
    return &row->work->reads[field.slot];
}

size_t wm_row_number(const wm_row *row) { return row->at; }

int64_t wm_row_offset(const wm_row *row) {
    work *work = row->work;
    work->offsets = work->offsets != NULL ? work->offsets : wm_offsets(work->chunk);
    return work->offsets[row->at];
}

int64_t wm_row_arrival_time(const wm_row *row) {
    work *work = row->work;
    work->arrivals = work->arrivals != NULL ? work->arrivals : wm_arrival_times(work->chunk);
    return work->arrivals[row->at];
}

wm_string wm_row_payload(const wm_row *row) {
    work *work = row->work;
    if (!work->has_payloads) {
        work->payloads = wm_payloads(work->chunk);
        work->has_payloads = true;
    }
    return wm_text_at(&work->payloads, row->at);
}

wm_string wm_row_key(const wm_row *row) {
    work *work = row->work;
    if (!work->has_keys) {
        work->keys = wm_keys(work->chunk);
        work->has_keys = true;
    }
    return wm_text_at(&work->keys, row->at);
}

wm_state wm_row_text(const wm_row *row, wm_field field, wm_string *value) {
    reads *read = read_of(row, field);
    if (!read->has_text) {
        read->text = wm_get_text(row->work->chunk, field);
        read->has_text = true;
    }
    *value = wm_text_at(&read->text, row->at);
    return read->text.state[row->at];
}

wm_state wm_row_raw(const wm_row *row, wm_field field, wm_string *value) {
    reads *read = read_of(row, field);
    if (!read->has_raw) {
        read->raw = wm_get_raw(row->work->chunk, field);
        read->has_raw = true;
    }
    *value = wm_text_at(&read->raw, row->at);
    return read->raw.state[row->at];
}

wm_state wm_row_int(const wm_row *row, wm_field field, int64_t *value) {
    reads *read = read_of(row, field);
    if (!read->has_ints) {
        read->ints = wm_get_ints(row->work->chunk, field);
        read->has_ints = true;
    }
    *value = read->ints.values[row->at];
    return read->ints.state[row->at];
}

wm_state wm_row_float(const wm_row *row, wm_field field, double *value) {
    reads *read = read_of(row, field);
    if (!read->has_floats) {
        read->floats = wm_get_floats(row->work->chunk, field);
        read->has_floats = true;
    }
    *value = read->floats.values[row->at];
    return read->floats.state[row->at];
}

/// The column behind becomes one of raw JSON, with the same values.
static void make_raw(writes *write) {
    wm_texts raw = {0};
    size_t rows = write->kind == TEXT ? write->texts.rows : write->kind == INTS ? write->ints.rows : write->floats.rows;
    const wm_state *state = write->kind == TEXT   ? write->texts.state
                            : write->kind == INTS ? write->ints.state
                                                  : write->floats.state;
    for (size_t row = 0; row < rows; row++) {
        wm_buffer value = {0};
        if (state[row] != WM_VALUE) {
            wm_mark_text(&raw, row, state[row]);
            continue;
        }
        if (write->kind == TEXT) {
            wm_json_quote(wm_text_at(&write->texts, row), &value);
        } else if (write->kind == INTS) {
            wm_json_put_int(write->ints.values[row], &value);
        } else {
            wm_json_put_float(write->floats.values[row], &value);
        }
        wm_put_text(&raw, row, wm_buffer_string(&value));
    }
    write->texts = raw;
    write->kind = RAW;
}

/// The column to which this row writes a value of that kind; the kind may turn out to be RAW.
static writes *write_of(wm_row *row, wm_field field, kind wanted) {
    (void)read_of(row, field);
    writes **all = &row->work->writes[row->copy];
    if (*all == NULL) {
        *all = wm_alloc(wm_slots_now * sizeof **all);
    }
    writes *write = &(*all)[field.slot];
    if (write->kind == NOTHING) {
        write->kind = wanted == NOTHING ? RAW : wanted;
    } else if (wanted != NOTHING && wanted != write->kind && write->kind != RAW) {
        make_raw(write);
    }
    return write;
}

/// A row may set a field again: the earlier cell goes.
static wm_texts *cell(writes *write, size_t row) {
    if (write->texts.rows == row + 1) {
        write->texts.rows = row;
    }
    return &write->texts;
}

void wm_row_set_text(wm_row *row, wm_field field, wm_string value) {
    writes *write = write_of(row, field, TEXT);
    wm_buffer quoted = {0};
    if (write->kind == RAW) {
        wm_json_quote(value, &quoted);
        value = wm_buffer_string(&quoted);
    }
    wm_put_text(cell(write, row->target), row->target, value);
}

void wm_row_set_raw(wm_row *row, wm_field field, wm_string value) {
    wm_put_text(cell(write_of(row, field, RAW), row->target), row->target, value);
}

void wm_row_set_int(wm_row *row, wm_field field, int64_t value) {
    writes *write = write_of(row, field, INTS);
    if (write->kind == RAW) {
        wm_buffer text = {0};
        wm_json_put_int(value, &text);
        wm_put_text(cell(write, row->target), row->target, wm_buffer_string(&text));
    } else {
        wm_put_int(&write->ints, row->target, value);
    }
}

void wm_row_set_float(wm_row *row, wm_field field, double value) {
    writes *write = write_of(row, field, FLOATS);
    if (write->kind == RAW) {
        wm_buffer text = {0};
        // What is no number is no JSON either: the host fails the row.
        if (value - value == 0) {
            wm_json_put_float(value, &text);
        }
        wm_put_text(cell(write, row->target), row->target, wm_buffer_string(&text));
    } else {
        wm_put_float(&write->floats, row->target, value);
    }
}

static void mark(wm_row *row, wm_field field, wm_state state) {
    writes *write = write_of(row, field, NOTHING);
    switch (write->kind) {
    case INTS: wm_mark_int(&write->ints, row->target, state); break;
    case FLOATS: wm_mark_float(&write->floats, row->target, state); break;
    default: wm_mark_text(cell(write, row->target), row->target, state);
    }
}

void wm_row_set_null(wm_row *row, wm_field field) { mark(row, field, WM_NULL); }
void wm_row_remove(wm_row *row, wm_field field) { mark(row, field, WM_REMOVE); }

void wm_row_drop(wm_row *row) {
    if (row->copy) {
        wm_panic("a copy cannot be dropped: do not make it");
    }
    work *work = row->work;
    if (work->keep == NULL) {
        work->keep = wm_alloc(work->chunk->rows);
        memset(work->keep, 1, work->chunk->rows);
    }
    work->keep[row->at] = 0;
}

void wm_row_route(wm_row *row, wm_output output) {
    work *work = row->work;
    size_t room = work->route_room[row->copy];
    if (row->target >= room) {
        size_t wanted = row->copy ? work->copy_room : work->chunk->rows;
        uint32_t **routes = &work->routes[row->copy];
        *routes = wm_arena_grow(wm_memory, *routes, room * sizeof(uint32_t), wanted * sizeof(uint32_t));
        memset(*routes + room, 0, (wanted - room) * sizeof(uint32_t));
        work->route_room[row->copy] = wanted;
    }
    work->routes[row->copy][row->target] = output.number;
}

wm_row *wm_row_copy(wm_row *row) {
    work *work = row->work;
    if (work->copies == work->copy_room) {
        size_t old = work->copy_room;
        work->copy_room = old == 0 ? 64 : 2 * old;
        work->sources = wm_arena_grow(wm_memory, work->sources, old * sizeof(uint32_t), work->copy_room * sizeof(uint32_t));
    }
    work->sources[work->copies] = (uint32_t)row->at;
    wm_row *copy = wm_alloc(sizeof *copy);
    *copy = (wm_row){work, row->at, work->copies++, 1};
    return copy;
}

static void apply(work *work, wm_chunk *rows, int copy) {
    for (uint32_t slot = 0; work->writes[copy] != NULL && slot < wm_slots_now; slot++) {
        writes *write = &work->writes[copy][slot];
        wm_field field = {slot};
        switch (write->kind) {
        case NOTHING: break;
        case TEXT: wm_set_text(rows, field, &write->texts); break;
        case RAW: wm_set_raw(rows, field, &write->texts); break;
        case INTS: wm_set_ints(rows, field, &write->ints); break;
        case FLOATS: wm_set_floats(rows, field, &write->floats); break;
        }
    }
    if (work->routes[copy] != NULL) {
        if (work->route_room[copy] < rows->rows) {
            wm_row last = {work, 0, rows->rows - 1, copy};
            wm_row_route(&last, (wm_output){0});
        }
        wm_route(rows, work->routes[copy]);
    }
}

wm_error wm_each_row(wm_chunk *rows, wm_record_function record, void *state) {
    work work = {.chunk = rows};
    work.reads = wm_alloc((wm_slots_now + 1) * sizeof *work.reads);
    for (size_t at = 0; at < rows->rows; at++) {
        wm_row row = {&work, at, at, 0};
        wm_row_now = (int64_t)at;
        wm_error error = record(state, &row);
        if (error != WM_OK) {
            wm_fail(rows, at, "%s", error);
        }
    }
    wm_row_now = -1;
    apply(&work, rows, 0);
    if (work.keep != NULL) {
        wm_keep(rows, work.keep);
    }
    if (work.copies > 0) {
        wm_chunk *copies = wm_derive(rows, work.sources, work.copies);
        apply(&work, copies, 1);
        wm_emit(copies);
    }
    return WM_OK;
}
