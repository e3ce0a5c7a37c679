#include "runtime/cuda/gpu_attention.h"

#include <algorithm>

namespace pith {
namespace {

using cuda::Ops;
using Use = GpuWeights::Use;

// Numbers of latent attention, and of partial sums of chunks: 256 MiB.
constexpr int64_t kLatentAtOnce = int64_t{1} << 26, kChunkSumsAtOnce = kLatentAtOnce;

}  // namespace

template <class WriteKv>
void GpuAttention::bind_rope(WriteKv* write, const proto::Rope& rope, const Batch& batch) {
  const StepInputs::Rotation rotation = inputs_.rotation(rope, batch);
  write->cosines = rotation.cosines;
  write->sines = rotation.sines;
  write->half = rotation.half;
  write->interleaved = rope.interleaved();
}

cuda::HeadNorm GpuAttention::head_norm(const proto::Norm& spec, const NormWeights& norm, Use use) {
  if (spec.kind() == proto::NORM_NONE) return {nullptr, 0};
  return {context_.weights.vector(norm.weight, use), static_cast<float>(spec.eps())};
}

void GpuAttention::run(const RopeOp& op) {
  const MatrixRef<float> x = context_.view(op.x);
  cuda::WriteKv write{};
  write.cache.head_dim = op.head_dim;
  write.positions.m = x.rows;
  write.q = x.data;
  write.query_heads = x.columns / op.head_dim;
  bind_rope(&write, *op.rope, op.batch);
  context_.device.run(&Ops::write_kv, write);
}

cuda::WriteKv GpuAttention::write_of(const StoreKvOp& op) {
  auto& cache = static_cast<GpuKvStorage&>(*op.cache.storage);
  inputs_.set_batch(op.batch, cache);
  cuda::WriteKv write{};
  write.cache = cache.of(op.cache.index);
  write.positions = inputs_.positions(op.k.m);
  write.k = context_.view(op.k).data;
  write.v = context_.view(op.v).data;
  write.rotate = cache.rotated(op.cache.index);
  return write;
}

void GpuAttention::run(const StoreKvOp& op) { context_.device.run(&Ops::write_kv, write_of(op)); }

void GpuAttention::run(const AttentionOp& op) {
  const auto& cache = static_cast<const GpuKvStorage&>(*op.cache.storage);
  if (cache.rotated(op.cache.index)) {
    cuda::WriteKv queries{};
    queries.cache.head_dim = op.shape.head_dim;
    queries.positions.m = op.q.m;
    queries.q = context_.view(op.q).data;
    queries.query_heads = op.shape.heads;
    queries.rotate = true;
    context_.device.run(&Ops::write_kv, queries);
  }
  run_attention(op, {});
}

// One kernel norms and rotates q and k and writes the cache.
bool GpuAttention::run(const AttentionLinearOp& op, const Quantized& to) {
  const proto::Attention& spec = *op.spec;
  const AttentionShape shape = attention_shape(spec);
  cuda::WriteKv write = write_of({op.cache, op.batch, op.k, op.v});
  write.q = context_.view(op.q).data;
  write.query_heads = shape.heads;
  write.query_norm = head_norm(spec.query_norm(), op.weights->query_norm, Use::kNorm);
  write.key_norm = head_norm(spec.key_norm(), op.weights->key_norm, Use::kKeyNorm);
  if (spec.rope().dims() > 0) bind_rope(&write, spec.rope(), op.batch);
  context_.device.run(&Ops::write_kv, write);
  return run_attention({shape, &op.weights->sinks, op.cache, op.batch, op.q, op.attended}, to);
}

bool GpuAttention::run_attention(const AttentionOp& op, const Quantized& to) {
  auto& cache = static_cast<GpuKvStorage&>(*op.cache.storage);
  inputs_.set_batch(op.batch, cache);
  const MatrixRef<float> q = context_.view(op.q), out = context_.view(op.out);
  Call call{
      op.shape, cache.of(op.cache.index), inputs_.positions(q.rows), q.data, nullptr, 0, out.data,
      to};
  if (op.sinks != nullptr && !op.sinks->empty())
    call.sinks = context_.weights.vector(*op.sinks, Use::kSinks);
  const auto tiles = inputs_.tiles();
  if (!tiles.empty() && cuda::has_prefill_kernel(call.cache)) {
    context_.device.run(&Ops::prefill_attention,
                        {call.cache, tiles.data(), std::ssize(tiles), q.data, op.shape.heads,
                         op.shape.window, static_cast<float>(op.shape.scale),
                         static_cast<float>(op.shape.score_cap), call.sinks, out.data});
    return false;
  }
  call.chunks = max_chunks_of(call.cache);
  run_decode(call);
  return true;
}

void GpuAttention::run_decode(const Call& call) {
  const int64_t heads = call.shape.heads, d = call.cache.head_dim,
                of_token = heads * call.chunks * cuda::chunk_floats(d),
                piece = std::clamp<int64_t>(kChunkSumsAtOnce / of_token, 1, call.at.m);
  context_.grow(sums_, GpuContext::floats(piece * of_token));
  context_.grow(arrived_, static_cast<uint64_t>(piece * (heads + 1)) * sizeof(int32_t));
  cuda::DecodeAttention some{call.cache,
                             call.at,
                             call.q,
                             heads,
                             call.shape.window,
                             static_cast<float>(call.shape.scale),
                             static_cast<float>(call.shape.score_cap),
                             call.sinks,
                             call.chunks,
                             sums_.data<float>(),
                             call.out,
                             arrived_.data<int32_t>(),
                             call.quantized.half,
                             call.quantized.int8};
  for (int64_t t = 0; t < call.at.m; t += piece) {
    const int64_t m = some.positions.m = std::min(piece, call.at.m - t);
    some.halves.m = some.bytes.m = m;
    context_.device.run(&Ops::decode_attention, some);
    some.positions.slot += m;
    some.positions.at += m;
    some.q += m * heads * d;
    some.out += m * heads * d;
    some.halves = call.quantized.half.rows_from(t + m);
    some.bytes = call.quantized.int8.rows_from(t + m);
  }
}

bool GpuAttention::run(const LatentAttentionOp& op) {
  const proto::Attention& spec = *op.spec;
  const LatentWeights& latent = *op.weights->latent;
  const GpuHeads* const on = context_.weights.heads(latent);
  if (on == nullptr) return false;
  auto& cache = static_cast<GpuKvStorage&>(*op.cache.storage);
  inputs_.set_batch(op.batch, cache);
  const MatrixRef<float> q = context_.view(op.q), kv = context_.view(op.kv),
                         attended = context_.view(op.attended);
  cuda::WriteLatentKv write{};
  bind_rope(&write, spec.rope(), op.batch);
  write.cache = cache.of(op.cache.index);
  write.heads = spec.heads();
  write.plain = plain_dims(spec);
  write.rank = static_cast<int64_t>(spec.latent().rank());
  write.norm = head_norm(spec.key_norm(), op.weights->key_norm, Use::kKeyNorm);
  const int64_t heads = write.heads, key_dim = write.cache.head_dim, half = write.half,
                chunks = max_chunks_of(write.cache),
                of_token = heads * (2 * key_dim + chunks * cuda::chunk_floats(key_dim)),
                piece = std::clamp<int64_t>(kLatentAtOnce / of_token, 1, q.rows);
  const MatrixRef<float> query = context_.buffer(TensorId::kLatentQuery, piece * heads, key_dim),
                         out = context_.buffer(TensorId::kLatentOut, piece * heads, key_dim);
  const cuda::Positions all = inputs_.positions(q.rows);
  for (int64_t t = 0; t < q.rows; t += piece) {
    const int64_t m = std::min(piece, q.rows - t);
    write.positions = {all.slot + t, all.at + t, m};
    write.q = q.row(t);
    write.kv = kv.row(t);
    write.query = query.data;
    moe_.run_heads(on->key, latent.k_up, m, {q.row(t), q.columns / heads},
                   {query.data + 2 * half, key_dim});
    context_.device.run(&Ops::write_latent_kv, write);
    write.cosines += m * half;
    write.sines += m * half;
    run_decode({attention_shape(spec),
                write.cache,
                write.positions,
                query.data,
                nullptr,
                chunks,
                out.data,
                {}});
    moe_.run_heads(on->value, latent.v_up, m, {out.data + 2 * half, key_dim},
                   {attended.row(t), attended.columns / heads});
  }
  return true;
}

}  // namespace pith
