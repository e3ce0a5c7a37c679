#include "tools/time_estimate.h"

#include <fmt/format.h>

#include "runtime/cpu/kernels.h"
#include "tools/processor.h"

namespace pith::tools {

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

}  // namespace pith::tools
