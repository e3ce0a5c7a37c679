#include "runtime/forward/split_executor.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "core/error.h"
#include "runtime/forward/forward.h"

namespace pith {
namespace {

constexpr int kFirst = 0, kLast = 1;

class SplitCache final : public KvCache {
 public:
  // `attentions` of the first, of `layers` layers.
  SplitCache(std::unique_ptr<KvCache> first, std::unique_ptr<KvCache> last, int64_t pages,
             int layers, int attentions)
      : KvCache(first->slots(), first->length(), pages),
        parts_{std::move(first), std::move(last)},
        layers_(layers),
        attentions_(attentions) {
    for (const auto& p : parts_) p->follow(*this);
  }
  uint64_t bytes() const override { return parts_[0]->bytes() + parts_[1]->bytes(); }
  void fill() override {
    for (const auto& p : parts_) p->fill();
  }
  void copy_page(int32_t from, int32_t to) override {
    for (const auto& p : parts_) p->copy_page(from, to);
  }
  KvCache& part(int side) { return *parts_[static_cast<size_t>(side)]; }
  int index(int side, int attention) const {
    return side == kLast ? attention - attentions_ : attention;
  }
  bool all_on_last() const { return layers_ == 0; }

 private:
  std::array<std::unique_ptr<KvCache>, 2> parts_;
  const int layers_, attentions_;
};

proto::ModelSpec with_layers(const proto::ModelSpec& spec, int begin, int end) {
  proto::ModelSpec some = spec;
  some.mutable_layers()->DeleteSubrange(end, spec.layers_size() - end);
  some.mutable_layers()->DeleteSubrange(0, begin);
  return some;
}

// Activations are names here: each operation finds the memory of its side behind them, and takes
// what was left on the other side along. The side is that of the last linear or table.
class SplitExecutor final : public Executor {
 public:
  SplitExecutor(std::unique_ptr<Executor> first, std::unique_ptr<Executor> last, int64_t layers)
      : sides_{std::move(first), std::move(last)}, layers_(layers) {
    for (size_t i = 0; i < named_.size(); ++i) named_[i].slot = static_cast<Slot>(i);
  }

  std::string description() const override {
    return sides_[kFirst]->description() + " and " + sides_[kLast]->description();
  }

  std::vector<std::string> fallbacks() const override { return sides_[kFirst]->fallbacks(); }

  MemoryPlan prepare(const Model& model, const ModelUse& use) override {
    const auto blocks = static_cast<int64_t>(model.blocks.size());
    const int64_t begin = blocks - std::clamp<int64_t>(layers_, 0, blocks);
    for (int64_t b = begin; b < blocks; ++b) {
      for (const auto& s : model.blocks[static_cast<size_t>(b)].sublayers) {
        for (const Linear* l : s.linears()) of_last_.insert(id_of(*l));
      }
    }
    if (begin == 0) of_last_.insert(id_of(model.embedding));
    ModelUse of_layers = use;
    of_layers.first_block = begin;
    const MemoryPlan first = sides_[kFirst]->prepare(model, use);
    if (begin == blocks) return first;
    if (begin > 0) of_layers.tokens = first.tokens;
    return sides_[kLast]->prepare(model, of_layers);
  }

  Activation buffer(Slot slot, int64_t m, int64_t n) override {
    Named& named = named_[static_cast<size_t>(slot)];
    named.m = m;
    named.n = n;
    named.side = kNowhere;
    return {&named, m, n};
  }

  std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, int slots, int64_t length,
                                      KvTypes types, int64_t pages) override {
    const int layers = spec.layers_size();
    const int begin = layers - static_cast<int>(std::clamp<int64_t>(layers_, 0, layers));
    return std::make_unique<SplitCache>(
        sides_[kFirst]->make_cache(with_layers(spec, 0, begin), slots, length, types, pages),
        sides_[kLast]->make_cache(with_layers(spec, begin, layers), slots, length, types, pages),
        pages, begin, attention_count(spec, begin));
  }

