// Quantization as a pass: which linear gets which encoding, by which method.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/type_names.h"
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

// The settings that a pass really applies and records: gptq and the scalings become rtn where no
// linear gets a type that they can round.
QuantizeSettings effective_settings(const QuantizeSettings& settings);

// Words of recipes (runtime/compress/settings.h).
std::string to_setting(const MethodChoice& m);
void from_setting(const std::string& text, MethodChoice* to);

// The settings of a step `quantize` of a recipe. A type is a name for encoding_for_type(), and means
// the rounding of inputs that it implies where `inputs` says nothing; without a method it is gptq
// where that gains, else rtn. Error(kUsage).
QuantizeSettings read_quantize_settings(SettingsReader& reader);

std::unique_ptr<Pass> make_quantize_pass(const QuantizeSettings& settings);

}  // namespace pith
