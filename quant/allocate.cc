#include "quant/allocate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"
#include "quant/gptq_stage.h"
#include "runtime/compress/allocation.h"
#include "runtime/compress/plan.h"
#include "runtime/cpu/decode.h"
#include "runtime/eval/divergence.h"
#include "runtime/forward/forward.h"
#include "runtime/model/patterns.h"

namespace pith {
namespace {

constexpr double kSmallError = 0.05;  // up to which divergence grows in proportion to it
constexpr int kMeasured = 2;          // choices of a group with a small error
constexpr int64_t kLogitRows = 64;    // that are compared at once

// Runs windows through a model from any block on, and compares the later half of each, where tokens
// have something to look back to, with what the model gave untouched.
class Probe {
 public:
  Probe(Executor& executor, const Model& model, const std::vector<std::vector<int32_t>>& windows,
        const Progress& progress)
      : executor_(executor), held_(executor), model_(model), progress_(progress) {
    int64_t longest = 0;
    for (const auto& w : windows) {
      const auto n = static_cast<int64_t>(w.size()), before = static_cast<int64_t>(tokens_.size());
      segments_.push_back({static_cast<int>(segments_.size()), 0, n});
      for (int64_t i = n / 2; i < n; ++i) rows_.push_back(before + i);
      tokens_.insert(tokens_.end(), w.begin(), w.end());
      longest = std::max(longest, n);
    }
    cache_ = executor_.make_cache(model.spec,
                                  {static_cast<int>(windows.size()), longest, NumberFormat::kF32});
    const Tensor x = hidden();
    embed_tokens(executor_, model.spec, model.embedding, tokens_, x);
    for (const auto& block : model.blocks) {
      executor_.read(x, states_.emplace_back(static_cast<size_t>(x.m * x.n)));
      run_block(block, x);
    }
    base_.resize(rows_.size() * vocab());
    each_logits(model, x, [&](std::span<const float> logits, size_t first) {
      std::ranges::copy(logits, base_.begin() + static_cast<int64_t>(first));
    });
  }

  // KL(untouched || with `block` in the place of its layer)
  double kl_with(const Block& block) {
    const WeightCacheScope held(executor_);
    const Tensor x = hidden();
    executor_.write(states_[static_cast<size_t>(block.layer)], x);
    run_block(block, x);
    for (size_t l = static_cast<size_t>(block.layer) + 1; l < model_.blocks.size(); ++l)
      run_block(model_.blocks[l], x);
    return kl_of(model_, x);
  }
  // The same with other tables; `changed` has no blocks.
  double kl_with_tables(const Model& changed) {
    const WeightCacheScope held(executor_);
    const Tensor x = hidden();
    embed_tokens(executor_, model_.spec, changed.embedding, tokens_, x);
    for (const auto& block : model_.blocks) run_block(block, x);
    return kl_of(changed, x);
  }

 private:
  Tensor hidden() {
    return executor_.buffer(TensorId::kHidden, static_cast<int64_t>(tokens_.size()),
                            static_cast<int64_t>(model_.spec.hidden()));
  }
  void run_block(const Block& block, Tensor x) {
    progress_.check();
    const Batch batch{tokens_, segments_};
    forward_block({executor_, batch, *cache_}, model_.spec, block,
                  attention_count(model_.spec, block.layer), x);
  }
  size_t vocab() const { return static_cast<size_t>(model_.spec.vocab()); }
  // Logits [some rows, vocab] of all rows that are compared, in order, and where they begin in all
  // of them: for a large vocabulary they are the largest of what is in memory.
  void each_logits(const Model& model, Tensor x,
                   FunctionRef<void(std::span<const float>, size_t)> use) {
    std::vector<float> here;
    for (size_t row = 0; row < rows_.size(); row += kLogitRows) {
      const auto rows = std::span(rows_).subspan(row);
      const Tensor l =
          forward_head(executor_, model, x, rows.first(std::min<size_t>(rows.size(), kLogitRows)));
      here.resize(static_cast<size_t>(l.m * l.n));
      executor_.read(l, here);
      use(here, row * vocab());
    }
  }
  double kl_of(const Model& model, Tensor x) {
    double sum = 0;
    each_logits(model, x, [&](std::span<const float> logits, size_t first) {
      const auto base = std::span<const float>(base_).subspan(first, logits.size());
      sum += mean_kl(base, logits, static_cast<int64_t>(vocab())) *
             static_cast<double>(logits.size() / vocab());
    });
    return sum / static_cast<double>(rows_.size());
  }

