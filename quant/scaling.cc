#include "quant/scaling.h"

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/error.h"
#include "core/parallel.h"
#include "quant/quantize_pass.h"
#include "runtime/cpu/decode.h"

namespace pith {
namespace {

constexpr int64_t kSearchTokens = 2048;

constexpr Scaling kTable[] = {
    {"awq",
     "scales of input channels by search, then rounding (awq+gptq: GPTQ after it)",
     {.mean_square = true, .output = true},
     scale_awq},
    {"smoothquant",
     "outliers of activations moved into the weights, for w8a8 and fp8",
     {.mean_square = true, .output = true},
     scale_smoothquant},
};

// w[r, j] = w[r, j] * rows[r] * columns[j]; either may be empty.
void scale_weight(Weight& w, std::span<const float> rows, std::span<const float> columns) {
  if (rows.empty() && columns.empty()) return;
  const int64_t k = w.k;
  OwnedWeight out = allocate_weight(Encoding::dense(DType::kF32), w.n, k);
  auto* to = reinterpret_cast<float*>(out.planes[0].bytes.data());
  parallel_ranges(w.n, 64, [&](int64_t begin, int64_t end) {
    decode_rows(w, begin, end - begin, to + begin * k);
    for (int64_t r = begin; r < end; ++r) {
      const float by = rows.empty() ? 1 : rows[static_cast<size_t>(r)];
      for (int64_t j = 0; j < k; ++j)
        to[r * k + j] *= by * (columns.empty() ? 1 : columns[static_cast<size_t>(j)]);
    }
  });
  w = std::move(out.weight);
}

// The same of every term, and of the bias.
void scale_linear(Linear& linear, std::span<const float> rows, std::span<const float> columns) {
  for (Term& t : linear.terms) {
    scale_weight(t.w, t.up ? std::span<const float>() : rows, columns);
    if (t.up) scale_weight(*t.up, rows, {});
  }
  if (linear.bias.empty() || rows.empty()) return;
  std::vector<float>& bias = linear.bias.edit();
  for (size_t r = 0; r < bias.size(); ++r) bias[r] *= rows[r];
}

bool is_output(const ScalingJob& job) {
  return job.stage.linears.front().role == LinearRole::kOutput;
}
bool is_down(const ScalingJob& job) { return job.stage.linears.front().role == LinearRole::kDown; }
bool can_fold(const ScalingJob& job) {
  if (is_output(job)) return true;
  if (is_down(job)) return job.spec.mlp().gated();
  return job.spec.norm().kind() == proto::NORM_RMS;
}

// The row of v that makes input channel j of o.
int64_t value_row(const proto::Attention& a, int64_t j) {
  const int64_t d = a.head_dim();
  return j / d / (a.heads() / a.kv_heads()) * d + j % d;
}

void normalize(std::vector<float>* s) {
  for (float& v : *s) v = std::isfinite(v) && v > 0 ? v : 1;
  const auto [low, high] = std::ranges::minmax_element(*s);
  const float middle = std::sqrt(*low) * std::sqrt(*high);
  for (float& v : *s) v = std::clamp(v / middle, 1e-4f, 1e4f);
}

// Per input channel over all linears of the stage: root mean square or largest magnitude.
std::vector<float> of_weights(const ScalingJob& job, bool largest) {
  const auto k = static_cast<size_t>(job.stage.k());
  std::vector<double> sums(k);
  int64_t rows = 0;
  std::vector<float> w;
  for (const auto& info : job.stage.linears) {
    const Linear& linear = find_linear(job.block, info);
    w.resize(k);
    for (int64_t r = 0; r < info.n; ++r) {
      decode_rows(linear, r, 1, w.data());
      for (size_t j = 0; j < k; ++j) {
        const auto v = std::fabs(static_cast<double>(w[j]));
        sums[j] = largest ? std::max(sums[j], v) : sums[j] + v * v;
      }
    }
    rows += info.n;
  }
  std::vector<float> out(k);
  for (size_t j = 0; j < k; ++j)
    out[j] = static_cast<float>(largest ? sums[j] : std::sqrt(sums[j] / static_cast<double>(rows)));
  return out;
}

// The block with this stage's linears rounded at scales s, and the scales taken out again: in place
// of the activations being divided.
Block rounded_at(const ScalingJob& job, const std::vector<float>& s,
                 std::span<const float> channel_weight) {
  Block out = job.block;
  std::vector<float> inverse(s.size()), weights(channel_weight.begin(), channel_weight.end());
  for (size_t j = 0; j < s.size(); ++j) {
    inverse[j] = 1 / s[j];
    weights[j] *= inverse[j] * inverse[j];
  }
  for (const auto& info : job.stage.linears) scale_linear(find_linear(out, info), {}, s);
  for (size_t i = 0; i < job.stage.linears.size(); ++i) {
    Linear& linear = find_linear(out, job.stage.linears[i]);
    if (job.encodings[i])
      round_rows_of(linear, {*job.encodings[i], encode_rtn, weights.data()}, {});
    scale_linear(linear, {}, inverse);
  }
  return out;
}

}  // namespace

std::span<const Scaling> scalings() { return kTable; }

void share_scales(const ScalingJob& job, std::span<float> s) {
  if (!is_output(job)) return;
  const auto& a = job.spec.attention();
  std::vector<double> logs(static_cast<size_t>(a.kv_heads() * a.head_dim()));
  const double heads = static_cast<double>(a.heads()) / static_cast<double>(a.kv_heads());
  for (size_t j = 0; j < s.size(); ++j) {
    logs[static_cast<size_t>(value_row(a, static_cast<int64_t>(j)))] +=
        std::log(static_cast<double>(s[j])) / heads;
  }
  for (size_t j = 0; j < s.size(); ++j) {
    s[j] = static_cast<float>(
        std::exp(logs[static_cast<size_t>(value_row(a, static_cast<int64_t>(j)))]));
  }
}

bool fold_scales(const ScalingJob& job, std::span<const float> s) {
  if (!can_fold(job)) return false;
  auto& sub = job.block.sublayers[static_cast<size_t>(job.stage.sublayer)];
  std::vector<float> inverse(s.size());
  for (size_t j = 0; j < s.size(); ++j) inverse[j] = 1 / s[j];
  if (is_output(job)) {
    std::vector<float> rows(static_cast<size_t>(sub.attention->v.n));
    for (size_t j = 0; j < s.size(); ++j) {
      rows[static_cast<size_t>(value_row(job.spec.attention(), static_cast<int64_t>(j)))] =
          inverse[j];
    }
    scale_linear(sub.attention->v, rows, {});
  } else if (is_down(job)) {
    scale_linear(sub.mlp->up, inverse, {});
  } else {
    std::vector<float>& weight = sub.norm.weight.edit();
    for (size_t j = 0; j < s.size(); ++j) weight[j] *= inverse[j];
  }
  for (const auto& info : job.stage.linears) scale_linear(find_linear(job.block, info), {}, s);
  return true;
}

void scale_smoothquant(const ScalingJob& job) {
  if (!can_fold(job)) return;
  const InputStatistics x = job.calibration.inputs(job.stage, {.mean_square = true});
  const std::vector<float> w = of_weights(job, true);
  const auto scales_at = [&](float alpha) {
    std::vector<float> s(w.size());
    for (size_t j = 0; j < s.size(); ++j)
      s[j] = std::pow(x.absmax[j], alpha) / std::pow(w[j], 1 - alpha);
    normalize(&s);
    share_scales(job, s);
    return s;
  };
  if (job.settings.smooth_alpha > 0) {
    fold_scales(job, scales_at(static_cast<float>(job.settings.smooth_alpha)));
    return;
  }
  // The block as it would run: folded, weights and inputs rounded.
  const auto error_of = [&](const std::vector<float>& s) {
    Block candidate = job.block;
    const ScalingJob folding{job.settings,  job.spec,  job.stage,
                             job.encodings, candidate, job.calibration};
    if (!s.empty()) fold_scales(folding, s);
    for (size_t i = 0; i < job.stage.linears.size(); ++i) {
      Linear& linear = find_linear(candidate, job.stage.linears[i]);
      if (job.encodings[i]) round_rows_of(linear, {*job.encodings[i], encode_rtn}, {});
      InputEncoding& input = linear.input = job.settings.input;
      if (input.scale == InputScale::kTensor) {
        float largest = 0;
        for (size_t j = 0; j < x.absmax.size(); ++j)
          largest = std::max(largest, x.absmax[j] / (s.empty() ? 1 : s[j]));
        input.value = tensor_scale(input, largest);
      }
    }
    return job.calibration.output_error(candidate, job.stage.sublayer, kSearchTokens);
  };
  std::vector<float> best;  // none
  double least = error_of(best);
  for (const float alpha : {0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f, 0.9f}) {
    auto s = scales_at(alpha);
    const double error = error_of(s);
    if (error < least) {
      least = error;
      best = std::move(s);
    }
  }
  if (!best.empty()) fold_scales(job, best);
}

void scale_awq(const ScalingJob& job) {
  if (!can_fold(job)) return;
  if (std::ranges::none_of(job.encodings, [](const auto& e) { return e.has_value(); })) return;
  const InputStatistics x = job.calibration.inputs(job.stage, {.mean_square = true});
  const std::vector<float> channel_weight = channel_weights(x);
  if (channel_weight.empty()) return;
  const std::vector<float> w = of_weights(job, false);
  constexpr int kSteps = 12;
  std::vector<float> best;
  double least = 0;
  for (int i = 0; i <= kSteps; ++i) {
    for (const bool by_weights : {false, true}) {
      if (i == 0 && by_weights) continue;
      const auto r = static_cast<float>(i) / kSteps;
      std::vector<float> s(w.size());
      for (size_t j = 0; j < s.size(); ++j) {
        s[j] =
            std::pow(std::sqrt(channel_weight[j]), r) / (by_weights ? std::pow(w[j], 1 - r) : 1.0f);
      }
      normalize(&s);
      share_scales(job, s);
      const double error = job.calibration.output_error(rounded_at(job, s, channel_weight),
                                                        job.stage.sublayer, kSearchTokens);
      if (best.empty() || error < least) {
        least = error;
        best = std::move(s);
      }
    }
  }
  fold_scales(job, best);
}

}  // namespace pith
