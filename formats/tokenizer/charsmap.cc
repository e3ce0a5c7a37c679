#include "formats/tokenizer/charsmap.h"

#include <cstring>

#include "core/bytes.h"
#include "core/utf8.h"

namespace pith {

Charsmap::Charsmap(std::string_view blob, const std::string& file) {
  if (blob.empty()) return;
  ByteReader reader(as_bytes(blob), file + ": precompiled_charsmap");
  const auto trie_bytes = reader.read<uint32_t>("trie size");
  if (trie_bytes % 4 != 0)
    fail(ErrorKind::kCorrupt, "{}: trie size {} is odd", reader.name(), trie_bytes);
  const auto trie = reader.bytes(trie_bytes, "trie");
  units_.resize(trie_bytes / 4);
  if (!units_.empty()) std::memcpy(units_.data(), trie.data(), trie_bytes);
  replacements_ = reader.text(reader.remaining(), "replacements");
  if (!replacements_.empty() && replacements_.back() != '\0') replacements_ += '\0';
  if (valid_utf8_prefix(replacements_) != replacements_.size()) {
    fail(ErrorKind::kCorrupt, "{}: replacements are not UTF-8", reader.name());
  }
}

std::optional<std::string_view> Charsmap::shortest(std::string_view text) const {
  const Match match = find(text, true);
  return match.length > 0 ? std::optional(match.text) : std::nullopt;
}

Charsmap::Match Charsmap::find(std::string_view text, bool first) const {
  Match best;
  if (units_.empty()) return best;
  const auto offset = [](uint32_t u) { return (u >> 10) << ((u & 512u) >> 6); };
  uint32_t position = offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    position ^= byte;
    if (byte == 0 || position >= units_.size()) break;
    const uint32_t unit = units_[position];
    if ((unit & 0x800000ffu) != byte) break;
    position ^= offset(unit);
    if (((unit >> 8) & 1u) == 0) continue;
    if (position >= units_.size()) break;
    const uint32_t at = units_[position] & 0x7fffffffu;
    // A replacement begins with a character, not inside of one, so that the result stays UTF-8.
    if (at >= replacements_.size() ||
        (static_cast<unsigned char>(replacements_[at]) & 0xc0u) == 0x80u)
      break;
    const size_t end = i + 1;
    if (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) continue;
    best = {end, std::string_view(replacements_.data() + at)};
    if (first) break;
  }
  return best;
}

std::string decode_base64(std::string_view text, const std::string& what) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    uint32_t value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<uint32_t>(c - 'a') + 26;
    } else if (c >= '0' && c <= '9') {
      value = static_cast<uint32_t>(c - '0') + 52;
    } else if (c == '+' || c == '/') {
      value = c == '+' ? 62 : 63;
    } else {
      fail(ErrorKind::kCorrupt, "{} is not base64", what);
    }
    bits = (bits << 6) | value;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out.push_back(static_cast<char>(static_cast<unsigned char>(bits >> held)));
    }
  }
  return out;
}

}  // namespace pith