  Executor& executor_;
  const WeightCacheScope held_;  // the model
  const Model& model_;
  const Progress& progress_;
  std::vector<int32_t> tokens_;
  std::vector<Segment> segments_;
  std::vector<int64_t> rows_;
  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<float>> states_;  // before each block
  std::vector<float> base_;
};

// Squared, as a share of the weights.
double weight_error(const Linear& before, const Linear& after) {
  std::vector<double> error(static_cast<size_t>(before.n)), norm(error.size());
  parallel_ranges(before.n, 64, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w, q;
    w.require(before.k);
    q.require(before.k);
    for (int64_t r = begin; r < end; ++r) {
      decode_rows(before, r, 1, w.data());
      decode_rows(after, r, 1, q.data());
      for (int64_t i = 0; i < before.k; ++i) {
        const double v = static_cast<double>(w[i]), d = v - static_cast<double>(q[i]);
        error[static_cast<size_t>(r)] += d * d;
        norm[static_cast<size_t>(r)] += v * v;
      }
    }
  });
  const double all = std::accumulate(norm.begin(), norm.end(), 0.0);
  return all > 0 ? std::accumulate(error.begin(), error.end(), 0.0) / all : 0;
}

void round_linear(const Encoding& e, Linear& linear) {
  round_rows_of(linear, {e, encode_rtn_quickly}, {});
}

// Takes what was measured where the error is small for noise about a divergence in proportion to
// the error, which it then is, and knows from it that of the choices that were not measured.
void smooth(std::vector<Choice>& choices) {
  double sum = 0;
  int n = 0;
  for (const auto& c : choices) {
    if (c.measured && c.error > 0 && c.error <= kSmallError && c.kl > 0) {
      sum += std::log(c.kl / c.error);
      ++n;
    }
  }
  const double slope = n > 0 ? std::exp(sum / n) : 0;
  for (auto& c : choices) {
    if (c.error > 0 && c.error <= kSmallError && slope > 0) c.kl = slope * c.error;
  }
}

uint64_t bytes_as(const ModelSource& source, const LinearInfo& info, const Encoding& e) {
  return encoded_bytes(rounded_form(source.form(info), e), info.n, info.k);
}

bool left_out(const QuantizeSettings& settings, const LinearInfo& info) {
  const auto matches = [&](const auto& pattern) { return matches_linear(pattern, info); };
  return is_gate(info.role) || std::ranges::any_of(settings.ignore, matches) ||
         std::ranges::any_of(settings.overrides, [&](const auto& o) { return matches(o.first); });
}

// Rounds one group after another, each alone, and measures it.
class ChoiceMeasurer {
 public:
  ChoiceMeasurer(const Measurement& what, Executor& executor, const Progress& progress,
                 const std::vector<AllocationGroup>& known,
                 FunctionRef<void(const AllocationGroup&)> keep)
      : what_(what),
        known_(known),
        keep_(keep),
        model_(load_model(what.source)),
        probe_(executor, model_, what.windows, progress),
        fast_(what.settings) {
    fast_.gptq.correct_inputs = 0;
    fast_.gptq.refine = 0;
    if (!what.settings.method.rounding->needs.gram || what.calibration.empty()) return;
    states_ = std::make_unique<CalibrationStates>(executor, model_.spec, model_.embedding,
                                                  what.calibration);
    calibration_ =
        std::make_unique<Calibration>(executor, *states_, nullptr, Calibration::Options{});
  }

  std::vector<AllocationGroup> run(Progress& progress) {
    progress.begin("measuring choices", model_.spec.layers_size() + 1);
    for (const auto& info : linears_of(model_.spec)) {
      if (info.layer < 0) measure({info}, [&](AllocationGroup& g) { measure_table(info, g); });
    }
    for (const auto& block : model_.blocks) {
      progress.advance(block.layer + 1, fmt::format("layer {}", block.layer));
      measure_block(block);
    }
    progress.end();
    return std::move(groups_);
  }

