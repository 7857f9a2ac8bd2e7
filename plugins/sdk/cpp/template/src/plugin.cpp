//! Greets everybody who has a name: {"name":"Ada"} becomes {"name":"Ada","greeting":"hello, Ada"}.

#include "wasmill.hpp"

class Greet {
public:
    /// Reads the config, and declares the fields that the plugin uses.
    wasmill::Status configure(wasmill::Setup &setup) {
        word = setup.text("word", "hello");
        name = setup.field("name");
        greeting = setup.field("greeting");
        return {};
    }

    /// Fields are read and written a whole chunk of records at a time. `Status record(Record &)` instead of this works
    /// on one record at a time.
    wasmill::Status process(wasmill::Rows &rows) {
        wasmill::Texts names = rows.text(name), greetings;
        for (std::size_t row = 0; row < rows.size(); row++) {
            if (auto who = names[row]) {
                greetings.put(row, {word, ", ", *who});
            } else if (names.state(row) == wasmill::State::other) {
                // A record that makes no sense becomes a dead letter with this reason; the others go on.
                rows.fail(row, "name is no text");
            }
            // No name: the record passes as it is.
        }
        rows.set(greeting, greetings);
        return {};
    }

private:
    std::string word;
    wasmill::Field name{}, greeting{};
};

WASMILL_PLUGIN(Greet);
