#include "runtime/model/model.h"

#include <algorithm>

#include "core/error.h"

namespace pith {

uint64_t Linear::bytes() const {
  uint64_t total = bias.size() * sizeof(float);
  for (const auto& t : terms) total += t.w.bytes() + (t.up ? t.up->bytes() : 0);
  return total;
}

void dense_rows(const Linear& linear, int64_t row, int64_t rows, float* out) {
  const int64_t k = linear.k;
  bool first = true;
  std::vector<float> part;
  for (const auto& t : linear.terms) {
    float* to = out;
    if (!first) {
      part.resize(static_cast<size_t>(rows * k));
      to = part.data();
    }
    if (!t.up) {
      decode_rows(t.w, row, rows, to);
    } else {
      const int64_t r = t.w.n;
      std::vector<float> down(static_cast<size_t>(r * k)), up(static_cast<size_t>(rows * r));
      decode_rows(t.w, 0, r, down.data());
      decode_rows(*t.up, row, rows, up.data());
      std::fill(to, to + rows * k, 0.0f);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < r; ++j) {
          const float u = up[static_cast<size_t>(i * r + j)];
          const float* d = down.data() + j * k;
          for (int64_t c = 0; c < k; ++c) to[i * k + c] += u * d[c];
        }
      }
    }
    if (!first) {
      for (int64_t i = 0; i < rows * k; ++i) out[i] += part[static_cast<size_t>(i)];
    }
    first = false;
  }
}

namespace {

// Null where there is none.
Linear* find_in(MlpWeights& mlp, LinearRole role) {
  switch (role) {
    case LinearRole::kGate:
      return &mlp.gate;
    case LinearRole::kUp:
      return &mlp.up;
    case LinearRole::kDown:
      return &mlp.down;
    default:
      return nullptr;
  }
}
Linear* find_in(AttentionWeights& attention, LinearRole role) {
  switch (role) {
    case LinearRole::kQuery:
      return &attention.q;
    case LinearRole::kKey:
      return &attention.k;
    case LinearRole::kValue:
      return &attention.v;
    case LinearRole::kOutput:
      return &attention.o;
    default:
      return nullptr;
  }
}
Linear* find_in(SublayerWeights& s, LinearRole role, int expert) {
  if (s.attention) return find_in(*s.attention, role);
  if (s.mlp) return find_in(*s.mlp, role);
  if (!s.mixture) return nullptr;
  if (role == LinearRole::kRouter) return &s.mixture->router;
  const bool there = expert >= 0 && static_cast<size_t>(expert) < s.mixture->experts.size();
  return there ? find_in(s.mixture->experts[static_cast<size_t>(expert)], role) : nullptr;
}

}  // namespace

std::vector<const Linear*> SublayerWeights::linears() const {
  std::vector<const Linear*> all;
  const auto add = [&](const MlpWeights& m) {
    if (!m.gate.terms.empty()) all.push_back(&m.gate);
    all.insert(all.end(), {&m.up, &m.down});
  };
  if (attention) all = {&attention->q, &attention->k, &attention->v, &attention->o};
  if (mlp) add(*mlp);
  if (mixture) {
    all.push_back(&mixture->router);
    for (const auto& e : mixture->experts) add(e);
  }
  return all;
}

Linear& find_linear(Block& block, const LinearInfo& info) {
  Linear* const found =
      find_in(block.sublayers.at(static_cast<size_t>(info.sublayer)), info.role, info.expert);
  if (found == nullptr) fail(ErrorKind::kUsage, "{} is not in layer {}", info.name, block.layer);
  return *found;
}

const Linear& find_linear(const Block& block, const LinearInfo& info) {
  return find_linear(const_cast<Block&>(block), info);
}

uint64_t Model::bytes() const {
  uint64_t total = embedding.bytes() + (own_head ? own_head->bytes() : 0);
  for (const auto& b : blocks) {
    for (const auto& s : b.sublayers) {
      for (const Linear* l : s.linears()) total += l->bytes();
    }
  }
  return total;
}

std::vector<float>& find_vector(Block& block, const VectorInfo& info) {
  auto& s = block.sublayers.at(static_cast<size_t>(info.sublayer));
  if (info.role == VectorRole::kNorm) return s.norm.weight;
  if (info.role == VectorRole::kPostNorm) return s.post_norm.weight;
  if (s.attention && info.role == VectorRole::kQueryNorm) return s.attention->query_norm.weight;
  if (s.attention && info.role == VectorRole::kKeyNorm) return s.attention->key_norm.weight;
  if (s.attention && info.role == VectorRole::kSinks) return s.attention->sinks;
  fail(ErrorKind::kUsage, "{} is not in layer {}", info.name, block.layer);
}

}  // namespace pith