 private:
  // Linears that are not left out, their choices in order of bytes.
  AllocationGroup group_of(const std::vector<LinearInfo>& linears) const {
    AllocationGroup g;
    for (const auto& info : linears) {
      if (!left_out(what_.settings, info)) g.linears.push_back(info);
    }
    for (const auto& e : what_.candidates) {
      Choice c{.encoding = e};
      for (const auto& info : g.linears) c.bytes += bytes_as(what_.source, info, e);
      g.choices.push_back(c);
    }
    std::ranges::stable_sort(g.choices, std::less{}, &Choice::bytes);
    const auto same = [](const Choice& a, const Choice& b) { return a.bytes == b.bytes; };
    g.choices.erase(std::unique(g.choices.begin(), g.choices.end(), same), g.choices.end());
    return g;
  }

  // Whether the next group is known.
  bool take_known(const AllocationGroup& g) {
    if (groups_.size() >= known_.size()) return false;
    const AllocationGroup& k = known_[groups_.size()];
    const auto same_name = [](const LinearInfo& a, const LinearInfo& b) {
      return a.name == b.name;
    };
    const auto same_type = [](const Choice& a, const Choice& b) {
      return a.encoding == b.encoding;
    };
    if (!std::ranges::equal(k.linears, g.linears, same_name) ||
        !std::ranges::equal(k.choices, g.choices, same_type)) {
      fail(ErrorKind::kCorrupt, "costs of choices that were kept are those of another model");
    }
    groups_.push_back(k);
    return true;
  }

  // The group of these linears, by `how` where it is not known.
  void measure(const std::vector<LinearInfo>& linears, FunctionRef<void(AllocationGroup&)> how) {
    AllocationGroup g = group_of(linears);
    if (g.linears.empty() || take_known(g)) return;
    how(g);
    keep_(g);
    groups_.push_back(std::move(g));
  }

  void measure_table(const LinearInfo& info, AllocationGroup& g) {
    for (auto& c : g.choices) {
      Model tables{.spec = model_.spec,
                   .embedding = model_.embedding,
                   .blocks = {},
                   .final_norm = model_.final_norm,
                   .own_head = model_.own_head};
      round_linear(c.encoding,
                   info.role == LinearRole::kEmbedding ? tables.embedding : *tables.own_head);
      c.kl = probe_.kl_with_tables(tables);
    }
  }

  void measure_block(const Block& block) {
    if (calibration_) calibration_->begin(block, block);
    int sublayer = 0;
    for (const auto& all : stages_of(model_.spec, block.layer)) {
      if (calibration_ && all.sublayer > sublayer) calibration_->advance(block, block, sublayer++);
      measure(all.linears, [&](AllocationGroup& g) {
        measure_stage({all.sublayer, g.linears}, block, g);
      });
    }
    if (calibration_) calibration_->advance(block, block, sublayer);
  }

  void measure_stage(const Stage& stage, const Block& block, AllocationGroup& g) {
    std::unique_ptr<GptqStage> statistics;
    if (calibration_) statistics = std::make_unique<GptqStage>(stage, fast_.gptq, *calibration_);
    int small = 0;
    for (auto& c : g.choices) {
      Block changed = block;
      for (const auto& info : g.linears) {
        Linear& linear = find_linear(changed, info);
        double error = 0;
        if (statistics) {
          error = statistics->round(linear, c.encoding).error;
        } else {
          round_linear(c.encoding, linear);
          error = weight_error(find_linear(block, info), linear);
        }
        c.error += error / static_cast<double>(g.linears.size());
      }
      c.measured = c.error == 0 || small < kMeasured;
      if (!c.measured) continue;
      c.kl = probe_.kl_with(changed);
      small += c.error > 0 && c.error <= kSmallError;
    }
    smooth(g.choices);
  }

  const Measurement& what_;
  const std::vector<AllocationGroup>& known_;
  FunctionRef<void(const AllocationGroup&)> keep_;
  const Model model_;
  Probe probe_;
  QuantizeSettings fast_;  // without what costs time and changes little
  std::unique_ptr<CalibrationStates> states_;
  std::unique_ptr<Calibration> calibration_;
  std::vector<AllocationGroup> groups_;
};

}  // namespace

std::vector<AllocationGroup> measure_choices(const Measurement& what, Executor& executor,
                                             Progress& progress,
                                             const std::vector<AllocationGroup>& known,
                                             FunctionRef<void(const AllocationGroup&)> keep) {
  return ChoiceMeasurer(what, executor, progress, known, keep).run(progress);
}

