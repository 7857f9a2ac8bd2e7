//! Memory that is given back all at once: blocks of a life or of a call. Owns panics and formatting, too.
//!
//! It refuses to hand out nothing: where there is no memory left it panics, which fails the record that took it.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "host.h"

struct wm_block {
    wm_block *before;
    size_t used, room;
};

enum {
    BLOCK_BYTES = 64 * 1024,
    ALIGNMENT = 16,
    /// A call's memory that is kept for the next call.
    KEPT_BYTES = 4 * 1024 * 1024
};
#define HEAD ((sizeof(wm_block) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)

static wm_arena start;
wm_arena *wm_memory = &start;
int64_t wm_row_now = -1;

static size_t rounded(size_t size) {
    if (size > SIZE_MAX - 2 * BLOCK_BYTES) {
        wm_panic("out of memory: %zu bytes asked for", size);
    }
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static char *content(wm_block *block) { return (char *)block + HEAD; }

void *wm_arena_take(wm_arena *arena, size_t size) {
    size = rounded(size);
    wm_block *last = arena->last;
    if (last == NULL || last->room - last->used < size) {
        size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        wm_block *block = malloc(HEAD + room);
        if (block == NULL) {
            wm_panic("out of memory: %zu bytes asked for", size);
        }
        block->before = last;
        block->used = 0;
        block->room = room;
        arena->last = last = block;
    }
    void *taken = content(last) + last->used;
    last->used += size;
    return taken;
}

void *wm_arena_grow(wm_arena *arena, void *old, size_t old_size, size_t new_size) {
    wm_block *last = arena->last;
    size_t old_room = rounded(old_size), room = rounded(new_size);
    if (old != NULL && last != NULL && last->used >= old_room && (char *)old == content(last) + last->used - old_room &&
        last->room - (last->used - old_room) >= room) {
        last->used += room - old_room;
        return old;
    }
    void *grown = wm_arena_take(arena, new_size);
    if (old_size > 0) {
        memcpy(grown, old, old_size < new_size ? old_size : new_size);
    }
    return grown;
}

void wm_arena_reset(wm_arena *arena) {
    size_t kept = 0;
    wm_block *block = arena->last, *first = NULL;
    // The largest that fits is worth more than many: calls of a stream resemble each other.
    while (block != NULL) {
        wm_block *before = block->before;
        if (block->room <= KEPT_BYTES && block->room > kept) {
            free(first);
            first = block;
            kept = block->room;
        } else {
            free(block);
        }
        block = before;
    }
    if (first != NULL) {
        first->before = NULL;
        first->used = 0;
    }
    arena->last = first;
}

void wm_arena_free(wm_arena *arena) {
    wm_block *block = arena->last;
    while (block != NULL) {
        wm_block *before = block->before;
        free(block);
        block = before;
    }
    arena->last = NULL;
}

void *wm_alloc(size_t size) {
    void *taken = wm_arena_take(wm_memory, size);
    memset(taken, 0, size);
    return taken;
}

wm_string wm_copy(wm_string text) {
    char *copy = wm_arena_take(wm_memory, text.len + 1);
    if (text.len > 0) {
        memcpy(copy, text.data, text.len);
    }
    copy[text.len] = 0;
    return wm_bytes(copy, text.len);
}

void wm_append(wm_buffer *buffer, const char *data, size_t len) {
    if (buffer->room - buffer->len < len) {
        size_t room = buffer->room + len > 2 * buffer->room ? buffer->room + len : 2 * buffer->room;
        buffer->data = wm_arena_grow(wm_memory, buffer->data, buffer->room, room);
        buffer->room = room;
    }
    if (len > 0) {
        memcpy(buffer->data + buffer->len, data, len);
    }
    buffer->len += len;
}

static wm_string formatted(const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0) {
        return wm_str(format);
    }
    char *text = wm_arena_take(wm_memory, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, arguments);
    return wm_bytes(text, (size_t)len);
}

wm_string wm_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    wm_string text = formatted(format, arguments);
    va_end(arguments);
    return text;
}

wm_error wm_errorf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    wm_string text = formatted(format, arguments);
    va_end(arguments);
    return text.data;
}

void wm_log(wm_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    wm_host_log(level, formatted(format, arguments));
    va_end(arguments);
}

void wm_panic(const char *format, ...) {
    // On the stack: there may be no memory left.
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text - 64, format, arguments);
    va_end(arguments);
    size_t end = len < 0 ? 0 : (size_t)len < sizeof text - 64 ? (size_t)len : sizeof text - 65;
    if (wm_row_now >= 0) {
        len = snprintf(text + end, 64, " (row %lld of the chunk)", (long long)wm_row_now);
        end += len < 0 ? 0 : (size_t)len;
    }
    wm_host_log(WM_ERROR, wm_bytes(text, end));
    wm_host_trap();
}
