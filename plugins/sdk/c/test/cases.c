//! Case folders: reads one, runs it in three ways that must agree, and compares what came with what is expected.
//! It refuses what the runner of `wasmill plugin test` refuses, and takes what that takes.

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

/// What a file has, or that there is none.
typedef struct content {
    bool there;
    wm_string text;
} content;

/// Why the case has failed, NULL as long as it has not; the first reason stays.
static const char *fault;

static void fail(wm_string why) {
    if (fault == NULL) {
        fault = why.data;
    }
}

static content read_text(const char *dir, const char *name) {
    content read = {.text = wm_bytes("", 0)};
    read.there = read_file(dir, name, &read.text);
    if (read.there && !wm_is_utf8(read.text)) {
        fail(wm_format("read %s: it is not UTF-8", name));
    }
    return read;
}

typedef struct texts {
    size_t count;
    wm_string *at;
} texts;

/// Lines end with `\n` or `\r\n`.
static texts lines(wm_string text) {
    texts found = {.at = wm_alloc((text.len + 1) * sizeof *found.at)};
    for (size_t start = 0; start < text.len;) {
        const char *end = memchr(text.data + start, '\n', text.len - start);
        size_t len = end == NULL ? text.len - start : (size_t)(end - text.data) - start;
        bool carriage = end != NULL && len > 0 && text.data[start + len - 1] == '\r';
        found.at[found.count++] = wm_bytes(text.data + start, len - carriage);
        start += len + 1;
    }
    return found;
}

static wm_string joined(const texts *lines) {
    wm_buffer text = {0};
    for (size_t at = 0; at < lines->count; at++) {
        wm_append(&text, lines->at[at].data, lines->at[at].len);
        wm_append(&text, "\n", 1);
    }
    return wm_copy(wm_buffer_string(&text));
}

static bool texts_equal(const texts *left, const texts *right) {
    bool same = left->count == right->count;
    for (size_t at = 0; same && at < left->count; at++) {
        same = wm_equal(left->at[at], right->at[at]);
    }
    return same;
}

static bool contains(wm_string text, wm_string part) {
    for (size_t at = 0; at + part.len <= text.len; at++) {
        if (wm_equal(wm_bytes(text.data + at, part.len), part)) {
            return true;
        }
    }
    return false;
}

