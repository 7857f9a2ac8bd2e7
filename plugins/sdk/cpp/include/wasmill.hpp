//! What a Wasmill plugin in C++ sees of its host: wasmill.h with types. C++23, without exceptions.
//!
//! A plugin is a class with `Status configure(Setup &)` and either `Status process(Rows &)`, over columns, or
//! `Status record(Record &)`, over one record at a time; `WASMILL_PLUGIN(Class)` makes it the plugin of the component.
//! Views and columns are valid until the call that made them returns (in `configure`: for ever): keep std::string and
//! fields in a plugin, not columns.
#ifndef WASMILL_HPP
#define WASMILL_HPP

#include <cstdint>
#include <expected>
#include <initializer_list>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "wasmill.h"

namespace wasmill {

template <class T> using Result = std::expected<T, std::string>;
/// Ok, or what is wrong: `return {};` or `return wasmill::error("...")`.
using Status = Result<void>;
inline std::unexpected<std::string> error(std::string message) { return std::unexpected(std::move(message)); }

enum class Level { debug = WM_DEBUG, info = WM_INFO, warn = WM_WARN, error = WM_ERROR };
inline void log(Level level, std::string_view message) {
    wm_log(static_cast<wm_level>(level), "%.*s", static_cast<int>(message.size()), message.data());
}

inline wm_string raw(std::string_view text) { return wm_bytes(text.data(), text.size()); }
inline std::string_view view(wm_string text) { return {text.data, text.len}; }

/// What one row has in a column.
enum class State : std::uint8_t { missing = WM_MISSING, null = WM_NULL, other = WM_OTHER, value = WM_VALUE };

struct Field {
    wm_field raw;
};
struct Output {
    wm_output raw;
};

// --- Columns --------------------------------------------------------------------------------------------------------

/// Texts (or raw JSON, keys, attributes, payloads): as read, and as they are to be written. A column to write begins
/// empty; rows are put in ascending order, and those left out are left alone.
class Texts {
public:
    Texts() = default;
    explicit Texts(wm_texts column) : column_(column) {}
    [[nodiscard]] std::size_t size() const { return column_.rows; }
    [[nodiscard]] State state(std::size_t row) const { return static_cast<State>(column_.state[row]); }
    /// The value of a row, if it has one.
    [[nodiscard]] std::optional<std::string_view> operator[](std::size_t row) const {
        return column_.state[row] == WM_VALUE ? std::optional(view(wm_text_at(&column_, row))) : std::nullopt;
    }
    void put(std::size_t row, std::string_view value) { wm_put_text(&column_, row, wasmill::raw(value)); }
    /// One value of several pieces.
    void put(std::size_t row, std::initializer_list<std::string_view> pieces) {
        constexpr std::size_t most = 16;
        wm_string parts[most];
        std::size_t count = 0;
        if (pieces.size() > most) {
            wm_panic("a value of more than %d pieces", static_cast<int>(most));
        }
        for (std::string_view piece : pieces) {
            parts[count++] = wasmill::raw(piece);
        }
        wm_put_joined(&column_, row, parts, count);
    }
    void null(std::size_t row) { wm_mark_text(&column_, row, WM_NULL); }
    void remove(std::size_t row) { wm_mark_text(&column_, row, WM_REMOVE); }
    wm_texts *raw() { return &column_; }

private:
    wm_texts column_{};
};

/// Numbers of one field, as read and as they are to be written.
template <class Column, class Number, void (*Put)(Column *, std::size_t, Number),
          void (*Mark)(Column *, std::size_t, wm_state)>
class Numbers {
public:
    Numbers() = default;
    explicit Numbers(Column column) : column_(column) {}
    [[nodiscard]] std::size_t size() const { return column_.rows; }
    [[nodiscard]] State state(std::size_t row) const { return static_cast<State>(column_.state[row]); }
    [[nodiscard]] std::optional<Number> operator[](std::size_t row) const {
        return column_.state[row] == WM_VALUE ? std::optional(column_.values[row]) : std::nullopt;
    }
    void put(std::size_t row, Number value) { Put(&column_, row, value); }
    void null(std::size_t row) { Mark(&column_, row, WM_NULL); }
    void remove(std::size_t row) { Mark(&column_, row, WM_REMOVE); }
    Column *raw() { return &column_; }

private:
    Column column_{};
};
using Ints = Numbers<wm_ints, std::int64_t, wm_put_int, wm_mark_int>;
using Floats = Numbers<wm_floats, double, wm_put_float, wm_mark_float>;

// --- Configuration --------------------------------------------------------------------------------------------------

/// What `configure` may ask for. A key of another type refuses the config once `configure` has returned, and so does a
/// key that nobody asked for.
class Setup {
public:
    explicit Setup(wm_setup *setup) : setup_(setup) {}
    /// A field by its keys, outermost first: field("user", "name").
    template <class... Keys> Field field(const char *first, Keys... inner) {
        const char *const keys[] = {first, inner...};
        return {wm_path(setup_, keys, 1 + sizeof...(inner))};
    }
    /// A fallback of nullptr makes the key required.
    std::string_view text(const char *key, const char *fallback) { return view(wm_config_text(setup_, key, fallback)); }
    std::int64_t integer(const char *key, std::int64_t fallback) { return wm_config_int(setup_, key, fallback); }
    double number(const char *key, double fallback) { return wm_config_number(setup_, key, fallback); }
    bool boolean(const char *key, bool fallback) { return wm_config_bool(setup_, key, fallback); }
    /// Any value as its JSON text, empty where there is none.
    std::string_view raw(const char *key) { return view(wm_config_raw(setup_, key)); }
    bool has(const char *key) { return wm_config_has(setup_, key); }

