#include "runtime/forward/split_executor.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "runtime/forward/forward.h"

namespace pith {
namespace {

constexpr int kFirst = 0, kLast = 1;

class SplitKvStorage final : public KvStorage {
 public:
  // `attentions` of the first, of `layers` layers.
  SplitKvStorage(std::unique_ptr<KvStorage> first, std::unique_ptr<KvStorage> last, int layers,
                 int attentions)
      : KvStorage(first->pages()),
        parts_{std::move(first), std::move(last)},
        layers_(layers),
        attentions_(attentions) {}
  uint64_t bytes() const override { return parts_[0]->bytes() + parts_[1]->bytes(); }
  void fill() override {
    for (const auto& p : parts_) p->fill();
  }
  void copy_page(int32_t from, int32_t to) override {
    for (const auto& p : parts_) p->copy_page(from, to);
  }
  KvStorage& part(int side) { return *parts_[static_cast<size_t>(side)]; }
  KvLayer layer(int index) override {
    return index < attentions_ ? part(kFirst).layer(index) : part(kLast).layer(index - attentions_);
  }
  bool all_on_last() const { return layers_ == 0; }

 private:
  std::array<std::unique_ptr<KvStorage>, 2> parts_;
  const int layers_, attentions_;
};

proto::ModelSpec with_layers(const proto::ModelSpec& spec, int begin, int end) {
  proto::ModelSpec some = spec;
  some.mutable_layers()->DeleteSubrange(end, spec.layers_size() - end);
  some.mutable_layers()->DeleteSubrange(0, begin);
  return some;
}

// A tensor lies on one side or on the other; an operation brings those that it reads to its side,
// which is that of the last linear or table.
class SplitExecutor final : public Executor {
 public:
  SplitExecutor(std::unique_ptr<Executor> first, std::unique_ptr<Executor> last, int64_t layers)
      : sides_{std::move(first), std::move(last)}, layers_(layers) {}

  std::string description() const override {
    return sides_[kFirst]->description() + " and " + sides_[kLast]->description();
  }
  std::vector<std::string> fallbacks() const override {
    std::vector<std::string> all = sides_[kFirst]->fallbacks();
    for (auto& f : sides_[kLast]->fallbacks()) all.push_back(std::move(f));
    return all;
  }
  void open_weight_scope() override {
    for (const auto& s : sides_) s->open_weight_scope();
  }
  void close_weight_scope() override {
    for (const auto& s : sides_) s->close_weight_scope();
  }
  // That of the last side, to which view() brings what it shows.
  Algebra& algebra() override { return sides_[kLast]->algebra(); }

  MemoryPlan prepare(const Model& model, const ModelUse& use) override {
    const auto blocks = static_cast<int64_t>(model.blocks.size());
    const int64_t begin = blocks - std::clamp<int64_t>(layers_, 0, blocks);
    for (int64_t b = 0; b < blocks; ++b) {
      for (const auto& s : model.blocks[static_cast<size_t>(b)].sublayers) {
        for (const Linear* l : s.linears()) side_of_[id_of(*l)] = b < begin ? kFirst : kLast;
      }
    }
    if (begin == 0) tables_of_last_.insert(id_of(model.embedding));
    ModelUse of_layers = use;
    of_layers.first_block = begin;
    const MemoryPlan first = sides_[kFirst]->prepare(model, use);
    if (begin == blocks) return first;
    if (begin > 0) of_layers.tokens = first.tokens;
    return sides_[kLast]->prepare(model, of_layers);
  }

  Tensor buffer(TensorId id, int64_t m, int64_t n) override {
    Place& place = places_[static_cast<size_t>(id)];
    if (m * n > place.size) place.side = kNowhere;
    place.size = m * n;
    return {id, m, n};
  }
  MatrixRef<float> view(Tensor x) override { return sides_[kLast]->view(bring(x, kLast)); }

