#include "runtime/compress/calibration.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "runtime/compress/stage_collector.h"
#include "runtime/forward/forward.h"

namespace pith {
namespace {

std::span<float> sized(std::vector<float>& v, size_t n) {
  v.resize(n);
  return v;
}

InputStatistics copy_of(const InputStatistics& s) {
  InputStatistics to;
  to.tokens = s.tokens;
  to.mean_square = s.mean_square;
  to.absmax = s.absmax;
  const auto copy = [](const Buffer<float>& from) {
    Buffer<float> here(from.size());
    std::ranges::copy(from, here.begin());
    return here;
  };
  to.gram = copy(s.gram);
  to.cross_gram = copy(s.cross_gram);
  to.stream_cross_gram = copy(s.stream_cross_gram);
  return to;
}

}  // namespace

// For an expert or a head, also the same linear of the next ones, as many as fit into
// kStatisticsAhead: they take the same pass over the text.
std::vector<std::string> Calibration::names_together(const Stage& stage) const {
  const LinearInfo& info = stage.linears.front();
  std::vector<std::string> names = {info.name};
  if (info.part() < 0) return names;
  const auto& sublayer = block_->sublayers[static_cast<size_t>(info.sublayer)];
  const size_t parts =
      info.expert >= 0 ? sublayer.moe->experts.size() : sublayer.attention->latent->k_up.size();
  const auto bytes = static_cast<uint64_t>(info.k * info.k) * sizeof(float);
  LinearInfo next = info;
  int& part = info.expert >= 0 ? next.expert : next.head;
  for (uint64_t i = 1; (i + 1) * bytes <= kStatisticsAhead; ++i) {
    if (static_cast<size_t>(++part) >= parts) break;
    names.push_back(find_linear(*block_, next).name);
  }
  return names;
}

InputStatistics Calibration::inputs(const Stage& stage, const StatisticsNeeds& needs, bool held_out,
                                    const InputEncoding& rounding) {
  if (!options_.shared.gram || !needs.gram) return take(stage, needs, held_out, rounding);
  const std::string& name = stage.linears.front().name;
  std::erase_if(kept_, [&](const Kept& k) { return k.linear != name; });
  const Key key{needs | options_.shared, held_out, rounding};
  const auto known = std::ranges::find(kept_, key, &Kept::key);
  if (known != kept_.end()) return copy_of(known->statistics);
  kept_.push_back({name, key, take(stage, key.needs, held_out, rounding)});
  return copy_of(kept_.back().statistics);
}

InputStatistics Calibration::take(const Stage& stage, const StatisticsNeeds& needs, bool held_out,
                                  const InputEncoding& rounding) {
  const std::string& name = stage.linears.front().name;
  const Key key{needs, held_out, rounding};
  for (auto& p : prefetched_) {
    const auto known = p.statistics.find(name);
    if (!(p.key == key) || known == p.statistics.end()) continue;
    InputStatistics found = std::move(known->second);
    p.statistics.erase(known);
    return found;
  }
  const std::vector<std::string> names = names_together(stage);
  std::vector<InputStatistics> all = collect(stage, names, needs, held_out, rounding);
  if (names.size() > 1) {
    std::erase_if(prefetched_, [&](const Prefetched& p) { return p.key == key; });
    prefetched_.push_back({key, {}});
    for (size_t i = 1; i < names.size(); ++i)
      prefetched_.back().statistics[names[i]] = std::move(all[i]);
  }
  return std::move(all.front());
}

std::vector<InputStatistics> Calibration::collect(const Stage& stage,
                                                  const std::vector<std::string>& names,
                                                  const StatisticsNeeds& needs, bool held_out,
                                                  const InputEncoding& rounding) {
  const Phases::Scope phase(phases_, "inputs");
  const Block& block = options_.sequential ? *block_ : *original_;
  const LinearRole role = stage.linears.front().role;
  const bool is_last = role == LinearRole::kOutput || role == LinearRole::kDown;
  // The output of a post-norm is added, not that of the linear.
  const bool feeds_residual =
      is_last && block.sublayers[static_cast<size_t>(stage.sublayer)].post_norm.spec.kind() ==
                     proto::NORM_NONE;
  StatisticsNeeds wanted = needs;
  wanted.cross_gram = needs.cross_gram && originals_ != nullptr;
  StageCollector collector(executor_, {stage, names, wanted, rounding, feeds_residual},
                           states_.hidden(), phases_);
  // Nobody asks for the originals' states before the last stage of a sublayer again, but another
  // pass for inputs that are rounded otherwise. (A rewritten original would round in other places
  // than the source, and a resumed run knows the source alone.)
  const bool keeps = is_last && !rewritten_ && !options_.shared.gram;
  const WeightCacheScope held(executor_);
  for (size_t w = 0; w < states_.windows(); ++w) {
    if (is_held_out(w) != held_out) continue;
    collector.add(block, states_, w);
    if (!collector.compares()) continue;
    if (advanced_originals_.contains(w))
      fail(ErrorKind::kUsage, "{}: inputs of the uncompressed model were taken before",
           names.front());
    collector.add_original(*original_, *originals_, states_, w, keeps);
    if (keeps) advanced_originals_.insert(w);
  }
  return collector.finish();
}

InputStatistics head_inputs(Executor& executor, const ModelSource& source,
                            const std::vector<std::vector<int32_t>>& windows, int64_t tokens,
                            const StatisticsNeeds& needs) {
  const auto& spec = source.spec();
  std::vector<std::vector<int32_t>> some;
  int64_t taken = 0;
  for (size_t i = 0; i < windows.size() && taken < tokens; ++i) {
    some.push_back(windows[i]);
    taken += static_cast<int64_t>(windows[i].size());
  }
  CalibrationStates states(executor, spec, source.linear(linears_of(spec).front()), some);
  states.run_all(executor, source);
  const auto hidden = static_cast<int64_t>(spec.hidden());
  const NormWeights norm = load_final_norm(source);
  StatisticsBuilder out(executor.algebra(), "head", needs, hidden);
  for (size_t w = 0; w < some.size(); ++w) {
    const Tensor x = executor.buffer(TensorId::kHidden, states.tokens(w), hidden);
    states.load(w, executor.view(x));
    if (norm.spec.kind() != proto::NORM_NONE) executor.run(NormOp{&norm, x, x});
    out.add(executor.view(x));
  }
  return out.finish();
}

void Calibration::advance(const Block& block, const Block& loaded, int sublayer) {
  const Phases::Scope phase(phases_, "propagation");
  const WeightCacheScope held(executor_);
  for (size_t w = 0; w < states_.windows(); ++w) {
    states_.run(executor_, block, sublayer, w, true);
    if (originals_ != nullptr && !advanced_originals_.contains(w))
      originals_->run(executor_, loaded, sublayer, w, true);
  }
  advanced_originals_.clear();
}

double Calibration::output_error(const Block& candidate, int sublayer, int64_t tokens) {
  if (reference_of_ != original_ || reference_sublayer_ != sublayer) {
    reference_.clear();
    reference_norm_ = 0;
    reference_of_ = original_;
    reference_sublayer_ = sublayer;
  }
  double error = 0;
  int64_t seen = 0;
  const WeightCacheScope held(executor_);
  for (size_t w = 0; w < states_.windows() && seen < tokens; ++w) {
    if (w == reference_.size()) {
      std::vector<float> before, after;
      states_.load(w, &before);
      executor_.read(states_.run(executor_, *original_, sublayer, w, false),
                     sized(after, before.size()));
      for (size_t i = 0; i < after.size(); ++i) {
        const double d = static_cast<double>(after[i]) - static_cast<double>(before[i]);
        reference_norm_ += d * d;
      }
      reference_.push_back(std::move(after));
    }
    std::vector<float> now;
    executor_.read(states_.run(executor_, candidate, sublayer, w, false),
                   sized(now, reference_[w].size()));
    for (size_t i = 0; i < now.size(); ++i) {
      const double d = static_cast<double>(now[i]) - static_cast<double>(reference_[w][i]);
      error += d * d;
    }
    seen += states_.tokens(w);
  }
  return reference_norm_ > 0 ? error / reference_norm_ : error;
}

}  // namespace pith
