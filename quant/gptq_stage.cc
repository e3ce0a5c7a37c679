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
#include "quant/gptq_gpu.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/check.h"
#include "runtime/compress/slabs.h"
#include "runtime/cpu/decode.h"

namespace pith {
namespace {

struct Rung {
  std::unique_ptr<GptqFactor> factor;  // null: rounding
  GptqOptions options;
  std::string fallback;
};

Rung climb(const InputStatistics& s, int64_t k, int64_t group, const GptqOptions& wanted,
           GpuDevice* device) {
  Rung rung{nullptr, wanted, {}};
  for (const double damping : {wanted.damping, 0.1, 1.0}) {
    if (damping < wanted.damping) continue;
    rung.options.damping = damping;
    rung.factor = GptqFactor::make(s.gram.data(), k, group, rung.options, device);
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
  Buffer<float> inputs;   // C (H + damping)^-1 [k, k]; empty: no correction
  Buffer<float> outputs;  // R (H + damping)^-1 [n, k]; empty: none
  InputStatistics held;
  std::unique_ptr<GpuCorrection> gpu;  // instead, with a device
};

void solve_correction(const InputStatistics& s, int64_t k, double damping, Correction* to) {
  const int64_t n = s.residual.size() / k;
  Buffer<double> a(k * k), b((k + n) * k);
  double mean = 0;
  for (int64_t i = 0; i < k; ++i)
    mean += static_cast<double>(s.gram[i * k + i]) / static_cast<double>(k);
  for (int64_t i = 0; i < k * k; ++i) {
    a[i] = static_cast<double>(s.gram[i]);
    b[i] = static_cast<double>(s.cross[i]);
  }
  for (int64_t i = 0; i < n * k; ++i) b[k * k + i] = static_cast<double>(s.residual[i]);
  for (int64_t i = 0; i < k; ++i) a[i * k + i] += damping * mean;
  if (!solve_positive(k, a.data(), k + n, b.data())) return;
  to->inputs = Buffer<float>(k * k);
  to->outputs = Buffer<float>(n * k);
  for (int64_t i = 0; i < k * k; ++i) to->inputs[i] = static_cast<float>(b[i]);
  for (int64_t i = 0; i < n * k; ++i) to->outputs[i] = static_cast<float>(b[k * k + i]);
}

double share_of(double gain, double cost) {
  return cost > 0 && std::isfinite(gain / cost) ? gain / cost : 0;
}

// The share of the move after which |y - W' x|^2 is least on the held-out tokens: with move M it is
// <M, W C + R> / <M H, M>.
double best_share(const Correction& c, const Linear& linear) {
  const int64_t k = linear.k;
  constexpr int64_t kRows = 48;
  const auto tiles = static_cast<size_t>((linear.n + kRows - 1) / kRows);
  std::vector<double> gains(tiles), costs(tiles);
  parallel_ranges(linear.n, kRows, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w, move, wc, mh;
    const int64_t rows = end - begin;
    for (auto* b : {&w, &move, &wc, &mh}) b->require(kRows * k);
    const auto times = [&](const Buffer<float>& a, const Buffer<float>& b, Buffer<float>* to) {
      cpu_kernels().gemm(rows, k, k, a.data(), k, b.data(), k, to->data(), k, false);
    };
    decode_rows(linear, begin, rows, w.data());
    times(w, c.inputs, &move);
    times(w, c.held.cross, &wc);
    for (int64_t i = 0; i < rows * k && !c.outputs.empty(); ++i) {
      move[i] += c.outputs[begin * k + i];
      wc[i] += c.held.residual[begin * k + i];
    }
    times(move, c.held.gram, &mh);
    double gain = 0, cost = 0;
    for (int64_t i = 0; i < rows * k; ++i) {
      gain += static_cast<double>(move[i]) * static_cast<double>(wc[i]);
      cost += static_cast<double>(move[i]) * static_cast<double>(mh[i]);
    }
    gains[static_cast<size_t>(begin / kRows)] = gain;
    costs[static_cast<size_t>(begin / kRows)] = cost;
  });
  const double gain = std::accumulate(gains.begin(), gains.end(), 0.0),
               cost = std::accumulate(costs.begin(), costs.end(), 0.0);
  return share_of(gain, cost);
}

// One linear of a stage on its way into planes.
struct Rounding {
  const Linear& linear;
  const Encoding& encoding;
  const Rung& rung;
  const Correction& correction;
  MutablePlanes to;
  uint64_t* meant;   // [n]
  const Mask* mask;  // or null
  float tensor_absmax = 0;
  double share = 0;  // of the correction

