// The options of pith quantize, and the settings that they make. What the command does with them is
// in quantize.cc.
#pragma once

#include <string>
#include <vector>

#include "quant/quantize_pass.h"
#include "tools/compress_command.h"

namespace pith::tools {

struct QuantizeCommand : CompressCommand {
  std::string type = "w4", embedding_type = "w8", head_type = "w8", group;
  std::string method;             // empty: choose_method() decides (tools/default_method.h)
  bool method_is_chosen = false;  // by that
  bool windows_given = false;     // --nsamples or --seqlen
  std::string target_size, type_file, plan_out, costs;
  std::vector<std::string> candidates;
  double target_bpw = 0, max_kl = 0;
  bool mixed() const { return !target_size.empty() || target_bpw > 0 || max_kl > 0; }
  std::vector<std::string> ignore, tensor_types;
  bool symmetric = false, asymmetric = false, bf16_scales = false, two_level = false,
       rotate = false;
  GptqOptions gptq;
  double smooth_alpha = 0;
  bool static_inputs = false, no_order = false, no_search = false;
};

// Declares every option; the callback is the caller's.
CLI::App* add_quantize_options(CLI::App& app, QuantizeCommand& o);

// Error(kUsage) where options contradict each other or name no type.
QuantizeSettings settings_of(const QuantizeCommand& o);

}  // namespace pith::tools
