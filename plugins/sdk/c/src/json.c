//! See json.h. RFC 8259, at most WM_JSON_DEPTH levels.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "json.h"

static bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }
/// 0 behind the end.
static char byte_at(wm_string text, size_t at) { return at < text.len ? text.data[at] : 0; }

static size_t space(wm_string text, size_t at) {
    while (at < text.len && (text.data[at] == ' ' || text.data[at] == '\n' || text.data[at] == '\r' || text.data[at] == '\t')) {
        at++;
    }
    return at;
}

bool wm_is_utf8(wm_string text) {
    const uint8_t *bytes = (const uint8_t *)text.data;
    size_t at = 0;
    while (at < text.len) {
        uint8_t byte = bytes[at];
        if (byte < 0x80) {
            at++;
            continue;
        }
        size_t more = byte >= 0xc2 && byte <= 0xdf ? 1 : byte >= 0xe0 && byte <= 0xef ? 2 : byte >= 0xf0 && byte <= 0xf4 ? 3 : 0;
        if (more == 0 || text.len - at <= more) {
            return false;
        }
        uint8_t second = bytes[at + 1];
        uint8_t least = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
        uint8_t most = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
        if (second < least || second > most) {
            return false;
        }
        for (size_t next = 2; next <= more; next++) {
            if ((bytes[at + next] & 0xc0) != 0x80) {
                return false;
            }
        }
        at += 1 + more;
    }
    return true;
}

// Each takes the start of a value and returns what is behind it; 0: it is not valid.

static size_t string_end(wm_string text, size_t at) {
    if (byte_at(text, at) != '"') {
        return 0;
    }
    for (at++; at < text.len; at++) {
        char byte = text.data[at];
        if (byte == '"') {
            return at + 1;
        }
        if ((unsigned char)byte < 0x20) {
            return 0;
        }
        if (byte == '\\') {
            at++;
            char kind = byte_at(text, at);
            if (kind == 'u') {
                for (int digit = 0; digit < 4; digit++) {
                    at++;
                    char hex = byte_at(text, at);
                    if (!is_digit(hex) && !(hex >= 'a' && hex <= 'f') && !(hex >= 'A' && hex <= 'F')) {
                        return 0;
                    }
                }
            } else if (kind == 0 || strchr("\"\\/bfnrt", kind) == NULL) {
                return 0;
            }
        }
    }
    return 0;
}

static size_t digits_end(wm_string text, size_t at) {
    while (is_digit(byte_at(text, at))) {
        at++;
    }
    return at;
}

static size_t number_end(wm_string text, size_t at) {
    size_t whole = byte_at(text, at) == '-' ? at + 1 : at;
    at = digits_end(text, whole);
    if (at == whole || (at > whole + 1 && text.data[whole] == '0')) {
        return 0;
    }
    if (byte_at(text, at) == '.') {
        size_t fraction = at + 1;
        at = digits_end(text, fraction);
        if (at == fraction) {
            return 0;
        }
    }
    if (byte_at(text, at) == 'e' || byte_at(text, at) == 'E') {
        size_t exponent = at + 1;
        if (byte_at(text, exponent) == '+' || byte_at(text, exponent) == '-') {
            exponent++;
        }
        at = digits_end(text, exponent);
        if (at == exponent) {
            return 0;
        }
    }
    return at;
}

static size_t literal_end(wm_string text, size_t at, const char *literal) {
    return wm_starts_with(wm_bytes(text.data + at, text.len - at), wm_str(literal)) ? at + strlen(literal) : 0;
}

static size_t value_end(wm_string text, size_t at, size_t depth);

static size_t inside_end(wm_string text, size_t at, size_t depth) {
    if (depth == 0) {
        return 0;
    }
    bool object = text.data[at] == '{';
    char close = object ? '}' : ']';
    at = space(text, at + 1);
    if (byte_at(text, at) == close) {
        return at + 1;
    }
    for (;;) {
        if (object) {
            at = string_end(text, at);
            at = at == 0 ? 0 : space(text, at);
            if (at == 0 || byte_at(text, at) != ':') {
                return 0;
            }
            at = space(text, at + 1);
        }
        at = value_end(text, at, depth - 1);
        if (at == 0) {
            return 0;
        }
        at = space(text, at);
        if (byte_at(text, at) == close) {
            return at + 1;
        }
        if (byte_at(text, at) != ',') {
            return 0;
        }
        at = space(text, at + 1);
    }
}

