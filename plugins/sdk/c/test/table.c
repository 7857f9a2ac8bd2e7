//! The calls of a plugin on the in-memory chunk: reads from the table's rows as they were before the call, writes into
//! what is staged. It refuses what the host refuses: wrong lengths, unknown slots, rows that there are not.

#include <stdio.h>
#include <stdlib.h>

#include "table.h"
#include "wasmill_test.h"

table *wm_table;
grants *wm_grants;

void wm_table_enter(table *table, size_t transform, const wm_path_of *fields, size_t field_count) {
    wm_table = table;
    table->transform = transform;
    table->fields = fields;
    table->field_count = field_count;
    table->group_count = table->group_room = table->turn = 0;
    table->emitted_count = table->emitted_room = 0;
    table->groups = NULL;
    table->emitted = NULL;
}

/// One more, zeroed element of an array of the table.
#define MORE(array, count, room)                                                                                       \
    do {                                                                                                               \
        if ((count) == (room)) {                                                                                       \
            size_t wanted_ = (room) == 0 ? 8 : 2 * (room);                                                             \
            (array) = wm_arena_grow(&wm_table->memory, array, (room) * sizeof *(array), wanted_ * sizeof *(array));    \
            (room) = wanted_;                                                                                          \
        }                                                                                                              \
        memset(&(array)[(count)++], 0, sizeof *(array));                                                               \
    } while (0)

static wm_string keep(wm_string text) {
    wm_arena *memory = wm_memory;
    wm_memory = &wm_table->memory;
    text = wm_copy(text);
    wm_memory = memory;
    return text;
}

static wm_handle new_group(size_t rows, int64_t parent) {
    table *table = wm_table;
    MORE(table->groups, table->group_count, table->group_room);
    group *group = &table->groups[table->group_count - 1];
    group->rows = rows;
    group->parent = parent;
    group->roots = TABLE_NEW(int64_t, rows);
    return (wm_handle)(table->group_count - 1);
}

static group *group_of(wm_handle chunk) {
    if (wm_table->group_count == 0) {
        (void)new_group(wm_table->row_count, NO_INPUT);
        for (size_t row = 0; row < wm_table->row_count; row++) {
            wm_table->groups[0].roots[row] = (int64_t)row;
        }
    }
    if (chunk >= wm_table->group_count || wm_table->groups[chunk].emitted || wm_table->groups[chunk].dropped) {
        wm_panic("a chunk that was emitted or dropped, or is none");
    }
    return &wm_table->groups[chunk];
}

static const table_row *row_of(const group *group, size_t row) {
    static table_row fresh = {.payload = {"{}", 2}, .input = NO_INPUT, .offset = -1};
    fresh.arrival = wm_table->arrival;
    return group->roots[row] == NO_INPUT ? &fresh : &wm_table->rows[group->roots[row]];
}

static const wm_path_of *path_of(uint32_t slot) {
    if (slot >= wm_table->field_count) {
        wm_panic("slot %u, but %zu fields were declared", slot, wm_table->field_count);
    }
    return &wm_table->fields[slot];
}

uint32_t wm_host_rows(wm_handle chunk) { return (uint32_t)group_of(chunk)->rows; }
uint64_t wm_host_seed(wm_handle chunk) {
    (void)group_of(chunk);
    return wm_table->seed;
}

const int64_t *wm_host_offsets(wm_handle chunk) {
    group *group = group_of(chunk);
    int64_t *offsets = wm_alloc(group->rows * sizeof *offsets + 1);
    for (size_t row = 0; row < group->rows; row++) {
        offsets[row] = row_of(group, row)->offset;
    }
    return offsets;
}

const int64_t *wm_host_arrival_times(wm_handle chunk) {
    group *group = group_of(chunk);
    int64_t *times = wm_alloc(group->rows * sizeof *times + 1);
    for (size_t row = 0; row < group->rows; row++) {
        times[row] = row_of(group, row)->arrival;
    }
    return times;
}

