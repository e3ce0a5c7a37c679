#include "formats/tokenizer/byte_level.h"

#include <array>

#include "core/utf8.h"

namespace pith {
namespace {

struct Tables {
  std::array<std::string, 256> spelled;
  std::array<int, 0x144> byte;  // of a character below U+0144, -1 where it spells none
};

const Tables& tables() {
  static const Tables made = [] {
    Tables t;
    t.byte.fill(-1);
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) {
      const bool prints = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      const char32_t c = prints ? b : next++;
      append_utf8(t.spelled[b], c);
      t.byte[c] = static_cast<int>(b);
    }
    return t;
  }();
  return made;
}

}  // namespace

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void append_byte_level(std::string& to, std::string_view bytes) {
  const Tables& t = tables();
  for (const char b : bytes) to += t.spelled[static_cast<unsigned char>(b)];
}

std::string from_byte_level(std::string_view text) {
  const Tables& t = tables();
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    const int byte = c < t.byte.size() ? t.byte[c] : -1;
    if (byte < 0) return std::string(text);
    out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  }
  return out;
}

}  // namespace pith
