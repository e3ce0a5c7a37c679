#include "quant/gptq_stage.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "quant/gptq.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/check.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/matmul.h"

namespace pith {
namespace {

struct Rung {
  std::unique_ptr<GptqFactor> factor;  // null: rounding
  GptqOptions options;
  std::string fallback;
};

Rung climb(const InputStatistics& s, int64_t k, int64_t group, const GptqOptions& wanted) {
  Rung rung{nullptr, wanted, {}};
  for (const double damping : {wanted.damping, 0.1, 1.0}) {
    if (damping < wanted.damping) continue;
    rung.options.damping = damping;
    rung.factor = GptqFactor::make(s.gram.data(), k, group, rung.options);
    if (rung.factor) break;
  }
  if (!rung.factor) {
    rung.fallback = "the Gram matrix of its inputs cannot be factored: rounding by its diagonal";
  } else if (rung.options.damping != wanted.damping) {
    rung.fallback = fmt::format("the Gram matrix of its inputs needed damping {} rather than {}",
                                rung.options.damping, wanted.damping);
  }
  return rung;
}

struct Correction {
  // W moves by W inputs + outputs.
  Buffer<float> inputs;   // (C - H) (H + damping)^-1 [k, k]; empty: no correction
  Buffer<float> outputs;  // R (H + damping)^-1 [n, k]; empty: none
  InputStatistics held;
};

void solve_correction(const InputStatistics& s, int64_t k, double damping, Correction* to) {
  const int64_t n = s.residual.size() / k;
  Buffer<double> a(k * k), b((k + n) * k);
  double mean = 0;
  for (int64_t i = 0; i < k; ++i)
    mean += static_cast<double>(s.gram[i * k + i]) / static_cast<double>(k);
  for (int64_t i = 0; i < k * k; ++i) {
    a[i] = static_cast<double>(s.gram[i]);
    b[i] = static_cast<double>(s.cross[i]) - a[i];
  }
  for (int64_t i = 0; i < n * k; ++i) b[k * k + i] = static_cast<double>(s.residual[i]);
  for (int64_t i = 0; i < k; ++i) a[i * k + i] += damping * mean;
  if (!solve_positive(k, a.data(), k + n, b.data())) return;
  to->inputs = Buffer<float>(k * k);
  to->outputs = Buffer<float>(n * k);
  for (int64_t i = 0; i < k * k; ++i) to->inputs[i] = static_cast<float>(b[i]);
  for (int64_t i = 0; i < n * k; ++i) to->outputs[i] = static_cast<float>(b[k * k + i]);
}

// The share of the move after which |y - W' x|^2 is least on the held-out tokens: with move M it is
// <M, W C + R - W H> / <M H, M>.
double best_share(const Correction& c, const Linear& linear) {
  const int64_t k = linear.k;
  constexpr int64_t kRows = 48;
  const auto tiles = static_cast<size_t>((linear.n + kRows - 1) / kRows);
  std::vector<double> gains(tiles), costs(tiles);
  parallel_ranges(linear.n, kRows, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w, move, wc, wh, mh;
    const int64_t rows = end - begin;
    for (auto* b : {&w, &move, &wc, &wh, &mh}) b->require(kRows * k);
    const auto times = [&](const Buffer<float>& a, const Buffer<float>& b, Buffer<float>* to) {
      cpu_kernels().gemm(rows, k, k, a.data(), k, b.data(), k, to->data(), k, false);
    };
    fast_rows(linear, begin, rows, w.data());
    times(w, c.inputs, &move);
    times(w, c.held.cross, &wc);
    times(w, c.held.gram, &wh);
    for (int64_t i = 0; i < rows * k && !c.outputs.empty(); ++i) {
      move[i] += c.outputs[begin * k + i];
      wc[i] += c.held.residual[begin * k + i];
    }
    times(move, c.held.gram, &mh);
    double gain = 0, cost = 0;
    for (int64_t i = 0; i < rows * k; ++i) {
      gain +=
          static_cast<double>(move[i]) * (static_cast<double>(wc[i]) - static_cast<double>(wh[i]));
      cost += static_cast<double>(move[i]) * static_cast<double>(mh[i]);
    }
    gains[static_cast<size_t>(begin / kRows)] = gain;
    costs[static_cast<size_t>(begin / kRows)] = cost;
  });
  const double gain = std::accumulate(gains.begin(), gains.end(), 0.0),
               cost = std::accumulate(costs.begin(), costs.end(), 0.0);
  return cost > 0 && std::isfinite(gain / cost) ? gain / cost : 0;
}

void encode_with(const StageJob& job, size_t index, const Rung& rung,
                 const Correction& correction) {
  const Encoding& e = *job.encodings[index];
  const LinearInfo& info = job.stage.linears[index];
  Linear& linear = find_linear(job.block, info.sublayer, info.role);
  double share = 0;
  if (!correction.inputs.empty())
    share = std::clamp(best_share(correction, linear), 0.0, rung.options.correct_inputs);
  OwnedWeight result = allocate_weight(e, info.n, info.k);
  LinearReport done;
  done.fallback = rung.fallback;
  done.rows.resize(static_cast<size_t>(info.n));
  // Few rows, so that threads share a small matrix out as well; but whole areas of one scale.
  const int64_t tile = std::max<int64_t>(48, row_step(e, info.n, info.k));
  const float absmax = e.has_tensor_scale() ? absmax_of(linear) : 0;
  std::vector<GptqLoss> losses(static_cast<size_t>(ceil_div(info.n, tile)));
  parallel_ranges(info.n, tile, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w;
    w.require((end - begin) * info.k);
    fast_rows(linear, begin, end - begin, w.data());
    check_finite(info.name, begin, info.k, {w.data(), static_cast<size_t>((end - begin) * info.k)});
    if (share > 0) {
      thread_local Buffer<float> moved;
      moved.require((end - begin) * info.k);
      cpu_kernels().gemm(end - begin, info.k, info.k, w.data(), info.k, correction.inputs.data(),
                         info.k, moved.data(), info.k, false);
      const auto by = static_cast<float>(share);
      for (int64_t i = 0; i < (end - begin) * info.k; ++i) w[i] += by * moved[i];
      if (!correction.outputs.empty()) {
        const float* shift = correction.outputs.data() + begin * info.k;
        for (int64_t i = 0; i < (end - begin) * info.k; ++i) w[i] += by * shift[i];
      }
    }
    try {
      losses[static_cast<size_t>(begin / tile)] =
          encode_gptq(*rung.factor, rung.options,
                      {e, info.n, info.k, begin, end - begin, w.data(), nullptr, absmax,
                       result.planes, done.rows.data() + begin});
    } catch (const Error& error) {
      throw Error(error.kind(), info.name + ": " + error.what());
    }
  });
  GptqLoss all;
  for (const auto& l : losses) {
    all.error += l.error;
    all.norm += l.norm;
  }
  done.error = all.norm > 0 ? all.error / all.norm : 0;
  done.method = fmt::format("gptq, output error {:.2e}", done.error);
  if (share > 0) done.method += fmt::format(", inputs corrected by {:.2f}", share);
  set_weight(linear, std::move(result));
  job.report[info.name] = std::move(done);
}

}  // namespace

