//! What a plugin may ask for in `configure`: fields, grants, and its config as bounded, checked values.

#include "json.h"

/// Whole files that a plugin reads at once, and the piece in which they come.
enum { FILE_PIECE = 1024 * 1024, KEYS_MAX = 32 };

wm_field wm_path(wm_setup *setup, const char *const *keys, size_t count) {
    if (count == 0 || count > KEYS_MAX) {
        wm_panic("a path of %zu keys: it needs 1 to %d", count, KEYS_MAX);
    }
    wm_string path[KEYS_MAX];
    for (size_t key = 0; key < count; key++) {
        path[key] = wm_str(keys[key]);
    }
    for (size_t known = 0; known < setup->field_count; known++) {
        size_t same = 0;
        while (same < count && setup->fields[known].count == count &&
               wm_equal(setup->fields[known].keys[same], path[same])) {
            same++;
        }
        if (same == count) {
            return (wm_field){setup->slots[known]};
        }
    }
    if (setup->field_count == setup->field_room) {
        size_t old = setup->field_room, room = old == 0 ? 16 : 2 * old;
        setup->fields = wm_arena_grow(wm_memory, setup->fields, old * sizeof *setup->fields, room * sizeof *setup->fields);
        setup->slots = wm_arena_grow(wm_memory, setup->slots, old * sizeof *setup->slots, room * sizeof *setup->slots);
        setup->field_room = room;
    }
    wm_path_of *field = &setup->fields[setup->field_count];
    field->count = count;
    field->keys = wm_alloc(count * sizeof *field->keys);
    for (size_t key = 0; key < count; key++) {
        field->keys[key] = wm_copy(path[key]);
    }
    uint32_t slot = wm_host_field(field->keys, count);
    setup->slots[setup->field_count++] = slot;
    wm_slots_now = slot + 1 > wm_slots_now ? slot + 1 : wm_slots_now;
    return (wm_field){slot};
}

wm_field wm_top(wm_setup *setup, const char *key) { return wm_path(setup, &key, 1); }

wm_error wm_find_output(wm_setup *setup, const char *name, wm_output *output) {
    (void)setup;
    wm_string reason;
    return wm_host_output(wm_str(name), &output->number, &reason) ? WM_OK : wm_copy(reason).data;
}

wm_error wm_secret(wm_setup *setup, const char *name, wm_string *value) {
    (void)setup;
    bool granted = wm_host_secret(wm_str(name), value);
    *value = wm_copy(*value);
    return granted ? WM_OK : value->data;
}

wm_error wm_file_part(wm_setup *setup, const char *name, uint64_t offset, uint32_t len, wm_string *content) {
    (void)setup;
    return wm_host_file(wm_str(name), offset, len, content) ? WM_OK : wm_copy(*content).data;
}

wm_error wm_file(wm_setup *setup, const char *name, wm_string *content) {
    wm_buffer whole = {0};
    for (;;) {
        wm_string piece;
        wm_error error = wm_file_part(setup, name, whole.len, FILE_PIECE, &piece);
        if (error != WM_OK) {
            return error;
        }
        if (piece.len == 0) {
            *content = wm_buffer_string(&whole);
            return WM_OK;
        }
        wm_append(&whole, piece.data, piece.len);
    }
}

// --- The config ---

static bool find(wm_setup *setup, const char *key, wm_string *value) {
    if (setup->asked_count == setup->asked_room) {
        size_t old = setup->asked_room, room = old == 0 ? 16 : 2 * old;
        setup->asked = wm_arena_grow(wm_memory, setup->asked, old * sizeof *setup->asked, room * sizeof *setup->asked);
        setup->asked_room = room;
    }
    setup->asked[setup->asked_count++] = wm_copy(wm_str(key));
    return wm_json_find(setup->config, wm_str(key), value) && !wm_equal(*value, wm_str("null"));
}

static void is_no(wm_setup *setup, const char *key, wm_string value, const char *what) {
    if (setup->wrong == WM_OK) {
        size_t shown = value.len < 80 ? value.len : 80;
        setup->wrong = wm_errorf("config: \"%s\" is %.*s, which is not %s", key, (int)shown, value.data, what);
    }
}

wm_string wm_config_text(wm_setup *setup, const char *key, const char *fallback) {
    wm_string value;
    if (find(setup, key, &value)) {
        if (value.data[0] == '"') {
            return wm_copy(wm_json_text(value));
        }
        is_no(setup, key, value, "a text");
    } else if (fallback == NULL && setup->wrong == WM_OK) {
        setup->wrong = wm_errorf("config: \"%s\" is missing; it is a text", key);
    }
    return wm_str(fallback == NULL ? "" : fallback);
}

int64_t wm_config_int(wm_setup *setup, const char *key, int64_t fallback) {
    wm_string value;
    int64_t number;
    if (!find(setup, key, &value)) {
        return fallback;
    }
    if ((value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9')) && wm_json_int(value, &number)) {
        return number;
    }
    is_no(setup, key, value, "an integer of 64 bits");
    return fallback;
}

double wm_config_number(wm_setup *setup, const char *key, double fallback) {
    wm_string value;
    double number;
    if (!find(setup, key, &value)) {
        return fallback;
    }
    if ((value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9')) && wm_json_float(value, &number)) {
        return number;
    }
    is_no(setup, key, value, "a number");
    return fallback;
}

bool wm_config_bool(wm_setup *setup, const char *key, bool fallback) {
    wm_string value;
    if (!find(setup, key, &value)) {
        return fallback;
    }
    bool yes = wm_equal(value, wm_str("true"));
    if (!yes && !wm_equal(value, wm_str("false"))) {
        is_no(setup, key, value, "true or false");
        return fallback;
    }
    return yes;
}

wm_string wm_config_raw(wm_setup *setup, const char *key) {
    wm_string value;
    return find(setup, key, &value) ? value : wm_bytes("", 0);
}

bool wm_config_has(wm_setup *setup, const char *key) {
    wm_string value;
    return find(setup, key, &value);
}

/// Once the plugin has asked for all it knows: what is wrong, or a key that nobody asked for.
wm_error wm_setup_check(wm_setup *setup) {
    size_t at = 1;
    wm_member member;
    while (setup->wrong == WM_OK && wm_json_member(setup->config, &at, &member)) {
        wm_string key = wm_json_unescaped(member.key);
        size_t known = 0;
        while (known < setup->asked_count && !wm_equal(setup->asked[known], key)) {
            known++;
        }
        if (known < setup->asked_count) {
            continue;
        }
        wm_buffer all = {0};
        for (size_t asked = 0; asked < setup->asked_count; asked++) {
            bool again = false;
            for (size_t before = 0; before < asked; before++) {
                again = again || wm_equal(setup->asked[before], setup->asked[asked]);
            }
            if (!again) {
                wm_append(&all, all.len == 0 ? "" : ", ", all.len == 0 ? 0 : 2);
                wm_append(&all, setup->asked[asked].data, setup->asked[asked].len);
            }
        }
        size_t shown = key.len < 80 ? key.len : 80;
        if (all.len == 0) {
            setup->wrong = wm_errorf("config: unknown key \"%.*s\"; there are none", (int)shown, key.data);
        } else {
            setup->wrong = wm_errorf("config: unknown key \"%.*s\"; there are %.*s", (int)shown, key.data, (int)all.len,
                                     all.data);
        }
    }
    return setup->wrong;
}
