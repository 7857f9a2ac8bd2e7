//! Greets everybody who has a name: {"name":"Ada"} becomes {"name":"Ada","greeting":"hello, Ada"}.

#include "wasmill.h"

/// What `configure` makes of the config; the fields that the plugin uses are declared there once.
typedef struct greet {
    wm_string word;
    wm_field name, greeting;
} greet;

static wm_error configure(void *state, wm_setup *setup) {
    greet *self = state;
    self->word = wm_config_text(setup, "word", "hello");
    self->name = wm_top(setup, "name");
    self->greeting = wm_top(setup, "greeting");
    return WM_OK;
}

/// Fields are read and written a whole chunk of records at a time. For one record at a time see `wm_row`.
static wm_error process(void *state, wm_chunk *rows) {
    greet *self = state;
    wm_texts names = wm_get_text(rows, self->name), greetings = {0};
    for (size_t row = 0; row < names.rows; row++) {
        if (names.state[row] == WM_VALUE) {
            wm_put_all(&greetings, row, self->word, wm_str(", "), wm_text_at(&names, row));
        } else if (names.state[row] == WM_OTHER) {
            // A record that makes no sense becomes a dead letter with this reason; the others go on.
            wm_fail(rows, row, "name is no text");
        }
        // No name: the record passes as it is.
    }
    wm_set_text(rows, self->greeting, &greetings);
    return WM_OK;
}

WM_PLUGIN(.state_size = sizeof(greet), .configure = configure, .process = process);
