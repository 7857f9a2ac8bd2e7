//! What the C library of a component asks of an operating system, answered by the host's log: what is printed becomes
//! lines of the plugin's log, and an end (`abort`, `exit`, a failed `assert`) becomes a message with the record in work.
//! With it a plugin needs no WASI, unless it opens files, reads clocks or asks for entropy: then it is on its own.

#include "../src/host.h"

_Noreturn void abort(void) { wm_panic("the plugin called abort"); }

_Noreturn void __assert_fail(const char *what, const char *file, int line, const char *function) {
    wm_panic("assertion failed: %s (%s:%d, %s)", what, file, line, function);
}

// The names under which wasi-libc imports the functions of WASI preview 1.
#define WASI(name) __imported_wasi_snapshot_preview1_##name

enum { LINE_BYTES = 1024, BAD_DESCRIPTOR = 8 };
static char line[LINE_BYTES];
static size_t line_len;

static void print(const char *text, uint32_t len) {
    for (uint32_t at = 0; at < len; at++) {
        if (text[at] != '\n') {
            line[line_len++] = text[at];
        }
        if (text[at] == '\n' || line_len == LINE_BYTES) {
            wm_host_log(WM_INFO, wm_bytes(line, line_len));
            line_len = 0;
        }
    }
}

int32_t WASI(fd_write)(int32_t descriptor, int32_t pieces, int32_t count, int32_t written) {
    const wm_string *all = (const wm_string *)(uintptr_t)pieces;
    uint32_t total = 0;
    if (descriptor != 1 && descriptor != 2) {
        return BAD_DESCRIPTOR;
    }
    for (int32_t piece = 0; piece < count; piece++) {
        print(all[piece].data, all[piece].len);
        total += all[piece].len;
    }
    *(uint32_t *)(uintptr_t)written = total;
    return 0;
}

int32_t WASI(fd_close)(int32_t descriptor) {
    (void)descriptor;
    return BAD_DESCRIPTOR;
}

/// Parts of zig's C library are written in Zig, where the same import has this name.
int32_t close_of_zig(int32_t descriptor) __asm__("fd_close|wasi_snapshot_preview1");
int32_t close_of_zig(int32_t descriptor) { return WASI(fd_close)(descriptor); }

int32_t WASI(fd_seek)(int32_t descriptor, int64_t offset, int32_t whence, int32_t position) {
    (void)descriptor, (void)offset, (void)whence, (void)position;
    return BAD_DESCRIPTOR;
}

/// A character device, so that what is printed leaves line by line.
int32_t WASI(fd_fdstat_get)(int32_t descriptor, int32_t into) {
    if (descriptor != 1 && descriptor != 2) {
        return BAD_DESCRIPTOR;
    }
    uint8_t *stat = (uint8_t *)(uintptr_t)into;
    memset(stat, 0, 24);
    stat[0] = 2;
    return 0;
}

_Noreturn void WASI(proc_exit)(int32_t code) { wm_panic("the plugin called exit with %d", (int)code); }
