//! What a Wasmill plugin in C sees of its host: columns and rows of a chunk of records, its config, its log.
//!
//! Owns the names; what each host call means is written in wit/plugin.wit. Nothing here is ever freed by a plugin:
//! what is taken in `configure` lives as long as the plugin, what is taken in a call lives until the call returns.
//! It refuses to go on where a plugin breaks the contract (a column that is too long, a row that is none): it logs
//! what is wrong and traps, and the host looks for the guilty record.
#ifndef WASMILL_H
#define WASMILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#define WM_NORETURN [[noreturn]]
#else
#define WM_NORETURN _Noreturn
#endif

#if defined(__GNUC__) || defined(__clang__)
#define WM_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define WM_PRINTF(text, first)
#endif

// --- Text -----------------------------------------------------------------------------------------------------------

/// Bytes with a length, not ended by NUL: JSON text may contain "\u0000".
typedef struct wm_string {
    const char *data;
    size_t len;
} wm_string;

static inline wm_string wm_bytes(const char *data, size_t len) {
    wm_string string;
    string.data = data;
    string.len = len;
    return string;
}
/// Of a text that ends with NUL.
static inline wm_string wm_str(const char *text) { return wm_bytes(text, strlen(text)); }
static inline bool wm_equal(wm_string left, wm_string right) {
    return left.len == right.len && (left.len == 0 || memcmp(left.data, right.data, left.len) == 0);
}
static inline bool wm_starts_with(wm_string text, wm_string start) {
    return text.len >= start.len && (start.len == 0 || memcmp(text.data, start.data, start.len) == 0);
}
/// In the manner of sprintf; the text ends with NUL. `%.*s` with WM_ARG stops at a NUL within a string.
wm_string wm_format(const char *format, ...) WM_PRINTF(1, 2);
#define WM_ARG(string) (int)(string).len, (string).data

/// Zeroed memory, aligned for any type. It is the plugin's for its life if taken in `configure`, else until the call ends.
void *wm_alloc(size_t size);

// --- Errors ---------------------------------------------------------------------------------------------------------

/// NULL: all is well. Else what is wrong, for a person.
typedef const char *wm_error;
#define WM_OK ((wm_error)0)
wm_error wm_errorf(const char *format, ...) WM_PRINTF(1, 2);
/// Logs the message, with the record in work where there is one, and traps. The host fails the guilty record alone.
WM_NORETURN void wm_panic(const char *format, ...) WM_PRINTF(1, 2);

typedef enum wm_level { WM_DEBUG, WM_INFO, WM_WARN, WM_ERROR } wm_level;
void wm_log(wm_level level, const char *format, ...) WM_PRINTF(2, 3);

// --- Columns --------------------------------------------------------------------------------------------------------

/// What one row has in a column.
typedef uint8_t wm_state;
enum {
    WM_MISSING = 0, ///< Read: the field is absent.
    WM_NULL = 1,    ///< JSON null.
    WM_OTHER = 2,   ///< Read: a value of another type.
    WM_VALUE = 3,   ///< A value.
    WM_LEAVE = 0,   ///< Written: the field stays as it is.
    WM_REMOVE = 2   ///< Written: the field is removed.
};

/// Texts, raw JSON values, keys, attributes or payloads, one per row. Value i is data[ends[i - 1]] to data[ends[i]].
typedef struct wm_texts {
    size_t rows;
    wm_state *state;
    char *data;
    uint32_t *ends;
    size_t row_room, byte_room;
} wm_texts;
typedef struct wm_ints {
    size_t rows;
    wm_state *state;
    int64_t *values;
    size_t row_room;
} wm_ints;
typedef struct wm_floats {
    size_t rows;
    wm_state *state;
    double *values;
    size_t row_room;
} wm_floats;

/// The value of a row, empty where there is none.
static inline wm_string wm_text_at(const wm_texts *column, size_t row) {
    uint32_t start = row == 0 ? 0 : column->ends[row - 1];
    return wm_bytes(column->data + start, column->ends[row] - start);
}

