#include "runtime/cuda/gpu_weights.h"

namespace pith {
namespace {

template <class Map, class Key>
auto found_in(const Map& map, const Key* key) {
  const auto it = map.find(key);
  return it == map.end() ? nullptr : &it->second;
}

std::vector<const Linear*> addresses(const std::vector<Linear>& linears) {
  std::vector<const Linear*> all;
  for (const Linear& l : linears) all.push_back(&l);
  return all;
}

}  // namespace

void GpuWeights::keep(const Model& model, int64_t first_block) {
  if (first_block == 0) keep(model.embedding);
  for (auto b = static_cast<size_t>(first_block); b < model.blocks.size(); ++b) {
    for (const auto& s : model.blocks[b].sublayers) {
      keep(s.norm.weight);
      keep(s.post_norm.weight);
      for (const Linear* l : s.linears()) keep(*l);
      if (s.attention) {
        keep(s.attention->query_norm.weight);
        keep(s.attention->key_norm.weight);
        keep(s.attention->sinks);
        if (s.attention->latent) keep(*s.attention->latent);
      }
      if (s.moe) {
        keep(s.moe->choice_bias);
        keep(*s.moe);
      }
    }
  }
  keep(model.final_norm.weight);
  keep(model.head());
}

void GpuWeights::release() {
  device_.wait();
  for (const Linear* l : holds_.back().linears) linears_.erase(l);
  for (const auto* v : holds_.back().vectors) vectors_.erase(v);
  holds_.pop_back();
}

const GpuLinear* GpuWeights::find(const Linear& linear) const {
  return found_in(linears_, &linear);
}
const GpuExperts* GpuWeights::experts(const MoeWeights& moe) const {
  return found_in(experts_, &moe);
}
const GpuHeads* GpuWeights::heads(const LatentWeights& latent) const {
  return found_in(heads_, &latent);
}

const float* GpuWeights::vector(const std::vector<float>& vector, Use use) {
  if (const GpuBuffer* const kept = found_in(vectors_, &vector)) return kept->data<float>();
  came_ = true;
  const uint64_t bytes = vector.size() * sizeof(float);
  if (!holds_.empty()) {
    holds_.back().vectors.push_back(&vector);
    return vectors_.emplace(&vector, GpuBuffer(device_, vector.data(), bytes))
        .first->second.data<float>();
  }
  GpuBuffer& once = once_[static_cast<size_t>(use)];
  once.require(device_, bytes);
  device_.upload(once.data(), vector.data(), bytes);
  return once.data<float>();
}

GpuLinear GpuWeights::take(const Linear& linear) {
  GpuLinear to;
  for (const auto& t : linear.terms) {
    to.terms.push_back({GpuWeight(device_, t.w), std::nullopt});
    if (t.up) to.terms.back().up = GpuWeight(device_, *t.up);
  }
  to.bias = GpuBuffer(device_, linear.bias.data(), linear.bias.size() * sizeof(float));
  device_.wait();
  return to;
}

void GpuWeights::keep(const Linear& linear) {
  if (!linears_.contains(&linear)) linears_.emplace(&linear, take(linear));
}

void GpuWeights::keep(const std::vector<float>& vector) {
  if (vector.empty() || vectors_.contains(&vector)) return;
  vectors_.emplace(&vector, GpuBuffer(device_, vector.data(), vector.size() * sizeof(float)));
  device_.wait();
}

void GpuWeights::keep(const MoeWeights& moe) {
  if (experts_.contains(&moe)) return;
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
  experts_.emplace(&moe, std::move(to));
}

void GpuWeights::keep(const LatentWeights& latent) {
  if (heads_.contains(&latent)) return;
  std::optional<GpuTable> key = table_of(addresses(latent.k_up)),
                          value = table_of(addresses(latent.v_up));
  if (key && value) heads_.emplace(&latent, GpuHeads{std::move(*key), std::move(*value)});
}

std::optional<GpuTable> GpuWeights::table_of(const std::vector<const Linear*>& linears,
                                             const cuda::TileWeight* kind) {
  GpuTable table;
  std::vector<cuda::TileWeight> all;
  std::vector<float> biases;
  const Linear& first = *linears.front();
  table.like = kind != nullptr ? *kind : linears_.at(&first).tiles();
  for (const Linear* l : linears) {
    const GpuLinear& on = linears_.at(l);
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
