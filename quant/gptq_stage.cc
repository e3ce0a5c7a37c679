// GPTQ over the linears of a stage. Where the Gram matrix cannot be factored as asked, the ladder:
// damping 0.1, then 1, then its diagonal alone (weighted rounding), then rounding without data.
// Every rung but the first is reported as a fallback.
//
// Input correction (GPTAQ, Li et al. 2025; Qronos, Zhang et al. 2025): the inputs x of a stage
// carry the errors of what was compressed before it, o are those of the uncompressed model. Rather
// than W x the rounded layer is to give W o, and where its output is added to hidden states that
// miss something by now, that too: y = W o - r. On average (W C + R) (H + damping)^-1 does that
// best, C = mean of o x^T, R = mean of -r x^T. The target of rounding moves from W towards it by
// `correct_inputs`. It is kept for a linear where it lowers the error against y on windows that
// were held out.

#include <cmath>
#include <map>

#include "core/buffer.h"
#include "core/error.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "quant/gptq.h"
#include "quant/quantize_pass.h"
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

// Mean of |y - Q x|^2 over held-out tokens, less the part that does not depend on Q.
double error_on(const InputStatistics& held, const Linear& original, const Weight& rounded) {
  const int64_t k = original.k;
  constexpr int64_t kRows = 48;
  std::vector<double> sums(static_cast<size_t>((original.n + kRows - 1) / kRows));
  parallel_ranges(original.n, kRows, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w, q, wc, qh;
    const int64_t rows = end - begin;
    for (auto* b : {&w, &q, &wc, &qh}) b->require(kRows * k);
    fast_rows(original, begin, rows, w.data());
    decode_with_kernels(cpu_kernels(), rounded, begin, rows, q.data());
    cpu_kernels().gemm(rows, k, k, w.data(), k, held.cross.data(), k, wc.data(), k, false);
    cpu_kernels().gemm(rows, k, k, q.data(), k, held.gram.data(), k, qh.data(), k, false);
    if (!held.residual.empty()) {
      for (int64_t i = 0; i < rows * k; ++i) wc[i] += held.residual[begin * k + i];
    }
    double sum = 0;
    for (int64_t i = 0; i < rows * k; ++i) {
      sum +=
          static_cast<double>(q[i]) * (static_cast<double>(qh[i]) - 2 * static_cast<double>(wc[i]));
    }
    sums[static_cast<size_t>(begin / kRows)] = sum;
  });
  double total = 0;
  for (const double s : sums) total += s;
  return total;
}

struct Rounded {
  OwnedWeight weight;
  LinearReport report;
};

// `correction` may be null.
Rounded round_linear(const StageJob& job, size_t index, const Rung& rung,
                     const Correction* correction) {
  const Encoding& e = job.encodings[index];
  const LinearInfo& info = job.stage.linears[index];
  const Linear& linear = find_linear(job.block, info.sublayer, info.role);
  OwnedWeight result = allocate_weight(e, info.n, info.k);
  LinearReport done;
  done.fallback = rung.fallback;
  done.rows.resize(static_cast<size_t>(info.n));
  constexpr int64_t kRows = 48;
  std::vector<GptqLoss> losses(static_cast<size_t>((info.n + kRows - 1) / kRows));
  parallel_ranges(info.n, kRows, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w;
    w.require((end - begin) * info.k);
    fast_rows(linear, begin, end - begin, w.data());
    require_finite_weights(info, begin, end - begin, w.data());
    if (correction != nullptr) {
      thread_local Buffer<float> moved;
      moved.require((end - begin) * info.k);
      cpu_kernels().gemm(end - begin, info.k, info.k, w.data(), info.k, correction->inputs.data(),
                         info.k, moved.data(), info.k, false);
      const auto by = static_cast<float>(rung.options.correct_inputs);
      for (int64_t i = 0; i < (end - begin) * info.k; ++i) w[i] += by * moved[i];
      if (!correction->outputs.empty()) {
        const float* shift = correction->outputs.data() + begin * info.k;
        for (int64_t i = 0; i < (end - begin) * info.k; ++i) w[i] += by * shift[i];
      }
    }
    try {
      losses[static_cast<size_t>(begin / kRows)] =
          encode_gptq(*rung.factor, rung.options,
                      {e, info.n, info.k, begin, end - begin, w.data(), nullptr, 0, result.planes,
                       done.rows.data() + begin});
    } catch (const Error& error) {
      throw Error(error.kind(), info.name + ": " + error.what());
    }
  });
  GptqLoss all;
  for (const auto& l : losses) {
    all.error += l.error;
    all.norm += l.norm;
  }
  done.method = fmt::format("gptq, output error {:.2e}", all.norm > 0 ? all.error / all.norm : 0);
  return {std::move(result), std::move(done)};
}

void encode_with(const StageJob& job, size_t index, const Rung& rung,
                 const Correction& correction) {
  const LinearInfo& info = job.stage.linears[index];
  Linear& linear = find_linear(job.block, info.sublayer, info.role);
  Rounded best = round_linear(job, index, rung, nullptr);
  if (!correction.inputs.empty()) {
    Rounded corrected = round_linear(job, index, rung, &correction);
    if (error_on(correction.held, linear, corrected.weight.weight) <
        error_on(correction.held, linear, best.weight.weight)) {
      best = std::move(corrected);
      best.report.method += ", inputs corrected";
    }
  }
  linear.terms.clear();
  linear.terms.push_back({.w = std::move(best.weight.weight), .up = {}});
  job.report[info.name] = std::move(best.report);
}

}  // namespace

void quantize_stage_gptq(const StageJob& job) {
  InputStatistics s;
  Correction correct;
  std::string unusable;
  const StatisticsNeeds needs = {
      .mean_square = true,
      .gram = true,
      .cross = job.settings.gptq.correct_inputs > 0 && job.calibration->holds_out()};
  try {
    s = job.calibration->inputs(job.stage, needs);
    if (needs.cross) {
      correct.held = job.calibration->inputs(job.stage, needs, true);
      solve_correction(s, job.stage.k(), job.settings.gptq.damping, &correct);
    }
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kNumeric) throw;
    unusable = std::string(e.what()) + ": rounding without data";
  }
  const std::vector<float> weights = unusable.empty() ? channel_weights(s) : std::vector<float>();
  std::map<int64_t, Rung> rungs;  // by group size
  for (size_t i = 0; i < job.encodings.size(); ++i) {
    const Encoding& e = job.encodings[i];
    if (e.kind == EncodingKind::kGgml) continue;
    const bool integers = e.kind == EncodingKind::kInt && !e.two_level;
    LinearReport done{.method = "rtn weighted by inputs", .fallback = unusable, .rows = {}};
    if (!weights.empty() && integers) {
      const int64_t group = e.group == 0 ? job.stage.k() : e.group;
      auto [it, is_new] = rungs.try_emplace(group);
      if (is_new) it->second = climb(s, job.stage.k(), group, job.settings.gptq);
      if (it->second.factor) {
        encode_with(job, i, it->second, correct);
        continue;
      }
      done.fallback = it->second.fallback;
    }
    if (weights.empty()) {
      done.method = "rtn";
      if (done.fallback.empty()) done.fallback = "its inputs are all zero: rounding without data";
    }
    encode_linear(job, i, encode_rtn, weights.empty() ? nullptr : weights.data(), done);
  }
}

}  // namespace pith