// Columns to write begin as {0} and grow with the rows that are put into them, in ascending order; rows that are left
// out are left alone. A column that was read may be written as it is: that copies a field.
void wm_put_text(wm_texts *column, size_t row, wm_string value);
/// WM_NULL or WM_REMOVE.
void wm_mark_text(wm_texts *column, size_t row, wm_state state);
void wm_put_joined(wm_texts *column, size_t row, const wm_string *parts, size_t count);
void wm_put_int(wm_ints *column, size_t row, int64_t value);
void wm_mark_int(wm_ints *column, size_t row, wm_state state);
void wm_put_float(wm_floats *column, size_t row, double value);
void wm_mark_float(wm_floats *column, size_t row, wm_state state);
/// One value of several strings: wm_put_all(&column, row, wm_str("hello, "), name).
#define wm_put_all(column, row, ...)                                                                                   \
    wm_put_joined(column, row, (const wm_string[]){__VA_ARGS__}, sizeof((const wm_string[]){__VA_ARGS__}) / sizeof(wm_string))

// --- Configuration --------------------------------------------------------------------------------------------------

/// Only valid inside `configure`.
typedef struct wm_setup wm_setup;
typedef struct wm_field {
    uint32_t slot;
} wm_field;
typedef struct wm_output {
    uint32_t number;
} wm_output;

