#include "tools/default_method.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "runtime/cpu/kernels.h"
#include "tools/processor.h"

namespace pith::tools {
namespace {

// About twelve minutes of two cores with AVX-512, and models of up to some 600 M weights.
constexpr double kMostOperations = 6e13;

// What GPTQ gains. At 6 bits and above, rounding of the activations at run time costs more than
// that of the weights, and rtn takes seconds.
bool gains_from_gptq(const Encoding& e) {
  return e.kind == EncodingKind::kNf4 || (e.kind == EncodingKind::kInt && e.bits <= 5);
}

double operations_of(const QuantizeCommand& o, const proto::ModelSpec& spec, int64_t windows,
                     int64_t length) {
  const bool writes = o.calibration.empty() || o.calibration == "self";
  return gptq_operations(spec, windows, std::min(length, static_cast<int64_t>(spec.context())),
                         writes);
}

}  // namespace

double gptq_operations(const proto::ModelSpec& spec, int64_t windows, int64_t length, bool writes) {
  // Fitted to the processor time of SmolLM2-135M (docs/results.md). Passes over the blocks observe
  // inputs and propagate states; searching scales and refining codes costs as much as so many
  // operations a weight, and each column of the sweep makes up for the ones before it.
  constexpr double kPasses = 1.7, kGram = 1.5, kRounding = 30'000, kSweep = 10, kTable = 9000;
  const double tokens = static_cast<double>(windows * length);
  double of_token = 0, all = 0;
  for (const auto& l : linears_of(spec)) {
    const auto n = static_cast<double>(l.n), k = static_cast<double>(l.k);
    if (l.layer < 0) {
      all += n * k * kTable;
      of_token += writes ? 2 * n * k : 0;
    } else {
      all += n * k * (kRounding + kSweep * k);
      of_token +=
          (2 * n * k * (kPasses + (writes ? 1 : 0)) + kGram * k * k) * share_of_tokens(spec, l);
    }
  }
  return all + of_token * tokens;
}

double seconds_for(double operations) {
  // The share of the peak that all of this reaches.
  constexpr double kShare = 0.4;
  static const double rate = peak_operations(cpu_kernels().float_peak);
  return operations / (kShare * rate);
}

std::string about_time(double seconds) {
  if (seconds < 2) return "a moment";
  if (seconds < 90) return fmt::format("about {:.0f} s", seconds);
  if (seconds < 5400) return fmt::format("about {:.0f} min", seconds / 60);
  return fmt::format("about {:.0f} h", seconds / 3600);
}

void choose_method(QuantizeCommand& o, const proto::ModelSpec& spec) {
  if (!o.method.empty()) return;
  o.method = "rtn";
  o.method_is_chosen = true;
  if (o.mixed() || o.calibration == "none" || !gains_from_gptq(encoding_for_type(o.type))) return;
  const int64_t windows = o.windows_given ? o.nsamples : kDefaultWindows;
  const int64_t length = o.windows_given ? o.seqlen : kDefaultLength;
  if (operations_of(o, spec, windows, length) > kMostOperations) return;
  o.method = "gptq";
  o.nsamples = windows;
  o.seqlen = length;
  // An expert that no token came to is rounded without data, and reported: nobody asked for gptq.
  o.max_fallbacks = std::numeric_limits<int>::max();
}

std::string how_to_get_closer(const QuantizeCommand& o, const proto::ModelSpec& spec) {
  if (!o.method_is_chosen) return "";
  if (o.mixed()) return "to get closer at this size: --method gptq";
  if (!gains_from_gptq(encoding_for_type(o.type)) || o.windows_given) return "";
  const QuantizeCommand usual;
  const bool gptq = o.method == "gptq";
  const int64_t windows = gptq ? usual.nsamples : kDefaultWindows;
  const int64_t length = gptq ? usual.seqlen : kDefaultLength;
  return fmt::format("to get closer: --method gptq --nsamples {} --seqlen {}{}", windows, length,
                     o.executor().cuda
                         ? ""
                         : ", " + about_time(seconds_for(operations_of(o, spec, windows, length))));
}

}  // namespace pith::tools