  void read(int64_t begin, int64_t end, float* w) const {
    const int64_t k = linear.k;
    decode_rows(linear, begin, end - begin, w);
    check_finite(linear.name, begin, k, {w, static_cast<size_t>((end - begin) * k)});
  }
  // encode_rows(job) of rows whose numbers are w; errors name the linear.
  template <class Encode>
  GptqLoss encode(int64_t begin, int64_t end, const float* w, Encode encode_rows) const {
    try {
      return encode_rows({encoding, linear.n, linear.k, begin, end - begin, w, nullptr,
                          tensor_absmax, to, meant + begin, mask});
    } catch (const Error& e) {
      throw Error(e.kind(), linear.name + ": " + e.what());
    }
  }
};

GptqLoss round_rows(const Rounding& r) {
  const int64_t k = r.linear.k;
  // Few rows, so that threads share a small matrix out as well; but whole areas of one scale.
  const int64_t tile = std::max<int64_t>(48, row_step(r.encoding, r.linear.n, k));
  std::vector<GptqLoss> losses(static_cast<size_t>(ceil_div(r.linear.n, tile)));
  parallel_ranges(r.linear.n, tile, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w, moved;
    w.require((end - begin) * k);
    r.read(begin, end, w.data());
    if (r.share > 0) {
      moved.require((end - begin) * k);
      cpu_kernels().gemm(end - begin, k, k, w.data(), k, r.correction.inputs.data(), k,
                         moved.data(), k, false);
      const auto by = static_cast<float>(r.share);
      for (int64_t i = 0; i < (end - begin) * k; ++i) w[i] += by * moved[i];
      if (!r.correction.outputs.empty()) {
        const float* shift = r.correction.outputs.data() + begin * k;
        for (int64_t i = 0; i < (end - begin) * k; ++i) w[i] += by * shift[i];
      }
    }
    losses[static_cast<size_t>(begin / tile)] = r.encode(
        begin, end, w.data(),
        [&](const RowJob& job) { return encode_gptq(*r.rung.factor, r.rung.options, job); });
  });
  GptqLoss all;
  for (const auto& l : losses) all += l;
  return all;
}

// f(begin, end, w): rows and where they lie on the device; `w` is them here.
void by_rows_on_gpu(const Rounding& r, GpuDevice& device, Buffer<float>* w,
                    FunctionRef<void(int64_t, int64_t, GpuMatrix<float>&)> f) {
  const int64_t k = r.linear.k, step = gptq_gpu_rows(k, gptq_group(r.encoding, k));
  for (int64_t begin = 0; begin < r.linear.n; begin += step) {
    const int64_t end = std::min(r.linear.n, begin + step);
    w->require((end - begin) * k);
    parallel_ranges(end - begin, 48, [&](int64_t first, int64_t last) {
      r.read(begin + first, begin + last, w->data() + first * k);
    });
    GpuMatrix<float> on_device(device, end - begin, k, w->data());
    f(begin, end, on_device);
  }
}

double best_share_on_gpu(const Rounding& r, GpuDevice& device) {
  GpuCorrection& correction = *r.correction.gpu;
  double gains = 0, costs = 0;
  Buffer<float> w;
  by_rows_on_gpu(r, device, &w, [&](int64_t begin, int64_t end, GpuMatrix<float>& rows) {
    double gain, cost;
    correction.judge(rows.data(), correction.move(rows.data(), begin, end - begin), begin, &gain,
                     &cost);
    gains += gain;
    costs += cost;
  });
  return share_of(gains, costs);
}

GptqLoss round_rows_on_gpu(const Rounding& r, GpuDevice& device) {
  GptqLoss all;
  Buffer<float> w;
  by_rows_on_gpu(r, device, &w, [&](int64_t begin, int64_t end, GpuMatrix<float>& rows) {
    if (r.share > 0) {
      GpuCorrection& correction = *r.correction.gpu;
      correction.apply(correction.move(rows.data(), begin, end - begin),
                       static_cast<float>(r.share), rows.data());
      device.download(w.data(), rows.data(), rows.buffer.bytes());
    }
    all += r.encode(begin, end, w.data(), [&](const RowJob& job) {
      return encode_gptq_on_gpu(*r.rung.factor, r.rung.options, job, rows.data());
    });
  });
  return all;
}

// `device`: null: on the processor.
LinearReport encode_with(const WeightPart& part, const Encoding& e, const Rung& rung,
                         const Correction& correction, GpuDevice* device) {
  Linear& linear = part.linear;
  OwnedWeight result = allocate_weight(e, linear.n, linear.k);
  LinearReport done;
  done.fallback = rung.fallback;
  done.rows.resize(static_cast<size_t>(linear.n));
  Rounding r{linear, e, rung, correction, result.planes, done.rows.data(), part.mask};
  if (e.has_tensor_scale()) r.tensor_absmax = absmax_of(linear);
  if (correction.gpu && device != nullptr) r.share = best_share_on_gpu(r, *device);
  if (!correction.inputs.empty()) r.share = best_share(correction, linear);
  r.share = std::clamp(r.share, 0.0, rung.options.correct_inputs);
  const GptqLoss loss = device != nullptr ? round_rows_on_gpu(r, *device) : round_rows(r);
  done.error = loss.norm > 0 ? loss.error / loss.norm : 0;
  done.method = fmt::format("gptq, output error {:.2e}", done.error);
  if (r.share > 0) done.method += fmt::format(", inputs corrected by {:.2f}", r.share);
  set_weight(linear, std::move(result));
  return done;
}

// Statistics of w x, of those of x.
InputStatistics through(const Weight& w, const InputStatistics& x) {
  const int64_t n = w.n, k = w.k;
  Buffer<float> rows(n * k), transposed(k * n), product(n * k);
  decode_rows(w, 0, n, rows.data());
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t i = 0; i < k; ++i) transposed[i * n + r] = rows[r * k + i];
  }
  InputStatistics out{.tokens = x.tokens,
                      .mean_square = std::vector<double>(static_cast<size_t>(n)),
                      .absmax = {},
                      .gram = Buffer<float>(n * n),
                      .cross = {},
                      .residual = {}};
  const CpuKernels& kernels = cpu_kernels();
  kernels.gemm(n, k, k, rows.data(), k, x.gram.data(), k, product.data(), k, false);
  kernels.gemm(n, n, k, product.data(), k, transposed.data(), n, out.gram.data(), n, false);
  for (int64_t r = 0; r < n; ++r)
    out.mean_square[static_cast<size_t>(r)] = static_cast<double>(out.gram[r * n + r]);
  return out;
}

}  // namespace

