#include "quant/gptq_stage.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "core/buffer.h"
#include "core/error.h"
#include "core/parallel.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/check.h"
#include "runtime/compress/input_correction.h"
#include "runtime/compress/slabs.h"
#include "runtime/cpu/cpu_algebra.h"
#include "runtime/cpu/decode.h"

namespace pith {
namespace {

struct DampedFactor {
  std::unique_ptr<GptqFactor> factor;  // null: rounding
  GptqOptions options;
  std::string fallback;
};

DampedFactor factor_with_increasing_damping(Algebra& algebra, const InputStatistics& s, int64_t k,
                                            int64_t group, const GptqOptions& wanted) {
  DampedFactor out{nullptr, wanted, {}};
  for (const double damping : {wanted.damping, 0.1, 1.0}) {
    if (damping < wanted.damping) continue;
    out.options.damping = damping;
    out.factor = GptqFactor::make(algebra, s.gram.data(), k, group, out.options);
    if (out.factor) break;
  }
  if (!out.factor) {
    out.fallback = "the Gram matrix of its inputs cannot be factored: rounding by its diagonal";
  } else if (out.options.damping != wanted.damping) {
    out.fallback = fmt::format("the Gram matrix of its inputs needed damping {} rather than {}",
                               out.options.damping, wanted.damping);
  }
  return out;
}

// One linear of a stage on its way into planes.
struct Rounding {
  const Linear& linear;
  const Encoding& encoding;
  Algebra& algebra;
  const DampedFactor& damped;
  const InputCorrection* correction;  // null: none
  Algebra& correcting;                // where the correction lies
  MutablePlanes to;
  uint64_t* row_hashes;  // [n]
  const Mask* mask;      // or null
  float tensor_absmax = 0;
  double share = 0;  // of the correction

  // f(begin, end, w) for panels of rows, w [end - begin, k] on the host. Panels begin at multiples
  // of `step`.
  void each_panel(int64_t step, FunctionRef<void(int64_t, int64_t, float*)> f) const {
    const int64_t k = linear.k;
    const uint64_t row_bytes = GptqFactor::row_bytes(k, gptq_group(encoding, k));
    algebra.for_row_panels(linear.n, step, row_bytes, [&](int64_t begin, int64_t end) {
      Buffer<float> w((end - begin) * k);
      parallel_ranges(end - begin, 48, [&](int64_t first, int64_t last) {
        float* const rows = w.data() + first * k;
        decode_rows(linear, begin + first, last - first, rows);
        check_finite(linear.name, begin + first, k,
                     {rows, static_cast<size_t>((last - first) * k)});
      });
      f(begin, end, w.data());
    });
  }
};

// The share of the correction after which |y - W' x|^2 is least on the held-out tokens.
double best_share(const Rounding& r) {
  const int64_t k = r.linear.k;
  std::vector<InputCorrection::Effect> effects(static_cast<size_t>(r.linear.n));  // by first row
  r.each_panel(1, [&](int64_t begin, int64_t end, float* w) {
    const Matrix<float> there = r.correcting.borrow(w, end - begin, k);
    effects[static_cast<size_t>(begin)] = r.correction->judge(there, begin);
  });
  double gain = 0, cost = 0;
  for (const auto& e : effects) {
    gain += e.gain;
    cost += e.cost;
  }
  return cost > 0 && std::isfinite(gain / cost) ? gain / cost : 0;
}

GptqLoss round_rows(const Rounding& r) {
  const int64_t n = r.linear.n, k = r.linear.k;
  std::vector<GptqLoss> losses(static_cast<size_t>(n));  // by first row
  // Whole areas of one scale.
  r.each_panel(row_step(r.encoding, n, k), [&](int64_t begin, int64_t end, float* w) {
    if (r.share > 0) {
      Matrix<float> there = r.correcting.borrow(w, end - begin, k);
      r.correction->apply(static_cast<float>(r.share), begin, there);
      r.correcting.give_back(there, w);
    }
    try {
      losses[static_cast<size_t>(begin)] = r.damped.factor->encode(
          r.damped.options,
          {r.encoding, n, k, begin, end - begin, w, nullptr, r.tensor_absmax, r.to,
           r.row_hashes + begin,
           r.mask == nullptr ? std::span<const uint32_t>{} : r.mask->rows(begin, end - begin)});
    } catch (const Error& e) {
      throw Error(e.kind(), r.linear.name + ": " + e.what());
    }
  });
  GptqLoss all;
  for (const auto& l : losses) all += l;
  return all;
}

LinearReport encode_with(const WeightPart& part, const Encoding& e, Algebra& algebra,
                         const DampedFactor& damped, const InputCorrection* correction,
                         Algebra& correcting) {
  Linear& linear = part.linear;
  OwnedWeight result = allocate_weight(e, linear.n, linear.k);
  LinearReport done;
  done.fallback = damped.fallback;
  done.rows.resize(static_cast<size_t>(linear.n));
  std::optional<Mask> chosen;
  if (e.is_sparse()) chosen = mask_for(linear, e.sparsity, part.mask);
  const Mask* const mask = chosen ? &*chosen : part.mask;
  Rounding r{linear,           e,   algebra, damped, correction, correcting, result.planes,
             done.rows.data(), mask};
  if (e.has_tensor_scale()) r.tensor_absmax = absmax_of(linear);
  if (correction != nullptr)
    r.share = std::clamp(best_share(r), 0.0, damped.options.correct_inputs);
  const GptqLoss loss = round_rows(r);
  done.error = loss.norm > 0 ? loss.error / loss.norm : 0;
  done.method = fmt::format("gptq, output error {:.2e}", done.error);
  if (r.share > 0) done.method += fmt::format(", inputs corrected by {:.2f}", r.share);
  set_weight(linear, std::move(result));
  return done;
}

// Statistics of w x, from those of x.
InputStatistics through(Algebra& algebra, const Weight& w, const InputStatistics& x) {
  const int64_t n = w.n, k = w.k;
  Buffer<float> rows(n * k);
  decode_rows(w, 0, n, rows.data());
  const Matrix<float> weight = algebra.borrow(rows.data(), n, k);
  Matrix<float> product(algebra, n, k), gram(algebra, n, n);
  algebra.gemm(1, weight, algebra.borrow(x.gram.data(), k, k), 0, product);
  algebra.gemm(1, product, weight.t(), 0, gram);
  InputStatistics out;
  out.tokens = x.tokens;
  out.gram = algebra.take(std::move(gram));
  for (int64_t r = 0; r < n; ++r)
    out.mean_square.push_back(static_cast<double>(out.gram[r * n + r]));
  return out;
}

}  // namespace

struct GptqStage::State {
  GptqOptions options;
  Algebra& algebra;
  InputStatistics inputs = {};
  std::unique_ptr<InputCorrection> correction = {};  // null: none
  std::string unusable = {};                         // why there are no statistics
  std::vector<float> weights = {};                   // of channels
  // By group size, where it is, and whether its columns stay in their order.
  std::map<std::tuple<int64_t, Algebra*, bool>, DampedFactor> factors = {};

