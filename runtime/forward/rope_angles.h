// The angles that a batch is rotated by: of every token, cosines and sines [tokens, dims / 2] in
// f32, computed in f64.
#pragma once

#include <string>
#include <vector>

#include "core/buffer.h"
#include "pith.pb.h"
#include "runtime/forward/batch.h"

namespace pith {

class RopeAngles {
 public:
  // False where they are the same as before: most layers of a model turn by the same.
  bool set(const proto::Rope& rope, const Batch& batch);

  int64_t half() const { return half_; }
  int64_t tokens() const { return tokens_; }
  const float* cosines() const { return cosines_.data(); }
  const float* sines() const { return sines_.data(); }

 private:
  std::string rope_, asked_;  // as bytes
  std::vector<Segment> segments_;
  int64_t half_ = 0, tokens_ = 0;
  Buffer<float> cosines_, sines_;
};

}  // namespace pith
