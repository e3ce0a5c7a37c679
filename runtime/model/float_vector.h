// f32 numbers of a layer: a bias, the weights of a norm, attention sinks. They change through
// edit() alone, so that id() always stands for what they are.
#pragma once

#include <utility>
#include <vector>

#include "formats/encodings/content_id.h"

namespace pith {

class FloatVector {
 public:
  FloatVector() = default;
  FloatVector(std::vector<float> values) : values_(std::move(values)) {}

  const float* data() const { return values_.data(); }
  size_t size() const { return values_.size(); }
  bool empty() const { return values_.empty(); }
  const float* begin() const { return data(); }
  const float* end() const { return data() + size(); }
  float operator[](size_t i) const { return values_[i]; }
  ContentId id() const { return id_; }

  // To be changed before the next use of id().
  std::vector<float>& edit() {
    id_ = ContentId();
    return values_;
  }

 private:
  std::vector<float> values_;
  ContentId id_;
};

}  // namespace pith
