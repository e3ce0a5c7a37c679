// An executor that passes every primitive on to another, composites by their expansion: the base of
// those that observe or change something on the way. They override run(), and call the one here for
// what they do not stop.
#pragma once

#include "runtime/forward/expand.h"

namespace pith {

class ForwardingExecutor : public Executor {
 public:
  explicit ForwardingExecutor(Executor& inner) : inner_(inner) {}

  // pass() stays body(): what the other recorded of a pass would not come by here.
  void run(const Op& op) override {
    if (!expand_composite(op, *this)) inner_.run(op);
  }

  std::string description() const override { return inner_.description(); }
  std::vector<std::string> fallbacks() const override { return inner_.fallbacks(); }
  Algebra& algebra() override { return inner_.algebra(); }
  Tensor buffer(TensorId id, int64_t m, int64_t n) override { return inner_.buffer(id, m, n); }
  MatrixRef<float> view(Tensor x) override { return inner_.view(x); }
  void read(Tensor x, std::span<float> to) override { inner_.read(x, to); }
  void write(std::span<const float> from, Tensor x) override { inner_.write(from, x); }
  void wait() override { inner_.wait(); }

  MemoryPlan prepare(const Model& model, const ModelUse& use) override {
    return inner_.prepare(model, use);
  }
  void open_weight_scope() override { inner_.open_weight_scope(); }
  void close_weight_scope() override { inner_.close_weight_scope(); }
  std::unique_ptr<KvStorage> make_kv_storage(const proto::ModelSpec& spec, KvTypes types,
                                             const KvPages& pages) override {
    return inner_.make_kv_storage(spec, types, pages);
  }

  void top(Tensor logits, std::span<Candidate> to) override { inner_.top(logits, to); }
  double mass_behind(Tensor logits, int64_t row, const Candidate& top, const Candidate& last,
                     double temperature) override {
    return inner_.mass_behind(logits, row, top, last, temperature);
  }
  void score(Tensor logits, std::span<const int32_t> targets, Tensor base,
             std::span<const RowScore> base_scores, std::span<RowScore> to) override {
    inner_.score(logits, targets, base, base_scores, to);
  }

 protected:
  Executor& inner_;
};

}  // namespace pith
