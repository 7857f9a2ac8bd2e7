//! Columns to write: rows are put in ascending order, those between are left alone.

#include "host.h"

static size_t larger(size_t room, size_t wanted) {
    size_t twice = room < 64 ? 64 : 2 * room;
    return wanted > twice ? wanted : twice;
}

static uint32_t end_of(const wm_texts *column) { return column->rows == 0 ? 0 : column->ends[column->rows - 1]; }

static void texts_room(wm_texts *column, size_t rows) {
    if (rows > column->row_room) {
        size_t room = larger(column->row_room, rows);
        column->state = wm_arena_grow(wm_memory, column->state, column->rows, room);
        column->ends = wm_arena_grow(wm_memory, column->ends, column->rows * sizeof(uint32_t), room * sizeof(uint32_t));
        column->row_room = room;
    }
}

void wm_texts_pad(wm_texts *column, size_t rows) {
    if (rows <= column->rows) {
        return;
    }
    texts_room(column, rows);
    uint32_t end = end_of(column);
    for (size_t row = column->rows; row < rows; row++) {
        column->state[row] = WM_LEAVE;
        column->ends[row] = end;
    }
    column->rows = rows;
}

static void in_order(size_t rows, size_t row) {
    if (row < rows) {
        wm_panic("row %zu of a column of texts is put after row %zu: rows are put in ascending order", row, rows - 1);
    }
}

static void text_cell(wm_texts *column, size_t row, wm_state state, size_t len) {
    in_order(column->rows, row);
    wm_texts_pad(column, row);
    texts_room(column, row + 1);
    size_t start = end_of(column), end = start + len;
    if (end > UINT32_MAX) {
        wm_panic("a column of more than 4 GiB");
    }
    if (end > column->byte_room) {
        size_t room = larger(column->byte_room, end);
        column->data = wm_arena_grow(wm_memory, column->data, start, room);
        column->byte_room = room;
    }
    column->state[row] = state;
    column->ends[row] = (uint32_t)end;
    column->rows = row + 1;
}

void wm_put_joined(wm_texts *column, size_t row, const wm_string *parts, size_t count) {
    size_t len = 0;
    for (size_t part = 0; part < count; part++) {
        len += parts[part].len;
    }
    text_cell(column, row, WM_VALUE, len);
    char *at = column->data + column->ends[row] - len;
    for (size_t part = 0; part < count; part++) {
        if (parts[part].len > 0) {
            memcpy(at, parts[part].data, parts[part].len);
        }
        at += parts[part].len;
    }
}

void wm_put_text(wm_texts *column, size_t row, wm_string value) { wm_put_joined(column, row, &value, 1); }

static void is_mark(wm_state state) {
    if (state != WM_NULL && state != WM_REMOVE && state != WM_LEAVE) {
        wm_panic("%d is no mark: there are WM_NULL, WM_REMOVE and WM_LEAVE", state);
    }
}

void wm_mark_text(wm_texts *column, size_t row, wm_state state) {
    is_mark(state);
    text_cell(column, row, state, 0);
}

#define NUMBERS(name, short_name, type, value_type)                                                                    \
    void name##_pad(type *column, size_t rows) {                                                                       \
        if (rows <= column->rows) {                                                                                    \
            return;                                                                                                    \
        }                                                                                                              \
        if (rows > column->row_room) {                                                                                 \
            size_t room = larger(column->row_room, rows);                                                              \
            column->state = wm_arena_grow(wm_memory, column->state, column->rows, room);                               \
            column->values = wm_arena_grow(wm_memory, column->values, column->rows * sizeof(value_type),               \
                                           room * sizeof(value_type));                                                 \
            column->row_room = room;                                                                                   \
        }                                                                                                              \
        memset(column->state + column->rows, WM_LEAVE, rows - column->rows);                                           \
        memset(column->values + column->rows, 0, (rows - column->rows) * sizeof(value_type));                          \
        column->rows = rows;                                                                                           \
    }                                                                                                                  \
    void wm_put_##short_name(type *column, size_t row, value_type value) {                                             \
        name##_pad(column, row + 1);                                                                                   \
        column->state[row] = WM_VALUE;                                                                                 \
        column->values[row] = value;                                                                                   \
    }                                                                                                                  \
    void wm_mark_##short_name(type *column, size_t row, wm_state state) {                                              \
        is_mark(state);                                                                                                \
        name##_pad(column, row + 1);                                                                                   \
        column->state[row] = state;                                                                                    \
        column->values[row] = 0;                                                                                       \
    }

NUMBERS(wm_ints, int, wm_ints, int64_t)
NUMBERS(wm_floats, float, wm_floats, double)
