//! The seam to a host in a component: imports and exports of wit/plugin.wit in the canonical ABI, by hand.
//!
//! What the host returns is placed by `cabi_realloc` into the memory of the call or of the plugin's life.

#include "../src/host.h"

#define IMPORT(interface, function)                                                                                    \
    __attribute__((import_module("wasmill:plugin/" interface "@0.1.3"), import_name(function)))
#define EXPORT(function) __attribute__((export_name(function)))
#define METHOD(name) IMPORT("records", "[method]chunk." name)

typedef struct list {
    const void *data;
    uint32_t len;
} list;
typedef struct cells {
    list state, data, ends;
} cells;
typedef struct numbers {
    list state, values;
} numbers;
typedef struct result {
    uint8_t is_error;
    list text;
} result;

METHOD("len") uint32_t chunk_len(uint32_t);
METHOD("seed") uint64_t chunk_seed(uint32_t);
METHOD("offsets") void chunk_offsets(uint32_t, list *);
METHOD("arrival-times") void chunk_arrival_times(uint32_t, list *);
METHOD("keys") void chunk_keys(uint32_t, cells *);
METHOD("attributes") void chunk_attributes(uint32_t, const char *, uint32_t, cells *);
METHOD("payloads") void chunk_payloads(uint32_t, list *);
METHOD("get-text") void chunk_get_text(uint32_t, uint32_t, cells *);
METHOD("get-raw") void chunk_get_raw(uint32_t, uint32_t, cells *);
METHOD("get-floats") void chunk_get_floats(uint32_t, uint32_t, numbers *);
METHOD("get-ints") void chunk_get_ints(uint32_t, uint32_t, numbers *);
#define CELLS const wm_state *, uint32_t, const char *, uint32_t, const uint32_t *, uint32_t
METHOD("set-payloads") void chunk_set_payloads(uint32_t, CELLS);
METHOD("set-text") void chunk_set_text(uint32_t, uint32_t, CELLS);
METHOD("set-raw") void chunk_set_raw(uint32_t, uint32_t, CELLS);
METHOD("set-keys") void chunk_set_keys(uint32_t, CELLS);
METHOD("set-attributes") void chunk_set_attributes(uint32_t, const char *, uint32_t, CELLS);
METHOD("partition") void chunk_partition(uint32_t, const char *, uint32_t, CELLS);
METHOD("set-floats") void chunk_set_floats(uint32_t, uint32_t, const wm_state *, uint32_t, const double *, uint32_t);
METHOD("set-ints") void chunk_set_ints(uint32_t, uint32_t, const wm_state *, uint32_t, const int64_t *, uint32_t);
METHOD("clear") void chunk_clear(uint32_t, const uint8_t *, uint32_t);
METHOD("keep") void chunk_keep(uint32_t, const uint8_t *, uint32_t);
METHOD("route") void chunk_route(uint32_t, const uint32_t *, uint32_t);
METHOD("fail")
void chunk_fail(uint32_t, const uint32_t *, uint32_t, const char *, uint32_t, const uint32_t *, uint32_t);
METHOD("derive") uint32_t chunk_derive(uint32_t, const uint32_t *, uint32_t);
IMPORT("records", "[static]chunk.fresh") uint32_t chunk_fresh(uint32_t);
IMPORT("records", "[resource-drop]chunk") void chunk_drop(uint32_t);
IMPORT("records", "emit") void records_emit(uint32_t);
IMPORT("setup", "field") uint32_t setup_field(const wm_string *, uint32_t);
IMPORT("setup", "output") void setup_output(const char *, uint32_t, result *);
IMPORT("setup", "secret") void setup_secret(const char *, uint32_t, result *);
IMPORT("setup", "file") void setup_file(const char *, uint32_t, uint64_t, uint32_t, result *);
IMPORT("log", "write") void log_write(uint32_t, const char *, uint32_t);

_Static_assert(sizeof(wm_string) == 8 && sizeof(result) == 12 && sizeof(cells) == 24, "layouts of the canonical ABI");

/// The host places what it returns here. Alignment is that of the arena, which is enough for any type.
EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    (void)align;
    return new_size == 0 ? (void *)align : wm_arena_grow(wm_memory, old, old_size, new_size);
}

static wm_instance instance;
static result returned;

static result *give(wm_error error) {
    returned.is_error = error != WM_OK;
    returned.text.data = error;
    returned.text.len = error == WM_OK ? 0 : (uint32_t)strlen(error);
    return &returned;
}

EXPORT("wasmill:plugin/transform@0.1.3#configure") result *configure(const char *config, size_t len) {
    return give(wm_instance_configure(&instance, &wm_this_plugin, wm_bytes(config, len)));
}

EXPORT("wasmill:plugin/transform@0.1.3#process") result *process(uint32_t chunk) {
    wm_error error = wm_instance_process(&instance, chunk);
    chunk_drop(chunk);
    return give(error);
}

/// The message of an error lies in the call's memory until the host has read it.
EXPORT("cabi_post_wasmill:plugin/transform@0.1.3#process") void process_end(result *done) {
    (void)done;
    wm_arena_reset(&instance.call);
}

static void give_cells(const cells *from, wm_texts *into) {
    *into = (wm_texts){from->state.len, (wm_state *)from->state.data, (char *)from->data.data, (uint32_t *)from->ends.data, 0, 0};
}

