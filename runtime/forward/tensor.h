// Activations by name. An executor owns one f32 matrix for each TensorId; a Tensor says which one
// and in which shape, never where it lies, so that a list of operations means the same on every
// executor, on two at once, and when it is run again.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pith {

enum class TensorId : uint8_t {
  kHidden,  // the residual stream
  kNormed,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kGate,
  kUp,
  kLast,
  kLogits,
  kBaseLogits,      // of the model that another is compared with
  kRouter,          // logits of an MoE router, or of the gate of a shared expert
  kRouterWeights,   // [m, experts], 0 where an expert was not chosen
  kExpertIo,        // input, then output of one expert
  kSublayerOutput,  // before its post-norm
  // MLA: queries and keys in the form that is cached, the attention output in the latent space, and
  // input and output of a per-head linear.
  kLatentQuery,
  kLatentKey,
  kLatentOut,
  kHeadInput,
  kHeadOutput,
  kNone,
};
inline constexpr auto kTensorIds = static_cast<size_t>(TensorId::kNone);

struct Tensor {
  TensorId id = TensorId::kNone;  // kNone: absent
  int64_t m = 0, n = 0;

  explicit operator bool() const { return id != TensorId::kNone; }
  // The same numbers in order, rows * columns of them.
  Tensor reshaped(int64_t rows, int64_t columns) const { return {id, rows, columns}; }
  friend bool operator==(const Tensor&, const Tensor&) = default;
};

}  // namespace pith
