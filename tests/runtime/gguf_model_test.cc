// The same tiny models as GGUF files, renamed and permuted as the converters do it, give the same
// logits as transformers gave.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "core/json.h"
#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

std::string replace_all(std::string s,
                        const std::vector<std::pair<std::string, std::string>>& pairs) {
  for (const auto& [from, to] : pairs) {
    if (const size_t at = s.find(from); at != std::string::npos) s.replace(at, from.size(), to);
  }
  return s;
}

std::string gguf_name(const std::string& hf) {
  return replace_all(hf, {{"model.layers.", "blk."},
                          {"self_attn.qkv_proj", "attn_qkv"},
                          {"self_attn.q_proj", "attn_q"},
                          {"self_attn.k_proj", "attn_k"},
                          {"self_attn.v_proj", "attn_v"},
                          {"self_attn.o_proj", "attn_output"},
                          {"self_attn.q_norm", "attn_q_norm"},
                          {"self_attn.k_norm", "attn_k_norm"},
                          {"post_attention_layernorm", "ffn_norm"},
                          {"input_layernorm", "attn_norm"},
                          {"block_sparse_moe.gate", "ffn_gate_inp"},
                          {"mlp.gate.", "ffn_gate_inp."},
                          {"mlp.gate_up_proj", "ffn_up"},
                          {"mlp.gate_proj", "ffn_gate"},
                          {"mlp.up_proj", "ffn_up"},
                          {"mlp.down_proj", "ffn_down"},
                          {"model.embed_tokens", "token_embd"},
                          {"model.norm", "output_norm"},
                          {"lm_head", "output"}});
}

// Experts stand one behind the other in one tensor: its name, or nothing.
std::string stacked_name(const std::string& hf) {
  const size_t experts = hf.find(".experts.");
  if (experts == std::string::npos) return {};
  const std::string which = hf.substr(hf.find('.', experts + 9) + 1);
  const bool gate = which.starts_with("w1") || which.starts_with("gate"),
             up = which.starts_with("w3") || which.starts_with("up");
  const std::string layer = hf.substr(13, hf.find('.', 13) - 13);  // behind "model.layers."
  return "blk." + layer + (gate ? ".ffn_gate" : up ? ".ffn_up" : ".ffn_down") + "_exps.weight";
}

// Rows (half, i) of each head become (i, half): neighbours are then what the interleaved rotation
// pairs.
void permute_rows(std::vector<float>* w, int64_t heads, int64_t d, int64_t k) {
  const std::vector<float> old = *w;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < d / 2; ++i) {
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t from = h * d + half * (d / 2) + i, to = h * d + 2 * i + half;
        std::copy(old.begin() + from * k, old.begin() + (from + 1) * k, w->begin() + to * k);
      }
    }
  }
}

class GgufModel : public testing::TestWithParam<const char*> {};

TEST_P(GgufModel, logits_equal_those_of_the_hugging_face_checkpoint) {
  const std::string folder = test::fixture(std::string("golden/arch/") + GetParam());
  const Json c = parse_json(read_text_file(folder + "/config.json", 1 << 20), "config.json");
  const Json golden = parse_json(read_text_file(folder + "/logits.json", 1 << 20), "logits.json");
  const std::string type = c["model_type"];
  const std::string family = type == "mixtral" ? "llama" : type == "qwen3_moe" ? "qwen3moe" : type;
  const uint32_t heads = c["num_attention_heads"], kv_heads = c["num_key_value_heads"],
                 hidden = c["hidden_size"];
  const uint32_t d = c.value("head_dim", hidden / heads);
  test::GgufBuilder b;
  b.pair("general.architecture", family);
  const auto key = [&](const char* name) { return family + "." + name; };
  b.pair(key("embedding_length"), hidden)
      .pair(key("context_length"), c["max_position_embeddings"].get<uint32_t>());
  b.pair(key("block_count"), c["num_hidden_layers"].get<uint32_t>())
      .pair(key("feed_forward_length"), c["intermediate_size"].get<uint32_t>());
  b.pair(key("attention.head_count"), heads).pair(key("attention.head_count_kv"), kv_heads);
  b.pair(key("attention.layer_norm_rms_epsilon"), c["rms_norm_eps"].get<float>())
      .pair(key("rope.freq_base"), c["rope_theta"].get<float>());
  b.pair(key("attention.key_length"), d).pair(key("attention.value_length"), d);
  if (type == "mixtral" || type == "qwen3_moe") {
    b.pair(key("expert_count"),
           c[type == "mixtral" ? "num_local_experts" : "num_experts"].get<uint32_t>())
        .pair(key("expert_used_count"), c["num_experts_per_tok"].get<uint32_t>());
  }
  if (type == "qwen3_moe")
    b.pair(key("expert_feed_forward_length"), c["moe_intermediate_size"].get<uint32_t>());
  std::map<std::string, std::pair<std::vector<uint64_t>, std::string>> stacked;
  for (const auto& t : test::tiny_tensors(c)) {
    std::vector<float> w = test::tiny_weights(t);
    const int64_t k = t.shape.size() > 1 ? t.shape[1] : 1;
    if (family == "llama" && t.name.find("q_proj") != std::string::npos)
      permute_rows(&w, heads, d, k);
    if (family == "llama" && t.name.find("k_proj") != std::string::npos)
      permute_rows(&w, kv_heads, d, k);
    std::vector<uint64_t> shape(t.shape.rbegin(), t.shape.rend());
    if (const std::string name = stacked_name(t.name); !name.empty()) {
      auto& [all, bytes] = stacked[name];
      if (all.empty()) all = {shape[0], shape[1], 0};
      ++all[2];
      bytes.append(reinterpret_cast<const char*>(w.data()), w.size() * 4);
      continue;
    }
    b.tensor(gguf_name(t.name), 0, shape,
             std::string(reinterpret_cast<const char*>(w.data()), w.size() * 4));
  }
  for (const auto& [name, tensor] : stacked) b.tensor(name, 0, tensor.first, tensor.second);
  const test::TemporaryFolder temporary;
  const std::string file = b.build();
  write_file(temporary.file("m.gguf"), std::as_bytes(std::span(file)));
  const auto source = open_model(temporary.file("m.gguf"));
  const Model model = load_model(*source);
  const auto executor = make_cpu_executor();
  const auto logits = window_logits(*executor, model, {golden["tokens"], golden["first_position"]});
  size_t i = 0;
  for (const auto& row : golden["logits"]) {
    for (const auto& v : row)
      ASSERT_NEAR(static_cast<double>(logits.at(i++)), v.get<double>(), 1e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GgufModel,
                         testing::Values("llama", "llama_tied", "llama_headdim", "qwen2", "qwen3",
                                         "phi3", "mixtral", "qwen3_moe"),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace pith