MeasuringPlan plan_measuring(const ModelSource& source, const QuantizeSettings& settings,
                             const std::vector<Encoding>& candidates) {
  MeasuringPlan plan;
  const auto& spec = source.spec();
  const auto count = [&](const std::vector<LinearInfo>& linears) {
    plan.groups += !std::ranges::all_of(
        linears, [&](const LinearInfo& info) { return left_out(settings, info); });
  };
  for (const auto& info : linears_of(spec)) {
    if (info.layer < 0) count({info});
  }
  for (int l = 0; l < spec.layers_size(); ++l) {
    for (const auto& stage : stages_of(spec, l)) count(stage.linears);
  }
  plan.runs = plan.groups * static_cast<int64_t>(candidates.size());
  return plan;
}

uint64_t measuring_bytes(const Measurement& what) {
  const auto& [source, settings, candidates, windows, calibration] = what;
  const auto& spec = source.spec();
  const auto tokens_of = [](const std::vector<std::vector<int32_t>>& all) {
    uint64_t n = 0;
    for (const auto& w : all) n += w.size();
    return n;
  };
  const uint64_t tokens = tokens_of(windows), state = spec.hidden() * sizeof(float);
  // The model, its hidden states before each block, logits of the later halves, some of a choice
  // (there and in the executor), keys and values.
  uint64_t total = model_bytes(source) +
                   tokens * state * static_cast<uint64_t>(spec.layers_size()) +
                   (tokens / 2 + windows.size() + 2 * kLogitRows) * spec.vocab() * sizeof(float);
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const proto::Attention form = absorbed_form(s.attention());
      total += 2 * sizeof(float) * form.kv_heads() * form.head_dim() * tokens;
    }
  }
  uint64_t rounded = 0, factor = 0, widest = spec.hidden();
  for (const auto& info : linears_of(spec)) {
    uint64_t most = 0;
    for (const auto& e : candidates) most = std::max(most, bytes_as(source, info, e));
    rounded = std::max(rounded, most * (info.layer < 0 ? 1 : 3));
    if (info.layer < 0) continue;
    widest = std::max({widest, static_cast<uint64_t>(info.n), static_cast<uint64_t>(info.k)});
    factor = std::max(factor, GptqFactor::working_bytes(info.k));
  }
  total += rounded + 4 * tokens * widest * sizeof(float);
  if (settings.method.rounding->needs.gram) total += factor + tokens_of(calibration) * state;
  return total;
}

uint64_t smallest_bytes(const std::vector<AllocationGroup>& groups) {
  uint64_t sum = 0;
  for (const auto& g : groups) sum += g.choices.front().bytes;
  return sum;
}
uint64_t chosen_bytes(const std::vector<AllocationGroup>& groups) {
  uint64_t sum = 0;
  for (const auto& g : groups) sum += g.choices[g.chosen].bytes;
  return sum;
}
double chosen_kl(const std::vector<AllocationGroup>& groups) {
  double sum = 0;
  for (const auto& g : groups) sum += g.choices[g.chosen].kl;
  return sum;
}

namespace {

std::vector<AllocationOptions> options_of(const std::vector<AllocationGroup>& groups) {
  std::vector<AllocationOptions> parts;
  for (const auto& g : groups) {
    auto& options = parts.emplace_back();
    for (const auto& c : g.choices) options.push_back({c.bytes, c.kl});
  }
  return parts;
}
bool choose(const Allocation& a, std::vector<AllocationGroup>& groups) {
  for (size_t i = 0; i < groups.size(); ++i) groups[i].chosen = a.chosen[i];
  return a.within;
}

}  // namespace

bool choose_for_bytes(std::vector<AllocationGroup>& groups, uint64_t budget) {
  return choose(allocate_within_bytes(options_of(groups), budget), groups);
}
bool choose_for_kl(std::vector<AllocationGroup>& groups, double kl) {
  return choose(allocate_within_cost(options_of(groups), kl), groups);
}

std::vector<std::pair<std::string, Encoding>> overrides_of(
    const std::vector<AllocationGroup>& groups) {
  std::vector<std::pair<std::string, Encoding>> out;
  for (const auto& g : groups) {
    for (const auto& info : g.linears) out.emplace_back(info.name, g.choices[g.chosen].encoding);
  }
  return out;
}

}  // namespace pith
