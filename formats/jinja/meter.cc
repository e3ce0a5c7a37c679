#include "formats/jinja/meter.h"

#include "formats/jinja/characters.h"
#include "formats/jinja/text.h"

namespace pith::jinja {

std::string Meter::without_controls(const std::string& message) {
  constexpr size_t kMaxBytes = 2000;
  std::string result;
  for (size_t at = 0; at < message.size();) {
    const Char c = char_at(message, at);
    if (c.code >= 0x110000) {
      result += fmt::format("\\x{:02x}", c.code - 0x110000);
    } else if (!is_printable(c.code)) {
      result += fmt::format("\\u{{{:x}}}", static_cast<uint32_t>(c.code));
    } else {
      result.append(message, at, c.length);
    }
    at += c.length;
    if (result.size() > kMaxBytes) return result + "...";
  }
  return result;
}

}  // namespace pith::jinja
