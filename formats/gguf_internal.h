// What the parts of the GGUF reader and writer share: gguf.cc, gguf_open.cc, gguf_write.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "formats/checkpoint.h"

namespace pith::gguf {

inline constexpr std::string_view kMagic = "GGUF";

enum ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// The bytes at hand end before the header does; with `needed` bytes parsing gets further.
class ShortPrefix : public Error {
 public:
  ShortPrefix(const std::string& name, uint64_t have, uint64_t need)
      : Error(ErrorKind::kCorrupt,
              fmt::format("{}: the header needs {} bytes, {} were given", name, need, have)),
        needed(need) {}
  uint64_t needed;
};

// A name out of a file, fit for one line of a message.
std::string in_quotes(std::string_view name);

// Error(kCorrupt) where two tensors share a name. Sorting, not hashing: no input makes it slower
// than n log n.
void check_unique_names(const std::vector<TensorInfo>& tensors, const std::string& name);

}  // namespace pith::gguf
