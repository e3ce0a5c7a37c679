#include "quant/allocate.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/interrupt.h"
#include "core/parallel.h"
#include "quant/gptq_stage.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/kernels.h"
#include "runtime/forward.h"

namespace pith {
namespace {

// Runs one window through a model from any block on, and compares with what it gave untouched.
class Probe {
 public:
  Probe(const Model& model, const std::vector<int32_t>& tokens)
      : model_(model), tokens_(tokens), executor_(make_cpu_executor()) {
    const auto m = static_cast<int64_t>(tokens.size());
    cache_ = executor_->make_cache(model.spec, 1, m, KvType::kF32);
    const Activation x = hidden();
    executor_->embed(model.embedding, tokens, x);
    for (const auto& block : model.blocks) {
      executor_->read(x, states_.emplace_back(static_cast<size_t>(x.m * x.n)));
      run_block(block, x);
    }
    base_ = logits(model, x);
  }

  // KL(untouched || with `block` in the place of its layer)
  double kl_with(const Block& block) {
    const Activation x = hidden();
    executor_->write(states_[static_cast<size_t>(block.layer)], x);
    run_block(block, x);
    for (size_t l = static_cast<size_t>(block.layer) + 1; l < model_.blocks.size(); ++l)
      run_block(model_.blocks[l], x);
    return divergence(logits(model_, x));
  }
  // The same with other tables; `changed` has no blocks.
  double kl_with_tables(const Model& changed) {
    const Activation x = hidden();
    executor_->embed(changed.embedding, tokens_, x);
    for (const auto& block : model_.blocks) run_block(block, x);
    return divergence(logits(changed, x));
  }

 private:
  Activation hidden() {
    return executor_->buffer(Slot::kHidden, static_cast<int64_t>(tokens_.size()),
                             static_cast<int64_t>(model_.spec.hidden()));
  }
  void run_block(const Block& block, Activation x) {
    check_interrupt();
    const Segment segment{0, 0, x.m};
    forward_block(*executor_, model_.spec, block, attention_count(model_.spec, block.layer),
                  {tokens_, std::span(&segment, 1)}, *cache_, x);
  }
  std::vector<float> logits(const Model& model, Activation x) {
    std::vector<int64_t> rows(tokens_.size());
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i);
    const Activation l = forward_head(*executor_, model, x, rows);
    std::vector<float> out(static_cast<size_t>(l.m * l.n));
    executor_->read(l, out);
    return out;
  }
  double divergence(const std::vector<float>& now) const {
    const size_t vocab = now.size() / tokens_.size();
    std::vector<double> kl(tokens_.size());
    parallel_for(static_cast<int64_t>(kl.size()), [&](int64_t i) {
      const float* p = base_.data() + static_cast<size_t>(i) * vocab;
      const float* q = now.data() + static_cast<size_t>(i) * vocab;
      const double lse_p = cpu_kernels().log_sum_exp(p, static_cast<int64_t>(vocab)),
                   lse_q = cpu_kernels().log_sum_exp(q, static_cast<int64_t>(vocab));
      for (size_t t = 0; t < vocab; ++t) {
        const double lp = static_cast<double>(p[t]) - lse_p;
        if (lp < -25) continue;
        kl[static_cast<size_t>(i)] += std::exp(lp) * (lp - (static_cast<double>(q[t]) - lse_q));
      }
    });
    double sum = 0;
    for (const double v : kl) sum += v;
    return std::max(0.0, sum / static_cast<double>(kl.size()));
  }

  const Model& model_;
  const std::vector<int32_t>& tokens_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<float>> states_;  // before each block
  std::vector<float> base_;
};

void round_linear(const Encoding& e, Linear* linear) {
  OwnedWeight out = allocate_weight(e, linear->n, linear->k);
  parallel_ranges(linear->n, slab_rows(e, linear->n, linear->k), [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w;
    w.require((end - begin) * linear->k);
    fast_rows(*linear, begin, end - begin, w.data());
    encode_rtn(
        {e, linear->n, linear->k, begin, end - begin, w.data(), nullptr, 0, out.planes, nullptr});
  });
  linear->terms.clear();
  linear->terms.push_back({.w = std::move(out.weight), .up = {}});
}

bool left_out(const QuantizeSettings& settings, const LinearInfo& info) {
  const auto matches = [&](const auto& pattern) { return matches_linear(pattern, info); };
  return std::ranges::any_of(settings.ignore, matches) ||
         std::ranges::any_of(settings.overrides, [&](const auto& o) { return matches(o.first); });
}

struct Step {
  double gain;  // KL per byte
  size_t group, to;
};

// The steps along the lower convex hull of each group, the best first.
std::vector<Step> hull_steps(const std::vector<AllocationGroup>& groups) {
  std::vector<Step> steps;
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto& c = groups[g].choices;
    for (size_t at = 0; at + 1 < c.size();) {
      size_t best = at;
      double gain = 0;
      for (size_t to = at + 1; to < c.size(); ++to) {
        const double by = (c[at].kl - c[to].kl) / static_cast<double>(c[to].bytes - c[at].bytes);
        if (by > gain) {
          gain = by;
          best = to;
        }
      }
      if (best == at) break;
      steps.push_back({gain, g, best});
      at = best;
    }
  }
  std::ranges::stable_sort(steps, [](const Step& a, const Step& b) { return a.gain > b.gain; });
  return steps;
}

}  // namespace

