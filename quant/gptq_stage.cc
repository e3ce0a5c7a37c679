// GPTQ over the linears of a stage. Where the Gram matrix cannot be factored as asked, the ladder:
// damping 0.1, then 1, then its diagonal alone (weighted rounding), then rounding without data.
// Every rung but the first is reported as a fallback.

#include <cmath>
#include <map>

#include "core/buffer.h"
#include "core/error.h"
#include "core/parallel.h"
#include "quant/gptq.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"

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

void encode_with(const StageJob& job, size_t index, const Rung& rung) {
  const Encoding& e = job.encodings[index];
  const LinearInfo& info = job.stage.linears[index];
  Linear& linear = find_linear(job.block, info.sublayer, info.role);
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
  linear.terms.clear();
  linear.terms.push_back({.w = std::move(result.weight), .up = {}});
  job.report[info.name] = std::move(done);
}

}  // namespace

void quantize_stage_gptq(const StageJob& job) {
  InputStatistics s;
  std::string unusable;
  try {
    s = job.calibration->inputs(job.stage, {.mean_square = true, .gram = true});
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
        encode_with(job, i, it->second);
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
