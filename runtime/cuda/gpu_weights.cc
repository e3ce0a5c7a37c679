#include "runtime/cuda/gpu_weights.h"

namespace pith {
namespace {

template <class Map, class Key>
auto found_in(const Map& map, const Key& key) {
  const auto it = map.find(key);
  return it == map.end() ? nullptr : &it->second;
}

std::vector<const Linear*> addresses(const std::vector<Linear>& linears) {
  std::vector<const Linear*> all;
  for (const Linear& l : linears) all.push_back(&l);
  return all;
}

}  // namespace

void GpuWeights::pin(const Model& model, int64_t first_block) {
  if (first_block == 0) pin(model.embedding);
  for (auto b = static_cast<size_t>(first_block); b < model.blocks.size(); ++b) {
    for (const auto& s : model.blocks[b].sublayers) {
      pin(s.norm.weight);
      pin(s.post_norm.weight);
      for (const Linear* l : s.linears()) pin(*l);
      if (s.attention) {
        pin(s.attention->query_norm.weight);
        pin(s.attention->key_norm.weight);
        pin(s.attention->sinks);
        if (s.attention->latent) pin(*s.attention->latent);
      }
      if (s.moe) {
        pin(s.moe->choice_bias);
        pin(*s.moe);
      }
    }
  }
  pin(model.final_norm.weight);
  pin(model.head());
}

void GpuWeights::close_scope() {
  device_.wait();
  for (const Key& key : scopes_.back().linears) linears_.erase(key);
  for (const uint64_t id : scopes_.back().vectors) vectors_.erase(id);
  scopes_.pop_back();
}

void GpuWeights::add_key(const Linear& linear, Key* to) {
  to->push_back(linear.terms.size());
  for (const auto& t : linear.terms) {
    to->push_back(t.w.id.value());
    to->push_back(t.up ? t.up->id.value() : 0);
  }
  to->push_back(linear.bias.empty() ? 0 : linear.bias.id().value());
}
GpuWeights::Key GpuWeights::key_of(const Linear& linear) {
  Key key;
  key.reserve(4);
  add_key(linear, &key);
  return key;
}
GpuWeights::Key GpuWeights::key_of(const MoeWeights& moe) {
  Key key;
  for (const MlpWeights& e : moe.experts) {
    for (const Linear* l : {&e.gate, &e.up, &e.down}) add_key(*l, &key);
  }
  return key;
}
GpuWeights::Key GpuWeights::key_of(const LatentWeights& latent) {
  Key key;
  for (const auto* all : {&latent.k_up, &latent.v_up}) {
    for (const Linear& l : *all) add_key(l, &key);
  }
  return key;
}

const GpuLinear* GpuWeights::find(const Linear& linear) const {
  return found_in(linears_, key_of(linear));
}
const GpuExperts* GpuWeights::experts(const MoeWeights& moe) const {
  return found_in(experts_, key_of(moe));
}
const GpuHeads* GpuWeights::heads(const LatentWeights& latent) const {
  return found_in(heads_, key_of(latent));
}

const float* GpuWeights::vector(const FloatVector& vector, Use use) {
  const uint64_t id = vector.id().value();
  if (const GpuBuffer* const there = found_in(vectors_, id)) return there->data<float>();
  uploaded_ = true;
  const uint64_t bytes = vector.size() * sizeof(float);
  if (!scopes_.empty()) {
    scopes_.back().vectors.push_back(id);
    return vectors_.emplace(id, GpuBuffer(device_, vector.data(), bytes))
        .first->second.data<float>();
  }
  GpuBuffer& once = once_[static_cast<size_t>(use)];
  once.require(device_, bytes);
  device_.upload(once.data(), vector.data(), bytes);
  return once.data<float>();
}

GpuLinear GpuWeights::upload(const Linear& linear) {
  GpuLinear to;
  for (const auto& t : linear.terms) {
    to.terms.push_back({GpuWeight(device_, t.w), std::nullopt});
    if (t.up) to.terms.back().up = GpuWeight(device_, *t.up);
  }
  to.bias = GpuBuffer(device_, linear.bias.data(), linear.bias.size() * sizeof(float));
  device_.wait();
  return to;
}

void GpuWeights::pin(const Linear& linear) {
  if (Key key = key_of(linear); !linears_.contains(key))
    linears_.emplace(std::move(key), upload(linear));
}

void GpuWeights::pin(const FloatVector& vector) {
  const uint64_t id = vector.id().value();
  if (vector.empty() || vectors_.contains(id)) return;
  vectors_.emplace(id, GpuBuffer(device_, vector.data(), vector.size() * sizeof(float)));
  device_.wait();
}

void GpuWeights::pin(const MoeWeights& moe) {
  if (experts(moe) != nullptr) return;
  const auto of = [&](Linear MlpWeights::*role) {
    std::vector<const Linear*> all;
    for (const MlpWeights& expert : moe.experts) all.push_back(&(expert.*role));
    return all;
  };
  const MlpWeights& first = moe.experts.front();
  std::optional<GpuTable> up = table_of(of(&MlpWeights::up)),
                          down = table_of(of(&MlpWeights::down));
  if (!up || !down) return;
  GpuExperts to;
  if (!first.gate.terms.empty()) {
    std::optional<GpuTable> gate = table_of(of(&MlpWeights::gate), &up->like);
    if (!gate || first.gate.input != first.up.input ||
        first.gate.bias.size() != first.up.bias.size())
      return;
    to.gate = std::move(*gate);
  }
  to.up = std::move(*up);
  to.down = std::move(*down);
  experts_.emplace(key_of(moe), std::move(to));
}

void GpuWeights::pin(const LatentWeights& latent) {
  if (heads(latent) != nullptr) return;
  std::optional<GpuTable> key = table_of(addresses(latent.k_up)),
                          value = table_of(addresses(latent.v_up));
  if (key && value) heads_.emplace(key_of(latent), GpuHeads{std::move(*key), std::move(*value)});
}

std::optional<GpuTable> GpuWeights::table_of(const std::vector<const Linear*>& linears,
                                             const cuda::TileWeight* kind) {
  GpuTable table;
  std::vector<cuda::TileWeight> all;
  std::vector<float> biases;
  const Linear& first = *linears.front();
  table.like = kind != nullptr ? *kind : find(first)->tiles();
  for (const Linear* l : linears) {
    const GpuLinear& on = *find(*l);
    if (!on.plain() || !cuda::alike(on.tiles(), table.like) ||
        l->bias.size() != first.bias.size() || l->input != first.input ||
        rounds_in_blocks(l->input))
      return std::nullopt;
    all.push_back(on.tiles());
    biases.insert(biases.end(), l->bias.begin(), l->bias.end());
  }
  table.weights = GpuBuffer(device_, all.data(), all.size() * sizeof(cuda::TileWeight));
  table.biases = GpuBuffer(device_, biases.data(), biases.size() * sizeof(float));
  device_.wait();
  return table;
}

}  // namespace pith
