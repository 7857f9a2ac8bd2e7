//! One change to one path of a JSON object, on the text. An object is walked by the last occurrence of each key. Set
//! replaces that value in place or appends, making parents, and removes what else the path reaches; remove removes all.

#include "table.h"

typedef struct edit {
    wm_string text;
    const wm_path_of *path;
    wm_string value;
    wm_buffer out;
    size_t done; ///< Text up to here is in `out`, or left out.
} edit;

/// The text from `start` to `end` is replaced by what the caller appends.
static void cut(edit *edit, size_t start, size_t end) {
    wm_append(&edit->out, edit->text.data + edit->done, start - edit->done);
    edit->done = end;
}

static void append_member(edit *edit, size_t at, size_t level, bool comma) {
    cut(edit, at, at);
    if (comma) {
        wm_append(&edit->out, ",", 1);
    }
    for (size_t key = level; key < edit->path->count; key++) {
        if (key > level) {
            wm_append(&edit->out, "{", 1);
        }
        wm_json_quote(edit->path->keys[key], &edit->out);
        wm_append(&edit->out, ":", 1);
    }
    wm_append(&edit->out, edit->value.data, edit->value.len);
    for (size_t key = level + 1; key < edit->path->count; key++) {
        wm_append(&edit->out, "}", 1);
    }
}

/// `open`: where the object's brace is. `read`: this is the object whose members are read, and something is set.
static bool visit(edit *edit, size_t open, size_t level, bool set) {
    wm_string wanted = edit->path->keys[level];
    bool last_level = level + 1 == edit->path->count;
    size_t matches = 0, at = open + 1;
    wm_member member;
    while (wm_json_member(edit->text, &at, &member)) {
        matches += wm_equal(wm_json_unescaped(member.key), wanted);
    }
    size_t seen = 0, kept_end = 0, before = at = open + 1;
    bool kept = false, removing = false;
    size_t removed_from = 0;
    while (before = at, wm_json_member(edit->text, &at, &member)) {
        if (removing) {
            cut(edit, removed_from, member.start);
            removing = false;
        }
        bool match = wm_equal(wm_json_unescaped(member.key), wanted);
        seen += match;
        bool read = set && seen == matches;
        if (match && last_level && !read) {
            if (kept) {
                cut(edit, before, member.end);
            } else {
                removing = true;
                removed_from = member.start;
            }
            continue;
        }
        if (match && last_level) {
            cut(edit, member.value_start, member.end);
            wm_append(&edit->out, edit->value.data, edit->value.len);
        } else if (match && edit->text.data[member.value_start] == '{') {
            if (!visit(edit, member.value_start, level + 1, read)) {
                return false;
            }
        } else if (match && read) {
            return false;
        }
        kept = true;
        kept_end = member.end;
    }
    if (removing) {
        cut(edit, removed_from, before);
    }
    if (set && matches == 0) {
        append_member(edit, kept ? kept_end : open + 1, level, kept);
    }
    return true;
}

bool wm_edit(wm_string object, const wm_path_of *path, wm_string value, wm_string *edited) {
    edit edit = {.text = object, .path = path, .value = value};
    size_t open = 0;
    while (object.data[open] != '{') {
        open++;
    }
    if (!visit(&edit, open, 0, value.data != NULL)) {
        return false;
    }
    cut(&edit, object.len, object.len);
    *edited = wm_buffer_string(&edit.out);
    return true;
}

wm_state wm_table_find(wm_string payload, const wm_path_of *path, wm_string *value) {
    *value = wm_bytes("", 0);
    wm_string found;
    if (!wm_json_value(payload, WM_JSON_DEPTH, &found)) {
        return WM_MISSING;
    }
    for (size_t key = 0; key < path->count; key++) {
        if (found.data[0] != '{' || !wm_json_find(found, path->keys[key], &found)) {
            return WM_MISSING;
        }
    }
    if (wm_equal(found, wm_str("null"))) {
        return WM_NULL;
    }
    *value = found;
    return WM_VALUE;
}
