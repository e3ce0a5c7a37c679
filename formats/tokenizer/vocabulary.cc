#include "formats/tokenizer/vocabulary.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "formats/printable.h"

namespace pith {

void Vocabulary::add(std::string_view token, uint64_t id, const std::string& file) {
  if (id >= kMaxIds)
    fail(ErrorKind::kCorrupt, "{}: token id {} is not below {}", file, id, kMaxIds);
  if (token.size() > kMaxTokenBytes) {
    fail(ErrorKind::kCorrupt, "{}: token {} has {} bytes, more than {}", file, id, token.size(),
         kMaxTokenBytes);
  }
  if (id >= tokens_.size()) {
    tokens_.resize(id + 1);
    used_.resize(id + 1);
    hidden_.resize(id + 1);
  }
  if (used_[id] && tokens_[id] != token) {
    fail(ErrorKind::kCorrupt, "{}: token id {} is both {} and {}", file, id, printable(tokens_[id]),
         printable(token));
  }
  if (!used_[id]) ++count_;
  tokens_[id] = token;
  used_[id] = true;
  ids_.insert_or_assign(std::string(token), static_cast<int32_t>(id));
}

void Vocabulary::check_density(const std::string& file) const {
  const auto range = static_cast<ptrdiff_t>(tokens_.size());
  if (range > 4096 && count_ < range / 2) {
    fail(ErrorKind::kCorrupt, "{}: {} tokens have ids up to {}: too many gaps", file, count_,
         range - 1);
  }
}

int32_t Vocabulary::require(std::string_view token, const std::string& file,
                            const char* what) const {
  const int32_t id = find(token);
  if (id < 0)
    fail(ErrorKind::kCorrupt, "{}: {} {} is not in the vocabulary", file, what, printable(token));
  return id;
}

std::optional<unsigned char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned char byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return byte;
}

ByteFallback::ByteFallback(const Vocabulary& vocabulary) {
  ids_.assign(256, -1);
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (size_t b = 0; b < 256; ++b) {
    const char token[] = {'<', '0', 'x', kDigits[b / 16], kDigits[b % 16], '>'};
    ids_[b] = vocabulary.find({token, sizeof(token)});
  }
}

bool ByteFallback::append(std::string_view bytes, std::vector<int32_t>& ids) const {
  if (ids_.empty()) return false;
  const size_t before = ids.size();
  for (const char c : bytes) {
    const int32_t id = ids_[static_cast<unsigned char>(c)];
    if (id < 0) {
      ids.resize(before);
      return false;
    }
    ids.push_back(id);
  }
  return true;
}

}  // namespace pith
