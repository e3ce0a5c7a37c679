#include "runtime/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pith {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

void scale_llama3(const proto::Rope& r, std::vector<double>* frequency) {
  const auto original = static_cast<double>(r.original_context());
  for (double& f : *frequency) {
    const double wavelength = kTwoPi / f;
    const double low = original / r.low_freq_factor(), high = original / r.high_freq_factor();
    if (wavelength < high) continue;
    const double smooth = (original / wavelength - r.low_freq_factor()) /
                          (r.high_freq_factor() - r.low_freq_factor());
    f = wavelength > low ? f / r.factor() : (1 - smooth) * f / r.factor() + smooth * f;
  }
}

// Between the dimension that turns beta_fast times over the original context (kept) and the one
// that turns beta_slow times (interpolated) the two mix linearly.
void scale_yarn(const proto::Rope& r, std::vector<double>* frequency) {
  const auto dims = static_cast<double>(r.dims());
  const auto dimension_of = [&](double turns) {
    return dims * std::log(static_cast<double>(r.original_context()) / (turns * kTwoPi)) /
           (2 * std::log(r.theta()));
  };
  double low = dimension_of(r.beta_fast()), high = dimension_of(r.beta_slow());
  if (r.truncate()) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequency->size(); ++i) {
    const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    double& f = (*frequency)[i];
    f = interpolated * f / r.factor() + (1 - interpolated) * f;
  }
}

}  // namespace

RopeTable rope_table(const proto::Rope& r, int64_t length) {
  RopeTable table;
  const auto dims = static_cast<double>(r.dims());
  const auto original = static_cast<double>(r.original_context());
  double theta = r.theta();
  if (r.scaling() == proto::ROPE_DYNAMIC && static_cast<double>(length) > original) {
    const double stretch = r.factor() * static_cast<double>(length) / original - (r.factor() - 1);
    theta *= std::pow(stretch, dims / (dims - 2));
  }
  for (uint32_t i = 0; i < r.dims() / 2; ++i)
    table.frequency.push_back(std::pow(theta, -2.0 * i / dims));
  switch (r.scaling()) {
    case proto::ROPE_LINEAR:
      for (double& f : table.frequency) f /= r.factor();
      break;
    case proto::ROPE_LLAMA3:
      scale_llama3(r, &table.frequency);
      break;
    case proto::ROPE_YARN:
      scale_yarn(r, &table.frequency);
      table.amplitude = r.attention_factor();
      break;
    case proto::ROPE_LONGROPE: {
      const auto& factors =
          static_cast<double>(length) > original ? r.long_factor() : r.short_factor();
      for (size_t i = 0; i < table.frequency.size(); ++i)
        table.frequency[i] /= factors[static_cast<int>(i)];
      table.amplitude = r.attention_factor();
      break;
    }
    default:
      break;
  }
  return table;
}

}  // namespace pith
