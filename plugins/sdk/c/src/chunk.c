//! The rows of a call: reads, writes, and the handles behind them. Owns that nothing made in a call outlives it, and
//! that failures cost one host call.

#include <stdarg.h>
#include <stdio.h>

#include "host.h"

/// Of the call at work.
static wm_chunk *all;

wm_chunk *wm_chunk_of(wm_handle handle, bool owned) {
    wm_chunk *rows = wm_alloc(sizeof *rows);
    rows->handle = handle;
    rows->rows = wm_host_rows(handle);
    rows->owned = owned;
    rows->next = all;
    all = rows;
    return rows;
}

void wm_chunk_flush(wm_chunk *rows) {
    if (rows->failed_count > 0) {
        wm_host_fail(rows->handle, rows->failed, rows->failed_count, wm_buffer_string(&rows->reasons),
                     rows->reason_ends);
        rows->failed_count = 0;
        rows->reasons.len = 0;
    }
}

void wm_chunks_end(bool apply) {
    for (wm_chunk *rows = all; rows != NULL; rows = rows->next) {
        if (rows->owned) {
            wm_host_drop(rows->handle);
        } else if (apply) {
            wm_chunk_flush(rows);
        }
    }
    all = NULL;
}

size_t wm_rows(const wm_chunk *rows) { return rows->rows; }
uint64_t wm_seed(const wm_chunk *rows) { return wm_host_seed(rows->handle); }
const int64_t *wm_offsets(const wm_chunk *rows) { return wm_host_offsets(rows->handle); }
const int64_t *wm_arrival_times(const wm_chunk *rows) { return wm_host_arrival_times(rows->handle); }

static wm_texts read_texts(const wm_chunk *rows, wm_target target, uint32_t slot, const char *name) {
    wm_texts values = {0};
    wm_host_read_texts(rows->handle, target, slot, wm_str(name), &values);
    return values;
}

wm_texts wm_payloads(const wm_chunk *rows) { return read_texts(rows, WM_AT_PAYLOAD, 0, ""); }
wm_texts wm_keys(const wm_chunk *rows) { return read_texts(rows, WM_AT_KEY, 0, ""); }
wm_texts wm_attributes(const wm_chunk *rows, const char *name) { return read_texts(rows, WM_AT_ATTRIBUTE, 0, name); }
wm_texts wm_get_text(const wm_chunk *rows, wm_field field) { return read_texts(rows, WM_AT_TEXT, field.slot, ""); }
wm_texts wm_get_raw(const wm_chunk *rows, wm_field field) { return read_texts(rows, WM_AT_RAW, field.slot, ""); }

wm_ints wm_get_ints(const wm_chunk *rows, wm_field field) {
    wm_ints values = {0};
    wm_host_read_ints(rows->handle, field.slot, &values);
    return values;
}

wm_floats wm_get_floats(const wm_chunk *rows, wm_field field) {
    wm_floats values = {0};
    wm_host_read_floats(rows->handle, field.slot, &values);
    return values;
}

static void fits(const wm_chunk *rows, size_t has) {
    if (has > rows->rows) {
        wm_panic("a column of %zu rows for a chunk of %zu", has, rows->rows);
    }
}

static void write_texts(wm_chunk *rows, wm_target target, uint32_t slot, const char *name, wm_texts *values) {
    fits(rows, values->rows);
    wm_texts_pad(values, rows->rows);
    wm_host_write_texts(rows->handle, target, slot, wm_str(name), values);
}

void wm_set_payloads(wm_chunk *rows, wm_texts *values) { write_texts(rows, WM_AT_PAYLOAD, 0, "", values); }
void wm_set_keys(wm_chunk *rows, wm_texts *values) { write_texts(rows, WM_AT_KEY, 0, "", values); }
void wm_set_attributes(wm_chunk *rows, const char *name, wm_texts *values) {
    write_texts(rows, WM_AT_ATTRIBUTE, 0, name, values);
}
void wm_partition(wm_chunk *rows, const char *name, wm_texts *values) {
    write_texts(rows, WM_AT_PARTITION, 0, name, values);
}
void wm_set_text(wm_chunk *rows, wm_field field, wm_texts *values) {
    write_texts(rows, WM_AT_TEXT, field.slot, "", values);
}
void wm_set_raw(wm_chunk *rows, wm_field field, wm_texts *values) {
    write_texts(rows, WM_AT_RAW, field.slot, "", values);
}

void wm_set_ints(wm_chunk *rows, wm_field field, wm_ints *values) {
    fits(rows, values->rows);
    wm_ints_pad(values, rows->rows);
    wm_host_write_ints(rows->handle, field.slot, values);
}

void wm_set_floats(wm_chunk *rows, wm_field field, wm_floats *values) {
    fits(rows, values->rows);
    wm_floats_pad(values, rows->rows);
    wm_host_write_floats(rows->handle, field.slot, values);
}

void wm_clear(wm_chunk *rows, const uint8_t *marks) { wm_host_clear(rows->handle, marks, rows->rows); }
void wm_keep(wm_chunk *rows, const uint8_t *marks) { wm_host_keep(rows->handle, marks, rows->rows); }
void wm_route(wm_chunk *rows, const uint32_t *outputs) { wm_host_route(rows->handle, outputs, rows->rows); }

/// What the host keeps of a reason at most.
enum { REASON_BYTES = 1024 };

void wm_fail(wm_chunk *rows, size_t row, const char *format, ...) {
    if (row >= rows->rows) {
        wm_panic("row %zu of a chunk of %zu fails", row, rows->rows);
    }
    char reason[REASON_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    size_t kept = len < 0 ? 0 : (size_t)len < sizeof reason ? (size_t)len : sizeof reason - 1;
    if (rows->failed_count == rows->failed_room) {
        size_t old = rows->failed_room * sizeof(uint32_t);
        rows->failed_room = rows->failed_room == 0 ? 16 : 2 * rows->failed_room;
        rows->failed = wm_arena_grow(wm_memory, rows->failed, old, rows->failed_room * sizeof(uint32_t));
        rows->reason_ends = wm_arena_grow(wm_memory, rows->reason_ends, old, rows->failed_room * sizeof(uint32_t));
    }
    wm_append(&rows->reasons, reason, kept);
    rows->failed[rows->failed_count] = (uint32_t)row;
    rows->reason_ends[rows->failed_count] = (uint32_t)rows->reasons.len;
    rows->failed_count++;
}

wm_chunk *wm_derive(wm_chunk *rows, const uint32_t *sources, size_t count) {
    return wm_chunk_of(wm_host_derive(rows->handle, sources, count), true);
}

wm_chunk *wm_fresh(size_t count) {
    if (count > UINT32_MAX) {
        wm_panic("%zu fresh rows", count);
    }
    return wm_chunk_of(wm_host_fresh((uint32_t)count), true);
}

void wm_emit(wm_chunk *rows) {
    if (!rows->owned) {
        wm_panic("only rows that were derived or fresh can be emitted, and once");
    }
    wm_chunk_flush(rows);
    wm_host_emit(rows->handle);
    rows->owned = false;
    rows->failed_count = 0;
}
