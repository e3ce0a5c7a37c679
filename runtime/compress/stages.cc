#include "runtime/compress/stages.h"

#include <algorithm>
#include <utility>

namespace pith {

std::vector<Stage> stages_of(const proto::ModelSpec& spec, int layer) {
  std::vector<Stage> stages;
  const auto input_of = [&](const LinearInfo& info) {  // the same number: the same input
    switch (info.role) {
      case LinearRole::kOutput:
      case LinearRole::kDown:
        return 1;
      case LinearRole::kKeyUp:
        return 2;
      case LinearRole::kValueUp:
        return 3;
      default:
        return reads_stream(spec, info) ? 0 : 4;
    }
  };
  for (const auto& info : linears_of(spec, layer)) {
    if (stages.empty() || stages.back().sublayer != info.sublayer ||
        stages.back().linears.front().part() != info.part() ||
        input_of(stages.back().linears.front()) != input_of(info)) {
      stages.push_back({info.sublayer, {}});
    }
    stages.back().linears.push_back(info);
  }
  // In a MoE layer, all linears that read its input come first.
  std::ranges::stable_sort(stages, {}, [&](const Stage& stage) {
    const LinearInfo& first = stage.linears.front();
    return std::pair(stage.sublayer, first.expert >= 0 ? input_of(first) : 0);
  });
  return stages;
}

}  // namespace pith
