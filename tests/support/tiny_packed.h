// Packed files of a few kilobytes, for tests of the format and of what reads it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "formats/packed_file.h"
#include "tests/support/packed_bytes.h"

namespace pith::test {

// One layer of 4 heads over 2 with norms of queries and keys and biases of q, k, v; a gated MLP;
// hidden 32, vocabulary 24.
proto::ModelSpec tiny_spec();

// What the bytes of a packed file are; `fill` adds planes and records.
std::string packed_bytes(const std::function<void(PackedWriter&, proto::Manifest*)>& fill);

// Planes of random bytes: any are legal codes; scales may decode to anything, NaN too. Masks of
// sparse matrices fit them.
OwnedWeight random_weight(const Encoding& e, int64_t n, int64_t k, uint64_t seed);

// One file of a tokenizer and no other.
TokenizerFiles tokenizer_file(std::string TokenizerFiles::*which, const std::string& text);

// A complete model of tiny_spec: every linear in another encoding, "layers.0.mlp.down" as int4 plus
// a low-rank term of rank 4, a tokenizer of two files, an evaluation.
std::string tiny_packed();

// Three linears, a vector and a blob: every bit of it can be tried.
std::string smallest_packed();

// Every encoding there is, with every parameter it can have; sparse ones around some of them.
std::vector<Encoding> every_encoding();

}  // namespace pith::test
