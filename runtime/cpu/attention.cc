#include "runtime/cpu/attention.h"

#include <algorithm>
#include <cmath>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"

namespace pith {
namespace {

constexpr int64_t kKeys = KvPages::kMaxTokens;  // of a block, which lies in one page
constexpr int64_t kChunk = 256;                 // keys, a multiple of kKeys
constexpr int64_t kRows = 64;          // of a tile: queries times the heads that share a key head
constexpr int64_t kMaxSums = 1 << 24;  // numbers kept of chunks that threads share out

struct Tile {
  int64_t segment, kv_head, first, count;  // queries [first, first + count) of the segment
  int64_t row;                             // of the first query in q and out
};

// What rows have summed up over some keys: of values [rows, d] times exp(score - top).
struct Sums {
  float* values;
  float* top;    // [rows]
  float* total;  // [rows], of exp(score - top)

  static int64_t size(int64_t rows, int64_t d) { return rows * (d + 2); }
  static Sums in(float* memory, int64_t rows, int64_t d) {
    return {memory, memory + rows * d, memory + rows * (d + 1)};
  }
};

struct Scratch {
  Buffer<float> queries, scores, sums;
  KvScratch cached;
};
Scratch& thread_scratch() {
  thread_local Scratch scratch;
  return scratch;
}

class AttentionRun {
 public:
  AttentionRun(const CpuKernels& kernels, const AttentionCall& call)
      : kernels_(kernels),
        sinks_(call.sinks),
        batch_(call.batch),
        pages_(call.cache.pages()),
        keys_(call.cache.keys(call.index)),
        values_(call.cache.values(call.index)),
        q_(call.q),
        out_(call.out),
        d_(call.shape.head_dim),
        kv_heads_(call.shape.kv_heads),
        group_(call.shape.heads / kv_heads_),
        window_(call.shape.window),
        cap_(static_cast<float>(call.shape.score_cap)),
        scale_(static_cast<float>(call.shape.scale)) {
    const int64_t queries_of_tile = std::max<int64_t>(1, kRows / group_);
    check_fits(batch_, pages_);
    int64_t row = 0;
    for (size_t s = 0; s < batch_.segments.size(); ++s) {
      const Segment& seg = batch_.segments[s];
      for (int64_t first = 0; first < seg.count; first += queries_of_tile) {
        const int64_t count = std::min(queries_of_tile, seg.count - first);
        for (int64_t h = 0; h < kv_heads_; ++h)
          tiles_.push_back({static_cast<int64_t>(s), h, first, count, row + first});
      }
      row += seg.count;
    }
  }

