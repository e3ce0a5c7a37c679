// Writes a Hugging Face llama checkpoint of a real size with random weights, in shards, streamed:
// to measure the time and memory of compression without a download.
//
//   make_checkpoint SHAPE FOLDER

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <vector>

#include "core/bytes.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/parallel.h"
#include "core/rng.h"

namespace {

using namespace pith;

struct Shape {
  const char* name;
  int64_t hidden, layers, ffn, heads, kv_heads, vocab;
  bool tied;
};
constexpr Shape kShapes[] = {
    {"llama-25m", 512, 6, 1408, 8, 4, 8000, false},
    {"llama-200m", 1024, 12, 2816, 16, 8, 32000, false},
    {"llama-850m", 2048, 16, 5632, 32, 8, 32000, false},
    {"llama-1b", 2048, 16, 8192, 32, 8, 128256, true},
    {"llama-8b", 4096, 32, 14336, 32, 8, 128256, false},
};
constexpr uint64_t kShardBytes = uint64_t{600} << 20;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  uint64_t bytes() const {
    uint64_t n = 2;
    for (const int64_t d : shape) n *= static_cast<uint64_t>(d);
    return n;
  }
};

std::vector<Tensor> tensors_of(const Shape& s) {
  const int64_t kv = s.hidden / s.heads * s.kv_heads;
  std::vector<Tensor> t = {{"model.embed_tokens.weight", {s.vocab, s.hidden}}};
  for (int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    t.push_back({layer + "input_layernorm.weight", {s.hidden}});
    t.push_back({layer + "self_attn.q_proj.weight", {s.hidden, s.hidden}});
    t.push_back({layer + "self_attn.k_proj.weight", {kv, s.hidden}});
    t.push_back({layer + "self_attn.v_proj.weight", {kv, s.hidden}});
    t.push_back({layer + "self_attn.o_proj.weight", {s.hidden, s.hidden}});
    t.push_back({layer + "post_attention_layernorm.weight", {s.hidden}});
    t.push_back({layer + "mlp.gate_proj.weight", {s.ffn, s.hidden}});
    t.push_back({layer + "mlp.up_proj.weight", {s.ffn, s.hidden}});
    t.push_back({layer + "mlp.down_proj.weight", {s.hidden, s.ffn}});
  }
  t.push_back({"model.norm.weight", {s.hidden}});
  if (!s.tied) t.push_back({"lm_head.weight", {s.vocab, s.hidden}});
  return t;
}

// Nearly normal with deviation 0.02: four 16-bit uniforms. Norms are 1.
void append_weights(const Tensor& t, uint64_t stream, NewFile* to) {
  constexpr int64_t kPiece = 1 << 22;
  const Rng rng(1, stream);
  const auto n = static_cast<int64_t>(t.bytes() / 2);
  std::vector<std::byte> bytes;
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = std::min(kPiece, n - begin);
    bytes.resize(static_cast<size_t>(count) * 2);
    parallel_ranges(count, 1 << 16, [&](int64_t first, int64_t last) {
      std::vector<float> w(static_cast<size_t>(last - first), 1.0f);
      if (t.shape.size() > 1) {
        for (int64_t i = first; i < last; ++i) {
          const uint64_t r = rng.at(static_cast<uint64_t>(begin + i));
          const auto sum = static_cast<int64_t>((r & 0xffff) + (r >> 16 & 0xffff) +
                                                (r >> 32 & 0xffff) + (r >> 48));
          w[static_cast<size_t>(i - first)] =
              0.02f / 37837.0f * static_cast<float>(sum - 2 * 0xffff);
        }
      }
      from_f32(DType::kF16, w.data(), bytes.data() + first * 2, w.size());
    });
    to->append(bytes);
  }
}

void write_shard(const std::string& path, const std::vector<Tensor>& tensors,
                 uint64_t first_stream) {
  Json header;
  uint64_t offset = 0;
  for (const auto& t : tensors) {
    header[t.name] = {
        {"dtype", "F16"}, {"shape", t.shape}, {"data_offsets", {offset, offset + t.bytes()}}};
    offset += t.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  NewFile file(path, 8 + size + offset);
  file.append(std::as_bytes(std::span(&size, 1)));
  file.append(as_bytes(text));
  for (size_t i = 0; i < tensors.size(); ++i) append_weights(tensors[i], first_stream + i, &file);
  file.commit();
}

void write_checkpoint(const Shape& s, const std::string& folder) {
  std::filesystem::create_directories(folder);
  const Json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"model_type", "llama"},
                       {"vocab_size", s.vocab},
                       {"hidden_size", s.hidden},
                       {"intermediate_size", s.ffn},
                       {"num_hidden_layers", s.layers},
                       {"num_attention_heads", s.heads},
                       {"num_key_value_heads", s.kv_heads},
                       {"hidden_act", "silu"},
                       {"max_position_embeddings", 2048},
                       {"rms_norm_eps", 1e-5},
                       {"rope_theta", 10000.0},
                       {"tie_word_embeddings", s.tied},
                       {"bos_token_id", 1},
                       {"eos_token_id", 2}};
  write_file(join_path(folder, "config.json"), as_bytes(config.dump(2)));
  std::vector<std::vector<Tensor>> shards(1);
  uint64_t bytes = 0, total = 0;
  for (const auto& t : tensors_of(s)) {
    if (bytes > 0 && bytes + t.bytes() > kShardBytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += t.bytes();
    total += t.bytes();
    shards.back().push_back(t);
  }
  Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", Json::object()}};
  uint64_t stream = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const auto& t : shards[i]) index["weight_map"][t.name] = name;
    write_shard(join_path(folder, name), shards[i], stream);
    stream += shards[i].size();
  }
  write_file(join_path(folder, "model.safetensors.index.json"), as_bytes(index.dump(2)));
  fmt::print("{}: {} shards, {:.2f} GB\n", folder, shards.size(), static_cast<double>(total) / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    for (const auto& s : kShapes) {
      if (argc == 3 && std::string_view(argv[1]) == s.name) {
        write_checkpoint(s, argv[2]);
        return 0;
      }
    }
    fmt::print(stderr, "usage: make_checkpoint SHAPE FOLDER\nshapes:");
    for (const auto& s : kShapes) fmt::print(stderr, " {}", s.name);
    fmt::print(stderr, "\n");
    return 2;
  } catch (const Error& e) {
    fmt::print(stderr, "make_checkpoint: {}\n", e.what());
    return exit_code(e.kind());
  }
}
