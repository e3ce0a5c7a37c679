// llama2.c files as bytes: seven numbers, then floats that count up.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

namespace pith::test {

struct Llama2cSizes {
  int32_t dim = 8, hidden = 12, layers = 2, heads = 2, kv_heads = 1, vocab = 5, context = 4;
};

inline std::string llama2c_header(const Llama2cSizes& s) {
  const std::array<int32_t, 7> v = {s.dim,      s.hidden, s.layers, s.heads,
                                    s.kv_heads, s.vocab,  s.context};
  return {reinterpret_cast<const char*>(v.data()), sizeof(v)};
}

// The number of floats, counted matrix by matrix.
inline int64_t llama2c_floats(const Llama2cSizes& s) {
  const int64_t dim = s.dim, head = dim / s.heads, kv = head * s.kv_heads,
                vocab = s.vocab < 0 ? -s.vocab : s.vocab;
  int64_t n = vocab * dim;
  for (int i = 0; i < s.layers; ++i) {
    n += dim;                  // attention norm
    n += dim * dim;            // wq
    n += kv * dim + kv * dim;  // wk, wv
    n += dim * dim;            // wo
    n += dim;                  // ffn norm
    n += 3 * s.hidden * dim;   // w1, w2, w3
  }
  n += dim;
  n += s.context * head / 2 + s.context * head / 2;
  return s.vocab < 0 ? n + vocab * dim : n;
}

inline std::string llama2c_bytes(const Llama2cSizes& s) {
  std::string out = llama2c_header(s);
  for (int64_t i = 0; i < llama2c_floats(s); ++i) {
    const auto f = static_cast<float>(i);
    out.append(reinterpret_cast<const char*>(&f), sizeof(f));
  }
  return out;
}

}  // namespace pith::test
