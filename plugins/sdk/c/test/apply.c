//! What a call staged becomes what the next transform reads: clear or payloads; fields by slot; key, attributes,
//! partition, route; verdict (fail beats replaced beats dropped beats kept). One row that fails withdraws its record.

#include <math.h>

#include "table.h"

static const char no_object[] = "the payload is not a JSON object";
static const char way_blocked[] = "a value on the way is not an object";

typedef struct next_row {
    table_row row;
    bool object;
    const char *fault; ///< Why a field could not be written.
    uint32_t fault_slot;
} next_row;

static bool is_object(wm_string payload) {
    wm_string value;
    return wm_json_value(payload, WM_JSON_DEPTH, &value) && value.data[0] == '{';
}

static const staged_write *write_to(const group *group, wm_target target) {
    for (size_t at = 0; at < group->write_count; at++) {
        if (group->writes[at].target == target) {
            return &group->writes[at];
        }
    }
    return NULL;
}

static const staged_write *field_write(const group *group, uint32_t slot) {
    for (size_t at = 0; at < group->write_count; at++) {
        const staged_write *write = &group->writes[at];
        if ((write->target == WM_AT_TEXT || write->target == WM_AT_RAW) && write->slot == slot) {
            return write;
        }
    }
    return NULL;
}

static wm_state state_of(const staged_write *write, size_t row) {
    return write->kind == STAGED_TEXT   ? write->texts.state[row]
           : write->kind == STAGED_INTS ? write->ints.state[row]
                                        : write->floats.state[row];
}

/// The payload that fields are written to.
static void set_base(const group *group, size_t row, next_row *next) {
    const staged_write *payloads = write_to(group, WM_AT_PAYLOAD);
    bool replaced = payloads != NULL && payloads->texts.state[row] == WM_VALUE;
    bool cleared = group->clear != NULL && group->clear[row] == 1;
    if (cleared && replaced) {
        cleared = group->clear_turn > payloads->turn;
    }
    if (cleared) {
        next->row.payload = wm_str("{}");
    } else if (replaced) {
        next->row.payload = wm_text_at(&payloads->texts, row);
    }
    next->object = is_object(next->row.payload);
}

/// NULL or why the row cannot take the value.
static const char *json_of(const staged_write *write, size_t row, size_t depth, wm_string *json) {
    wm_buffer out = {0};
    if (write->kind == STAGED_INTS) {
        wm_json_put_int(write->ints.values[row], &out);
    } else if (write->kind == STAGED_FLOATS) {
        if (!isfinite(write->floats.values[row])) {
            return "the number is not finite";
        }
        wm_json_put_float(write->floats.values[row], &out);
    } else if (write->target == WM_AT_RAW) {
        return wm_json_value(wm_text_at(&write->texts, row), WM_JSON_DEPTH - depth, json)
                   ? NULL
                   : "the raw text is not one JSON value";
    } else {
        wm_string text = wm_text_at(&write->texts, row);
        if (!wm_is_utf8(text)) {
            return "the text is not UTF-8";
        }
        wm_json_quote(text, &out);
    }
    *json = wm_buffer_string(&out);
    return NULL;
}

static void set_field(const staged_write *write, size_t row, uint32_t slot, next_row *next) {
    wm_state state = state_of(write, row);
    const wm_path_of *path = &wm_table->fields[slot];
    wm_string value = {NULL, 0}, edited;
    if (next->fault != NULL || state == WM_LEAVE || (state == WM_REMOVE && !next->object)) {
        return;
    }
    if (state == WM_VALUE) {
        next->fault = json_of(write, row, path->count, &value);
    } else if (state == WM_NULL) {
        value = wm_str("null");
    }
    if (next->fault == NULL && !next->object) {
        next->fault = no_object;
    }
    if (next->fault == NULL && !wm_edit(next->row.payload, path, value, &edited)) {
        next->fault = way_blocked;
    }
    if (next->fault != NULL) {
        next->fault_slot = slot;
        return;
    }
    next->row.payload = edited;
    next->object = is_object(edited);
}

static void set_value(values_of *values, wm_string name, wm_state state, wm_string value) {
    value_of *changed = wm_alloc((values->count + 1) * sizeof *changed);
    size_t count = 0;
    bool placed = false;
    for (size_t at = 0; at < values->count; at++) {
        bool same = wm_equal(values->values[at].name, name);
        if (!same || state == WM_VALUE) {
            changed[count] = values->values[at];
            if (same) {
                changed[count].value = value;
                placed = true;
            }
            count++;
        }
    }
    if (state == WM_VALUE && !placed) {
        changed[count++] = (value_of){name, value};
    }
    *values = (values_of){count, changed};
}

static void set_sides(const group *group, size_t row, table_row *into) {
    for (size_t at = 0; at < group->write_count; at++) {
        const staged_write *write = &group->writes[at];
        if (write->target != WM_AT_KEY && write->target != WM_AT_ATTRIBUTE && write->target != WM_AT_PARTITION) {
            continue;
        }
        wm_state state = write->texts.state[row];
        wm_string value = wm_text_at(&write->texts, row);
        if (state == WM_LEAVE) {
            continue;
        }
        if (write->target == WM_AT_KEY) {
            into->has_key = state == WM_VALUE;
            into->key = value;
        } else {
            set_value(write->target == WM_AT_PARTITION ? &into->partition : &into->attributes, write->name, state, value);
        }
    }
    if (group->route != NULL) {
        into->route = group->route[row];
    }
}

