#include "formats/type_names.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr TypeHelp kTypes[] = {
    {"w8", "8-bit integers, groups of 64: 8.25 bits per weight, no loss to speak of"},
    {"w6", "6-bit integers with zero points, groups of 64: 6.34 bits"},
    {"w5", "5-bit integers with zero points, groups of 64: 5.33 bits"},
    {"w4", "4-bit integers with zero points, groups of 64: 4.31 bits, the usual choice"},
    {"w3", "3-bit integers with zero points, groups of 64: 3.3 bits, visible loss"},
    {"w2", "2-bit integers with zero points, groups of 64: 2.3 bits, needs a calibrated method"},
    {"tcq4", "4-bit trellis codes, groups of 64: 4.25 bits, closer than w4, slower to compress"},
    {"tcq3", "3-bit trellis codes, groups of 64: 3.25 bits"},
    {"tcq2", "2-bit trellis codes, groups of 64: 2.25 bits"},
    {"nf4", "4-bit normal floats, groups of 64: 4.25 bits"},
    {"mxfp4", "4-bit floats, powers of two for 32: 4.25 bits, what gpt-oss was trained in"},
    {"fp8", "8-bit floats e4m3, one scale a row: 8 bits (also fp8e5m2, fp8-tensor, fp8-128x128)"},
    {"w8a8", "8-bit integers, one scale a row, and 8-bit inputs, one scale a token"},
    {"w4a8", "4-bit integers, 8-bit scales of groups of 128, and 8-bit inputs"},
    {"fp8_dynamic", "8-bit floats e4m3, one scale a row, and inputs in e4m3, one scale a token"},
    {"fp8_block", "the same with scales of 128 x 128 weights and of 128 inputs"},
    {"f16", "16-bit floats (also bf16, f32): dense"},
};

constexpr InputEncoding kPlain = {}, kInt8Token = {.dtype = DType::kI8},
                        kFp8Token = {.dtype = DType::kF8E4M3},
                        kFp8Tensor = {.dtype = DType::kF8E4M3, .scale = InputScale::kTensor},
                        kFp8Block = {.dtype = DType::kF8E4M3, .scale = InputScale::kBlock128};

// A name of an encoding and of a rounding of inputs.
struct Named {
  const char* name;
  const char* encoding;
  InputEncoding input;
};

constexpr Named kOwn[] = {
    {"w8a8", "int8-row", kInt8Token},
    {"w4a8", "int4-g128-s8", kInt8Token},
    {"fp8_dynamic", "fp8e4m3-row", kFp8Token},
    {"fp8_block", "fp8e4m3-128x128", kFp8Block},
    {"int8", "int8-g64", kPlain},
    {"int4", "int4-g64-asym", kPlain},
    {"nf4", "nf4-g64", kPlain},
    {"tcq4", "tcq4-g64", kPlain},
    {"tcq3", "tcq3-g64", kPlain},
    {"tcq2", "tcq2-g64", kPlain},
    {"fp8", "fp8e4m3-row", kPlain},
    {"mxfp4", "mxfp4", kPlain},
};

// The presets of compressed-tensors (quantization/quant_scheme.py of version 0.20.1) that pith has.
// W8A16 had one scale a row up to version 0.12, and has groups of 128 now, as all weights-only
// integers have.
constexpr Named kSchemes[] = {
    {"W8A16", "int8-g128", kPlain},
    {"W6A16", "int6-g128", kPlain},
    {"W5A16", "int5-g128", kPlain},
    {"W4A16", "int4-g128", kPlain},
    {"W4A16_ASYM", "int4-g128-asym", kPlain},
    {"W3A16", "int3-g128", kPlain},
    {"W2A16", "int2-g128", kPlain},
    {"W8A8", "int8-row", kInt8Token},
    {"INT8", "int8-row", kInt8Token},
    {"W4A8", "int4-g128", kInt8Token},
    {"FP8", "fp8e4m3-tensor", kFp8Tensor},
    {"FP8_DYNAMIC", "fp8e4m3-row", kFp8Token},
    {"FP8_BLOCK", "fp8e4m3-128x128", kFp8Block},
    {"MXFP4A16", "mxfp4", kPlain},
};

// Schemes that pith does not have, and the nearest type.
struct Missing {
  const char *name, *why;
};
constexpr Missing kMissing[] = {
    {"NVFP4", "pith has no NVFP4; mxfp4 (MXFP4A16) is nearest, with inputs as they are"},
    {"NVFP4A16", "pith has no NVFP4; mxfp4 (MXFP4A16) and nf4 are nearest"},
    {"MXFP4",
     "as a scheme of compressed-tensors it rounds inputs to 4 bits as well, which pith "
     "does not; mxfp4 (MXFP4A16) keeps them"},
    {"MXFP4XFP8", "pith does not round inputs so; mxfp4 (MXFP4A16) keeps them"},
    {"MXFP6A16", "pith has no MXFP6; w6 is nearest"},
    {"MXFP6A8", "pith has no MXFP6; w6 is nearest"},
    {"MXFP8A16", "pith has no MXFP8; fp8 is nearest"},
    {"MXFP8", "pith has no MXFP8; fp8_dynamic is nearest"},
    {"W4AFP8", "pith does not round inputs to fp8 for integers; w4a8 and W4A8 round them to int8"},
    {"W7A16", "there are 2, 3, 4, 5, 6 and 8 bits"},
    {"W7A8", "there are 2, 3, 4, 5, 6 and 8 bits"},
    {"UNQUANTIZED", "bf16, f16 and f32 store numbers as floats"},
};