static size_t value_end(wm_string text, size_t at, size_t depth) {
    switch (byte_at(text, at)) {
    case '"': return string_end(text, at);
    case '{':
    case '[': return inside_end(text, at, depth);
    case 't': return literal_end(text, at, "true");
    case 'f': return literal_end(text, at, "false");
    case 'n': return literal_end(text, at, "null");
    default: return number_end(text, at);
    }
}

bool wm_json_value(wm_string text, size_t depth, wm_string *value) {
    size_t start = space(text, 0), end = value_end(text, start, depth);
    if (end == 0 || space(text, end) != text.len || !wm_is_utf8(text)) {
        return false;
    }
    *value = wm_bytes(text.data + start, end - start);
    return true;
}

/// Over space and a comma.
static size_t next(wm_string text, size_t at) {
    at = space(text, at);
    return byte_at(text, at) == ',' ? space(text, at + 1) : at;
}

bool wm_json_member(wm_string text, size_t *at, wm_member *member) {
    size_t key = next(text, *at), quote = string_end(text, key);
    if (quote == 0) {
        return false;
    }
    member->start = key;
    member->key = wm_bytes(text.data + key + 1, quote - key - 2);
    member->value_start = space(text, space(text, quote) + 1);
    *at = member->end = value_end(text, member->value_start, WM_JSON_DEPTH);
    member->value = wm_bytes(text.data + member->value_start, member->end - member->value_start);
    return true;
}

bool wm_json_item(wm_string text, size_t *at, wm_string *item) {
    size_t start = next(text, *at);
    if (byte_at(text, start) == ']') {
        return false;
    }
    *at = value_end(text, start, WM_JSON_DEPTH);
    *item = wm_bytes(text.data + start, *at - start);
    return true;
}

bool wm_json_find(wm_string object, wm_string key, wm_string *value) {
    size_t at = 1;
    wm_member member;
    bool found = false;
    while (wm_json_member(object, &at, &member)) {
        if (wm_equal(wm_json_unescaped(member.key), key)) {
            *value = member.value;
            found = true;
        }
    }
    return found;
}

static uint32_t hex(const char *digits) {
    uint32_t code = 0;
    for (int at = 0; at < 4; at++) {
        char digit = digits[at];
        code = code << 4 | (uint32_t)(is_digit(digit) ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    return code;
}

static size_t encode(uint32_t code, char *out) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[more] | code >> (6 * more));
    for (size_t at = 1; at <= more; at++) {
        out[at] = (char)(0x80 | (code >> (6 * (more - at)) & 0x3f));
    }
    return more + 1;
}

wm_string wm_json_unescaped(wm_string written) {
    if (written.len == 0 || memchr(written.data, '\\', written.len) == NULL) {
        return written;
    }
    char *out = wm_arena_take(wm_memory, written.len);
    size_t len = 0;
    for (size_t at = 0; at < written.len; at++) {
        char byte = written.data[at];
        if (byte != '\\') {
            out[len++] = byte;
            continue;
        }
        char kind = written.data[++at];
        switch (kind) {
        case 'b': out[len++] = '\b'; break;
        case 'f': out[len++] = '\f'; break;
        case 'n': out[len++] = '\n'; break;
        case 'r': out[len++] = '\r'; break;
        case 't': out[len++] = '\t'; break;
        case 'u': {
            uint32_t code = hex(written.data + at + 1);
            at += 4;
            bool pair = code >= 0xd800 && code < 0xdc00 && written.len - at > 6 && written.data[at + 1] == '\\' &&
                        written.data[at + 2] == 'u';
            uint32_t low = pair ? hex(written.data + at + 3) : 0;
            if (low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                at += 6;
            }
            len += encode(code >= 0xd800 && code < 0xe000 ? 0xfffd : code, out + len);
            break;
        }
        default: out[len++] = kind;
        }
    }
    return wm_bytes(out, len);
}

wm_string wm_json_text(wm_string string) { return wm_json_unescaped(wm_bytes(string.data + 1, string.len - 2)); }

