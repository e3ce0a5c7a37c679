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

Linear& find_linear(Block& block, int sublayer, LinearRole role) {
  auto& s = block.sublayers.at(static_cast<size_t>(sublayer));
  if (s.attention) {
    switch (role) {
      case LinearRole::kQuery:
        return s.attention->q;
      case LinearRole::kKey:
        return s.attention->k;
      case LinearRole::kValue:
        return s.attention->v;
      case LinearRole::kOutput:
        return s.attention->o;
      default:
        break;
    }
  }
  if (s.mlp) {
    switch (role) {
      case LinearRole::kGate:
        return s.mlp->gate;
      case LinearRole::kUp:
        return s.mlp->up;
      case LinearRole::kDown:
        return s.mlp->down;
      default:
        break;
    }
  }
  fail(ErrorKind::kUsage, "sublayer {} of layer {} has no {}", sublayer, block.layer,
       role_name(role));
}

const Linear& find_linear(const Block& block, int sublayer, LinearRole role) {
  return find_linear(const_cast<Block&>(block), sublayer, role);
}

uint64_t Model::bytes() const {
  uint64_t total = embedding.bytes() + (own_head ? own_head->bytes() : 0);
  for (const auto& b : blocks) {
    for (const auto& s : b.sublayers) {
      if (s.attention)
        total += s.attention->q.bytes() + s.attention->k.bytes() + s.attention->v.bytes() +
                 s.attention->o.bytes();
      if (s.mlp) total += s.mlp->gate.bytes() + s.mlp->up.bytes() + s.mlp->down.bytes();
    }
  }
  return total;
}

std::vector<float>& find_vector(Block& block, const VectorInfo& info) {
  auto& s = block.sublayers.at(static_cast<size_t>(info.sublayer));
  if (info.role == VectorRole::kNorm) return s.norm.weight;
  if (s.attention && info.role == VectorRole::kQueryNorm) return s.attention->query_norm.weight;
  if (s.attention && info.role == VectorRole::kKeyNorm) return s.attention->key_norm.weight;
  fail(ErrorKind::kUsage, "{} is not in layer {}", info.name, block.layer);
}

}  // namespace pith