// The beginnings of names of encodings.
constexpr const char* kEncodingNames[] = {"int",  "tcq",   "nf4",  "fp8",
                                          "f16-", "bf16-", "f32-", "mxfp4-"};

std::string cased(const std::string& text, int (*to)(int)) {
  std::string out = text;
  for (char& c : out) c = static_cast<char>(to(static_cast<unsigned char>(c)));
  return out;
}

template <class Row>
const Row* row_of(std::span<const Row> table, const std::string& name) {
  const auto it = std::ranges::find(table, name, [](const Row& r) { return std::string(r.name); });
  return it == table.end() ? nullptr : &*it;
}

// pith's own names are in lower case; any other spelling means the scheme, if there is one.
// Error(kUsage) for a scheme that pith does not have.
const Named* named(const std::string& type) {
  if (const auto* own = row_of<Named>(kOwn, type)) return own;
  if (const auto* scheme = row_of<Named>(kSchemes, cased(type, std::toupper))) return scheme;
  if (const auto* missing = row_of<Missing>(kMissing, cased(type, std::toupper)))
    fail(ErrorKind::kUsage, "type {}: {}", printable(type), missing->why);
  return row_of<Named>(kOwn, cased(type, std::tolower));
}

std::string all_types() {
  std::string text;
  for (const auto& t : kTypes) text += std::string(text.empty() ? "" : " ") + t.name;
  return text + "; all names: pith quantize --help";
}

// Throws a helpful error for names that other programs use; returns for unknown ones.
void refuse_by_name(const std::string& type) {
  const std::string upper = cased(type, std::toupper), lower = cased(type, std::tolower);
  const std::string shown = printable(type);
  for (const char* method : {"gptq", "awq", "smoothquant", "rtn", "minmax", "awq+gptq"}) {
    if (lower == method) fail(ErrorKind::kUsage, "{} is a method: --method {}", shown, lower);
  }
  // Q4_K_M, Q8_0, IQ3_XXS, TQ1_0, ...
  const size_t q = upper.find('Q');
  if (q <= 1 && q + 2 < upper.size() && upper[q + 1] >= '1' && upper[q + 1] <= '8' &&
      upper[q + 2] == '_') {
    const char bits = upper[q + 1] == '1' ? '2' : upper[q + 1] == '7' ? '8' : upper[q + 1];
    fail(ErrorKind::kUsage,
         "no type {}: GGUF's types are read, not written; nearest: w{}. Types: {}", shown, bits,
         all_types());
  }
  if (lower.size() >= 4 && lower[0] == 'w' && lower[1] >= '0' && lower[1] <= '9' &&
      lower.find('a') != std::string::npos) {
    fail(ErrorKind::kUsage,
         "type {}: w8a8, w4a8, W4A8, FP8, fp8_dynamic and fp8_block are the types with rounded "
         "inputs",
         shown);
  }
  if (lower.size() >= 2 && lower[0] == 'w' && lower[1] >= '0' && lower[1] <= '9' &&
      lower.find_first_not_of("0123456789", 1) == lower.npos) {
    fail(ErrorKind::kUsage, "no type {}: there are 2, 3, 4, 5, 6 and 8 bits. Types: {}", shown,
         all_types());
  }
  const auto begins = [&](const char* with) { return lower.starts_with(with); };
  if (std::ranges::any_of(kEncodingNames, begins) ||
      (lower.size() >= 2 && lower[0] == 'w' && lower[1] >= '0' && lower[1] <= '9')) {
    return;  // the encodings' own messages say what is wrong with it
  }
  fail(ErrorKind::kUsage, "no type {}. Types: {}", shown, all_types());
}

}  // namespace

std::span<const TypeHelp> type_help() { return kTypes; }

Encoding encoding_for_type(const std::string& type, int64_t group, std::optional<bool> symmetric) {
  Encoding e;
  const std::string lower = cased(type, std::tolower);
  if (const Named* known = named(type)) {
    e = parse_encoding(known->encoding);
  } else if (lower.size() == 2 && lower[0] == 'w' && lower[1] >= '2' && lower[1] <= '8') {
    const int bits = lower[1] - '0';
    e = Encoding::integer(bits, 64, symmetric.value_or(bits == 8));
  } else {
    const auto read = [&]() -> std::optional<Encoding> {
      try {
        return parse_encoding(lower);
      } catch (const Error&) {
        refuse_by_name(type);
        throw;
      }
    };
    e = *read();
  }
  const bool integers = e.value_kind() == EncodingKind::kInt, groups = e.has_group_scales();
  if (group >= 0) {
    if (!groups) fail(ErrorKind::kUsage, "type {} has no groups", printable(type));
    if (group != 0 && group != 16 && group != 32 && group != 64 && group != 128)
      fail(ErrorKind::kUsage, "--group-size {}: choose 16, 32, 64, 128 or row", group);
    e.group = group;
  }
  if (symmetric && integers) e.symmetric = *symmetric;
  if (symmetric && !*symmetric && !integers)
    fail(ErrorKind::kUsage, "type {} has no zero points (--asym)", printable(type));
  ops(e.kind).check(e);
  return e;
}

bool is_type_name(const std::string& name) {
  if (row_of<Missing>(kMissing, cased(name, std::toupper)) != nullptr) return true;
  try {
    encoding_for_type(name);
    return true;
  } catch (const Error&) {
    return false;
  }
}

InputEncoding input_for_type(const std::string& type) {
  const Named* known = named(type);
  return known != nullptr ? known->input : InputEncoding{};
}

}  // namespace pith
