// The character map of SentencePiece (precompiled_charsmap): from byte strings to their
// replacements.
//
// Layout: u32 size of the trie in bytes, the trie, then replacements, each ended by NUL. The trie
// is a double array of u32 units (darts-clone). The root is unit 0; from a unit at p the byte b
// leads to q = p ^ offset(unit) ^ b, which exists where its label is b; if it has a leaf, the unit
// at q ^ offset(unit q) holds in its low 31 bits where the replacement begins. offset(u) = (u >>
// 10) << ((u & 512) >> 6), leaf(u) = u >> 8 & 1, label(u) = u & 0x800000ff.
//
// Every step is checked against the array's size. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pith {

class Charsmap {
 public:
  Charsmap() = default;                                      // maps nothing
  Charsmap(std::string_view blob, const std::string& file);  // Error(kCorrupt)

  struct Match {
    size_t length = 0;  // of the prefix that is replaced; 0: none
    std::string_view text;
  };
  Match longest(std::string_view text) const { return find(text, false); }
  std::optional<std::string_view> shortest(std::string_view text) const;

 private:
  Match find(std::string_view text, bool first) const;
  std::vector<uint32_t> units_;
  std::string replacements_;
};

// Standard alphabet. Error(kCorrupt) naming `what`.
std::string decode_base64(std::string_view text, const std::string& what);

}  // namespace pith
