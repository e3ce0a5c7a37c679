// How a cache stores the numbers of keys and values. Both may differ: scores suffer more from
// errors of keys than the output does from errors of values.
//
//   f32 f16 bf16   as they are
//   int8           s q, one f32 s a token and head: the largest magnitude is 127 s
//   fp8            s e4m3(q), the same: the largest magnitude is 448 s
//   int4           m + s q in groups of 32 channels of a token and head, s and m f16: the range of
//                  the group
//
// Keys in int8 and int4 are stored rotated by a Hadamard transform of the head, and queries are
// multiplied by the same one, so that scores stay what they are: a few channels of keys are many
// times as large as the others (KVQuant, Hooper et al. 2024; QuaRot, Ashkboos et al. 2024), and
// would take the whole range for themselves.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "formats/encodings/number_format.h"

namespace pith {

// The types of caches are kF32, kF16, kBF16, kInt8, kE4M3 (fp8) and kInt4.
const char* kv_type_name(NumberFormat type);  // "int8"; Error(kUsage) for what no cache has

struct KvTypes {
  NumberFormat keys, values;

  KvTypes(NumberFormat both) : keys(both), values(both) {}
  KvTypes(NumberFormat k, NumberFormat v) : keys(k), values(v) {}
  friend bool operator==(const KvTypes&, const KvTypes&) = default;
};

std::string to_string(const KvTypes& types);  // "f16", "k:int8,v:int4"

// "int8" for both, "k:int8,v:int4", or one of these two, the other staying what it was.
// Error(kUsage) listing what exists.
KvTypes parse_kv_types(std::string_view text, KvTypes otherwise);

}  // namespace pith
