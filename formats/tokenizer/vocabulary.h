// Tokens by id and ids by token. Ids are below 2^21, tokens at most 4096 bytes; ids may have gaps,
// but less than half of the range may be missing. Of equal tokens with different ids, id_of gives
// the last one added.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace pith {

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};
template <class T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

class Vocabulary {
 public:
  static constexpr uint64_t kMaxIds = uint64_t{1} << 21;
  static constexpr size_t kMaxTokenBytes = 4096;

  // Error(kCorrupt) naming `file` where the id is out of range, already taken by another token, or
  // the token too long.
  void add(std::string_view token, uint64_t id, const std::string& file);
  void check_density(const std::string& file) const;

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t count() const { return count_; }  // of ids that are used
  bool has(int32_t id) const { return id >= 0 && id < size() && used_[static_cast<size_t>(id)]; }
  const std::string& token(int32_t id) const { return tokens_[static_cast<size_t>(id)]; }
  int32_t find(std::string_view token) const {  // -1 where missing
    const auto it = ids_.find(token);
    return it == ids_.end() ? -1 : it->second;
  }
  // As find, for the text of users: hidden tokens (special ones) are missing.
  int32_t match(std::string_view token) const {
    const int32_t id = find(token);
    return id >= 0 && hidden_[static_cast<size_t>(id)] ? -1 : id;
  }
  void hide(int32_t id) { hidden_[static_cast<size_t>(id)] = true; }
  bool is_hidden(int32_t id) const { return hidden_[static_cast<size_t>(id)]; }
  int32_t require(std::string_view token, const std::string& file,
                  const char* what) const;  // Error(kCorrupt)

 private:
  std::vector<std::string> tokens_;
  std::vector<bool> used_, hidden_;
  StringMap<int32_t> ids_;
  int32_t count_ = 0;
};

// The byte that a token "<0xHH>" stands for; exactly that form, two hexadecimal digits.
std::optional<unsigned char> byte_of_token(std::string_view token);

// Ids of the tokens "<0x00>" ... "<0xFF>".
class ByteFallback {
 public:
  ByteFallback() = default;
  explicit ByteFallback(const Vocabulary& vocabulary);
  // Appends one id per byte and returns true, or appends nothing where one is missing.
  bool append(std::string_view bytes, std::vector<int32_t>& ids) const;

 private:
  std::vector<int32_t> ids_;  // empty, or 256; -1 where missing
};

}  // namespace pith