/// Declares a field of the record's object, for reading and writing.
wm_field wm_top(wm_setup *setup, const char *key);
/// A field inside others, by its keys, outermost first.
wm_field wm_path(wm_setup *setup, const char *const *keys, size_t count);
/// wm_nested(setup, "user", "name")
#define wm_nested(setup, ...)                                                                                          \
    wm_path(setup, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
/// An output of the stream by name.
wm_error wm_find_output(wm_setup *setup, const char *name, wm_output *output);
/// A secret that the transform's config grants.
wm_error wm_secret(wm_setup *setup, const char *name, wm_string *value);
/// A granted file as a whole.
wm_error wm_file(wm_setup *setup, const char *name, wm_string *content);
/// A piece of it: shorter than `len` at the end of the file, empty behind it.
wm_error wm_file_part(wm_setup *setup, const char *name, uint64_t offset, uint32_t len, wm_string *content);

// The config is one JSON object. A key of another type refuses the config once `configure` has returned, and so does a
// key that nobody asked for: a misspelt key is never ignored. A fallback of NULL makes a key required.
wm_string wm_config_text(wm_setup *setup, const char *key, const char *fallback);
int64_t wm_config_int(wm_setup *setup, const char *key, int64_t fallback);
double wm_config_number(wm_setup *setup, const char *key, double fallback);
bool wm_config_bool(wm_setup *setup, const char *key, bool fallback);
/// Any value as its JSON text, empty where there is none.
wm_string wm_config_raw(wm_setup *setup, const char *key);
/// Whether the config has the key with a value other than null.
bool wm_config_has(wm_setup *setup, const char *key);

// --- Over columns ---------------------------------------------------------------------------------------------------

/// The rows of one call. Reads never see what was written in the same call; what is written is applied when the call
/// returns WM_OK, and the last write to a field wins.
typedef struct wm_chunk wm_chunk;

size_t wm_rows(const wm_chunk *rows);
/// For randomness: the same on every attempt at the same records.
uint64_t wm_seed(const wm_chunk *rows);
/// Of the record of each row; -1 for fresh rows.
const int64_t *wm_offsets(const wm_chunk *rows);
/// Nanoseconds since the epoch.
const int64_t *wm_arrival_times(const wm_chunk *rows);
wm_texts wm_payloads(const wm_chunk *rows);
wm_texts wm_keys(const wm_chunk *rows);
wm_texts wm_attributes(const wm_chunk *rows, const char *name);
/// JSON strings, unescaped.
wm_texts wm_get_text(const wm_chunk *rows, wm_field field);
/// Values of any type as their JSON text, verbatim.
wm_texts wm_get_raw(const wm_chunk *rows, wm_field field);
/// A number that is no int64_t has state WM_OTHER.
wm_ints wm_get_ints(const wm_chunk *rows, wm_field field);
wm_floats wm_get_floats(const wm_chunk *rows, wm_field field);

void wm_set_payloads(wm_chunk *rows, wm_texts *values);
void wm_set_keys(wm_chunk *rows, wm_texts *values);
void wm_set_attributes(wm_chunk *rows, const char *name, wm_texts *values);
/// For names of objects.
void wm_partition(wm_chunk *rows, const char *name, wm_texts *values);
void wm_set_text(wm_chunk *rows, wm_field field, wm_texts *values);
/// One JSON value each, else that row fails.
void wm_set_raw(wm_chunk *rows, wm_field field, wm_texts *values);
void wm_set_ints(wm_chunk *rows, wm_field field, wm_ints *values);
/// NaN or infinite fails that row.
void wm_set_floats(wm_chunk *rows, wm_field field, wm_floats *values);
/// One mark per row: 1 = the row starts from {} and gets only the fields set.
void wm_clear(wm_chunk *rows, const uint8_t *marks);
/// One mark per row: 1 keep, 0 drop.
void wm_keep(wm_chunk *rows, const uint8_t *marks);
/// One number per row; 0 = the default output.
void wm_route(wm_chunk *rows, const uint32_t *outputs);
/// Fails one row: its record becomes a dead letter with this reason, the others go on. The first reason stays.
void wm_fail(wm_chunk *rows, size_t row, const char *format, ...) WM_PRINTF(3, 4);
/// New rows (1:N), each a copy of its source row as read, to be changed and emitted. Their sources are replaced.
wm_chunk *wm_derive(wm_chunk *rows, const uint32_t *sources, size_t count);
/// New rows without a source, with the payload {}.
wm_chunk *wm_fresh(size_t count);
/// Appends derived or fresh rows; what is not emitted is discarded at the end of the call.
void wm_emit(wm_chunk *rows);

// --- Over records ---------------------------------------------------------------------------------------------------

/// One record at a time, over the same columns: reads and writes are gathered, a chunk costs as many host calls.
typedef struct wm_row wm_row;

/// Within the chunk.
size_t wm_row_number(const wm_row *row);
int64_t wm_row_offset(const wm_row *row);
int64_t wm_row_arrival_time(const wm_row *row);
wm_string wm_row_payload(const wm_row *row);
wm_string wm_row_key(const wm_row *row);
// Each gives the value if there is one, and says what is there.
wm_state wm_row_text(const wm_row *row, wm_field field, wm_string *value);
wm_state wm_row_raw(const wm_row *row, wm_field field, wm_string *value);
wm_state wm_row_int(const wm_row *row, wm_field field, int64_t *value);
wm_state wm_row_float(const wm_row *row, wm_field field, double *value);
void wm_row_set_text(wm_row *row, wm_field field, wm_string value);
void wm_row_set_raw(wm_row *row, wm_field field, wm_string value);
void wm_row_set_int(wm_row *row, wm_field field, int64_t value);
void wm_row_set_float(wm_row *row, wm_field field, double value);
void wm_row_set_null(wm_row *row, wm_field field);
void wm_row_remove(wm_row *row, wm_field field);
void wm_row_drop(wm_row *row);
void wm_row_route(wm_row *row, wm_output output);
/// One more row, a copy of this one as read. The copies replace the row; write to one copy after the other.
wm_row *wm_row_copy(wm_row *row);

/// Calls `record` with every row. An error fails that record alone; what it wrote goes with it.
typedef wm_error (*wm_record_function)(void *state, wm_row *row);
wm_error wm_each_row(wm_chunk *rows, wm_record_function record, void *state);

// --- The plugin -----------------------------------------------------------------------------------------------------

typedef struct wm_plugin {
    /// Bytes of the plugin's state, which is zeroed before `configure`.
    size_t state_size;
    /// Reads the config and declares fields. An error refuses the config.
    wm_error (*configure)(void *state, wm_setup *setup);
    /// One of the two: over columns, or over records. An error of `process` makes the host look for the guilty record.
    wm_error (*process)(void *state, wm_chunk *rows);
    wm_record_function record;
    /// What the state holds beyond wm_alloc, at its end: only unit tests ever end a plugin. May be NULL.
    void (*destroy)(void *state);
} wm_plugin;

/// WM_PLUGIN(.state_size = sizeof(greet), .configure = configure, .process = process);
#define WM_PLUGIN(...) const wm_plugin wm_this_plugin = {__VA_ARGS__}
extern const wm_plugin wm_this_plugin;

#ifdef __cplusplus
}
#endif

#endif
