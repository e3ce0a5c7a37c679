// Quantization as a pass: which linear gets which encoding, by which method.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quant/gptq.h"
#include "quant/method.h"
#include "quant/scaling.h"
#include "runtime/compress/pass.h"
#include "runtime/compress/settings.h"

namespace pith {

struct QuantizeSettings {
  Encoding linears = {};  // of every block
  Encoding embedding = Encoding::integer(8, 64);
  Encoding head = Encoding::integer(8, 64);
  MethodChoice method = {};
  double smooth_alpha = 0;  // 0: the one that changes the output of each sublayer least
  // How the inputs of the blocks' linears are rounded. kTensor: the value comes from calibration.
  InputEncoding input = {};
  GptqOptions gptq = {};
  // Patterns of linears: runtime/model/patterns.h.
  std::vector<std::string> ignore = {};                          // stay as they are
  std::vector<std::pair<std::string, Encoding>> overrides = {};  // the last that matches counts
};

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

// The settings that a pass really applies and records: gptq and the scalings become rtn where no
// linear gets a type that they can round.
QuantizeSettings effective_settings(const QuantizeSettings& settings);

// Words of recipes (runtime/compress/settings.h). An encoding is read as by encoding_for_type().
std::string to_setting(const Encoding& e);
void from_setting(const std::string& text, Encoding* to);
std::string to_setting(const InputEncoding& e);
void from_setting(const std::string& text, InputEncoding* to);
std::string to_setting(const MethodChoice& m);
void from_setting(const std::string& text, MethodChoice* to);

// The settings of a step `quantize` of a recipe. A type is a name for encoding_for_type(), and means
// the rounding of inputs that it implies where `inputs` says nothing; without a method it is gptq
// where that gains, else rtn. Error(kUsage).
QuantizeSettings read_quantize_settings(SettingsReader& reader);

std::unique_ptr<Pass> make_quantize_pass(const QuantizeSettings& settings);

}  // namespace pith
