// A model turns one piece of normalized text into ids. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace pith {

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the ids of `word`, which is valid UTF-8 and not empty.
  virtual void encode(std::string_view word, std::vector<int32_t>& ids) const = 0;
};

}  // namespace pith