  std::unique_ptr<KvStorage> make_kv_storage(const proto::ModelSpec& spec, KvTypes types,
                                             const KvPages& pages) override {
    const int layers = spec.layers_size();
    const int begin = layers - static_cast<int>(std::clamp<int64_t>(layers_, 0, layers));
    return std::make_unique<SplitKvStorage>(
        sides_[kFirst]->make_kv_storage(with_layers(spec, 0, begin), types, pages),
        sides_[kLast]->make_kv_storage(with_layers(spec, begin, layers), types, pages), begin,
        attention_count(spec, begin));
  }

  void run(const Op& op) override {
    enter(op);
    each_tensor(op, [&](Tensor x, Access access) { bring(x, side_, access != Access::kWrite); });
    here().run(op);
  }
  // Where all is on one side, as that does it.
  Tensor pass(const Batch& batch, KvStorage& cache, std::span<const int64_t> rows,
              FunctionRef<Tensor()> body) override {
    auto& split = static_cast<SplitKvStorage&>(cache);
    return split.all_on_last() ? sides_[kLast]->pass(batch, split.part(kLast), rows, body) : body();
  }
  void top(Tensor logits, std::span<Candidate> to) override {
    here().top(bring(logits, side_), to);
  }
  double mass_behind(Tensor logits, int64_t row, const Candidate& top, const Candidate& last,
                     double temperature) override {
    return here().mass_behind(bring(logits, side_), row, top, last, temperature);
  }
  void score(Tensor logits, std::span<const int32_t> targets, Tensor base,
             std::span<const RowScore> base_scores, std::span<RowScore> to) override {
    here().score(bring(logits, side_), targets, bring(base, side_), base_scores, to);
  }
  void read(Tensor x, std::span<float> to) override { here().read(bring(x, side_), to); }
  void write(std::span<const float> from, Tensor x) override {
    here().write(from, bring(x, side_, false));
  }
  void wait() override {
    for (const auto& s : sides_) s->wait();
  }

 private:
  static constexpr int kNowhere = -1;
  struct Place {
    int64_t size = 0;
    int side = kNowhere;
  };

  static uint64_t id_of(const Linear& l) { return l.terms.empty() ? 0 : l.terms[0].w.id.value(); }
  Executor& here() { return *sides_[static_cast<size_t>(side_)]; }

  // A pass begins at the embedding. The weights of a layer decide; the head stays where the last
  // layer was.
  void enter(const Op& op) {
    if (const auto* embed = std::get_if<EmbedOp>(&op)) {
      side_ = tables_of_last_.contains(id_of(*embed->table)) ? kLast : kFirst;
      return;
    }
    bool found = false;
    each_linear(op, [&](const Linear& l) {
      if (found) return;
      const auto it = side_of_.find(id_of(l));
      found = it != side_of_.end();
      if (found) side_ = it->second;
    });
  }

  Tensor bring(Tensor x, int side, bool with_numbers = true) {
    if (!x) return x;
    Place& place = places_[static_cast<size_t>(x.id)];
    Executor& to = *sides_[static_cast<size_t>(side)];
    const Tensor there = to.buffer(x.id, 1, place.size);
    if (with_numbers && place.side != side && place.side != kNowhere) {
      moved_.resize(static_cast<size_t>(place.size));
      sides_[static_cast<size_t>(place.side)]->read(there, moved_);
      to.write(moved_, there);
    }
    place.side = side;
    return x;
  }

  const std::array<std::unique_ptr<Executor>, 2> sides_;
  const int64_t layers_;
  std::array<Place, kTensorIds> places_{};
  std::unordered_map<uint64_t, int> side_of_;  // linears of layers, by their first weight
  std::unordered_set<uint64_t> tables_of_last_;
  int side_ = kFirst;
  std::vector<float> moved_;
};

}  // namespace

std::unique_ptr<Executor> make_split_executor(std::unique_ptr<Executor> first,
                                              std::unique_ptr<Executor> last, int64_t layers) {
  return std::make_unique<SplitExecutor>(std::move(first), std::move(last), layers);
}

}  // namespace pith