    Result<Output> output(const char *name) {
        Output found{};
        wm_error wrong = wm_find_output(setup_, name, &found.raw);
        return wrong == WM_OK ? Result<Output>(found) : error(wrong);
    }
    Result<std::string_view> secret(const char *name) {
        wm_string value{};
        wm_error wrong = wm_secret(setup_, name, &value);
        return wrong == WM_OK ? Result<std::string_view>(view(value)) : error(wrong);
    }
    /// A granted file as a whole.
    Result<std::string_view> file(const char *name) {
        wm_string content{};
        wm_error wrong = wm_file(setup_, name, &content);
        return wrong == WM_OK ? Result<std::string_view>(view(content)) : error(wrong);
    }
    wm_setup *raw() { return setup_; }

private:
    wm_setup *setup_;
};

// --- Rows and records -----------------------------------------------------------------------------------------------

/// The rows of one call; see wm_chunk in wasmill.h for what each call means.
class Rows {
public:
    explicit Rows(wm_chunk *rows) : rows_(rows) {}
    [[nodiscard]] std::size_t size() const { return wm_rows(rows_); }
    [[nodiscard]] std::uint64_t seed() const { return wm_seed(rows_); }
    [[nodiscard]] std::span<const std::int64_t> offsets() const { return {wm_offsets(rows_), size()}; }
    [[nodiscard]] std::span<const std::int64_t> arrival_times() const { return {wm_arrival_times(rows_), size()}; }
    [[nodiscard]] Texts payloads() const { return Texts(wm_payloads(rows_)); }
    [[nodiscard]] Texts keys() const { return Texts(wm_keys(rows_)); }
    [[nodiscard]] Texts attributes(const char *name) const { return Texts(wm_attributes(rows_, name)); }
    [[nodiscard]] Texts text(Field field) const { return Texts(wm_get_text(rows_, field.raw)); }
    /// Values of any type as their JSON text.
    [[nodiscard]] Texts json(Field field) const { return Texts(wm_get_raw(rows_, field.raw)); }
    [[nodiscard]] Ints ints(Field field) const { return Ints(wm_get_ints(rows_, field.raw)); }
    [[nodiscard]] Floats floats(Field field) const { return Floats(wm_get_floats(rows_, field.raw)); }

