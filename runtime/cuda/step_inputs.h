// What the operations of a pass take besides activations and weights, on the device: tokens, rows,
// positions, angles of RoPE.
//
// Each is uploaded by the first operation that asks for it. A decoding step uploads all of them
// beforehand by one copy, for one shape always to the same place, so that its operations can be
// recorded as a graph: while they are, nothing is uploaded, and they get what upload_step() left.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/function_ref.h"
#include "runtime/cuda/gpu_context.h"
#include "runtime/forward/rope_angles.h"

namespace pith {

class GpuKvStorage;

class StepInputs {
 public:
  explicit StepInputs(GpuContext& context) : context_(context) {}

  const int32_t* tokens(std::span<const int32_t> tokens);
  const int64_t* rows(std::span<const int64_t> rows);

  // About the batch that set_batch() was last called with.
  void set_batch(const Batch& batch, GpuKvStorage& cache);
  cuda::Positions positions(int64_t m) const {
    return {slots_.data<int32_t>(), positions_.data<int32_t>(), m};
  }
  // Tiles of queries for prefill attention; none where no sequence has many tokens.
  std::span<const cuda::QueryTile> tiles() const {
    return {query_tiles_.data<cuda::QueryTile>(), tile_count_};
  }
  // Chunks of keys of the longest sequence: a power of two, so that few graphs serve a growing
  // context.
  int64_t chunks() const;

  struct Rotation {
    const float *cosines, *sines;  // [m, half]
    int64_t half;
  };
  Rotation rotation(const proto::Rope& rope, const Batch& batch);

  void upload_step(const Batch& batch, GpuKvStorage& cache, std::span<const int64_t> rows);
  // Runs `body` on what upload_step() left.
  void use_uploaded(FunctionRef<void()> body);
  // Whether an operation since upload_step() asked for other rows than the step's: it cannot be
  // recorded.
  bool strayed() const { return strayed_; }

 private:
  enum class Mode : uint8_t {
    kEach,      // an input is uploaded when it is asked for
    kTogether,  // inputs are collected for one upload
    kUploaded,  // inputs stay as they are
  };
  struct Placed {
    GpuBuffer own;
    void* at = nullptr;  // in `own`, or in step_
    template <class T>
    T* data() const {
      return static_cast<T*>(at);
    }
  };
  struct Angles {
    proto::Rope rope;
    RopeAngles host;
    Placed cosines, sines;
  };

  template <class T>
  void set(Placed& to, std::span<const T> from);
  void set_tiles(const Batch& batch);
  void set_angles(Angles& angles, const Batch& batch);

  GpuContext& context_;
  Mode mode_ = Mode::kEach;
  bool strayed_ = false;
  Placed tokens_, rows_, slots_, positions_;
  GpuBuffer query_tiles_;
  size_t tile_count_ = 0;
  int64_t longest_ = 0;
  std::vector<Segment> segments_;
  std::vector<int64_t> step_rows_;
  std::map<std::string, Angles> angles_;  // by the bytes of the rope
  std::string rope_bytes_;
  GpuBuffer step_;
  std::vector<std::byte> step_bytes_;
  std::vector<std::pair<Placed*, size_t>> step_places_;
};

}  // namespace pith
