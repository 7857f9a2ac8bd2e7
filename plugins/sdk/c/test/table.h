//! The in-memory chunk: rows between transforms, and what a call staged for them.
#ifndef WASMILL_TABLE_H
#define WASMILL_TABLE_H

#include "../src/json.h"

enum { NO_INPUT = -1 };

typedef struct value_of {
    wm_string name, value;
} value_of;
/// Attributes or partition values of a row, in the order in which it got them.
typedef struct values_of {
    size_t count;
    value_of *values;
} values_of;

typedef struct table_row {
    wm_string payload;
    int64_t input; ///< Number of the record, or NO_INPUT.
    int64_t offset, arrival;
    uint32_t child, route;
    bool has_key;
    wm_string key;
    values_of attributes, partition;
} table_row;

typedef struct staged_write {
    wm_target target;
    uint32_t slot;
    wm_string name;
    enum { STAGED_TEXT, STAGED_INTS, STAGED_FLOATS } kind;
    wm_texts texts;
    wm_ints ints;
    wm_floats floats;
    size_t turn; ///< Later calls have higher ones.
} staged_write;

/// The rows of a handle: group 0 are those of the call, others are derived or fresh.
typedef struct group {
    size_t rows;
    int64_t *roots; ///< Rows of the table, or NO_INPUT.
    int64_t parent; ///< The group that it was derived from, or NO_INPUT.
    uint32_t *sources;
    bool emitted, dropped;
    staged_write *writes;
    size_t write_count, write_room;
    const uint8_t *clear;
    size_t clear_turn;
    const uint8_t *keep;
    const uint32_t *route;
    struct {
        uint32_t row;
        wm_string reason;
    } *fails;
    size_t fail_count, fail_room;
} group;

typedef struct failure {
    int64_t input;
    uint32_t child;
    size_t transform;
    wm_string reason;
} failure;

typedef struct table {
    wm_arena memory;
    table_row *rows;
    size_t row_count;
    int64_t arrival; ///< Of the slice, for fresh rows.
    uint64_t seed;
    size_t inputs;
    bool *failed; ///< By record.
    failure *failures;
    size_t failure_count, failure_room;
    // Of the transform at work.
    size_t transform;
    const wm_path_of *fields;
    size_t field_count;
    group *groups;
    size_t group_count, group_room, turn;
    uint32_t *emitted;
    size_t emitted_count, emitted_room;
} table;

/// What the plugin's calls go to, and what it may ask for.
typedef struct grants {
    size_t file_count, secret_count, output_count;
    const struct wm_grant *files, *secrets;
    const char *const *outputs;
    wm_path_of *fields; ///< What it declared.
    size_t field_count, field_room;
    wm_arena memory;
} grants;
extern table *wm_table;
extern grants *wm_grants;

/// Memory of the table, for what outlives the call.
#define TABLE_NEW(type, count) ((type *)memset(wm_arena_take(&wm_table->memory, (count) * sizeof(type) + 1), 0, (count) * sizeof(type)))

/// Before the next transform is called.
void wm_table_enter(table *table, size_t transform, const wm_path_of *fields, size_t field_count);
/// The call returned ok: what it staged happens, in the order that wit/plugin.wit says.
void wm_table_apply(table *table);
/// Fails rows at the end whose payloads are no JSON.
void wm_table_require_json(table *table);
void wm_table_fail(table *table, size_t row, wm_string reason, bool *dead);
void wm_table_settle(table *table, const bool *dead);

/// The value at a path of a payload.
wm_state wm_table_find(wm_string payload, const wm_path_of *path, wm_string *value);
/// The payload with the change: value.data NULL removes. false: a value on the way is no object.
bool wm_edit(wm_string object, const wm_path_of *path, wm_string value, wm_string *edited);

/// Runs a case folder; NULL, or why it has failed, in `wm_memory`. The plugin NULL: the one of WM_PLUGIN.
const char *wm_case_fault(const char *dir, const wm_plugin *plugin);

#endif
