#include "runtime/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"

namespace pith {
namespace {

constexpr int64_t kKeys = 64;     // of a block
constexpr int64_t kRows = 64;     // of a tile: queries times the heads that share a key head
constexpr int64_t kFewRows = 12;  // below: keys are multiplied as they lie, not transposed first

struct Tile {
  int64_t segment, kv_head, first, count;  // queries [first, first + count) of the segment
  int64_t row;                             // of the first query in q and out
};

struct Scratch {
  Buffer<float> queries, keys, keys_transposed, values, scores, sums;
};

// A block of cached rows as f32.
const float* as_f32(const CpuKernels& kernels, DType type, const std::byte* from, int64_t n,
                    Buffer<float>& scratch) {
  if (type == DType::kF32) return reinterpret_cast<const float*>(from);
  scratch.require(n);
  kernels.f16_to_f32(reinterpret_cast<const uint16_t*>(from), n, scratch.data());
  return scratch.data();
}

}  // namespace

CpuKvCache::CpuKvCache(const proto::ModelSpec& spec, int slots, int64_t length, DType type)
    : slots_(slots), length_(length), type_(type) {
  if (type != DType::kF32 && type != DType::kF16) {
    fail(ErrorKind::kUnsupported, "a cache of {}: f32 and f16 are supported", info(type).name);
  }
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const int64_t kv_heads = s.attention().kv_heads(), d = s.attention().head_dim();
      const int64_t bytes = slots * kv_heads * length * d * info(type).bytes;
      layers_.push_back({kv_heads, d, Buffer<std::byte>(bytes), Buffer<std::byte>(bytes)});
    }
  }
}
uint64_t CpuKvCache::bytes() const {
  uint64_t total = 0;
  for (const auto& l : layers_) total += static_cast<uint64_t>(l.keys.size() + l.values.size());
  return total;
}
std::byte* CpuKvCache::at(Buffer<std::byte>& plane, const Layer& l, int slot, int64_t head,
                          int64_t position) {
  return plane.data() +
         ((slot * l.kv_heads + head) * length_ + position) * l.head_dim * info(type_).bytes;
}
std::byte* CpuKvCache::keys(int index, int slot, int64_t head, int64_t position) {
  auto& l = layers_[static_cast<size_t>(index)];
  return at(l.keys, l, slot, head, position);
}
std::byte* CpuKvCache::values(int index, int slot, int64_t head, int64_t position) {
  auto& l = layers_[static_cast<size_t>(index)];
  return at(l.values, l, slot, head, position);
}

