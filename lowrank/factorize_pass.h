// Low-rank factorization as a pass: W becomes up (w x) where that has fewer parameters.
//
//   svd      the truncated singular value decomposition of W
//   svd-llm  of W S for the inputs of a text, aimed at the uncompressed model's output
//            (Wang et al. 2024 and 2025; factors.h, stage_inputs.h)
//
// The factors are stored in f16 (or as asked); a pass behind this one rounds them (GPTQ: `up` for
// the inputs that the rounded `w` gives). Embedding, head and routers stay as they are, and so does
// a linear whose factors would have as many parameters as itself: its record says so.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lowrank/ranks.h"
#include "lowrank/stage_inputs.h"
#include "runtime/compress/pass.h"
#include "runtime/compress/settings.h"

namespace pith {

enum class FactorizeMethod : uint8_t { kSvd, kSvdLlm };
const char* method_name(FactorizeMethod method);
// "svd", "svd-llm"; Error(kUsage) with what is nearest, or the list.
FactorizeMethod parse_factorize_method(std::string_view name);

struct FactorizeSettings {
  FactorizeMethod method = FactorizeMethod::kSvdLlm;
  double keep_params = 0.8;      // of each linear's parameters, above 0 and below 1
  int64_t rank = 0;              // of all linears; 0: by keep_params
  RankOverrides overrides = {};  // rank 0: stays dense
  Encoding factors = Encoding::dense(DType::kF16);
  InputOptions inputs = {};
  std::vector<std::string> ignore = {};  // patterns of linears that stay as they are
};

// Words of recipes (runtime/compress/settings.h).
std::string to_setting(FactorizeMethod method);
void from_setting(const std::string& text, FactorizeMethod* to);

// The settings of a step `factorize` of a recipe. Error(kUsage).
FactorizeSettings read_factorize_settings(SettingsReader& reader);
std::vector<SettingHelp> factorize_settings_help();

// Error(kUsage) for settings out of range. form() of the pass: Error(kUnsupported) naming a linear
// that is sparse or has several terms; apply(): one that was pruned before.
std::unique_ptr<Pass> make_factorize_pass(const FactorizeSettings& settings);

}  // namespace pith