  LinearReport round(const WeightPart& part, const Encoding& e);
};

LinearReport GptqStage::State::round(const WeightPart& part, const Encoding& linear_encoding) {
  const Encoding e = part.encoding(linear_encoding);
  LinearReport done{.method = row_method(plain_rounding(), e, !weights.empty()),
                    .fallback = unusable,
                    .rows = {}};
  const bool paths = e.kind == EncodingKind::kTcq;
  if (!weights.empty() && gptq_takes(e) && !(paths && part.mask != nullptr)) {
    const int64_t k = part.linear.k, group = gptq_group(e, k);
    // The kernels of a GPU know neither masks nor trellis codes nor scales of two levels.
    const bool on_host = part.mask != nullptr || e.is_sparse() || paths || e.two_level;
    Algebra& here = on_host ? cpu_algebra() : algebra;
    auto [it, is_new] = factors.try_emplace({group, &here, paths});
    if (is_new) {
      it->second = factor_with_increasing_damping(here, inputs, k, group, options_for(e, options));
    }
    if (it->second.factor) {
      // The correction is that of the whole linear's outputs.
      return encode_with(part, e, here, it->second, part.whole ? correction.get() : nullptr,
                         algebra);
    }
    done.fallback = it->second.fallback;
  }
  if (weights.empty() && done.fallback.empty()) {
    done.fallback = inputs.tokens == 0
                        ? "no token of the calibration text came to it: rounding without data"
                        : "its inputs are all zero: rounding without data";
  }
  const float* const channel_weight = weights.empty() ? nullptr : weights.data();
  return round_rows_of(part.linear, {e, encode_rtn, channel_weight, part.mask}, done);
}

GptqStage::GptqStage(const Stage& stage, const GptqOptions& options, Calibration& calibration,
                     const InputEncoding& input)
    : state_(new State{.options = options, .algebra = calibration.algebra()}) {
  State& s = *state_;
  const StatisticsNeeds needs = {
      .mean_square = true,
      .gram = true,
      .cross_gram = options.correct_inputs > 0 && calibration.holds_out()};
  try {
    s.inputs = calibration.inputs(stage, needs, false, input);
    if (!s.inputs.cross_gram.empty()) {
      s.correction = InputCorrection::make(calibration.algebra(), s.inputs,
                                           calibration.inputs(stage, needs, true, input), stage.k(),
                                           {options.damping, options.shrink});
    }
    s.weights = channel_weights(s.inputs);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kNumeric) throw;
    s.unusable = std::string(e.what()) + ": rounding without data";
  }
}
GptqStage::~GptqStage() = default;

LinearReport GptqStage::round(Linear& linear, const Encoding& e, const Mask* mask) {
  return round_parts(linear, mask, [&](const WeightPart& part) {
    if (part.through == nullptr || state_->weights.empty()) return state_->round(part, e);
    State inner{.options = state_->options, .algebra = state_->algebra};
    inner.inputs = through(state_->algebra, *part.through, state_->inputs);
    inner.weights = channel_weights(inner.inputs);
    return inner.round(part, e);
  });
}

void quantize_stage_gptq(const StageContext& at, const StageRounding& to) {
  GptqStage gptq(at.stage, to.settings.gptq, *at.calibration, to.input);
  for (size_t i = 0; i < to.encodings.size(); ++i) {
    if (!to.encodings[i]) continue;
    const LinearInfo& info = at.stage.linears[i];
    at.report[info.name] =
        gptq.round(find_linear(at.block, info), *to.encodings[i], find_mask(at.masks, info.name));
  }
}

}  // namespace pith
