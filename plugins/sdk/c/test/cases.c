//! Case folders: the records of input.ndjson through the plugin, compared with what the folder expects.

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "table.h"
#include "wasmill_test.h"

enum { NAMES_MAX = 1000 };

/// false: there is no such file.
static bool read_file(const char *dir, const char *name, wm_string *content) {
    wm_string path = wm_format("%s/%s", dir, name);
    FILE *file = fopen(path.data, "rb");
    wm_buffer text = {0};
    if (file == NULL) {
        return false;
    }
    char piece[65536];
    for (size_t len; (len = fread(piece, 1, sizeof piece, file)) > 0;) {
        wm_append(&text, piece, len);
    }
    fclose(file);
    wm_append(&text, "", 1);
    *content = wm_bytes(text.data, text.len - 1);
    return true;
}

static int by_name(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/// Names in a directory, sorted.
static size_t list(const char *dir, const char **names, bool directories) {
    DIR *open = opendir(dir);
    size_t count = 0;
    for (struct dirent *entry; open != NULL && count < NAMES_MAX && (entry = readdir(open)) != NULL;) {
        struct stat about;
        bool known = stat(wm_format("%s/%s", dir, entry->d_name).data, &about) == 0;
        if (entry->d_name[0] != '.' && known && S_ISDIR(about.st_mode) == directories) {
            names[count++] = wm_copy(wm_str(entry->d_name)).data;
        }
    }
    if (open != NULL) {
        closedir(open);
    }
    qsort(names, count, sizeof *names, by_name);
    return count;
}

static size_t lines(wm_string text, wm_string *out) {
    size_t count = 0, start = 0;
    for (size_t at = 0; at <= text.len; at++) {
        if (at == text.len ? at > start : text.data[at] == '\n') {
            if (out != NULL) {
                out[count] = wm_bytes(text.data + start, at - start);
            }
            count++;
            start = at + 1;
        }
    }
    return count;
}

/// What left, as the files of a case have it.
typedef struct described {
    wm_buffer rows, letters;
    const char *refusal;
} described;

static int by_record(const void *left, const void *right) {
    const wm_test_row *a = *(const wm_test_row *const *)left, *b = *(const wm_test_row *const *)right;
    return a->offset != b->offset ? (a->offset < b->offset ? -1 : 1) : (a->child > b->child) - (a->child < b->child);
}

static described describe(const wm_outcome *outcome, wm_arena *memory) {
    wm_memory = memory;
    described text = {.refusal = outcome->refusal == NULL ? NULL : wm_copy(wm_str(outcome->refusal)).data};
    const wm_test_row **rows = wm_alloc(outcome->row_count * sizeof *rows + 1);
    for (size_t at = 0; at < outcome->row_count; at++) {
        rows[at] = &outcome->rows[at];
    }
    qsort(rows, outcome->row_count, sizeof *rows, by_record);
    for (size_t at = 0; at < outcome->row_count; at++) {
        wm_append(&text.rows, rows[at]->payload.data, rows[at]->payload.len);
        wm_append(&text.rows, "\n", 1);
    }
    for (size_t record = 0; outcome->refusal == NULL && record < outcome->record_count; record++) {
        if (outcome->verdicts[record] == WM_FAILED) {
            wm_string start = wm_format("{\"offset\":%zu,\"reason\":", record);
            wm_append(&text.letters, start.data, start.len);
            wm_json_quote(outcome->reasons[record], &text.letters);
            wm_append(&text.letters, "}\n", 2);
        }
    }
    return text;
}

static wm_string trimmed(wm_string text) {
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL) {
        text.len--;
    }
    return text;
}

/// Whether a letter is the one expected: as it is, or with a part of its reason, or any of that offset.
static bool letter_matches(wm_string wanted, wm_string got) {
    wm_string a, b, found, other;
    if (wm_equal(wanted, got)) {
        return true;
    }
    if (!wm_json_value(wanted, WM_JSON_DEPTH, &a) || a.data[0] != '{' || !wm_json_value(got, WM_JSON_DEPTH, &b) ||
        !wm_json_find(a, wm_str("offset"), &found) || !wm_json_find(b, wm_str("offset"), &other) || !wm_equal(found, other)) {
        return false;
    }
    wm_string reason = wm_bytes("\"\"", 2);
    (void)wm_json_find(b, wm_str("reason"), &reason);
    if (wm_json_find(a, wm_str("reason"), &found)) {
        return wm_equal(wm_json_text(found), wm_json_text(reason));
    }
    if (wm_json_find(a, wm_str("reason_contains"), &found)) {
        return strstr(wm_copy(wm_json_text(reason)).data, wm_copy(wm_json_text(found)).data) != NULL;
    }
    return true;
}