static void put(wm_texts *into, size_t row, wm_state state, wm_string value) {
    if (state == WM_VALUE) {
        wm_put_text(into, row, value);
    } else {
        wm_mark_text(into, row, WM_LEAVE);
        into->state[row] = state;
    }
}

void wm_host_read_texts(wm_handle chunk, wm_target target, uint32_t slot, wm_string name, wm_texts *into) {
    group *group = group_of(chunk);
    for (size_t row = 0; row < group->rows; row++) {
        const table_row *from = row_of(group, row);
        wm_string value = {"", 0};
        wm_state state = WM_MISSING;
        switch (target) {
        case WM_AT_PAYLOAD:
            state = WM_VALUE;
            value = from->payload;
            break;
        case WM_AT_KEY:
            state = from->has_key ? WM_VALUE : WM_MISSING;
            value = from->key;
            break;
        case WM_AT_ATTRIBUTE:
            for (size_t at = 0; at < from->attributes.count; at++) {
                if (wm_equal(from->attributes.values[at].name, name)) {
                    state = WM_VALUE;
                    value = from->attributes.values[at].value;
                }
            }
            break;
        default:
            state = wm_table_find(from->payload, path_of(slot), &value);
            if (target == WM_AT_TEXT && state == WM_VALUE) {
                state = value.data[0] == '"' ? WM_VALUE : WM_OTHER;
                value = state == WM_VALUE ? wm_json_text(value) : value;
            }
        }
        put(into, row, state, value);
    }
    wm_texts_pad(into, group->rows);
}

static bool is_number(wm_string value) { return value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9'); }

#define READ_NUMBERS(name, type, put_name, pad, parse, number)                                                         \
    void wm_host_read_##name(wm_handle chunk, uint32_t slot, type *into) {                                             \
        group *group = group_of(chunk);                                                                                \
        pad(into, group->rows);                                                                                        \
        for (size_t row = 0; row < group->rows; row++) {                                                               \
            wm_string value;                                                                                           \
            number found = 0;                                                                                          \
            wm_state state = wm_table_find(row_of(group, row)->payload, path_of(slot), &value);                        \
            if (state == WM_VALUE && !(is_number(value) && parse(value, &found))) {                                    \
                state = WM_OTHER;                                                                                      \
            }                                                                                                          \
            into->state[row] = state;                                                                                  \
            into->values[row] = state == WM_VALUE ? found : 0;                                                         \
        }                                                                                                              \
    }
READ_NUMBERS(ints, wm_ints, int, wm_ints_pad, wm_json_int, int64_t)
READ_NUMBERS(floats, wm_floats, float, wm_floats_pad, wm_json_float, double)

// --- Writes ---

static void check_rows(const group *group, size_t rows) {
    if (rows != group->rows) {
        wm_panic("a list of %zu rows where the chunk has %zu", rows, group->rows);
    }
}

/// The write to that target, emptied; text, ints and floats of a field are one target.
static staged_write *stage(group *group, wm_target target, uint32_t slot, wm_string name) {
    bool field = target == WM_AT_TEXT || target == WM_AT_RAW;
    staged_write *found = NULL;
    for (size_t at = 0; at < group->write_count && found == NULL; at++) {
        staged_write *write = &group->writes[at];
        bool known_field = write->target == WM_AT_TEXT || write->target == WM_AT_RAW;
        if (field ? known_field && write->slot == slot : write->target == target && wm_equal(write->name, name)) {
            found = write;
        }
    }
    if (found == NULL) {
        MORE(group->writes, group->write_count, group->write_room);
        found = &group->writes[group->write_count - 1];
        found->name = keep(name);
        found->slot = slot;
    }
    found->target = target;
    found->turn = ++wm_table->turn;
    return found;
}

