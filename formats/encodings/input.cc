#include "formats/encodings/input.h"

#include <cmath>

#include "core/error.h"

namespace pith {
namespace {

constexpr const char* kScaleNames[] = {"token", "tensor", "block128"};

}  // namespace

std::string to_string(const InputEncoding& e) {
  if (!e.rounds()) return info(e.dtype).name;
  return fmt::format("{}-{}", info(e.dtype).name, kScaleNames[static_cast<size_t>(e.scale)]);
}

InputEncoding parse_input_encoding(std::string_view name) {
  for (const DType dtype : {DType::kF32, DType::kI8, DType::kF8E4M3}) {
    for (const auto scale : {InputScale::kToken, InputScale::kTensor, InputScale::kBlock128}) {
      const InputEncoding e{.dtype = dtype, .scale = scale};
      if (to_string(e) == name) return e.rounds() ? e : InputEncoding{};
    }
  }
  fail(ErrorKind::kUsage,
       "a rounding of inputs is expected: f32 (none), i8-token, f8e4m3-token, f8e4m3-tensor, ...");
}

void check(const InputEncoding& e) {
  if (!e.rounds()) return;
  if (e.dtype != DType::kI8 && e.dtype != DType::kF8E4M3)
    fail(ErrorKind::kUsage, "inputs are rounded to i8 or f8e4m3, not to {}", info(e.dtype).name);
  if (e.scale == InputScale::kTensor && (!std::isnormal(e.value) || e.value < 0))
    fail(ErrorKind::kUsage, "{} is no scale of inputs", e.value);
}

}  // namespace pith
