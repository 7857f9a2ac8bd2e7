//! What `plugins/sdk/conformance/README.md` asks for, in C++.

#include <cstdlib>
#include <map>
#include <vector>

#include "wasmill.hpp"

using namespace wasmill;

class Conformance {
public:
    Status configure(Setup &setup);
    Status process(Rows &rows) { return (this->*work)(rows); }

private:
    Status pass(Rows &) { return {}; }

    Status filter(Rows &rows) {
        Ints numbers = rows.ints(n);
        std::vector<std::uint8_t> keep;
        for (std::size_t row = 0; row < rows.size(); row++) {
            keep.push_back(numbers[row] && *numbers[row] % 2 == 0);
        }
        rows.keep(keep);
        return {};
    }

    Status map(Rows &rows) {
        Texts names = rows.text(name), greetings;
        Ints numbers = rows.ints(n), lengths, doubles;
        Floats floats = rows.floats(x), halves;
        for (std::size_t row = 0; row < rows.size(); row++) {
            if (auto who = names[row]) {
                std::int64_t scalars = 0;
                for (char byte : *who) {
                    scalars += (byte & 0xc0) != 0x80;
                }
                greetings.put(row, {"hello, ", *who});
                lengths.put(row, scalars);
            }
            if (auto number = numbers[row]) {
                doubles.put(row, *number * 2);
            }
            if (auto number = floats[row]) {
                halves.put(row, *number / 2);
            }
        }
        rows.set(greeting, greetings);
        rows.set(length, lengths);
        rows.set(n, doubles);
        rows.set(half, halves);
        return {};
    }

    Status split(Rows &rows) {
        Texts texts = rows.text(text), words;
        std::vector<std::uint32_t> sources;
        std::vector<std::uint8_t> keep;
        for (std::size_t row = 0; row < rows.size(); row++) {
            const std::size_t before = sources.size();
            std::string_view rest = texts[row].value_or("");
            while (!rest.empty()) {
                const std::size_t end = std::min(rest.find(' '), rest.size());
                if (end > 0) {
                    words.put(sources.size(), rest.substr(0, end));
                    sources.push_back(static_cast<std::uint32_t>(row));
                }
                rest.remove_prefix(std::min(end + 1, rest.size()));
            }
            // Rows that others come of are replaced; what has no word is dropped.
            keep.push_back(!texts[row] || sources.size() > before);
        }
        Rows derived = rows.derive(sources);
        derived.set(text, words);
        rows.keep(keep);
        derived.emit();
        return {};
    }

    Status enrich(Rows &rows) {
        Texts codes = rows.text(code), names;
        for (std::size_t row = 0; row < rows.size(); row++) {
            if (auto found = cities.find(codes[row].value_or("")); found != cities.end()) {
                names.put(row, found->second);
            }
        }
        rows.set(city, names);
        return {};
    }

    Status check(Rows &rows) {
        Ints numbers = rows.ints(n), doubles;
        for (std::size_t row = 0; row < rows.size(); row++) {
            if (auto number = numbers[row]) {
                doubles.put(row, *number * 2);
            } else {
                rows.fail(row, "n is no integer");
            }
        }
        rows.set(twice, doubles);
        return {};
    }

    /// Over one record at a time.
    Status raise(Rows &rows) {
        return each(rows, [this](Record &record) -> Status {
            std::string_view found = record.text(text).value_or("");
            return found.starts_with("boom") ? Status(error("cannot work on " + std::string(found))) : Status();
        });
    }

    Status at_now(Rows &rows) {
        Texts texts = rows.text(text);
        for (std::size_t row = 0; row < rows.size(); row++) {
            if (texts[row] == "now") {
                (this->*now)(rows, row);
            }
        }
        return {};
    }

    void trap(Rows &, std::size_t) { std::abort(); }

    void loop(Rows &, std::size_t) {
        for (volatile bool forever = true; forever;) {
        }
    }

    void hoard(Rows &, std::size_t) {
        std::vector<std::string> hoard;
        for (;;) {
            hoard.emplace_back(1 << 20, 'x');
        }
    }

    void flood(Rows &rows, std::size_t row) {
        Texts texts;
        texts.put(row, std::string(20 << 20, 'x'));
        rows.set(text, texts);
    }

    Status (Conformance::*work)(Rows &) = nullptr;
    void (Conformance::*now)(Rows &, std::size_t) = nullptr;
    Field name{}, greeting{}, length{}, n{}, x{}, half{}, twice{}, text{}, code{}, city{};
    std::map<std::string, std::string, std::less<>> cities;
};

Status Conformance::configure(Setup &setup) {
    using C = Conformance;
    const std::string_view what = setup.text("do", nullptr);
    const struct {
        std::string_view name;
        Status (C::*work)(Rows &);
        void (C::*now)(Rows &, std::size_t);
    } all[] = {
        {"pass", &C::pass, nullptr},      {"filter", &C::filter, nullptr}, {"map", &C::map, nullptr},
        {"split", &C::split, nullptr},    {"enrich", &C::enrich, nullptr}, {"check", &C::check, nullptr},
        {"raise", &C::raise, nullptr},    {"trap", &C::at_now, &C::trap},  {"loop", &C::at_now, &C::loop},
        {"hoard", &C::at_now, &C::hoard}, {"flood", &C::at_now, &C::flood},
    };
    for (const auto &one : all) {
        if (one.name == what) {
            work = one.work;
            now = one.now;
        }
    }
    if (work == nullptr) {
        return error("do is \"" + std::string(what) + "\", which is nothing that this plugin does");
    }
    name = setup.field("user", "name");
    greeting = setup.field("greeting");
    length = setup.field("length");
    n = setup.field("n");
    x = setup.field("x");
    half = setup.field("half");
    twice = setup.field("double");
    text = setup.field("text");
    code = setup.field("code");
    city = setup.field("city");
    if (what == "enrich") {
        auto table = setup.file("cities.csv");
        if (!table) {
            return error(table.error());
        }
        for (std::string_view rest = *table; !rest.empty();) {
            const std::string_view line = rest.substr(0, rest.find('\n'));
            if (const std::size_t comma = line.find(','); comma != line.npos) {
                cities.emplace(line.substr(0, comma), line.substr(comma + 1));
            }
            rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        }
    }
    return {};
}

WASMILL_PLUGIN(Conformance);
