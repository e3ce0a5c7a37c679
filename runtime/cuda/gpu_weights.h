// The weights of models on a device: those that are pinned, those that were uploaded in a scope
// that is open, and those that are there for one use. Found by the ids of their contents
// (formats/encodings/content_id.h): a copy of a weight finds what was uploaded of the original, and
// other contents at the same address find nothing.
#pragma once

#include <array>
#include <map>
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

  // Uploads the weights of a model from a block on, for as long as this lives.
  void pin(const Model& model, int64_t first_block);
  // What is uploaded while a scope is open stays until it is closed.
  void open_scope() { scopes_.emplace_back(); }
  void close_scope();

  // Null where it is not there.
  const GpuLinear* find(const Linear& linear) const;
  // Null where they are not, or not of one kind.
  const GpuExperts* experts(const MoeWeights& moe) const;
  const GpuHeads* heads(const LatentWeights& latent) const;

  // f(linear on the device), which may be there for that alone.
  template <class F>
  void use(const Linear& linear, F f) {
    if (const GpuLinear* const there = find(linear)) return f(*there);
    uploaded_ = true;
    if (!scopes_.empty()) {
      const Key key = key_of(linear);
      scopes_.back().linears.push_back(key);
      return f(linears_.emplace(key, upload(linear)).first->second);
    }
    const GpuLinear once = upload(linear);
    f(once);
    device_.wait();
  }
  // The numbers of a vector. Those that are neither pinned nor in a scope are there until the next
  // of the same use.
  enum class Use : uint8_t { kNorm, kKeyNorm, kSinks, kCount };
  const float* vector(const FloatVector& vector, Use use);

  // Whether a linear or a vector was uploaded since it was last asked.
  bool uploaded_since_last() { return std::exchange(uploaded_, false); }

 private:
  // The ids of all contents, in order; 0 for what is not there.
  using Key = std::vector<uint64_t>;
  struct Scope {
    std::vector<Key> linears;
    std::vector<uint64_t> vectors;
  };

  static void add_key(const Linear& linear, Key* to);
  static Key key_of(const Linear& linear);
  static Key key_of(const MoeWeights& moe);
  static Key key_of(const LatentWeights& latent);
  GpuLinear upload(const Linear& linear);
  void pin(const Linear& linear);
  void pin(const FloatVector& vector);
  void pin(const MoeWeights& moe);
  void pin(const LatentWeights& latent);
  // Where all are of the same kind as `kind`, or as the first of them.
  std::optional<GpuTable> table_of(const std::vector<const Linear*>& linears,
                                   const cuda::TileWeight* kind = nullptr);

  GpuDevice& device_;
  std::map<Key, GpuLinear> linears_;
  std::unordered_map<uint64_t, GpuBuffer> vectors_;
  std::map<Key, GpuExperts> experts_;
  std::map<Key, GpuHeads> heads_;
  std::vector<Scope> scopes_;
  std::array<GpuBuffer, static_cast<size_t>(Use::kCount)> once_;
  bool uploaded_ = false;
};

// Whether inputs are rounded with a scale for each 128 columns.
inline bool rounds_in_blocks(const InputEncoding& e) {
  return e.rounds() && e.scale == InputScale::kBlock128;
}

}  // namespace pith