static bool letters_match(wm_string wanted, wm_string got) {
    size_t count = lines(wanted, NULL);
    if (lines(got, NULL) != count) {
        return false;
    }
    wm_string *left = wm_alloc((count + 1) * sizeof *left), *right = wm_alloc((count + 1) * sizeof *right);
    lines(wanted, left);
    lines(got, right);
    for (size_t at = 0; at < count; at++) {
        if (!letter_matches(left[at], right[at])) {
            return false;
        }
    }
    return true;
}

static void differ(const char *dir, const char *what, wm_string wanted, wm_string got) {
    wm_expected(false, wm_format("%s\n--- expected\n%.*s--- got\n%.*s", what, WM_ARG(wanted), WM_ARG(got)).data, dir, 1);
}

static void run_case(const char *dir, wm_arena *memory) {
    wm_string config, input = {"", 0}, wanted;
    if (!read_file(dir, "config.json", &config)) {
        wm_expected(false, "no config.json", dir, 1);
        return;
    }
    (void)(read_file(dir, "input.ndjson", &input) || read_file(dir, "input.txt", &input));
    size_t count = lines(input, NULL);
    wm_string *records = wm_alloc((count + 1) * sizeof *records);
    lines(input, records);
    const char **names = wm_alloc(NAMES_MAX * sizeof *names);
    const char *files = wm_format("%s/files", dir).data;
    size_t file_count = list(files, names, false);
    wm_grant *granted = wm_alloc((file_count + 1) * sizeof *granted);
    for (size_t at = 0; at < file_count; at++) {
        granted[at].name = names[at];
        (void)read_file(files, names[at], &granted[at].content);
    }
    described got[3];
    static const char *const ways[] = {"", "record by record", "fresh plugins"};
    for (size_t way = 0; way < 3; way++) {
        wm_run run = {.config = config.data, .file_count = file_count, .files = granted,
                      .chunk_rows = way == 0 ? 0 : way == 1 ? 1 : 3, .fresh = way == 2};
        got[way] = describe(wm_run_records(&run, records, count), memory);
        wm_string rows = wm_buffer_string(&got[way].rows), letters = wm_buffer_string(&got[way].letters);
        if (way > 0 && !wm_equal(rows, wm_buffer_string(&got[0].rows))) {
            differ(dir, ways[way], wm_buffer_string(&got[0].rows), rows);
        }
        if (way > 0 && !wm_equal(letters, wm_buffer_string(&got[0].letters))) {
            differ(dir, ways[way], wm_buffer_string(&got[0].letters), letters);
        }
    }
    bool refused = read_file(dir, "error.txt", &wanted);
    if (refused || got[0].refusal != NULL) {
        wanted = refused ? trimmed(wanted) : wm_bytes("", 0);
        wm_string refusal = wm_str(got[0].refusal == NULL ? "" : got[0].refusal);
        bool part = wanted.len > 0 && wanted.data[0] == '~';
        bool holds = got[0].refusal != NULL && refused &&
                     (part ? strstr(refusal.data, wm_copy(wm_bytes(wanted.data + 1, wanted.len - 1)).data) != NULL
                           : wm_equal(trimmed(refusal), wanted));
        if (!holds) {
            differ(dir, "error.txt", wm_format("%.*s\n", WM_ARG(wanted)), wm_format("%s\n", refusal.data));
        }
        return;
    }
    if (!read_file(dir, "expected.ndjson", &wanted)) {
        wm_expected(false, "neither expected.ndjson nor error.txt", dir, 1);
    } else if (!wm_equal(trimmed(wanted), trimmed(wm_buffer_string(&got[0].rows)))) {
        differ(dir, "expected.ndjson", wanted, wm_buffer_string(&got[0].rows));
    }
    wanted = wm_bytes("", 0);
    (void)read_file(dir, "dead-letters.ndjson", &wanted);
    if (!letters_match(wanted, wm_buffer_string(&got[0].letters))) {
        differ(dir, "dead-letters.ndjson", wanted, wm_buffer_string(&got[0].letters));
    }
}

void wm_test_cases(const char *dir) {
    static wm_arena memory;
    wm_memory = &memory;
    const char **names = wm_alloc(NAMES_MAX * sizeof *names);
    size_t count = list(dir, names, true);
    wm_expected(count > 0, "there are case folders", dir, 1);
    for (size_t at = 0; at < count; at++) {
        wm_memory = &memory;
        run_case(wm_format("%s/%s", dir, names[at]).data, &memory);
    }
    wm_arena_free(&memory);
}
