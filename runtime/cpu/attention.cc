#include "runtime/cpu/attention.h"

#include <algorithm>
#include <cmath>

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
  Buffer<float> queries, keys_transposed, scores, sums;
  KvScratch cached;
};

}  // namespace

void attend(const CpuKernels& kernels, const proto::Attention& spec, int index, const Batch& batch,
            CpuKvCache& cache, Activation q, Activation k, Activation v, Activation out) {
  const int64_t d = spec.head_dim(), heads = spec.heads(), kv_heads = spec.kv_heads(),
                group = heads / kv_heads;
  KvPlane& key_plane = cache.keys(index);
  KvPlane& value_plane = cache.values(index);
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
          const int64_t to = key_plane.row(seg.slot, h, seg.begin + t);
          key_plane.write(kernels, to, k.f32() + (row + t) * k.n + h * d);
          value_plane.write(kernels, to, v.f32() + (row + t) * v.n + h * d);
        }
      }
    });
    row += seg.count;
  }

  const auto window = static_cast<int64_t>(spec.window());
  const auto dot = kernels.dot[static_cast<size_t>(key_plane.kind())];
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
      float* query = scratch.queries.data() + r * padded;
      std::copy(head_at(q, r), head_at(q, r) + d, query);
      if (key_plane.rotated()) rotate_head(query, d);
      kernels.scale(query, d, scale);
    }
    for (int64_t key0 = begin; key0 <= last_position; key0 += kKeys) {
      const int64_t keys = std::min(kKeys, last_position + 1 - key0);
      const int64_t cached = key_plane.row(seg.slot, t.kv_head, key0);
      float* all_scores = scratch.scores.data();
      if (rows < kFewRows) {
        CodeRow key_rows[kKeys];
        key_plane.code_rows(kernels, cached, keys, scratch.cached, key_rows);
        for (int64_t j = 0; j < keys; j += 4) {
          const int few = static_cast<int>(std::min<int64_t>(4, keys - j));
          for (int64_t r = 0; r < rows; ++r)
            dot(key_rows + j, few, d, scratch.queries.data() + r * padded,
                all_scores + r * kKeys + j);
        }
      } else {
        const float* key_rows = key_plane.read(kernels, cached, keys, scratch.cached);
        float* kt = scratch.keys_transposed.data();
        for (int64_t j = 0; j < keys; ++j) {
          for (int64_t c = 0; c < d; ++c) kt[c * kKeys + j] = key_rows[j * d + c];
        }
        kernels.gemm(rows, keys, d, scratch.queries.data(), padded, kt, kKeys, all_scores, kKeys,
                     false);
      }
      const float* value_rows = value_plane.read(kernels, cached, keys, scratch.cached);
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
