// llama2.c legacy .bin: seven little-endian i32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads,
// vocab_size, seq_len), then f32 matrices: token embedding [vocab, dim]; for all layers in turn:
// attention norm [dim]; wq [dim, dim]; wk, wv [kv, dim]; wo [dim, dim]; ffn norm [dim]; w1 [hidden,
// dim]; w2 [dim, hidden]; w3 [hidden, dim]; then final norm [dim]; two unused tables of seq_len *
// head_size / 2; where vocab_size is negative the output head [vocab, dim] follows, else it is the
// embedding. RoPE is interleaved.
//
// The file has no magic number: it is recognised by its size, which the seven numbers determine
// exactly.
//
// Tensors get the names of a Hugging Face Llama ("model.layers.0.self_attn.q_proj.weight", ...),
// and `config` the words of its config.json with model_type "llama2c".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "formats/checkpoint.h"

namespace pith {

struct Llama2cHeader {
  Json config;
  std::vector<TensorInfo> tensors;
};

bool looks_like_llama2c(std::span<const std::byte> first_bytes, uint64_t file_size);
Llama2cHeader parse_llama2c(std::span<const std::byte> first_bytes, uint64_t file_size,
                            const std::string& name);  // pure
Checkpoint open_llama2c(
    const std::string& path);  // tokenizer.bin or tok*.bin beside it, if there is just one

}  // namespace pith
