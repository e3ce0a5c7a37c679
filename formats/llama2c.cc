#include "formats/llama2c.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "core/bytes.h"
#include "formats/stand_in.h"

namespace pith {
namespace {

constexpr uint64_t kHeaderBytes = 7 * sizeof(int32_t);
constexpr uint64_t kMaxTokenizer = 64u << 20;

struct Sizes {
  uint64_t dim, hidden, layers, heads, kv_heads, vocab, context;
  bool tied;
  uint64_t head_size() const { return dim / heads; }
  uint64_t kv_dim() const { return head_size() * kv_heads; }
};

// The seven numbers, or what is wrong with them. Each is bounded so that no product below
// overflows: matrices have fewer than 2^48 elements, and there are fewer than 2^12 layers.
struct Numbers {
  std::optional<Sizes> sizes;
  std::string problem;
};

Numbers read_numbers(ByteReader& reader) {
  std::array<int32_t, 7> v;
  for (auto& x : v) x = reader.read<int32_t>("header");
  static constexpr const char* kNames[] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                                           "n_kv_heads", "vocab_size", "seq_len"};
  static constexpr int32_t kMax[] = {1 << 20, 1 << 22, 4095, 1 << 16, 1 << 16, 1 << 24, 1 << 26};
  const bool tied = v[5] > 0;
  if (v[5] < 0 && v[5] >= -kMax[5]) v[5] = -v[5];
  for (size_t i = 0; i < v.size(); ++i) {
    if (v[i] < 1 || v[i] > kMax[i]) {
      return {{}, fmt::format("{} is {}, not between 1 and {}", kNames[i], v[i], kMax[i])};
    }
  }
  const auto at = [&](size_t i) { return static_cast<uint64_t>(v[i]); };
  const Sizes s{at(0), at(1), at(2), at(3), at(4), at(5), at(6), tied};
  if (s.dim % s.heads != 0 || s.head_size() % 2 != 0) {
    return {{}, fmt::format("dim {} is not an even multiple of n_heads {}", s.dim, s.heads)};
  }
  if (s.heads % s.kv_heads != 0) {
    return {{}, fmt::format("n_heads {} is not a multiple of n_kv_heads {}", s.heads, s.kv_heads)};
  }
  return {s, {}};
}

// Hands out the matrices in the order of the file.
class Layout {
 public:
  void add(std::string name, std::vector<uint64_t> shape) {
    uint64_t bytes = sizeof(float);
    for (const uint64_t d : shape) bytes = checked_mul(bytes, d, name);
    tensors.push_back({.name = std::move(name),
                       .encoding = Encoding::dense(DType::kF32),
                       .shape = std::vector<int64_t>(shape.begin(), shape.end()),
                       .offset = at,
                       .bytes = bytes});
    skip(bytes);
  }
  void add_layers(const Sizes& s, const std::string& name, const std::vector<uint64_t>& shape) {
    for (uint64_t i = 0; i < s.layers; ++i)
      add(fmt::format("model.layers.{}.{}.weight", i, name), shape);
  }
  void skip(uint64_t bytes) { at = checked_add(at, bytes, "offset"); }

  uint64_t at = kHeaderBytes;
  std::vector<TensorInfo> tensors;
};

Layout lay_out(const Sizes& s) {
  Layout l;
  l.add("model.embed_tokens.weight", {s.vocab, s.dim});
  l.add_layers(s, "input_layernorm", {s.dim});
  l.add_layers(s, "self_attn.q_proj", {s.dim, s.dim});
  l.add_layers(s, "self_attn.k_proj", {s.kv_dim(), s.dim});
  l.add_layers(s, "self_attn.v_proj", {s.kv_dim(), s.dim});
  l.add_layers(s, "self_attn.o_proj", {s.dim, s.dim});
  l.add_layers(s, "post_attention_layernorm", {s.dim});
  l.add_layers(s, "mlp.gate_proj", {s.hidden, s.dim});
  l.add_layers(s, "mlp.down_proj", {s.dim, s.hidden});
  l.add_layers(s, "mlp.up_proj", {s.hidden, s.dim});
  l.add("model.norm.weight", {s.dim});
  l.skip(s.context * s.head_size() * sizeof(float));  // two tables of half that size
  if (!s.tied) l.add("lm_head.weight", {s.vocab, s.dim});
  return l;
}

// The size of the file that the numbers call for, without making the tensors.
uint64_t file_bytes(const Sizes& s) {
  const uint64_t layer =
      2 * s.dim + 2 * s.dim * s.dim + 2 * s.kv_dim() * s.dim + 3 * s.hidden * s.dim;
  const uint64_t rest = s.vocab * s.dim * (s.tied ? 1 : 2) + s.dim + s.context * s.head_size();
  return kHeaderBytes + sizeof(float) * (s.layers * layer + rest);
}

Json config_of(const Sizes& s) {
  return {{"model_type", "llama2c"},
          {"hidden_size", s.dim},
          {"intermediate_size", s.hidden},
          {"num_hidden_layers", s.layers},
          {"num_attention_heads", s.heads},
          {"num_key_value_heads", s.kv_heads},
          {"vocab_size", s.vocab},
          {"max_position_embeddings", s.context},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", s.tied},
          {"bos_token_id", 1u},
          {"eos_token_id", 2u}};
}

// tokenizer.bin or the only tok*.bin of the folder; empty where there is none, or a choice.
std::string tokenizer_beside(const std::string& path) {
  const std::string folder = folder_of(path);
  if (const auto plain = join_path(folder, "tokenizer.bin"); file_exists(plain)) return plain;
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("tok") && name.ends_with(".bin") &&
        !same_file(it->path().string(), path)) {
      found.push_back(it->path().string());
    }
  }
  return found.size() == 1 ? found[0] : "";
}

}  // namespace

bool looks_like_llama2c(std::span<const std::byte> first_bytes, uint64_t file_size) {
  if (first_bytes.size() < kHeaderBytes) return false;
  ByteReader reader(first_bytes, "");
  const auto numbers = read_numbers(reader);
  return numbers.sizes && file_bytes(*numbers.sizes) == file_size;
}

Llama2cHeader parse_llama2c(std::span<const std::byte> first_bytes, uint64_t file_size,
                            const std::string& name) {
  ByteReader reader(first_bytes, name);
  const auto numbers = read_numbers(reader);
  if (!numbers.sizes) fail(ErrorKind::kCorrupt, "{}: {}", name, numbers.problem);
  const uint64_t wanted = file_bytes(*numbers.sizes);
  if (wanted != file_size) {
    fail(ErrorKind::kCorrupt, "{}: {} bytes, the header calls for {}", name, file_size, wanted);
  }
  return {config_of(*numbers.sizes), lay_out(*numbers.sizes).tensors};
}

Checkpoint open_llama2c(const std::string& path) {
  Checkpoint c;
  c.kind = Checkpoint::Kind::kLlama2c;
  c.path = path;
  c.files.push_back(File::open_read(path));
  const uint64_t size = c.files[0].size();
  std::vector<std::byte> head(std::min(size, kHeaderBytes));
  c.files[0].read(0, head);
  auto header = parse_llama2c(head, size, path);
  c.config = std::move(header.config);
  c.tensors = std::move(header.tensors);
  for (size_t i = 0; i < c.tensors.size(); ++i) c.by_name.emplace(c.tensors[i].name, i);
  if (const auto tokenizer = tokenizer_beside(path); !tokenizer.empty()) {
    c.tokenizer.llama2c = read_model_text(tokenizer, kMaxTokenizer);
  }
  return c;
}

}  // namespace pith