void wm_table_fail(table *table, size_t row, wm_string reason, bool *dead) {
    int64_t input = table->rows[row].input;
    if (input != NO_INPUT ? table->failed[input] : dead[row]) {
        return;
    }
    dead[row] = true;
    if (input != NO_INPUT) {
        table->failed[input] = true;
    }
    if (table->failure_count == table->failure_room) {
        size_t old = table->failure_room, room = old == 0 ? 16 : 2 * old;
        table->failures = wm_arena_grow(wm_memory, table->failures, old * sizeof *table->failures, room * sizeof *table->failures);
        table->failure_room = room;
    }
    table->failures[table->failure_count++] = (failure){input, table->rows[row].child, table->transform, reason};
}

void wm_table_settle(table *table, const bool *dead) {
    uint32_t *children = wm_alloc((table->inputs + 1) * sizeof *children);
    size_t kept = 0;
    for (size_t row = 0; row < table->row_count; row++) {
        int64_t input = table->rows[row].input;
        if (dead[row] || (input != NO_INPUT && table->failed[input])) {
            continue;
        }
        table->rows[kept] = table->rows[row];
        table->rows[kept].child = children[input == NO_INPUT ? (int64_t)table->inputs : input]++;
        kept++;
    }
    table->row_count = kept;
}

static wm_string named(const wm_path_of *path, const char *fault) {
    wm_buffer name = {0};
    for (size_t key = 0; key < path->count; key++) {
        wm_append(&name, ".", key == 0 ? 0 : 1);
        wm_append(&name, path->keys[key].data, path->keys[key].len);
    }
    return wm_format("field %.*s: %s", (int)name.len, name.data, fault);
}

/// Sources of emitted rows, and the sources of those, are replaced.
static void mark_replaced(const table *table, bool **replaced) {
    for (size_t at = table->group_count; at-- > 1;) {
        const group *group = &table->groups[at];
        for (size_t row = 0; group->parent != NO_INPUT && row < group->rows; row++) {
            if (group->emitted || replaced[at][row]) {
                replaced[group->parent][group->sources[row]] = true;
            }
        }
    }
}

void wm_table_apply(table *table) {
    wm_memory = &table->memory;
    if (table->group_count == 0) {
        return;
    }
    size_t group_count = table->emitted_count + 1, total = 0;
    const group **groups = wm_alloc(group_count * sizeof *groups);
    size_t *starts = wm_alloc(group_count * sizeof *starts);
    bool **replaced = wm_alloc(table->group_count * sizeof *replaced);
    for (size_t at = 0; at < table->group_count; at++) {
        replaced[at] = wm_alloc(table->groups[at].rows + 1);
    }
    for (size_t at = 0; at < group_count; at++) {
        groups[at] = &table->groups[at == 0 ? 0 : table->emitted[at - 1]];
        starts[at] = total;
        total += groups[at]->rows;
    }
    next_row *next = wm_alloc((total + 1) * sizeof *next);
    for (size_t at = 0; at < group_count; at++) {
        for (size_t row = 0; row < groups[at]->rows; row++) {
            next_row *to = &next[starts[at] + row];
            int64_t root = groups[at]->roots[row];
            to->row = root == NO_INPUT ? (table_row){.input = NO_INPUT, .offset = -1, .arrival = table->arrival} : table->rows[root];
            to->row.payload = root == NO_INPUT ? wm_str("{}") : to->row.payload;
            set_base(groups[at], row, to);
            for (uint32_t slot = 0; slot < table->field_count; slot++) {
                const staged_write *write = field_write(groups[at], slot);
                if (write != NULL) {
                    set_field(write, row, slot, to);
                }
            }
            set_sides(groups[at], row, &to->row);
        }
    }
    table->rows = wm_alloc((total + 1) * sizeof *table->rows);
    table->row_count = total;
    for (size_t row = 0; row < total; row++) {
        table->rows[row] = next[row].row;
    }
    bool *dead = wm_alloc(total + 1);
    for (size_t at = 0; at < group_count; at++) {
        for (size_t fail = 0; fail < groups[at]->fail_count; fail++) {
            wm_table_fail(table, starts[at] + groups[at]->fails[fail].row, groups[at]->fails[fail].reason, dead);
        }
    }
    for (uint32_t slot = 0; slot < table->field_count; slot++) {
        for (size_t row = 0; row < total; row++) {
            if (next[row].fault != NULL && next[row].fault_slot == slot) {
                wm_table_fail(table, row, named(&table->fields[slot], next[row].fault), dead);
            }
        }
    }
    mark_replaced(table, replaced);
    for (size_t at = 0; at < group_count; at++) {
        const bool *gone = replaced[groups[at] - table->groups];
        for (size_t row = 0; row < groups[at]->rows; row++) {
            bool dropped = groups[at]->keep != NULL && groups[at]->keep[row] == 0;
            dead[starts[at] + row] |= gone[row] || dropped;
        }
    }
    wm_table_settle(table, dead);
}

void wm_table_require_json(table *table) {
    wm_memory = &table->memory;
    bool *dead = wm_alloc(table->row_count + 1);
    for (size_t row = 0; row < table->row_count; row++) {
        wm_string value;
        if (!wm_json_value(table->rows[row].payload, WM_JSON_DEPTH, &value)) {
            wm_table_fail(table, row, wm_str("the payload is not JSON"), dead);
        }
    }
    wm_table_settle(table, dead);
}