#define KEPT(array, count) memcpy(TABLE_NEW(char, (count) * sizeof *(array)), array, (count) * sizeof *(array))

void wm_host_write_texts(wm_handle chunk, wm_target target, uint32_t slot, wm_string name, const wm_texts *values) {
    group *group = group_of(chunk);
    check_rows(group, values->rows);
    if (target == WM_AT_TEXT || target == WM_AT_RAW) {
        (void)path_of(slot);
    }
    for (size_t row = 0; row < values->rows; row++) {
        wm_state state = values->state[row];
        if (state > WM_VALUE || (target == WM_AT_PAYLOAD && state != WM_LEAVE && state != WM_VALUE)) {
            wm_panic("state %d of row %zu, which cannot be written here", state, row);
        }
    }
    staged_write *write = stage(group, target, slot, name);
    write->kind = STAGED_TEXT;
    size_t bytes = values->rows == 0 ? 0 : values->ends[values->rows - 1];
    write->texts = (wm_texts){.rows = values->rows};
    if (values->rows > 0) {
        write->texts.state = KEPT(values->state, values->rows);
        write->texts.ends = KEPT(values->ends, values->rows);
        write->texts.data = bytes == 0 ? TABLE_NEW(char, 1) : KEPT(values->data, bytes);
    }
}

void wm_host_write_ints(wm_handle chunk, uint32_t slot, const wm_ints *values) {
    group *group = group_of(chunk);
    check_rows(group, values->rows);
    (void)path_of(slot);
    staged_write *write = stage(group, WM_AT_TEXT, slot, wm_bytes("", 0));
    write->kind = STAGED_INTS;
    write->ints = (wm_ints){.rows = values->rows};
    if (values->rows > 0) {
        write->ints.state = KEPT(values->state, values->rows);
        write->ints.values = KEPT(values->values, values->rows);
    }
}

void wm_host_write_floats(wm_handle chunk, uint32_t slot, const wm_floats *values) {
    group *group = group_of(chunk);
    check_rows(group, values->rows);
    (void)path_of(slot);
    staged_write *write = stage(group, WM_AT_TEXT, slot, wm_bytes("", 0));
    write->kind = STAGED_FLOATS;
    write->floats = (wm_floats){.rows = values->rows};
    if (values->rows > 0) {
        write->floats.state = KEPT(values->state, values->rows);
        write->floats.values = KEPT(values->values, values->rows);
    }
}

void wm_host_clear(wm_handle chunk, const uint8_t *marks, size_t rows) {
    group *group = group_of(chunk);
    check_rows(group, rows);
    group->clear = KEPT(marks, rows);
    group->clear_turn = ++wm_table->turn;
}

void wm_host_keep(wm_handle chunk, const uint8_t *marks, size_t rows) {
    group *group = group_of(chunk);
    check_rows(group, rows);
    group->keep = KEPT(marks, rows);
}

void wm_host_route(wm_handle chunk, const uint32_t *outputs, size_t rows) {
    group *group = group_of(chunk);
    check_rows(group, rows);
    group->route = KEPT(outputs, rows);
}

void wm_host_fail(wm_handle chunk, const uint32_t *rows, size_t count, wm_string data, const uint32_t *ends) {
    group *group = group_of(chunk);
    for (size_t at = 0; at < count; at++) {
        if (rows[at] >= group->rows) {
            wm_panic("row %u of a chunk of %zu fails", rows[at], group->rows);
        }
        size_t start = at == 0 ? 0 : ends[at - 1];
        MORE(group->fails, group->fail_count, group->fail_room);
        group->fails[group->fail_count - 1].row = rows[at];
        group->fails[group->fail_count - 1].reason = keep(wm_bytes(data.data + start, ends[at] - start));
    }
}

