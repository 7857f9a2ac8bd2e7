//! Case folders mean to this runner what they mean to the others: the folders of plugins/sdk/conformance/format, whose
//! directory is the argument.

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "../test/table.h"
#include "../test/wasmill_test.h"

typedef struct format {
    bool remembers;
} format;

static wm_error configure(void *state, wm_setup *setup) {
    (void)state;
    wm_string content;
    if (wm_config_has(setup, "refuse")) {
        return wm_errorf("%.*s", WM_ARG(wm_config_text(setup, "refuse", NULL)));
    }
    if (wm_config_has(setup, "file")) {
        wm_string name = wm_config_text(setup, "file", NULL);
        wm_error error = wm_file(setup, wm_format("%.*s", WM_ARG(name)).data, &content);
        return error == WM_OK ? wm_errorf("%.*s", WM_ARG(content)) : error;
    }
    return WM_OK;
}

static wm_error process(void *state, wm_chunk *rows) {
    format *self = state;
    bool remembered = self->remembers;
    wm_texts payloads = wm_payloads(rows);
    uint8_t *keep = wm_alloc(payloads.rows + 1);
    for (size_t row = 0; row < payloads.rows; row++) {
        wm_string record = wm_text_at(&payloads, row), start = wm_str("fail ");
        keep[row] = !wm_equal(record, wm_str("drop"));
        if (wm_starts_with(record, start)) {
            wm_string reason = wm_bytes(record.data + start.len, record.len - start.len);
            wm_fail(rows, row, "%.*s", WM_ARG(reason));
        } else if (wm_equal(record, wm_str("remember"))) {
            self->remembers = true;
            if (remembered) {
                wm_fail(rows, row, "there was one in an earlier call");
            }
        }
    }
    wm_keep(rows, keep);
    return WM_OK;
}

WM_PLUGIN(.state_size = sizeof(format), .configure = configure, .process = process);

/// Each folder of a part of the format; those that must fail say what they say.
static size_t run(const char *format, const char *part, bool pass) {
    char path[4096], says[256];
    snprintf(path, sizeof path, "%s/%s", format, part);
    DIR *open = opendir(path);
    size_t count = 0;
    for (struct dirent *entry; open != NULL && (entry = readdir(open)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        wm_arena memory = {0};
        wm_memory = &memory;
        const char *dir = wm_format("%s/%s", path, entry->d_name).data;
        const char *fault = wm_case_fault(pass ? dir : wm_format("%s/case", dir).data, NULL);
        if (pass) {
            wm_expected(fault == NULL, fault, dir, 1);
        } else {
            FILE *file = fopen(wm_format("%s/says.txt", dir).data, "rb");
            says[0] = 0;
            wm_expected(file != NULL && fgets(says, sizeof says, file) != NULL, "there is says.txt", dir, 1);
            if (file != NULL) {
                fclose(file);
            }
            says[strcspn(says, "\n")] = 0;
            bool told = fault != NULL && strstr(fault, says) != NULL;
            wm_expected(told, wm_format("%s, wanted %s", fault == NULL ? "it fits" : fault, says).data, dir, 1);
        }
        wm_arena_free(&memory);
        count++;
    }
    if (open != NULL) {
        closedir(open);
    }
    return count;
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: cases plugins/sdk/conformance/format\n");
        return 2;
    }
    wm_expect(run(arguments[1], "pass", true) > 20);
    wm_expect(run(arguments[1], "fail", false) > 30);
    return wm_test_end();
}