void wm_json_quote(wm_string text, wm_buffer *into) {
    wm_append(into, "\"", 1);
    size_t done = 0;
    for (size_t at = 0; at < text.len; at++) {
        unsigned char byte = (unsigned char)text.data[at];
        if (byte >= 0x20 && byte != '"' && byte != '\\') {
            continue;
        }
        wm_append(into, text.data + done, at - done);
        done = at + 1;
        static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *found = byte == 0 ? NULL : strchr(plain, byte);
        char escape[8] = {'\\', 0};
        if (found != NULL) {
            escape[1] = letters[found - plain];
            wm_append(into, escape, 2);
        } else {
            static const char hexadecimal[] = "0123456789abcdef";
            memcpy(escape + 1, "u00", 3);
            escape[4] = hexadecimal[byte >> 4];
            escape[5] = hexadecimal[byte & 15];
            wm_append(into, escape, 6);
        }
    }
    wm_append(into, text.data + done, text.len - done);
    wm_append(into, "\"", 1);
}

bool wm_json_int(wm_string number, int64_t *value) {
    bool negative = byte_at(number, 0) == '-';
    uint64_t magnitude = 0;
    int64_t scale = 0, zeros = 0;
    size_t digits = 0, at = negative ? 1 : 0;
    bool fraction = false, fits = true;
    for (; at < number.len && (is_digit(number.data[at]) || number.data[at] == '.'); at++) {
        if (number.data[at] == '.') {
            fraction = true;
            continue;
        }
        scale -= fraction ? 1 : 0;
        if (number.data[at] == '0') {
            zeros++; // Counts only if another digit follows.
            continue;
        }
        for (int64_t zero = 0; digits > 0 && zero < zeros && digits <= 20; zero++, digits++) {
            magnitude *= 10;
        }
        zeros = 0;
        digits++;
        fits = fits && digits <= 19;
        magnitude = magnitude * 10 + (uint64_t)(number.data[at] - '0');
    }
    if (digits == 0) {
        *value = 0;
        return true;
    }
    scale += zeros;
    if (at < number.len) {
        int64_t exponent = 0;
        char sign = byte_at(number, ++at);
        at += sign == '+' || sign == '-' ? 1 : 0;
        for (; at < number.len; at++) {
            exponent = exponent > 1000000000 ? exponent : exponent * 10 + (number.data[at] - '0');
        }
        scale += sign == '-' ? -exponent : exponent;
    }
    if (!fits || scale < 0 || (int64_t)digits + scale > 19) {
        return false;
    }
    for (; scale > 0; scale--) {
        magnitude *= 10;
    }
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return false;
    }
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

bool wm_json_float(wm_string number, double *value) {
    *value = strtod(wm_copy(number).data, NULL);
    return isfinite(*value);
}

void wm_json_put_int(int64_t value, wm_buffer *into) {
    char text[24];
    wm_append(into, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

void wm_json_put_float(double value, wm_buffer *into) {
    char text[40];
    int precision = 1;
    do {
        snprintf(text, sizeof text, "%.*e", precision - 1, value);
    } while (precision++ < 17 && strtod(text, NULL) != value);
    // d.ddde±x: the digits, and the place of the point among them.
    char digits[20];
    int count = 0;
    const char *exponent_at = strchr(text, 'e');
    for (const char *at = text; at < exponent_at; at++) {
        if (is_digit(*at)) {
            digits[count++] = *at;
        }
    }
    int exponent = atoi(exponent_at + 1);
    char out[48];
    int len = 0;
    if (signbit(value)) {
        out[len++] = '-';
    }
    if (exponent < -5 || exponent > 15) {
        out[len++] = digits[0];
        if (count > 1) {
            out[len++] = '.';
        }
        memcpy(out + len, digits + 1, (size_t)count - 1);
        len += count - 1;
        len += snprintf(out + len, 8, "e%+d", exponent);
    } else {
        if (exponent < 0) {
            out[len++] = '0';
            out[len++] = '.';
            for (int zero = -1; zero > exponent; zero--) {
                out[len++] = '0';
            }
        }
        for (int at = 0; at < count || at <= exponent; at++) {
            out[len++] = at < count ? digits[at] : '0';
            if (at == exponent) {
                out[len++] = '.';
            }
        }
        if (exponent >= 0 && count <= exponent + 1) {
            out[len++] = '0';
        }
    }
    wm_append(into, out, (size_t)len);
}