struct GptqStage::State {
  GptqOptions options;
  InputStatistics inputs;
  Correction correction;
  std::string unusable;                                  // why there are none
  std::vector<float> weights;                            // of channels
  std::map<std::pair<int64_t, GpuDevice*>, Rung> rungs;  // by group size, and where they are

  LinearReport round(const WeightPart& part, const Encoding& e, GpuDevice* device);
};

LinearReport GptqStage::State::round(const WeightPart& part, const Encoding& e, GpuDevice* device) {
  LinearReport done{.method = "rtn weighted by inputs", .fallback = unusable, .rows = {}};
  if (!weights.empty() && gptq_takes(e)) {
    const int64_t group = gptq_group(e, part.linear.k);
    if (part.mask != nullptr) device = nullptr;  // the kernels know no masks
    auto [it, is_new] = rungs.try_emplace({group, device});
    if (is_new) it->second = climb(inputs, part.linear.k, group, options, device);
    // The correction is that of the whole linear's outputs.
    static const Correction kNone;
    if (it->second.factor)
      return encode_with(part, e, it->second, part.whole ? correction : kNone, device);
    done.fallback = it->second.fallback;
  }
  if (weights.empty()) {
    done.method = "rtn";
    if (done.fallback.empty())
      done.fallback = inputs.tokens == 0
                          ? "no token of the calibration text came to it: rounding without data"
                          : "its inputs are all zero: rounding without data";
  }
  const float* const channel_weight = weights.empty() ? nullptr : weights.data();
  return round_rows_of(part.linear, {e, encode_rtn, channel_weight, part.mask}, done);
}

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
    if (!s.inputs.cross.empty()) {
      s.correction.held = calibration.inputs(stage, needs, true, input);
      if (GpuDevice* const device = calibration.gpu()) {
        s.correction.gpu =
            GpuCorrection::make(*device, s.inputs, s.correction.held, stage.k(), options.damping);
      } else {
        solve_correction(s.inputs, stage.k(), options.damping, &s.correction);
      }
    }
    s.weights = channel_weights(s.inputs);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kNumeric) throw;
    s.unusable = std::string(e.what()) + ": rounding without data";
  }
}
GptqStage::~GptqStage() = default;

void GptqStage::round(const StageJob& job) {
  GpuDevice* const device = job.calibration->gpu();
  for (size_t i = 0; i < job.encodings.size(); ++i) {
    if (!job.encodings[i]) continue;
    const Encoding& e = *job.encodings[i];
    const LinearInfo& info = job.stage.linears[i];
    const Mask* mask = job.masks == nullptr ? nullptr : find_mask(*job.masks, info.name);
    job.report[info.name] =
        round_parts(find_linear(job.block, info), mask, [&](const WeightPart& part) {
          if (part.through == nullptr || state_->weights.empty())
            return state_->round(part, e, device);
          State inner;
          inner.options = state_->options;
          inner.inputs = through(*part.through, state_->inputs);
          inner.weights = channel_weights(inner.inputs);
          return inner.round(part, e, device);
        });
  }
}

void quantize_stage_gptq(const StageJob& job) {
  GptqStage(job.stage, job.settings.gptq, *job.calibration, job.input).round(job);
}

}  // namespace pith
