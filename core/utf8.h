// UTF-8, and the few Unicode properties and normal forms that tokenizers ask for (tables of
// utf8proc). All text that goes through a tokenizer is valid UTF-8: valid_utf8_or_replaced is its
// gate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/function_ref.h"

namespace pith {

// Bytes of the sequence that begins with this lead byte; 1 for bytes that cannot lead.
inline size_t utf8_length(char lead) {
  const auto b = static_cast<unsigned char>(lead);
  return b < 0xc0 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf8 ? 4 : 1;
}
// The code point at text[at] of valid UTF-8; `at` moves behind it.
char32_t next_code_point(std::string_view text, size_t& at);
void append_utf8(std::string& to, char32_t c);

// Bytes of the longest valid prefix.
size_t valid_utf8_prefix(std::string_view text);
// Whether `text` is the beginning of a sequence that more bytes can complete (not empty, not
// whole).
bool is_incomplete_utf8(std::string_view text);
// Every maximal invalid part becomes U+FFFD. With `keep_tail` an incomplete sequence at the end
// stays.
std::string valid_utf8_or_replaced(std::string_view text, bool keep_tail = false);

bool is_white_space(char32_t c);        // property White_Space
bool is_numeric(char32_t c);            // Nd, Nl, No
bool is_punctuation(char32_t c);        // P*, or ASCII punctuation, which counts $+<=>^`|~ too
bool is_mark(char32_t c);               // Mn, Mc, Me
bool is_nonspacing_mark(char32_t c);    // Mn
bool is_control_or_format(char32_t c);  // Cc, Cf, Co
bool is_word(char32_t c);               // letters, marks, digits, connectors
void append_lower(std::string& to, char32_t c);  // full mapping of one character, no context

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
// O(n log n) also for hostile runs of combining marks. Calls `made(n)` now and then with the number
// of characters so far; it may throw.
std::string normal_form(
    std::string_view text, NormalForm form, FunctionRef<void(size_t)> made = [](size_t) {});

// End of the extended grapheme cluster that begins at text[at].
size_t grapheme_end(std::string_view text, size_t at);

}  // namespace pith