struct GptqStage::State {
  GptqOptions options;
  InputStatistics inputs;
  Correction correction;
  std::string unusable;           // why there are none
  std::vector<float> weights;     // of channels
  std::map<int64_t, Rung> rungs;  // by group size
};

GptqStage::GptqStage(const Stage& stage, const GptqOptions& options, Calibration& calibration,
                     const InputEncoding& input)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.options = options;
  const StatisticsNeeds needs = {.mean_square = true,
                                 .gram = true,
                                 .cross = options.correct_inputs > 0 && calibration.holds_out()};
  try {
    s.inputs = calibration.inputs(stage, needs, false, input);
    if (needs.cross) {
      s.correction.held = calibration.inputs(stage, needs, true, input);
      solve_correction(s.inputs, stage.k(), options.damping, &s.correction);
    }
    s.weights = channel_weights(s.inputs);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kNumeric) throw;
    s.unusable = std::string(e.what()) + ": rounding without data";
  }
}
GptqStage::~GptqStage() = default;

void GptqStage::round(const StageJob& job) {
  State& s = *state_;
  for (size_t i = 0; i < job.encodings.size(); ++i) {
    if (!job.encodings[i]) continue;
    const Encoding& e = *job.encodings[i];
    LinearReport done{.method = "rtn weighted by inputs", .fallback = s.unusable, .rows = {}};
    if (!s.weights.empty() && gptq_takes(e)) {
      const int64_t group = gptq_group(e, job.stage.k());
      auto [it, is_new] = s.rungs.try_emplace(group);
      if (is_new) it->second = climb(s.inputs, job.stage.k(), group, s.options);
      if (it->second.factor) {
        encode_with(job, i, it->second, s.correction);
        continue;
      }
      done.fallback = it->second.fallback;
    }
    if (s.weights.empty()) {
      done.method = "rtn";
      if (done.fallback.empty()) done.fallback = "its inputs are all zero: rounding without data";
    }
    encode_linear(job, i, encode_rtn, s.weights.empty() ? nullptr : s.weights.data(), done);
  }
}

void quantize_stage_gptq(const StageJob& job) {
  GptqStage(job.stage, job.settings.gptq, *job.calibration, job.input).round(job);
}

}  // namespace pith
