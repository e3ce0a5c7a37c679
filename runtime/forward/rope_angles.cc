#include "runtime/forward/rope_angles.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "runtime/model/rope.h"

namespace pith {

bool RopeAngles::set(const proto::Rope& rope, const Batch& batch) {
  rope.SerializeToString(&asked_);
  if (asked_ == rope_ && std::ranges::equal(segments_, batch.segments)) return false;
  rope_.clear();
  segments_.assign(batch.segments.begin(), batch.segments.end());
  half_ = static_cast<int64_t>(rope.dims() / 2);
  tokens_ = static_cast<int64_t>(batch.tokens.size());
  cosines_.require(tokens_ * half_);
  sines_.require(tokens_ * half_);
  int64_t row = 0;
  for (const auto& s : batch.segments) {
    const RopeTable table = rope_table(rope, s.begin + s.count);
    parallel_ranges(s.count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t i = 0; i < half_; ++i) {
          const double angle =
              static_cast<double>(s.begin + t) * table.frequency[static_cast<size_t>(i)];
          cosines_[(row + t) * half_ + i] = static_cast<float>(std::cos(angle) * table.amplitude);
          sines_[(row + t) * half_ + i] = static_cast<float>(std::sin(angle) * table.amplitude);
        }
      }
    });
    row += s.count;
  }
  rope_ = asked_;
  return true;
}

}  // namespace pith
