// The weights of models on a device: those that are kept, those that came while they are held, and
// those that are there for one use. By the address of what they are of.
#pragma once

#include <array>
#include <optional>
#include <unordered_map>
#include <vector>

#include "runtime/cuda/gpu_weight.h"
#include "runtime/model/model.h"

namespace pith {

struct GpuLinear {
  struct Term {
    GpuWeight w;
    std::optional<GpuWeight> up;
  };
  std::vector<Term> terms;
  GpuBuffer bias;

  bool plain() const { return terms.size() == 1 && !terms.front().up; }
  const cuda::TileWeight& tiles() const { return terms.front().w.tiles(); }
};

// Linears of one kind, which one kernel can take: [., TileWeight] and [., n], and one of them.
struct GpuTable {
  GpuBuffer weights, biases;
  cuda::TileWeight like{};
};
struct GpuExperts {
  GpuTable gate, up, down;
};
struct GpuHeads {
  GpuTable key, value;
};

class GpuWeights {
 public:
  explicit GpuWeights(GpuDevice& device) : device_(device) {}

  // Those of a model from a block on, until this ends.
  void keep(const Model& model, int64_t first_block);
  // Between the two, what is asked for stays.
  void hold() { holds_.emplace_back(); }
  void release();

  // Null where it is not there.
  const GpuLinear* find(const Linear& linear) const;
  // Null where they are not, or not of one kind.
  const GpuExperts* experts(const MoeWeights& moe) const;
  const GpuHeads* heads(const LatentWeights& latent) const;

  // f(linear on the device), which may be there for that alone.
  template <class F>
  void with(const Linear& linear, F f) {
    if (const GpuLinear* const kept = find(linear)) return f(*kept);
    came_ = true;
    if (!holds_.empty()) {
      holds_.back().linears.push_back(&linear);
      return f(linears_.emplace(&linear, take(linear)).first->second);
    }
    const GpuLinear once = take(linear);
    f(once);
    device_.wait();
  }
  // The numbers of a vector. Those that are neither kept nor held are there until the next of the
  // same use.
  enum class Use : uint8_t { kNorm, kKeyNorm, kSinks, kCount };
  const float* vector(const std::vector<float>& vector, Use use);

  // Whether a linear or a vector was taken to the device since it was last asked.
  bool came() { return std::exchange(came_, false); }

 private:
  struct Hold {  // what is to be forgotten at its end
    std::vector<const Linear*> linears;
    std::vector<const std::vector<float>*> vectors;
  };

  GpuLinear take(const Linear& linear);
  void keep(const Linear& linear);
  void keep(const std::vector<float>& vector);
  void keep(const MoeWeights& moe);
  void keep(const LatentWeights& latent);
  // Where all are of the same kind as `kind`, or as the first of them.
  std::optional<GpuTable> table_of(const std::vector<const Linear*>& linears,
                                   const cuda::TileWeight* kind = nullptr);

  GpuDevice& device_;
  std::unordered_map<const Linear*, GpuLinear> linears_;
  std::unordered_map<const std::vector<float>*, GpuBuffer> vectors_;
  std::unordered_map<const MoeWeights*, GpuExperts> experts_;
  std::unordered_map<const LatentWeights*, GpuHeads> heads_;
  std::vector<Hold> holds_;
  std::array<GpuBuffer, static_cast<size_t>(Use::kCount)> once_;
  bool came_ = false;
};

// Whether inputs are rounded with a scale for each 128 columns.
inline bool rounds_in_blocks(const InputEncoding& e) {
  return e.rounds() && e.scale == InputScale::kBlock128;
}

}  // namespace pith
