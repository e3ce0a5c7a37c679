// Names of types of linear layers, as users write them: pith's own, encodings in full, and the
// schemes of compressed-tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "formats/encodings/encoding.h"
#include "formats/encodings/input.h"

namespace pith {

// A name of pith's own to an encoding (w4 w3 nf4 fp8 f16 ..., or a name of to_string()), or a
// scheme of compressed-tensors (W4A16, FP8_DYNAMIC, ...), which means exactly what it means there.
// Names of schemes may be written in small letters where pith has no type of that name (w4a8, fp8,
// int8 and mxfp4 are pith's own). `group` -1 and `symmetric` unset: what is customary for the type.
// Error(kUsage) with what is nearest, or the list.
Encoding encoding_for_type(const std::string& type, int64_t group = -1,
                           std::optional<bool> symmetric = {});

// Whether it names a type, or a scheme that pith knows but does not have.
bool is_type_name(const std::string& name);

// The rounding of the inputs that a type implies: w8a8 w4a8 W4A8 FP8 FP8_DYNAMIC FP8_BLOCK; none
// for others.
InputEncoding input_for_type(const std::string& type);

struct TypeHelp {
  const char* name;
  const char* summary;
};
std::span<const TypeHelp> type_help();

}  // namespace pith
