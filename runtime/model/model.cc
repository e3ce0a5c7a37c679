#include "runtime/model/model.h"

#include <algorithm>

#include "core/error.h"

namespace pith {

uint64_t Linear::bytes() const {
  uint64_t total = bias.size() * sizeof(float);
  for (const auto& t : terms) total += t.w.bytes() + (t.up ? t.up->bytes() : 0);
  return total;
}

void reference_decode(const Linear& linear, int64_t row, int64_t rows, float* out) {
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
      reference_decode(t.w, row, rows, to);
    } else {
      const int64_t r = t.w.n;
      std::vector<float> down(static_cast<size_t>(r * k)), up(static_cast<size_t>(rows * r));
      reference_decode(t.w, 0, r, down.data());
      reference_decode(*t.up, row, rows, up.data());
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
Linear* find_in(std::vector<Linear>& parts, int part) {
  return part >= 0 && static_cast<size_t>(part) < parts.size() ? &parts[static_cast<size_t>(part)]
                                                               : nullptr;
}
Linear* find_in(LatentWeights& latent, LinearRole role, int head) {
  switch (role) {
    case LinearRole::kQueryDown:
      return &latent.q_down;
    case LinearRole::kKeyValueDown:
      return &latent.kv_down;
    case LinearRole::kKeyUp:
      return find_in(latent.k_up, head);
    case LinearRole::kValueUp:
      return find_in(latent.v_up, head);
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
Linear* find_in(MoeWeights& moe, LinearRole role, int expert) {
  if (role == LinearRole::kRouter) return &moe.router;
  if (role == LinearRole::kSharedGate) return &moe.shared_gate;
  if (expert < 0) return moe.shared ? find_in(*moe.shared, role) : nullptr;
  const bool there = static_cast<size_t>(expert) < moe.experts.size();
  return there ? find_in(moe.experts[static_cast<size_t>(expert)], role) : nullptr;
}
Linear* find_in(SublayerWeights& s, const LinearInfo& info) {
  if (s.attention) {
    Linear* const found =
        s.attention->latent ? find_in(*s.attention->latent, info.role, info.head) : nullptr;
    return found != nullptr ? found : find_in(*s.attention, info.role);
  }
  if (s.mlp) return find_in(*s.mlp, info.role);
  return s.moe ? find_in(*s.moe, info.role, info.expert) : nullptr;
}

}  // namespace

std::vector<const Linear*> SublayerWeights::linears() const {
  std::vector<const Linear*> all;
  const auto add = [&](const Linear& l) {
    if (!l.terms.empty()) all.push_back(&l);
  };
  const auto add_mlp = [&](const MlpWeights& m) {
    for (const Linear* l : {&m.gate, &m.up, &m.down}) add(*l);
  };
  if (attention) {
    for (const Linear* l : {&attention->q, &attention->k, &attention->v, &attention->o}) add(*l);
    if (attention->latent) {
      add(attention->latent->q_down);
      add(attention->latent->kv_down);
      for (const auto* heads : {&attention->latent->k_up, &attention->latent->v_up})
        for (const Linear& l : *heads) add(l);
    }
  }
  if (mlp) add_mlp(*mlp);
  if (moe) {
    add(moe->router);
    add(moe->shared_gate);
    if (moe->shared) add_mlp(*moe->shared);
    for (const auto& e : moe->experts) add_mlp(e);
  }
  return all;
}

Linear& find_linear(Block& block, const LinearInfo& info) {
  Linear* const found = find_in(block.sublayers.at(static_cast<size_t>(info.sublayer)), info);
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

FloatVector& find_vector(Block& block, const VectorInfo& info) {
  auto& s = block.sublayers.at(static_cast<size_t>(info.sublayer));
  if (info.role == VectorRole::kNorm) return s.norm.weight;
  if (info.role == VectorRole::kPostNorm) return s.post_norm.weight;
  if (s.attention && info.role == VectorRole::kQueryNorm) return s.attention->query_norm.weight;
  if (s.attention && info.role == VectorRole::kKeyNorm) return s.attention->key_norm.weight;
  if (s.attention && info.role == VectorRole::kSinks) return s.attention->sinks;
  if (s.moe && info.role == VectorRole::kChoiceBias) return s.moe->choice_bias;
  fail(ErrorKind::kUsage, "{} is not in layer {}", info.name, block.layer);
}

}  // namespace pith