    void set(Field field, Texts &values) { wm_set_text(rows_, field.raw, values.raw()); }
    void set(Field field, Ints &values) { wm_set_ints(rows_, field.raw, values.raw()); }
    void set(Field field, Floats &values) { wm_set_floats(rows_, field.raw, values.raw()); }
    void set_json(Field field, Texts &values) { wm_set_raw(rows_, field.raw, values.raw()); }
    void set_payloads(Texts &values) { wm_set_payloads(rows_, values.raw()); }
    void set_keys(Texts &values) { wm_set_keys(rows_, values.raw()); }
    void set_attributes(const char *name, Texts &values) { wm_set_attributes(rows_, name, values.raw()); }
    void partition(const char *name, Texts &values) { wm_partition(rows_, name, values.raw()); }
    /// One mark per row: 1 = starts from {}.
    void clear(std::span<const std::uint8_t> marks) { wm_clear(rows_, whole(marks)); }
    /// One mark per row: 1 keep, 0 drop.
    void keep(std::span<const std::uint8_t> marks) { wm_keep(rows_, whole(marks)); }
    /// One number of an output per row; 0 = the default output.
    void route(std::span<const std::uint32_t> outputs) { wm_route(rows_, whole(outputs)); }
    /// Fails one row: its record becomes a dead letter, the others go on.
    void fail(std::size_t row, std::string_view reason) {
        wm_fail(rows_, row, "%.*s", static_cast<int>(reason.size()), reason.data());
    }
    /// New rows (1:N), each a copy of its source; they leave when they are emitted.
    [[nodiscard]] Rows derive(std::span<const std::uint32_t> sources) const {
        return Rows(wm_derive(rows_, sources.data(), sources.size()));
    }
    [[nodiscard]] static Rows fresh(std::size_t count) { return Rows(wm_fresh(count)); }
    void emit() { wm_emit(rows_); }
    wm_chunk *raw() { return rows_; }

private:
    template <class T> const T *whole(std::span<const T> list) const {
        if (list.size() != size()) {
            wm_panic("a list of %zu rows for a chunk of %zu", list.size(), size());
        }
        return list.data();
    }
    wm_chunk *rows_;
};

/// One record at a time, over the same columns.
class Record {
public:
    explicit Record(wm_row *row) : row_(row) {}
    [[nodiscard]] std::size_t number() const { return wm_row_number(row_); }
    [[nodiscard]] std::int64_t offset() const { return wm_row_offset(row_); }
    [[nodiscard]] std::int64_t arrival_time() const { return wm_row_arrival_time(row_); }
    [[nodiscard]] std::string_view payload() const { return view(wm_row_payload(row_)); }
    [[nodiscard]] std::string_view key() const { return view(wm_row_key(row_)); }
    [[nodiscard]] std::optional<std::string_view> text(Field field) const {
        wm_string value;
        return wm_row_text(row_, field.raw, &value) == WM_VALUE ? std::optional(view(value)) : std::nullopt;
    }
    [[nodiscard]] std::optional<std::string_view> json(Field field) const {
        wm_string value;
        return wm_row_raw(row_, field.raw, &value) == WM_VALUE ? std::optional(view(value)) : std::nullopt;
    }
    [[nodiscard]] std::optional<std::int64_t> integer(Field field) const {
        std::int64_t value;
        return wm_row_int(row_, field.raw, &value) == WM_VALUE ? std::optional(value) : std::nullopt;
    }
    [[nodiscard]] std::optional<double> number(Field field) const {
        double value;
        return wm_row_float(row_, field.raw, &value) == WM_VALUE ? std::optional(value) : std::nullopt;
    }
    /// Whether the field is there, whatever its value; null counts.
    [[nodiscard]] bool has(Field field) const {
        wm_string value;
        return wm_row_raw(row_, field.raw, &value) != WM_MISSING;
    }
    void set(Field field, std::string_view value) { wm_row_set_text(row_, field.raw, wasmill::raw(value)); }
    void set_integer(Field field, std::int64_t value) { wm_row_set_int(row_, field.raw, value); }
    void set_number(Field field, double value) { wm_row_set_float(row_, field.raw, value); }
    void set_json(Field field, std::string_view value) { wm_row_set_raw(row_, field.raw, wasmill::raw(value)); }
    void set_null(Field field) { wm_row_set_null(row_, field.raw); }
    void remove(Field field) { wm_row_remove(row_, field.raw); }
    void drop() { wm_row_drop(row_); }
    void route(Output output) { wm_row_route(row_, output.raw); }
    /// One more record, a copy of this one as read; the copies replace it. Write to one copy after the other.
    [[nodiscard]] Record copy() { return Record(wm_row_copy(row_)); }
    wm_row *raw() { return row_; }

private:
    wm_row *row_;
};

/// Calls `work(Record &) -> Status` with every row; an error fails that record alone.
template <class Work> Status each(Rows &rows, Work &&work) {
    auto call = [](void *state, wm_row *row) -> wm_error {
        Record record(row);
        Status status = (*static_cast<std::remove_reference_t<Work> *>(state))(record);
        return status ? WM_OK : wm_errorf("%s", status.error().c_str());
    };
    wm_error wrong = wm_each_row(rows.raw(), call, &work);
    return wrong == WM_OK ? Status() : error(wrong);
}

// --- The plugin -----------------------------------------------------------------------------------------------------

template <class Plugin> struct Glue {
    static wm_error given(const Status &status) { return status ? WM_OK : wm_errorf("%s", status.error().c_str()); }
    static wm_error configure(void *state, wm_setup *setup) {
        Setup asked(setup);
        return given((new (state) Plugin())->configure(asked));
    }
    static wm_error process(void *state, wm_chunk *chunk) {
        Plugin &plugin = *static_cast<Plugin *>(state);
        Rows rows(chunk);
        if constexpr (requires { plugin.process(rows); }) {
            return given(plugin.process(rows));
        } else {
            return given(each(rows, [&plugin](Record &record) { return plugin.record(record); }));
        }
    }
    static void destroy(void *state) { static_cast<Plugin *>(state)->~Plugin(); }
};

} // namespace wasmill

#define WASMILL_PLUGIN(Plugin)                                                                                         \
    static_assert(alignof(Plugin) <= 16);                                                                              \
    extern "C" const wm_plugin wm_this_plugin = {sizeof(Plugin), wasmill::Glue<Plugin>::configure,                     \
                                                 wasmill::Glue<Plugin>::process, nullptr,                              \
                                                 wasmill::Glue<Plugin>::destroy}

#endif
