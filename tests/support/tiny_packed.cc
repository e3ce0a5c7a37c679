#include "tests/support/tiny_packed.h"

#include <cmath>
#include <cstring>

#include "core/file.h"
#include "formats/encodings/ggml.h"
#include "formats/encodings/sparse.h"
#include "runtime/model/spec.h"
#include "tests/support/test_data.h"

namespace pith::test {
namespace {

uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// In [-1, 1).
std::vector<float> random_floats(int64_t n, uint64_t seed) {
  std::vector<float> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>(static_cast<int64_t>(mix(seed * 1000003 + i) >> 40) - (1 << 23)) *
             0x1p-23f;
  return out;
}

std::span<const std::byte> bytes_of(const std::vector<float>& v) {
  return std::as_bytes(std::span(v));
}

proto::LinearRecord* add_linear(PackedWriter& writer, proto::Manifest* manifest,
                                const std::string& name, const Encoding& e, int64_t n, int64_t k,
                                bool bias) {
  const uint64_t seed = hash64(as_bytes(name));
  auto* record = manifest->add_linears();
  record->set_name(name);
  record->set_n(static_cast<uint64_t>(n));
  record->set_k(static_cast<uint64_t>(k));
  *record->add_terms()->mutable_weight() =
      writer.add_weight(encode(e, n, k, random_floats(n * k, seed).data()));
  if (bias)
    *record->mutable_bias() =
        writer.add_plane(PlaneKind::kCodes, bytes_of(random_floats(n, seed + 1)));
  record->set_method("rtn");
  return record;
}

void add_vector(PackedWriter& writer, proto::Manifest* manifest, const std::string& name,
                int64_t length) {
  auto* record = manifest->add_vectors();
  record->set_name(name);
  record->set_length(static_cast<uint64_t>(length));
  *record->mutable_plane() =
      writer.add_plane(PlaneKind::kCodes, bytes_of(random_floats(length, hash64(as_bytes(name)))));
}

void add_low_rank(PackedWriter& writer, proto::LinearRecord* record, int64_t rank) {
  const auto n = static_cast<int64_t>(record->n()), k = static_cast<int64_t>(record->k());
  auto* term = record->add_terms();
  const auto e = Encoding::dense(DType::kF16);
  *term->mutable_weight() =
      writer.add_weight(encode(e, rank, k, random_floats(rank * k, 5).data()));
  *term->mutable_up() = writer.add_weight(encode(e, n, rank, random_floats(n * rank, 6).data()));
}

}  // namespace

proto::ModelSpec tiny_spec() {
  proto::ModelSpec spec;
  spec.set_family("tiny");
  spec.set_vocab(24);
  spec.set_hidden(32);
  spec.set_context(64);
  spec.set_bos_token(1);
  spec.add_stop_tokens(2);
  const auto rms = [](proto::Norm* norm) {
    norm->set_kind(proto::NORM_RMS);
    norm->set_eps(1e-5);
  };
  rms(spec.mutable_final_norm());
  auto* layer = spec.add_layers();
  auto* sub = layer->add_sublayers();
  sub->set_name("attention");
  rms(sub->mutable_norm());
  auto* a = sub->mutable_attention();
  a->set_heads(4);
  a->set_kv_heads(2);
  a->set_head_dim(8);
  a->set_qkv_bias(true);
  rms(a->mutable_query_norm());
  rms(a->mutable_key_norm());
  a->mutable_rope()->set_dims(8);
  a->mutable_rope()->set_theta(1e4);
  sub = layer->add_sublayers();
  sub->set_name("mlp");
  rms(sub->mutable_norm());
  auto* m = sub->mutable_mlp();
  m->set_width(48);
  m->set_gated(true);
  m->set_activation(proto::ACTIVATION_SILU);
  return spec;
}

std::string packed_bytes(const std::function<void(PackedWriter&, proto::Manifest*)>& fill) {
  const TemporaryFolder folder;
  const std::string path = folder.file("x.pith");
  {
    File file = File::create(path);
    PackedWriter writer(file);
    proto::Manifest manifest;
    fill(writer, &manifest);
    writer.finish(manifest);
  }
  return read_text_file(path, 1 << 28);
}

OwnedWeight random_weight(const Encoding& e, int64_t n, int64_t k, uint64_t seed) {
  OwnedWeight w = allocate_weight(e, n, k);
  uint64_t i = seed << 32;
  for (auto& plane : w.planes) {
    for (auto& b : plane.bytes) b = static_cast<std::byte>(mix(i++));
  }
  if (e.is_sparse()) {
    const auto mask = magnitude_mask(e.sparsity, k, n, random_floats(n * k, seed).data());
    std::memcpy(find_plane(w.planes, PlaneKind::kIndices).data(), mask.data(), 4 * mask.size());
  }
  return w;
}

TokenizerFiles tokenizer_file(std::string TokenizerFiles::*which, const std::string& text) {
  TokenizerFiles files;
  files.*which = text;
  return files;
}

std::string tiny_packed() {
  const std::vector<Encoding> encodings = {
      Encoding::dense(DType::kF16),
      Encoding::integer(4, 16, false),
      Encoding::integer(3, 32),
      Encoding::nf4(16),
      Encoding::integer(8, 0, true, DType::kBF16),
      Encoding::integer(2, 16, false, DType::kF16, true),
      Encoding::fp8(DType::kF8E4M3, ScaleArea::kRow),
      Encoding::integer(4, 16),
      Encoding::fp8(DType::kF8E5M2, ScaleArea::kBlock128),
  };
  return packed_bytes([&](PackedWriter& writer, proto::Manifest* m) {
    *m->mutable_model() = tiny_spec();
    size_t i = 0;
    for (const auto& info : linears_of(m->model())) {
      const Encoding& e = encodings[i++ % encodings.size()];
      auto* record = add_linear(writer, m, info.name, e, info.n, info.k, info.bias);
      if (info.role == LinearRole::kDown) add_low_rank(writer, record, 4);
    }
    for (const auto& info : vectors_of(m->model())) add_vector(writer, m, info.name, info.length);
    add_tokenizer(writer, tokenizer_file(&TokenizerFiles::tokenizer_config, "{}"), m);
    add_tokenizer(writer, tokenizer_file(&TokenizerFiles::chat_template, "{{ messages }}"), m);
    m->mutable_provenance()->set_tool("test");
    auto* evaluation = m->mutable_provenance()->add_evaluations();
    evaluation->set_what("ppl");
    (*evaluation->mutable_values())["ppl"] = 7.5;
    (*evaluation->mutable_values())["tokens"] = 100;
  });
}

std::string smallest_packed() {
  return packed_bytes([](PackedWriter& writer, proto::Manifest* m) {
    *m->mutable_model() = tiny_spec();
    add_linear(writer, m, "a", Encoding::integer(4, 16, false), 3, 20, true);
    add_low_rank(writer, add_linear(writer, m, "b", Encoding::nf4(16), 4, 20, false), 2);
    add_linear(writer, m, "c", Encoding::fp8(DType::kF8E4M3, ScaleArea::kRow), 2, 5, false);
    add_vector(writer, m, "v", 7);
    add_tokenizer(writer, tokenizer_file(&TokenizerFiles::tokenizer_config, "{}"), m);
  });
}

std::vector<Encoding> every_encoding() {
  std::vector<Encoding> out;
  for (const auto& t : dtypes()) {
    if (t.floating) out.push_back(Encoding::dense(t.type));
  }
  for (const DType scale : {DType::kF16, DType::kBF16}) {
    for (const int64_t group : {0, 16, 32, 64, 128}) {
      for (const bool two_level : {false, true}) {
        for (const int bits : {2, 3, 4, 5, 6, 8}) {
          for (const bool symmetric : {true, false})
            out.push_back(Encoding::integer(bits, group, symmetric, scale, two_level));
        }
        out.push_back(Encoding::nf4(group, scale));
        out.back().two_level = two_level;
      }
    }
  }
  out.push_back(Encoding::mxfp4());
  for (const DType type : {DType::kF8E4M3, DType::kF8E5M2}) {
    for (const ScaleArea area : {ScaleArea::kTensor, ScaleArea::kRow, ScaleArea::kBlock128})
      out.push_back(Encoding::fp8(type, area));
  }
  const size_t dense = out.size();
  for (size_t i = 0; i < dense; i += 5)
    out.push_back(
        Encoding::sparse(out[i], i % 2 == 0 ? Sparsity::n_of_m(2, 4) : Sparsity::bitmap(20)));
  for (const auto& t : ggml_types()) {
    if (t.block > 1) out.push_back(Encoding::of_ggml(t.type));
  }
  return out;
}

}  // namespace pith::test
