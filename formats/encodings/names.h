// Helpers for the names of encodings: "int4-g64-asym" is parts joined by '-'.
#pragma once

#include <charconv>
#include <string_view>
#include <vector>

namespace pith {

inline std::vector<std::string_view> split_name(std::string_view name) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t dash = name.find('-');
    parts.push_back(name.substr(0, dash));
    if (dash == std::string_view::npos) return parts;
    name.remove_prefix(dash + 1);
  }
}

// The whole text as a decimal integer.
template <class T>
bool parse_whole(std::string_view text, T* to) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *to);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace pith
