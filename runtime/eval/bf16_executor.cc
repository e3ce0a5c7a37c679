#include "runtime/eval/bf16_executor.h"

namespace pith {

void Bf16Executor::round(Activation x) {
  host_.resize(static_cast<size_t>(x.m * x.n));
  inner_.read(x, host_);
  for (float& v : host_) v = bf16_to_f32(f32_to_bf16(v));
  inner_.write(host_, x);
}

void Bf16Executor::embed(const Linear& table, std::span<const int32_t> tokens, float scale,
                         Activation x) {
  inner_.embed(table, tokens, scale, x);
  round(x);
}
void Bf16Executor::norm(const NormWeights& norm, Activation x, Activation y, bool add) {
  inner_.norm(norm, x, y, add);
  round(y);
}
void Bf16Executor::linear(const Linear& linear, Activation x, Activation y, bool add) {
  inner_.linear(linear, x, y, add);
  round(y);
}
void Bf16Executor::rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch,
                        Activation x) {
  inner_.rope(rope, head_dim, batch, x);
  round(x);
}
void Bf16Executor::attention(const proto::Attention& spec, const FloatVector& sinks, int index,
                             const Batch& batch, KvCache& cache, Activation q, Activation k,
                             Activation v, Activation out) {
  inner_.attention(spec, sinks, index, batch, cache, q, k, v, out);
  round(out);
}
void Bf16Executor::activate(proto::Activation activation, Activation gate, Activation up) {
  inner_.activate(activation, gate, up);
  round(gate);
}
void Bf16Executor::add_gated(Activation x, Activation gate, Activation y) {
  inner_.add_gated(x, gate, y);
  round(y);
}
void Bf16Executor::cap(Activation x, float limit) {
  inner_.cap(x, limit);
  round(x);
}

}  // namespace pith