wm_handle wm_host_derive(wm_handle chunk, const uint32_t *sources, size_t count) {
    group *from = group_of(chunk);
    for (size_t row = 0; row < count; row++) {
        if (sources[row] >= from->rows) {
            wm_panic("row %zu derives from row %u of a chunk of %zu", row, sources[row], from->rows);
        }
    }
    wm_handle handle = new_group(count, chunk);
    from = &wm_table->groups[chunk];
    group *derived = &wm_table->groups[handle];
    derived->sources = count == 0 ? NULL : KEPT(sources, count);
    for (size_t row = 0; row < count; row++) {
        derived->roots[row] = from->roots[sources[row]];
    }
    return handle;
}

wm_handle wm_host_fresh(uint32_t count) {
    (void)group_of(0);
    wm_handle handle = new_group(count, NO_INPUT);
    for (size_t row = 0; row < count; row++) {
        wm_table->groups[handle].roots[row] = NO_INPUT;
    }
    return handle;
}

void wm_host_emit(wm_handle chunk) {
    if (chunk == 0) {
        wm_panic("the chunk that the host handed in cannot be emitted");
    }
    group_of(chunk)->emitted = true;
    MORE(wm_table->emitted, wm_table->emitted_count, wm_table->emitted_room);
    wm_table->emitted[wm_table->emitted_count - 1] = chunk;
}

void wm_host_drop(wm_handle chunk) { group_of(chunk)->dropped = true; }

// --- What configure may ask for ---

uint32_t wm_host_field(const wm_string *keys, size_t count) {
    grants *grants = wm_grants;
    wm_arena *memory = wm_memory;
    wm_memory = &grants->memory;
    if (grants->field_count == grants->field_room) {
        size_t old = grants->field_room, room = old == 0 ? 8 : 2 * old;
        grants->fields = wm_arena_grow(wm_memory, grants->fields, old * sizeof *grants->fields, room * sizeof *grants->fields);
        grants->field_room = room;
    }
    wm_path_of *field = &grants->fields[grants->field_count];
    field->count = count;
    field->keys = wm_alloc(count * sizeof *field->keys);
    for (size_t key = 0; key < count; key++) {
        field->keys[key] = wm_copy(keys[key]);
    }
    wm_memory = memory;
    return (uint32_t)grants->field_count++;
}

bool wm_host_output(wm_string name, uint32_t *number, wm_string *reason) {
    *number = 0;
    for (size_t at = 0; at < wm_grants->output_count; at++) {
        if (wm_equal(name, wm_str(wm_grants->outputs[at]))) {
            *number = (uint32_t)at + 1;
            return true;
        }
    }
    *reason = wm_format("no output is called %.*s", WM_ARG(name));
    return wm_equal(name, wm_str("default"));
}

static const wm_grant *granted(const wm_grant *all, size_t count, wm_string name) {
    for (size_t at = 0; at < count; at++) {
        if (wm_equal(name, wm_str(all[at].name))) {
            return &all[at];
        }
    }
    return NULL;
}

bool wm_host_secret(wm_string name, wm_string *value) {
    const wm_grant *grant = granted(wm_grants->secrets, wm_grants->secret_count, name);
    *value = grant == NULL ? wm_format("the secret %.*s is not granted", WM_ARG(name)) : grant->content;
    return grant != NULL;
}

bool wm_host_file(wm_string name, uint64_t offset, uint32_t len, wm_string *content) {
    const wm_grant *grant = granted(wm_grants->files, wm_grants->file_count, name);
    if (grant == NULL) {
        *content = wm_format("the file %.*s is not granted", WM_ARG(name));
        return false;
    }
    size_t start = offset < grant->content.len ? (size_t)offset : grant->content.len;
    size_t rest = grant->content.len - start;
    *content = wm_bytes(grant->content.data + start, rest < len ? rest : len);
    return true;
}

void wm_host_log(wm_level level, wm_string message) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    fprintf(stderr, "%s: %.*s\n", names[level], WM_ARG(message));
}

void wm_host_trap(void) { abort(); }
