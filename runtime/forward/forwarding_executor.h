// An executor that passes every operation on to another: the base of those that observe or change
// something on the way.
#pragma once

#include "runtime/forward/executor.h"

namespace pith {

class ForwardingExecutor : public Executor {
 public:
  explicit ForwardingExecutor(Executor& inner) : inner_(inner) {}

  std::string description() const override { return inner_.description(); }
  std::vector<std::string> fallbacks() const override { return inner_.fallbacks(); }
  void open_weight_scope() override { inner_.open_weight_scope(); }
  void close_weight_scope() override { inner_.close_weight_scope(); }
  GpuDevice* gpu() override { return inner_.gpu(); }
  Activation buffer(Slot slot, int64_t m, int64_t n) override { return inner_.buffer(slot, m, n); }
  std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, int slots, int64_t length,
                                      KvTypes types, int64_t pages) override {
    return inner_.make_cache(spec, slots, length, types, pages);
  }
  void embed(const Linear& table, std::span<const int32_t> tokens, float scale,
             Activation x) override {
    inner_.embed(table, tokens, scale, x);
  }
  void norm(const NormWeights& norm, Activation x, Activation y, bool add) override {
    inner_.norm(norm, x, y, add);
  }
  void linear(const Linear& linear, Activation x, Activation y, bool add) override {
    inner_.linear(linear, x, y, add);
  }
  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override {
    inner_.rope(rope, head_dim, batch, x);
  }
  void attention(const proto::Attention& spec, const FloatVector& sinks, int index,
                 const Batch& batch, KvCache& cache, Activation q, Activation k, Activation v,
                 Activation out) override {
    inner_.attention(spec, sinks, index, batch, cache, q, k, v, out);
  }
  void activate(proto::Activation activation, Activation gate, Activation up) override {
    inner_.activate(activation, gate, up);
  }
  void cap(Activation x, float limit) override { inner_.cap(x, limit); }
  void gather(Activation x, std::span<const int64_t> rows, Activation y) override {
    inner_.gather(x, rows, y);
  }
  void add_rows(Activation x, std::span<const int64_t> rows, std::span<const float> weights,
                Activation y) override {
    inner_.add_rows(x, rows, weights, y);
  }
  void add_gated(Activation x, Activation gate, Activation y) override {
    inner_.add_gated(x, gate, y);
  }
  void copy_columns(Activation x, int64_t from, Activation y, int64_t to, int64_t count) override {
    inner_.copy_columns(x, from, y, to, count);
  }
  void score(Activation logits, std::span<const int32_t> targets, Activation base,
             std::span<const RowScore> base_scores, std::span<RowScore> to) override {
    inner_.score(logits, targets, base, base_scores, to);
  }
  void read(Activation x, std::span<float> to) override { inner_.read(x, to); }
  void write(std::span<const float> from, Activation x) override { inner_.write(from, x); }

 protected:
  Executor& inner_;
};

}  // namespace pith
