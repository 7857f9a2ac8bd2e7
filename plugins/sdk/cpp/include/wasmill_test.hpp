//! Unit tests of a plugin in C++, on wasmill_test.h.
#ifndef WASMILL_TEST_HPP
#define WASMILL_TEST_HPP

#include <initializer_list>

#include "../test/wasmill_test.h"

namespace wasmill {

/// The records through the plugin; the outcome is valid until the next run.
inline const wm_outcome &test(const char *config, std::initializer_list<const char *> records) {
    return *wm_test_texts(config, records.begin(), records.size());
}

} // namespace wasmill

#endif