uint32_t wm_host_rows(wm_handle chunk) { return chunk_len(chunk); }
uint64_t wm_host_seed(wm_handle chunk) { return chunk_seed(chunk); }
const int64_t *wm_host_offsets(wm_handle chunk) {
    list values;
    chunk_offsets(chunk, &values);
    return values.data;
}
const int64_t *wm_host_arrival_times(wm_handle chunk) {
    list values;
    chunk_arrival_times(chunk, &values);
    return values.data;
}

void wm_host_read_texts(wm_handle chunk, wm_target target, uint32_t slot, wm_string name, wm_texts *into) {
    cells read;
    switch (target) {
    case WM_AT_PAYLOAD: {
        list column[2];
        chunk_payloads(chunk, column);
        wm_state *state = wm_arena_take(wm_memory, column[1].len);
        memset(state, WM_VALUE, column[1].len);
        read = (cells){{state, column[1].len}, column[0], column[1]};
        break;
    }
    case WM_AT_TEXT: chunk_get_text(chunk, slot, &read); break;
    case WM_AT_RAW: chunk_get_raw(chunk, slot, &read); break;
    case WM_AT_KEY: chunk_keys(chunk, &read); break;
    case WM_AT_ATTRIBUTE: chunk_attributes(chunk, name.data, name.len, &read); break;
    default: wm_panic("nothing to be read");
    }
    give_cells(&read, into);
}

void wm_host_read_ints(wm_handle chunk, uint32_t slot, wm_ints *into) {
    numbers read;
    chunk_get_ints(chunk, slot, &read);
    *into = (wm_ints){read.state.len, (wm_state *)read.state.data, (int64_t *)read.values.data, 0};
}

void wm_host_read_floats(wm_handle chunk, uint32_t slot, wm_floats *into) {
    numbers read;
    chunk_get_floats(chunk, slot, &read);
    *into = (wm_floats){read.state.len, (wm_state *)read.state.data, (double *)read.values.data, 0};
}

void wm_host_write_texts(wm_handle chunk, wm_target target, uint32_t slot, wm_string name, const wm_texts *values) {
    uint32_t rows = values->rows, bytes = rows == 0 ? 0 : values->ends[rows - 1];
#define PASSED values->state, rows, values->data, bytes, values->ends, rows
    switch (target) {
    case WM_AT_PAYLOAD: chunk_set_payloads(chunk, PASSED); break;
    case WM_AT_TEXT: chunk_set_text(chunk, slot, PASSED); break;
    case WM_AT_RAW: chunk_set_raw(chunk, slot, PASSED); break;
    case WM_AT_KEY: chunk_set_keys(chunk, PASSED); break;
    case WM_AT_ATTRIBUTE: chunk_set_attributes(chunk, name.data, name.len, PASSED); break;
    case WM_AT_PARTITION: chunk_partition(chunk, name.data, name.len, PASSED); break;
    }
}

void wm_host_write_ints(wm_handle chunk, uint32_t slot, const wm_ints *values) {
    chunk_set_ints(chunk, slot, values->state, values->rows, values->values, values->rows);
}
void wm_host_write_floats(wm_handle chunk, uint32_t slot, const wm_floats *values) {
    chunk_set_floats(chunk, slot, values->state, values->rows, values->values, values->rows);
}
void wm_host_clear(wm_handle chunk, const uint8_t *marks, size_t rows) { chunk_clear(chunk, marks, rows); }
void wm_host_keep(wm_handle chunk, const uint8_t *marks, size_t rows) { chunk_keep(chunk, marks, rows); }
void wm_host_route(wm_handle chunk, const uint32_t *outputs, size_t rows) { chunk_route(chunk, outputs, rows); }
void wm_host_fail(wm_handle chunk, const uint32_t *rows, size_t count, wm_string data, const uint32_t *ends) {
    chunk_fail(chunk, rows, count, data.data, data.len, ends, count);
}
wm_handle wm_host_derive(wm_handle chunk, const uint32_t *sources, size_t count) {
    return chunk_derive(chunk, sources, count);
}
wm_handle wm_host_fresh(uint32_t count) { return chunk_fresh(count); }
void wm_host_emit(wm_handle chunk) { records_emit(chunk); }
void wm_host_drop(wm_handle chunk) { chunk_drop(chunk); }
uint32_t wm_host_field(const wm_string *keys, size_t count) { return setup_field(keys, count); }

bool wm_host_output(wm_string name, uint32_t *number, wm_string *reason) {
    result found;
    setup_output(name.data, name.len, &found);
    // The number lies where the text would.
    *number = (uint32_t)(uintptr_t)found.text.data;
    *reason = wm_bytes(found.text.data, found.is_error ? found.text.len : 0);
    return !found.is_error;
}

static bool give_text(const result *found, wm_string *text) {
    *text = wm_bytes(found->text.data, found->text.len);
    return !found->is_error;
}

bool wm_host_secret(wm_string name, wm_string *value) {
    result found;
    setup_secret(name.data, name.len, &found);
    return give_text(&found, value);
}

bool wm_host_file(wm_string name, uint64_t offset, uint32_t len, wm_string *content) {
    result found;
    setup_file(name.data, name.len, offset, len, &found);
    return give_text(&found, content);
}

void wm_host_log(wm_level level, wm_string message) { log_write(level, message.data, message.len); }
void wm_host_trap(void) { __builtin_trap(); }
