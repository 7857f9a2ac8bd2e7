//! JSON as far as configs, mixed columns and the in-memory chunk need it: spans of a text, nothing is built.
#ifndef WASMILL_JSON_H
#define WASMILL_JSON_H

#include "host.h"

/// Deeper text is no JSON.
enum { WM_JSON_DEPTH = 127 };

bool wm_is_utf8(wm_string text);
/// The one JSON value that the text is, without the space around it.
bool wm_json_value(wm_string text, size_t depth, wm_string *value);

/// A member of an object: where it and its value lie.
typedef struct wm_member {
    size_t start, value_start, end;
    wm_string key; ///< As written, between its quotes.
    wm_string value;
} wm_member;
/// The member at `at` of a text with a valid object there, or the one behind the comma; false behind the last. `at` is
/// behind the opening brace at first, and moves behind the member.
bool wm_json_member(wm_string text, size_t *at, wm_member *member);
bool wm_json_item(wm_string text, size_t *at, wm_string *item);
/// The last member of that key in a valid object.
bool wm_json_find(wm_string object, wm_string key, wm_string *value);

/// What stands between quotes, unescaped; a lone surrogate becomes U+FFFD.
wm_string wm_json_unescaped(wm_string written);
/// The text of a JSON string with its quotes.
wm_string wm_json_text(wm_string string);
void wm_json_quote(wm_string text, wm_buffer *into);
/// Exact, else false.
bool wm_json_int(wm_string number, int64_t *value);
/// Finite, else false.
bool wm_json_float(wm_string number, double *value);
/// The shortest text that reads back as the same finite number, with a point or an exponent.
void wm_json_put_float(double value, wm_buffer *into);
void wm_json_put_int(int64_t value, wm_buffer *into);

#endif
