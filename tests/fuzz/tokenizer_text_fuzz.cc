// tokenizer.json and a text for it in one input, with a NUL between: either an Error, or ids and a
// text back whose cost is bounded by the input: no more ids than bytes that the budget of a text
// (text_budget.h) lets components make, and seconds at most. Without a NUL the input is a pattern,
// which is translated, compiled and matched against itself.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "core/error.h"
#include "core/regex/regex.h"
#include "core/utf8.h"
#include "formats/tokenizer/tokenizer.h"

namespace {

void check(bool holds) {
  if (!holds) std::abort();
}

void match(std::string_view pattern) {
  const pith::Regex regex(pattern, "fuzz");
  const std::string text = pith::valid_utf8_or_replaced(pattern);
  size_t last = 0;
  bool any = false;
  regex.for_each_match(text, [&](size_t begin, size_t end) {
    check(begin >= last && end >= begin && end <= text.size());
    check(!any || end > last);
    any = true;
    last = end;
  });
}

void tokenize(std::string_view json, std::string_view text) {
  const auto tokenizer = pith::make_json_tokenizer(json, "");
  const size_t most = 68 * text.size() + (size_t{1} << 17);
  for (const bool special : {false, true}) {
    const auto ids = tokenizer->encode(text, {.add_special = special, .parse_special = special});
    check(ids.size() <= 3 * most + 1024);  // U+FFFD for a byte that is none
    size_t bytes = 0;
    for (const int32_t id : ids) bytes += tokenizer->token_text(id).size();
    check(tokenizer->decode(ids, special).size() <= 68 * bytes + (size_t{1} << 17));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::clock_t begin = std::clock();
  const size_t end = input.find('\0');
  try {
    if (end == std::string_view::npos) {
      match(input);
    } else {
      tokenize(input.substr(0, end), input.substr(end + 1));
    }
  } catch (const pith::Error&) {
  }
  check(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC < 60);  // instrumented builds
  return 0;
}
