// One value as text by a format, which both ways of formatting (format.h) read into a Spec.
#pragma once

#include <cstdint>
#include <string_view>

#include "formats/jinja/interpreter.h"

namespace pith::jinja {

struct Spec {
  Text fill = Text(" ", Origin::kTemplate);
  char align = '\0';  // < > ^ =
  char sign = '-';    // + - or space
  bool alternate = false;
  bool zero = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

// Reads a number at s[at] and moves `at` after it; -1 where there is none.
int64_t read_count(Meter& meter, std::string_view s, size_t& at);

// Appends `body`, filled up to the width of the spec.
void pad(Meter& meter, const Text& body, const Spec& spec, char align, Text& out);
void put_double(Meter& meter, double d, Spec spec, Text& out);
void put_integer(Meter& meter, int64_t n, const Spec& spec, Text& out);

Text character(Meter& meter, int64_t code);  // of this number in Unicode
Text cut(const Text& text, int64_t chars);   // to so many characters; < 0: all of them

}  // namespace pith::jinja