std::vector<AllocationGroup> measure_choices(
    const ModelSource& source, const QuantizeSettings& settings,
    const std::vector<Encoding>& candidates, const std::vector<int32_t>& tokens,
    const std::vector<std::vector<int32_t>>& calibration_windows, Progress& progress) {
  const Model model = load_model(source);
  Probe probe(model, tokens);
  std::vector<AllocationGroup> groups;
  const auto infos = linears_of(model.spec);
  progress.begin("measuring choices", model.spec.layers_size() + 1);

  // Linears that are not left out, their choices in order of bytes.
  const auto group_of = [&](const std::vector<LinearInfo>& linears) {
    AllocationGroup g;
    for (const auto& info : linears) {
      if (!left_out(settings, info)) g.linears.push_back(info);
    }
    for (const auto& e : candidates) {
      Choice c{.encoding = e};
      for (const auto& info : g.linears) c.bytes += encoded_bytes(e, info.n, info.k);
      g.choices.push_back(c);
    }
    std::ranges::stable_sort(g.choices, std::less{}, &Choice::bytes);
    const auto same = [](const Choice& a, const Choice& b) { return a.bytes == b.bytes; };
    g.choices.erase(std::unique(g.choices.begin(), g.choices.end(), same), g.choices.end());
    return g;
  };

  for (const auto& info : infos) {
    if (info.layer >= 0) continue;
    auto g = group_of({info});
    if (g.linears.empty()) continue;
    for (auto& c : g.choices) {
      Model tables{.spec = model.spec,
                   .embedding = model.embedding,
                   .blocks = {},
                   .final_norm = model.final_norm,
                   .own_head = model.own_head};
      round_linear(c.encoding,
                   info.role == LinearRole::kEmbedding ? &tables.embedding : &*tables.own_head);
      c.kl = probe.kl_with_tables(tables);
    }
    groups.push_back(std::move(g));
  }

  const bool gptq = find_method(settings.method).needs.gram && !calibration_windows.empty();
  const auto executor = make_cpu_executor();
  std::unique_ptr<CalibrationStates> states;
  std::unique_ptr<Calibration> calibration;
  if (gptq) {
    states = std::make_unique<CalibrationStates>(*executor, model.spec, model.embedding,
                                                 calibration_windows);
    calibration =
        std::make_unique<Calibration>(*executor, *states, nullptr, Calibration::Options{});
  }
  QuantizeSettings fast = settings;
  fast.gptq.correct_inputs = 0;
  fast.gptq.refine = 0;
  for (const auto& block : model.blocks) {
    progress.advance(block.layer + 1, fmt::format("layer {}", block.layer));
    if (gptq) calibration->begin(block, block);
    int sublayer = 0;
    for (const auto& all : stages_of(model.spec, block.layer)) {
      auto g = group_of(all.linears);
      if (gptq && all.sublayer > sublayer) calibration->advance(block, block, sublayer++);
      if (g.linears.empty()) continue;
      const Stage stage{all.sublayer, g.linears};
      std::unique_ptr<GptqStage> known;
      if (gptq) known = std::make_unique<GptqStage>(stage, fast.gptq, *calibration);
      for (auto& c : g.choices) {
        Block changed = block;
        if (gptq) {
          PassReport ignored;
          const std::vector<std::optional<Encoding>> encodings(g.linears.size(), c.encoding);
          known->round({fast, stage, encodings, changed, calibration.get(), ignored});
        } else {
          for (const auto& info : g.linears)
            round_linear(c.encoding, &find_linear(changed, info.sublayer, info.role));
        }
        c.kl = probe.kl_with(changed);
      }
      groups.push_back(std::move(g));
    }
    if (gptq) calibration->advance(block, block, sublayer);
  }
  progress.end();
  return groups;
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

bool choose_for_bytes(std::vector<AllocationGroup>& groups, uint64_t budget) {
  for (auto& g : groups) g.chosen = 0;
  uint64_t bytes = chosen_bytes(groups);
  if (bytes > budget) return false;
  for (const auto& s : hull_steps(groups)) {
    auto& g = groups[s.group];
    const uint64_t more = g.choices[s.to].bytes - g.choices[g.chosen].bytes;
    if (bytes + more > budget) continue;
    bytes += more;
    g.chosen = s.to;
  }
  return true;
}

bool choose_for_kl(std::vector<AllocationGroup>& groups, double kl) {
  for (auto& g : groups) g.chosen = 0;
  for (const auto& s : hull_steps(groups)) {
    if (chosen_kl(groups) <= kl) return true;
    groups[s.group].chosen = s.to;
  }
  return chosen_kl(groups) <= kl;
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