static bool is_space(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static wm_string trimmed_end(wm_string text) {
    while (text.len > 0 && is_space(text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

static wm_string trimmed(wm_string text) {
    text = trimmed_end(text);
    while (text.len > 0 && is_space(text.data[0])) {
        text = wm_bytes(text.data + 1, text.len - 1);
    }
    return text;
}

/// What came: refused, or rows and letters in the order of their records.
typedef struct came {
    bool refused;
    wm_string refusal;
    texts rows;
    texts letters; ///< As lines of their file.
    size_t *offsets;
    wm_string *reasons;
} came;

static int by_record(const void *left, const void *right) {
    const wm_test_row *a = *(const wm_test_row *const *)left, *b = *(const wm_test_row *const *)right;
    return a->offset != b->offset ? (a->offset < b->offset ? -1 : 1) : (a->child > b->child) - (a->child < b->child);
}

static came what_came(const wm_outcome *outcome) {
    if (outcome->refusal != NULL) {
        return (came){.refused = true, .refusal = wm_copy(wm_str(outcome->refusal))};
    }
    came found = {.refusal = wm_bytes("", 0)};
    const wm_test_row **rows = wm_alloc(outcome->row_count * sizeof *rows + 1);
    for (size_t at = 0; at < outcome->row_count; at++) {
        rows[at] = &outcome->rows[at];
    }
    qsort(rows, outcome->row_count, sizeof *rows, by_record);
    found.rows.at = wm_alloc(outcome->row_count * sizeof *found.rows.at + 1);
    for (size_t at = 0; at < outcome->row_count; at++) {
        found.rows.at[found.rows.count++] = wm_copy(rows[at]->payload);
    }
    found.letters.at = wm_alloc(outcome->record_count * sizeof *found.letters.at + 1);
    found.offsets = wm_alloc(outcome->record_count * sizeof *found.offsets + 1);
    found.reasons = wm_alloc(outcome->record_count * sizeof *found.reasons + 1);
    for (size_t record = 0; record < outcome->record_count; record++) {
        if (outcome->verdicts[record] == WM_FAILED) {
            wm_buffer line = {0};
            wm_string start = wm_format("{\"offset\":%zu,\"reason\":", record);
            wm_append(&line, start.data, start.len);
            wm_json_quote(outcome->reasons[record], &line);
            wm_append(&line, "}", 1);
            found.offsets[found.letters.count] = record;
            found.reasons[found.letters.count] = wm_copy(outcome->reasons[record]);
            found.letters.at[found.letters.count++] = wm_copy(wm_buffer_string(&line));
        }
    }
    return found;
}

static wm_string told(const came *came) {
    wm_string rows = joined(&came->rows), letters = joined(&came->letters);
    return came->refused ? wm_format("refused: %.*s\n", WM_ARG(came->refusal))
                         : wm_format("%.*s%.*s", WM_ARG(rows), WM_ARG(letters));
}

/// A record that is expected to fail.
typedef struct letter {
    int64_t offset;
    bool has_reason, has_part;
    wm_string reason, part;
} letter;

static bool is_null(wm_string value) { return wm_equal(value, wm_str("null")); }

static bool read_letter(wm_string line, letter *letter) {
    wm_string object;
    wm_member member;
    bool has_offset = false;
    *letter = (struct letter){0};
    if (!wm_json_value(line, WM_JSON_DEPTH, &object) || object.data[0] != '{') {
        return false;
    }
    for (size_t at = 1; wm_json_member(object, &at, &member);) {
        wm_string key = wm_json_unescaped(member.key), value = member.value;
        bool whole = wm_equal(key, wm_str("reason")), part = wm_equal(key, wm_str("reason_contains"));
        if (wm_equal(key, wm_str("offset"))) {
            // 2.0 and 2e0 are integers elsewhere, but no offsets.
            has_offset = strspn(wm_copy(value).data, "-0123456789") == value.len && wm_json_int(value, &letter->offset);
        } else if ((whole || part) && value.data[0] == '"') {
            *(whole ? &letter->has_reason : &letter->has_part) = true;
            *(whole ? &letter->reason : &letter->part) = wm_json_text(value);
        } else if (!((whole || part) && is_null(value))) {
            return false;
        }
    }
    return has_offset;
}

static bool letter_fits(const letter *wanted, size_t offset, wm_string reason) {
    return wanted->offset == (int64_t)offset && (!wanted->has_reason || wm_equal(wanted->reason, reason)) &&
           (!wanted->has_part || contains(reason, wanted->part));
}

static void differ(const char *what, wm_string wanted, wm_string got) {
    fail(wm_format("%s\n--- expected\n%.*s--- got\n%.*s", what, WM_ARG(wanted), WM_ARG(got)));
}

static void compare_refusal(wm_string wanted, const came *came) {
    bool part = wm_starts_with(wanted, wm_str("~"));
    if (!came->refused) {
        wanted = trimmed_end(wanted);
        fail(wm_format("the config must be refused (%.*s), and was taken", WM_ARG(wanted)));
    } else if (part ? !contains(came->refusal, trimmed(wm_bytes(wanted.data + 1, wanted.len - 1)))
                    : !wm_equal(trimmed_end(came->refusal), trimmed_end(wanted))) {
        differ("error.txt", wanted, wm_format("%.*s\n", WM_ARG(came->refusal)));
    }
}

static void compare_records(wm_string rows, wm_string letters, const came *came) {
    texts wanted = lines(rows);
    if (came->refused) {
        fail(wm_format("the config was refused: %.*s", WM_ARG(came->refusal)));
    } else if (!texts_equal(&wanted, &came->rows)) {
        differ("expected.ndjson", rows, joined(&came->rows));
    }
    wanted = lines(letters);
    bool fits = wanted.count == came->letters.count;
    for (size_t at = 0; at < wanted.count; at++) {
        letter letter;
        if (!read_letter(wanted.at[at], &letter)) {
            fail(wm_format("dead-letters.ndjson:%zu: a line is {\"offset\":2,\"reason\":\"...\"}", at + 1));
        }
        fits = fits && letter_fits(&letter, came->offsets[at], came->reasons[at]);
    }
    if (!fits) {
        differ("dead-letters.ndjson", letters, joined(&came->letters));
    }
}

static void compare(const char *dir, const came *came) {
    content rows = read_text(dir, "expected.ndjson"), letters = read_text(dir, "dead-letters.ndjson");
    content refusal = read_text(dir, "error.txt");
    if (refusal.there && (rows.there || letters.there)) {
        fail(wm_str("error.txt, and expects records too; only one can be"));
    } else if (refusal.there) {
        compare_refusal(refusal.text, came);
    } else if (rows.there || letters.there) {
        compare_records(rows.text, letters.text, came);
    } else {
        fail(wm_str("none of expected.ndjson, dead-letters.ndjson, error.txt; `wasmill plugin test --bless` writes them"));
    }
}

static void run_case(const char *dir, const wm_plugin *plugin) {
    wm_arena *memory = wm_memory;
    content config = read_text(dir, "config.json");
    content ndjson = read_text(dir, "input.ndjson"), txt = read_text(dir, "input.txt");
    if (!config.there) {
        fail(wm_str("no config.json"));
    }
    if (ndjson.there && txt.there) {
        fail(wm_str("input.ndjson and input.txt; only one can be"));
    }
    if (fault != NULL) {
        return;
    }
    texts records = lines(ndjson.there ? ndjson.text : txt.text);
    const char **names = wm_alloc(NAMES_MAX * sizeof *names);
    const char *files = wm_format("%s/files", dir).data;
    size_t file_count = list(files, names, false);
    wm_grant *granted = wm_alloc((file_count + 1) * sizeof *granted);
    for (size_t at = 0; at < file_count; at++) {
        granted[at].name = names[at];
        (void)read_file(files, names[at], &granted[at].content);
    }
    wm_run run = {.config = config.text.data, .file_count = file_count, .files = granted, .plugin = plugin};
    came first = {0};
    static const char *const ways[] = {"at once", "cut to single records", "fresh"};
    for (size_t way = 0; way < 3; way++) {
        run.chunk_rows = way == 0 ? 0 : way == 1 ? 1 : 3;
        run.fresh = way == 2;
        const wm_outcome *outcome = wm_run_records(&run, records.at, records.count);
        wm_memory = memory;
        came other = what_came(outcome);
        if (way == 0) {
            first = other;
        } else if (first.refused != other.refused || !wm_equal(first.refusal, other.refusal) ||
                   !texts_equal(&first.rows, &other.rows) || !texts_equal(&first.letters, &other.letters)) {
            wm_string left = told(&first), right = told(&other);
            fail(wm_format("%s differs\n--- at once\n%.*s--- %s\n%.*s", ways[way], WM_ARG(left), ways[way], WM_ARG(right)));
        }
    }
    compare(dir, &first);
}

const char *wm_case_fault(const char *dir, const wm_plugin *plugin) {
    fault = NULL;
    run_case(dir, plugin);
    return fault;
}

void wm_test_cases(const char *dir) {
    wm_arena memory = {0};
    wm_memory = &memory;
    const char **names = wm_alloc(NAMES_MAX * sizeof *names);
    size_t count = list(dir, names, true);
    wm_expected(count > 0, "there are case folders", dir, 1);
    for (size_t at = 0; at < count; at++) {
        const char *folder = wm_format("%s/%s", dir, names[at]).data;
        const char *wrong = wm_case_fault(folder, NULL);
        wm_expected(wrong == NULL, wrong, folder, 1);
    }
    wm_arena_free(&memory);
}