  void embed(const Linear& table, std::span<const int32_t> tokens, float scale,
             Activation x) override {
    side_ = of_last_.contains(id_of(table)) ? kLast : kFirst;
    here().embed(table, tokens, scale, at(x));
  }
  void norm(const NormWeights& norm, Activation x, Activation y, bool add) override {
    here().norm(norm, at(x), at(y), add);
  }
  void linear(const Linear& linear, Activation x, Activation y, bool add) override {
    here().linear(linear, at(x), at(y), add);
  }
  void linears(Activation x, std::span<const To> all) override {
    enter(all);
    here().linears(at(x), at(all));
  }
  void norm_linears(const NormWeights& norm, Activation x, Activation normed,
                    std::span<const To> all) override {
    enter(all);
    here().norm_linears(norm, at(x), at(normed), at(all));
  }
  void activate_linear(proto::Activation activation, Activation gate, Activation up,
                       const Linear& linear, Activation y, bool add) override {
    here().activate_linear(activation, at(gate), at(up), linear, at(y), add);
  }
  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override {
    here().rope(rope, head_dim, batch, at(x));
  }
  void attention(const proto::Attention& spec, const FloatVector& sinks, int index,
                 const Batch& batch, KvCache& cache, Activation q, Activation k, Activation v,
                 Activation out) override {
    auto& split = static_cast<SplitCache&>(cache);
    here().attention(spec, sinks, split.index(side_, index), batch, split.part(side_), at(q), at(k),
                     at(v), at(out));
  }
  void attention_linear(const proto::Attention& spec, const AttentionWeights& weights, int index,
                        const Batch& batch, KvCache& cache, Activation q, Activation k,
                        Activation v, Activation attended, Activation y, bool add) override {
    auto& split = static_cast<SplitCache&>(cache);
    here().attention_linear(spec, weights, split.index(side_, index), batch, split.part(side_),
                            at(q), at(k), at(v), at(attended), at(y), add);
  }
  void latent_linear(const proto::Attention& spec, const AttentionWeights& weights, int index,
                     const Batch& batch, KvCache& cache, Activation q, Activation kv,
                     Activation attended, Activation y, bool add) override {
    auto& split = static_cast<SplitCache&>(cache);
    here().latent_linear(spec, weights, split.index(side_, index), batch, split.part(side_), at(q),
                         at(kv), at(attended), at(y), add);
  }
  void moe(const proto::Moe& spec, const MoeWeights& weights, Activation x, Activation y) override {
    enter({{{&weights.router, {}}}});
    here().moe(spec, weights, at(x), at(y));
  }
  void activate(proto::Activation activation, Activation gate, Activation up) override {
    here().activate(activation, at(gate), at(up));
  }
  void cap(Activation x, float limit) override { here().cap(at(x), limit); }
  void gather(Activation x, std::span<const int64_t> rows, Activation y) override {
    here().gather(at(x), rows, at(y));
  }
  void add_rows(Activation x, std::span<const int64_t> rows, std::span<const float> weights,
                Activation y) override {
    here().add_rows(at(x), rows, weights, at(y));
  }
  void add_gated(Activation x, Activation gate, Activation y) override {
    here().add_gated(at(x), at(gate), at(y));
  }
  void copy_columns(Activation x, int64_t from, Activation y, int64_t to, int64_t count) override {
    here().copy_columns(at(x), from, at(y), to, count);
  }
  // Where all is on one side, as that does it.
  Activation pass(const Batch& batch, KvCache& cache, std::span<const int64_t> rows,
                  FunctionRef<Activation()> body) override {
    auto& split = static_cast<SplitCache&>(cache);
    return split.all_on_last() ? sides_[kLast]->pass(batch, split.part(kLast), rows, body) : body();
  }
  void top(Activation logits, std::span<Candidate> to) override { here().top(at(logits), to); }
  double mass_behind(Activation logits, int64_t row, const Candidate& top, const Candidate& last,
                     double temperature) override {
    return here().mass_behind(at(logits), row, top, last, temperature);
  }
  void score(Activation logits, std::span<const int32_t> targets, Activation base,
             std::span<const RowScore> base_scores, std::span<RowScore> to) override {
    here().score(at(logits), targets, at(base), base_scores, to);
  }
  void read(Activation x, std::span<float> to) override { here().read(at(x), to); }
  void write(std::span<const float> from, Activation x) override { here().write(from, at(x)); }
  void wait() override {
    for (const auto& s : sides_) s->wait();
  }

 private:
  static constexpr int kNowhere = -1;
  struct Named {
    Slot slot;
    int64_t m, n;
    int side = kNowhere;
  };

  static uint64_t id_of(const Linear& l) { return l.terms.empty() ? 0 : l.terms[0].w.id.value(); }
  Executor& here() { return *sides_[static_cast<size_t>(side_)]; }
  void enter(std::span<const To> all) {
    const auto later = [&](const To& to) { return of_last_.contains(id_of(*to.linear)); };
    side_ = std::ranges::any_of(all, later) ? kLast : kFirst;
  }

  Activation at(Activation x) {
    if (x.data == nullptr) return x;
    Named& named = *static_cast<Named*>(x.data);
    const Activation there = here().buffer(named.slot, named.m, named.n);
    if (named.side != side_ && named.side != kNowhere) {
      Executor& from = *sides_[static_cast<size_t>(named.side)];
      moved_.resize(static_cast<size_t>(named.m * named.n));
      from.read(from.buffer(named.slot, named.m, named.n), moved_);
      here().write(moved_, there);
    }
    named.side = side_;
    return there.reshaped(x.m, x.n);
  }
  std::span<const To> at(std::span<const To> all) {
    found_.clear();
    for (const To& to : all) found_.push_back({to.linear, at(to.y)});
    return found_;
  }

  const std::array<std::unique_ptr<Executor>, 2> sides_;
  const int64_t layers_;
  std::array<Named, static_cast<size_t>(Slot::kCount)> named_{};
  std::unordered_set<uint64_t> of_last_;  // tables and linears, by their first weight
  int side_ = kFirst;
  std::vector<float> moved_;
  std::vector<To> found_;
};

}  // namespace

std::unique_ptr<Executor> make_split_executor(std::unique_ptr<Executor> first,
                                              std::unique_ptr<Executor> last, int64_t layers) {
  return std::make_unique<SplitExecutor>(std::move(first), std::move(last), layers);
}

}  // namespace pith
