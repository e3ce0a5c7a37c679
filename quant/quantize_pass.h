// Quantization as a pass: which linear gets which encoding, by which method.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quant/gptq.h"
#include "quant/method.h"
#include "quant/scaling.h"
#include "runtime/compress/pass.h"

namespace pith {

struct QuantizeSettings {
  Encoding linears = {};  // of every block
  Encoding embedding = Encoding::integer(8, 64);
  Encoding head = Encoding::integer(8, 64);
  // A method of rounding (methods()), a scaling (scalings(), rounds by rtn), or "scaling+method".
  std::string method = "rtn";
  double smooth_alpha = 0;  // 0: the one that changes the output of each sublayer least
  // How the inputs of the blocks' linears are rounded. kTensor: the value comes from calibration.
  InputEncoding input = {};
  GptqOptions gptq = {};
  // Patterns of linears: a whole name ("layers.3.mlp.down"), a role ("down", "head"), with * and ?,
  // or "re:" and a regular expression that is searched for. "lm_head" and "embed_tokens" mean head
  // and embedding.
  std::vector<std::string> ignore = {};                          // stay as they are
  std::vector<std::pair<std::string, Encoding>> overrides = {};  // the last that matches counts
};

// A name or scheme that users of other tools know, to an encoding: w4 w3 ... W4A16 W8A16 fp8 nf4
// f16, or a name of to_string(). `group` -1 and `symmetric` unset: what is customary for the type.
// Error(kUsage) with the list.
Encoding encoding_for_type(const std::string& type, int64_t group = -1,
                           std::optional<bool> symmetric = {});

// How the inputs are rounded that a type speaks of: w8a8 W4A8 FP8_DYNAMIC FP8_BLOCK; none for
// others.
InputEncoding input_for_type(const std::string& type);

struct TypeHelp {
  const char* name;
  const char* summary;
};
std::span<const TypeHelp> type_help();

std::unique_ptr<Pass> make_quantize_pass(const QuantizeSettings& settings);

bool matches_linear(const std::string& pattern, const LinearInfo& info);

}  // namespace pith
