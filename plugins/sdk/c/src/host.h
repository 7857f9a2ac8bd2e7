//! The seam between the SDK and who is behind it: the host's imports in a component (guest.c), the in-memory chunk in a
//! unit test (test/). Not for plugins.
#ifndef WASMILL_HOST_H
#define WASMILL_HOST_H

#include "../include/wasmill.h"

// --- Memory: see memory.c ---

typedef struct wm_block wm_block;
typedef struct wm_arena {
    wm_block *last;
} wm_arena;

/// Where wm_alloc takes from.
extern wm_arena *wm_memory;
/// Memory that is not zeroed. Never NULL: it panics.
void *wm_arena_take(wm_arena *arena, size_t size);
/// Makes what was taken larger, in place where it was the last.
void *wm_arena_grow(wm_arena *arena, void *old, size_t old_size, size_t new_size);
/// Forgets everything, keeps a bounded part of the memory.
void wm_arena_reset(wm_arena *arena);
void wm_arena_free(wm_arena *arena);
wm_string wm_copy(wm_string text);

/// A text that grows.
typedef struct wm_buffer {
    char *data;
    size_t len, room;
} wm_buffer;
void wm_append(wm_buffer *buffer, const char *data, size_t len);
static inline wm_string wm_buffer_string(const wm_buffer *buffer) { return wm_bytes(buffer->data, buffer->len); }

// --- One configured plugin: see instance.c ---

typedef struct wm_path_of {
    size_t count;
    wm_string *keys;
} wm_path_of;

struct wm_setup {
    wm_string config; ///< The JSON object.
    wm_error wrong;   ///< The first thing that is wrong with the config.
    wm_string *asked; ///< Keys that were asked for.
    size_t asked_count, asked_room;
    wm_path_of *fields;
    uint32_t *slots;
    size_t field_count, field_room;
};

typedef struct wm_instance {
    const wm_plugin *plugin;
    void *state;
    bool begun; ///< `configure` was called, so that there is something to destroy.
    wm_arena life, call;
    uint32_t slots; ///< One more than the highest slot.
} wm_instance;

/// NULL or why the config is refused.
wm_error wm_instance_configure(wm_instance *instance, const wm_plugin *plugin, wm_string config);
typedef uint32_t wm_handle;
wm_error wm_instance_process(wm_instance *instance, wm_handle chunk);
void wm_instance_free(wm_instance *instance);

struct wm_chunk {
    wm_handle handle;
    size_t rows;
    bool owned; ///< Made in this call and not yet emitted.
    wm_chunk *next;
    uint32_t *failed; ///< Failures gathered for one host call.
    size_t failed_count, failed_room;
    wm_buffer reasons;
    uint32_t *reason_ends;
};

/// Slots of the instance that is at work, and the row, or -1.
extern uint32_t wm_slots_now;
extern int64_t wm_row_now;
wm_chunk *wm_chunk_of(wm_handle handle, bool owned);
/// Hands gathered failures to the host.
void wm_chunk_flush(wm_chunk *rows);
/// Ends the call: flushes, and drops what was not emitted.
void wm_chunks_end(bool apply);

// Lets a column have `rows` rows, the new ones left alone.
void wm_texts_pad(wm_texts *column, size_t rows);
void wm_ints_pad(wm_ints *column, size_t rows);
void wm_floats_pad(wm_floats *column, size_t rows);

wm_error wm_setup_check(wm_setup *setup);

// --- What is behind ---

typedef enum wm_target { WM_AT_PAYLOAD, WM_AT_TEXT, WM_AT_RAW, WM_AT_KEY, WM_AT_ATTRIBUTE, WM_AT_PARTITION } wm_target;

uint32_t wm_host_rows(wm_handle chunk);
uint64_t wm_host_seed(wm_handle chunk);
const int64_t *wm_host_offsets(wm_handle chunk);
const int64_t *wm_host_arrival_times(wm_handle chunk);
/// Slot for fields, name for attributes and partitions.
void wm_host_read_texts(wm_handle chunk, wm_target target, uint32_t slot, wm_string name, wm_texts *into);
void wm_host_read_ints(wm_handle chunk, uint32_t slot, wm_ints *into);
void wm_host_read_floats(wm_handle chunk, uint32_t slot, wm_floats *into);
void wm_host_write_texts(wm_handle chunk, wm_target target, uint32_t slot, wm_string name, const wm_texts *values);
void wm_host_write_ints(wm_handle chunk, uint32_t slot, const wm_ints *values);
void wm_host_write_floats(wm_handle chunk, uint32_t slot, const wm_floats *values);
void wm_host_clear(wm_handle chunk, const uint8_t *marks, size_t rows);
void wm_host_keep(wm_handle chunk, const uint8_t *marks, size_t rows);
void wm_host_route(wm_handle chunk, const uint32_t *outputs, size_t rows);
void wm_host_fail(wm_handle chunk, const uint32_t *rows, size_t count, wm_string data, const uint32_t *ends);
wm_handle wm_host_derive(wm_handle chunk, const uint32_t *sources, size_t count);
wm_handle wm_host_fresh(uint32_t count);
void wm_host_emit(wm_handle chunk);
void wm_host_drop(wm_handle chunk);
uint32_t wm_host_field(const wm_string *keys, size_t count);
// false: the string is the reason.
bool wm_host_output(wm_string name, uint32_t *number, wm_string *reason);
bool wm_host_secret(wm_string name, wm_string *value);
bool wm_host_file(wm_string name, uint64_t offset, uint32_t len, wm_string *content);
void wm_host_log(wm_level level, wm_string message);
WM_NORETURN void wm_host_trap(void);

#endif