void attend(const CpuKernels& kernels, const proto::Attention& spec, int index, const Batch& batch,
            CpuKvCache& cache, Activation q, Activation k, Activation v, Activation out) {
  const int64_t d = spec.head_dim(), heads = spec.heads(), kv_heads = spec.kv_heads(),
                group = heads / kv_heads;
  const DType type = cache.type();
  const auto scale = static_cast<float>(
      spec.scale() != 0 ? spec.scale() : 1.0 / std::sqrt(static_cast<double>(d)));

  const int64_t queries_per_tile = std::max<int64_t>(1, kRows / group);
  std::vector<Tile> tiles;
  int64_t row = 0;
  for (size_t s = 0; s < batch.segments.size(); ++s) {
    const Segment& seg = batch.segments[s];
    if (seg.slot < 0 || seg.slot >= cache.slots() || seg.begin < 0 ||
        seg.begin + seg.count > cache.length()) {
      fail(ErrorKind::kUsage, "tokens {} to {} of sequence {} do not fit a cache of {} x {}",
           seg.begin, seg.begin + seg.count, seg.slot, cache.slots(), cache.length());
    }
    for (int64_t first = 0; first < seg.count; first += queries_per_tile) {
      const int64_t count = std::min(queries_per_tile, seg.count - first);
      for (int64_t h = 0; h < kv_heads; ++h)
        tiles.push_back({static_cast<int64_t>(s), h, first, count, row + first});
    }
    row += seg.count;
  }

  // The new keys and values first: every query sees those of its own segment up to itself.
  row = 0;
  for (const auto& seg : batch.segments) {
    parallel_ranges(seg.count, 64, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t h = 0; h < kv_heads; ++h) {
          const float* from_k = k.f32() + (row + t) * k.n + h * d;
          const float* from_v = v.f32() + (row + t) * v.n + h * d;
          std::byte* to_k = cache.keys(index, seg.slot, h, seg.begin + t);
          std::byte* to_v = cache.values(index, seg.slot, h, seg.begin + t);
          if (type == DType::kF32) {
            std::memcpy(to_k, from_k, static_cast<size_t>(d) * 4);
            std::memcpy(to_v, from_v, static_cast<size_t>(d) * 4);
          } else {
            kernels.f32_to_f16(from_k, d, reinterpret_cast<uint16_t*>(to_k));
            kernels.f32_to_f16(from_v, d, reinterpret_cast<uint16_t*>(to_v));
          }
        }
      }
    });
    row += seg.count;
  }

  const auto window = static_cast<int64_t>(spec.window());
  const CodeKind key_kind = type == DType::kF32 ? CodeKind::kF32 : CodeKind::kF16;
  parallel_for(static_cast<int64_t>(tiles.size()), [&](int64_t i) {
    thread_local Scratch scratch;
    const Tile& t = tiles[static_cast<size_t>(i)];
    const Segment& seg = batch.segments[static_cast<size_t>(t.segment)];
    const int64_t rows =
        t.count * group;  // row r: query r / group, head r % group of those that share the key head
    const int64_t first_position = seg.begin + t.first,
                  last_position = first_position + t.count - 1;
    // Blocks begin at multiples of their size whatever the window, so that sums do not depend on
    // how a prompt was cut into chunks.
    const int64_t begin =
        window > 0 ? std::max<int64_t>(0, first_position - window + 1) / kKeys * kKeys : 0;
    const int64_t padded = ceil_div(d, 16) * 16;
    scratch.queries.require(rows * padded);
    scratch.keys_transposed.require(kKeys * d);
    scratch.scores.require(rows * kKeys);
    scratch.sums.require(rows * d);
    std::fill(scratch.sums.begin(), scratch.sums.begin() + rows * d, 0.0f);
    std::fill(scratch.queries.begin(), scratch.queries.begin() + rows * padded, 0.0f);
    std::vector<float> top(static_cast<size_t>(rows), -3.0e38f),
        total(static_cast<size_t>(rows), 0.0f);
    const auto head_at = [&](const Activation& x, int64_t r) {
      return x.f32() + (t.row + r / group) * x.n + (t.kv_head * group + r % group) * d;
    };
    for (int64_t r = 0; r < rows; ++r) {
      std::copy(head_at(q, r), head_at(q, r) + d, scratch.queries.data() + r * padded);
      kernels.scale(scratch.queries.data() + r * padded, d, scale);
    }
    for (int64_t key0 = begin; key0 <= last_position; key0 += kKeys) {
      const int64_t keys = std::min(kKeys, last_position + 1 - key0);
      const std::byte* key_bytes = cache.keys(index, seg.slot, t.kv_head, key0);
      float* all_scores = scratch.scores.data();
      if (rows < kFewRows) {
        for (int64_t j = 0; j < keys; j += 4) {
          const int few = static_cast<int>(std::min<int64_t>(4, keys - j));
          CodeRow key_rows[4];
          for (int c = 0; c < few; ++c)
            key_rows[c] = {key_bytes + (j + c) * d * info(type).bytes, nullptr, nullptr, d};
          for (int64_t r = 0; r < rows; ++r) {
            kernels.dot[static_cast<size_t>(key_kind)](
                key_rows, few, d, scratch.queries.data() + r * padded, all_scores + r * kKeys + j);
          }
        }
      } else {
        const float* key_rows = as_f32(kernels, type, key_bytes, keys * d, scratch.keys);
        float* kt = scratch.keys_transposed.data();
        for (int64_t j = 0; j < keys; ++j) {
          for (int64_t c = 0; c < d; ++c) kt[c * kKeys + j] = key_rows[j * d + c];
        }
        kernels.gemm(rows, keys, d, scratch.queries.data(), padded, kt, kKeys, all_scores, kKeys,
                     false);
      }
      const float* value_rows = as_f32(
          kernels, type, cache.values(index, seg.slot, t.kv_head, key0), keys * d, scratch.values);
      for (int64_t r = 0; r < rows; ++r) {
        float* scores = all_scores + r * kKeys;
        const auto ri = static_cast<size_t>(r);
        const int64_t position = first_position + r / group;
        const int64_t low = window > 0 ? std::max<int64_t>(0, position - window + 1 - key0) : 0;
        const int64_t high =
            std::min(keys, position + 1 - key0);  // sees keys [low, high) of the block
        if (low >= high) {
          std::fill(scores, scores + keys, 0.0f);
          continue;
        }
        const float factor = kernels.softmax_step(scores + low, high - low, &top[ri], &total[ri]);
        if (factor != 1) kernels.scale(scratch.sums.data() + r * d, d, factor);
        std::fill(scores, scores + low, 0.0f);
        std::fill(scores + high, scores + keys, 0.0f);
      }
      kernels.gemm(rows, d, keys, all_scores, kKeys, value_rows, d, scratch.sums.data(), d, true);
    }
    for (int64_t r = 0; r < rows; ++r) {
      float* to = head_at(out, r);
      std::copy(scratch.sums.data() + r * d, scratch.sums.data() + (r + 1) * d, to);
      kernels.scale(to, d, 1.0f / total[static_cast<size_t>(r)]);
    }
  });
}

}  // namespace pith