  // Queries of a key head one after the other, [kv_heads, m, group, d], scaled and rotated as the
  // keys are.
  void prepare(Buffer<float>& queries) {
    queries.require(q_.rows * q_.columns);
    queries_ = {queries.data(), static_cast<size_t>(q_.rows * q_.columns)};
    parallel_ranges(q_.rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t h = 0; h < kv_heads_; ++h) {
          float* const to = queries.data() + (h * q_.rows + t) * group_ * d_;
          std::copy_n(q_.row(t) + h * group_ * d_, group_ * d_, to);
          if (keys_.rotated()) {
            for (int64_t g = 0; g < group_; ++g) rotate_head(to + g * d_, d_);
          }
          kernels_.scale(to, group_ * d_, scale_);
        }
      }
    });
  }

  void run() {
    const auto count = static_cast<int64_t>(tiles_.size());
    int64_t chunks = 0, rows = 0;  // the most that a tile has
    for (const Tile& t : tiles_) {
      chunks = std::max(chunks, last_chunk(t) - first_chunk(t) + 1);
      rows = std::max(rows, t.count * group_);
    }
    const int64_t size = Sums::size(rows, d_);
    if (chunks == 1 || count >= 4 * thread_count() || count * chunks * size > kMaxSums) {
      return parallel_for(count, [&](int64_t i) {
        const Tile& t = tiles_[static_cast<size_t>(i)];
        Buffer<float>& memory = thread_scratch().sums;
        memory.require(2 * size);
        const Sums all = Sums::in(memory.data(), rows, d_),
                   next = Sums::in(memory.data() + size, rows, d_);
        for (int64_t c = first_chunk(t); c <= last_chunk(t); ++c) {
          sum_chunk(t, c, c == first_chunk(t) ? all : next);
          if (c > first_chunk(t)) join(t, all, next);
        }
        write(t, all);
      });
    }
    Buffer<float>& memory = thread_scratch().sums;
    memory.require(count * chunks * size);
    const auto sums = [&](int64_t tile, int64_t chunk) {
      return Sums::in(memory.data() + (tile * chunks + chunk) * size, rows, d_);
    };
    parallel_for(count * chunks, [&](int64_t i) {
      const Tile& t = tiles_[static_cast<size_t>(i / chunks)];
      const int64_t chunk = first_chunk(t) + i % chunks;
      if (chunk <= last_chunk(t)) sum_chunk(t, chunk, sums(i / chunks, i % chunks));
    });
    parallel_for(count, [&](int64_t i) {
      const Tile& t = tiles_[static_cast<size_t>(i)];
      for (int64_t c = 1; c <= last_chunk(t) - first_chunk(t); ++c) join(t, sums(i, 0), sums(i, c));
      write(t, sums(i, 0));
    });
  }

 private:
  const Segment& segment(const Tile& t) const {
    return batch_.segments[static_cast<size_t>(t.segment)];
  }
  int64_t position(const Tile& t) const { return segment(t).begin + t.first; }  // of the first
  int64_t first_key(const Tile& t) const {
    return window_ > 0 ? std::max<int64_t>(0, position(t) - window_ + 1) : 0;
  }
  int64_t first_chunk(const Tile& t) const { return first_key(t) / kChunk; }
  int64_t last_chunk(const Tile& t) const { return (position(t) + t.count - 1) / kChunk; }

  // Rows of a tile: query r / group, head r % group of those that share the key head.
  void sum_chunk(const Tile& t, int64_t chunk, const Sums& to) const {
    Scratch& s = thread_scratch();
    const int64_t rows = t.count * group_;
    s.scores.require(rows * kKeys);
    const float* const queries = queries_.data() + (t.kv_head * q_.rows + t.row) * group_ * d_;
    std::fill_n(to.values, rows * d_, 0.0f);
    std::fill_n(to.top, rows, -3.0e38f);
    std::fill_n(to.total, rows, 0.0f);
    const int64_t begin = std::max(chunk * kChunk, first_key(t) / kKeys * kKeys),
                  end = std::min((chunk + 1) * kChunk, position(t) + t.count);
    const MatrixRef<const float> of_tile(queries, rows, d_);
    const MatrixRef<float> block(s.scores.data(), rows, kKeys), sums(to.values, rows, d_);
    for (int64_t key = begin; key < end; key += kKeys) {
      const int64_t keys = std::min(kKeys, end - key);
      const KvRange range{t.kv_head, pages_.row(segment(t).slot, key), keys};
      keys_.scores(kernels_, range, of_tile, block, s.cached);
      for (int64_t r = 0; r < rows; ++r) {
        float* const scores = block.row(r);
        const int64_t at = position(t) + r / group_;  // sees keys [low, high) of the block
        const int64_t low = window_ > 0 ? std::max<int64_t>(0, at - window_ + 1 - key) : 0,
                      high = std::min(keys, at + 1 - key);
        if (low >= high) {
          std::fill_n(scores, keys, 0.0f);
          continue;
        }
        if (cap_ > 0) kernels_.soft_cap(scores + low, high - low, cap_);
        const float factor =
            kernels_.softmax_step(scores + low, high - low, &to.top[r], &to.total[r]);
        if (factor != 1) kernels_.scale(to.values + r * d_, d_, factor);
        std::fill(scores, scores + low, 0.0f);
        std::fill(scores + high, scores + keys, 0.0f);
      }
      values_.weigh(kernels_, range, block, sums, s.cached);
    }
  }

  void join(const Tile& t, const Sums& all, const Sums& next) const {
    for (int64_t r = 0; r < t.count * group_; ++r) {
      const float top = std::max(all.top[r], next.top[r]), a = std::exp(all.top[r] - top),
                  b = std::exp(next.top[r] - top);
      all.top[r] = top;
      all.total[r] = all.total[r] * a + next.total[r] * b;
      float* const to = all.values + r * d_;
      const float* const from = next.values + r * d_;
      for (int64_t i = 0; i < d_; ++i) to[i] = to[i] * a + from[i] * b;
    }
  }

  void write(const Tile& t, const Sums& sums) const {
    for (int64_t r = 0; r < t.count * group_; ++r) {
      float* const to = out_.row(t.row + r / group_) + (t.kv_head * group_ + r % group_) * d_;
      std::copy_n(sums.values + r * d_, d_, to);
      float factor = 1;
      float total = sums.total[r];
      if (sinks_ != nullptr && !sinks_->empty()) {
        const float sink = (*sinks_)[static_cast<size_t>(t.kv_head * group_ + r % group_)],
                    top = std::max(sums.top[r], sink);
        factor = std::exp(sums.top[r] - top);
        total = total * factor + std::exp(sink - top);
      }
      kernels_.scale(to, d_, factor / total);
    }
  }

  const CpuKernels& kernels_;
  const FloatVector* const sinks_;
  const Batch& batch_;
  const KvPages& pages_;
  const KvPlane& keys_;
  const KvPlane& values_;
  const MatrixRef<const float> q_;
  const MatrixRef<float> out_;
  const int64_t d_, kv_heads_, group_, window_;
  const float cap_, scale_;
  std::span<const float> queries_;
  std::vector<Tile> tiles_;
};

}  // namespace

void store_kv(const CpuKernels& kernels, CpuKvStorage& cache, int index, const Batch& batch,
              MatrixRef<const float> k, MatrixRef<const float> v) {
  constexpr int64_t kSome = 4 * KvPlane::kTile;  // positions, so that no two threads share one
  const KvPages& pages = cache.pages();
  check_fits(batch, pages);
  KvPlane &keys = cache.keys(index), &values = cache.values(index);
  const int64_t heads = keys.heads(), d = keys.head_dim();
  int64_t row = 0;
  for (const Segment& seg : batch.segments) {
    const int64_t begin = seg.begin / kSome, end = ceil_div(seg.begin + seg.count, kSome);
    parallel_for(end - begin, [&](int64_t i) {
      const int64_t from = std::max(seg.begin, (begin + i) * kSome),
                    to = std::min(seg.begin + seg.count, (begin + i + 1) * kSome);
      for (int64_t p = from; p < to; ++p) {
        const int64_t t = row + p - seg.begin, at = pages.row(seg.slot, p);
        for (int64_t h = 0; h < heads; ++h) {
          keys.write(kernels, h, at, k.row(t) + h * d);
          values.write(kernels, h, at, v.row(t) + h * d);
        }
      }
    });
    row += seg.count;
  }
}

void run_attention(const CpuKernels& kernels, const AttentionCall& call) {
  AttentionRun run(kernels, call);
  run.prepare(thread_scratch().queries);
  run.run();
}

}  // namespace pith
