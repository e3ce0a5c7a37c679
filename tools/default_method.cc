#include "tools/default_method.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "quant/gptq.h"
#include "runtime/cpu/kernels.h"
#include "tools/calibration_text.h"
#include "tools/processor.h"

namespace pith::tools {
namespace {

// About twelve minutes of two cores with AVX-512, and models of up to some 600 M weights.
constexpr double kMaxOperations = 6e13;

// What GPTQ gains. At 6 bits and above, rounding of the activations at run time costs more than
// that of the weights, and rtn takes seconds.
bool gains_from_gptq(const QuantizeCommand& o) {
  Encoding e = encoding_for_type(o.type);
  if (o.two_level) e.two_level = true;
  return gptq_takes(e) && (e.kind == EncodingKind::kNf4 || e.kind == EncodingKind::kTcq ||
                           (e.kind == EncodingKind::kInt && e.bits <= 5));
}

// The share of its text, where it takes one, that the model writes.
double share_written(const QuantizeCommand& o) {
  return written_share(
      calibration_inputs(o.calibration.empty() ? default_sources() : o.calibration));
}
bool writes_text(const QuantizeCommand& o) { return share_written(o) > 0; }

double operations_of(const QuantizeCommand& o, const proto::ModelSpec& spec, bool gptq,
                     TextSize text) {
  text.length = std::min(text.length, static_cast<int64_t>(spec.context()));
  const bool paths = encoding_for_type(o.type).kind == EncodingKind::kTcq;
  return operations_of(spec, {.gptq = gptq, .paths = paths}, text, share_written(o));
}

}  // namespace

double operations_of(const proto::ModelSpec& spec, RoundingWork work, TextSize text,
                     double written) {
  // Fitted to the processor time of SmolLM2-135M (docs/results.md). Passes over the blocks observe
  // inputs and propagate states; searching scales and refining codes costs as much as so many
  // operations a weight, and each column of the sweep makes up for the ones before it.
  const bool gptq = work.gptq;
  const double passes = 1.7, gram = gptq ? 1.5 : 0, path = gptq ? 150'000 : 80'000,
               rounding = work.paths ? path
                          : gptq     ? 30'000
                                     : 1500,
               sweep = gptq ? 10 : 0, table = gptq ? 9000 : 1500;
  const double tokens = static_cast<double>(text.windows * text.length);
  double of_token = 0, all = 0;
  for (const auto& l : linears_of(spec)) {
    const auto n = static_cast<double>(l.n), k = static_cast<double>(l.k);
    if (l.layer < 0) {
      all += n * k * table;
      of_token += written * 2 * n * k;
    } else {
      all += n * k * (rounding + sweep * k);
      of_token += (2 * n * k * (passes + written) + gram * k * k) * share_of_tokens(spec, l);
    }
  }
  return all + of_token * tokens;
}

double seconds_for(double operations) {
  // The share of the peak that all of this reaches.
  constexpr double kShare = 0.4;
  static const double rate = peak_operations(cpu_kernels().f32_peak);
  return operations / (kShare * rate);
}

std::string about_time(double seconds) {
  if (seconds < 2) return "a moment";
  if (seconds < 90) return fmt::format("about {:.0f} s", seconds);
  if (seconds < 5400) return fmt::format("about {:.0f} min", seconds / 60);
  return fmt::format("about {:.0f} h", seconds / 3600);
}

void choose_method(QuantizeCommand& o, const proto::ModelSpec& spec, bool fits) {
  if (!o.method.empty()) return;
  o.method = "rtn";
  o.method_is_chosen = true;
  const bool no_text = !o.calibration.empty() && calibration_inputs(o.calibration).empty();
  if (o.mixed() || no_text || !gains_from_gptq(o)) return;
  if (writes_text(o) && !fits) return;
  const TextSize given = {o.nsamples, o.seqlen};
  const auto take = [&](bool gptq, TextSize text) {
    text.length = std::min(text.length, static_cast<int64_t>(spec.context()));
    if (o.windows_given) text = given;
    if (operations_of(o, spec, gptq, text) > kMaxOperations) return false;
    o.nsamples = text.windows;
    o.seqlen = text.length;
    return true;
  };
  if (take(true, kGptqText)) {
    o.method = "gptq";
    // An expert that no token came to is rounded without data, and reported: nobody asked for gptq.
    o.max_fallbacks = std::numeric_limits<int>::max();
  } else if (writes_text(o) && take(false, kRtnText)) {
    if (o.calibration.empty()) o.calibration = default_sources();
  }
}

std::string how_to_get_closer(const QuantizeCommand& o, const proto::ModelSpec& spec) {
  if (!o.method_is_chosen) return "";
  if (o.mixed()) return "to get closer at this size: --method gptq";
  if (!gains_from_gptq(o) || o.windows_given) return "";
  const QuantizeCommand usual;
  const TextSize text = o.method == "gptq" ? TextSize{usual.nsamples, usual.seqlen} : kGptqText;
  const double seconds = seconds_for(operations_of(o, spec, true, text));
  return fmt::format("to get closer: --method gptq --nsamples {} --seqlen {}{}", text.windows,
                     text.length, o.executor().cuda ? "" : ", " + about_time(seconds));
}

}  // namespace pith::tools
