// The options of pith quantize, and the settings that they make. What the command does with them is
// in quantize.cc.
#pragma once

#include <string>
#include <vector>

#include "quant/quantize_pass.h"
#include "runtime/backends.h"
#include "tools/command.h"

namespace pith::tools {

struct QuantizeCommand : Common, ModelOptions {
  std::string output, type = "w4", embedding_type = "w8", head_type = "w8", group;
  std::vector<std::string> calibration;  // as given; empty: what the method needs
  std::string method;                    // empty: choose_method() decides (tools/default_method.h)
  bool method_is_chosen = false;         // by that
  bool windows_given = false;            // --nsamples or --seqlen
  std::string memory, target_size, type_file, plan_out, costs;
  std::vector<std::string> candidates;
  double target_bpw = 0, max_kl = 0;
  bool mixed() const { return !target_size.empty() || target_bpw > 0 || max_kl > 0; }
  std::vector<std::string> ignore, tensor_types;
  bool symmetric = false, asymmetric = false, dry_run = false, bf16_scales = false,
       two_level = false, rotate = false, restart = false;
  int64_t nsamples = 64, seqlen = 1024;
  GptqOptions gptq;
  double smooth_alpha = 0;
  int max_fallbacks = 0;
  bool static_inputs = false, no_order = false, no_search = false, no_sequential = false,
       no_propagate = false;
  uint64_t seed = 0;
  bool random_seed = false;  // --seed -1
  std::string device = "cpu";
  ExecutorChoice executor() const { return {.cuda = device == "cuda", .inputs = CpuInputs::kF32}; }
};

// Declares every option; the callback is the caller's.
CLI::App* add_quantize_options(CLI::App& app, QuantizeCommand& o);

// Error(kUsage) where options contradict each other or name no type.
QuantizeSettings settings_of(const QuantizeCommand& o);

// "90M": decimal units, as sizes are printed; 0 where the text is empty. Error(kUsage) naming the
// option.
uint64_t size_of(const char* option, const std::string& text);

}  // namespace pith::tools
