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

std::string gguf_name(const std::string& hf, bool attention_post_norm) {
  return replace_all(
      hf, {{"model.layers.", "blk."},
           {"self_attn.qkv_proj", "attn_qkv"},
           {"self_attn.q_proj", "attn_q"},
           {"self_attn.k_proj", "attn_k"},
           {"self_attn.v_proj", "attn_v"},
           {"self_attn.o_proj", "attn_output"},
           {"self_attn.q_norm", "attn_q_norm"},
           {"self_attn.k_norm", "attn_k_norm"},
           {"pre_feedforward_layernorm", "ffn_norm"},
           {"post_feedforward_layernorm", "post_ffw_norm"},
           {"post_attention_layernorm", attention_post_norm ? "post_attention_norm" : "ffn_norm"},
           {"input_layernorm", "attn_norm"},
           {"block_sparse_moe.gate", "ffn_gate_inp"},
           {"mlp.gate.", "ffn_gate_inp."},
           {"mlp.router", "ffn_gate_inp"},
           {"self_attn.sinks", "attn_sinks.weight"},
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

// Every `step`-th row of the experts of gpt-oss from `first` on, in MXFP4, or their biases.
void add_stacked(test::GgufBuilder* b, const test::TinyTensor& t, const std::string& part,
                 int64_t first, int64_t step) {
  const std::string layer = t.name.substr(13, t.name.find('.', 13) - 13);
  const std::string name = "blk." + layer + ".ffn_" + part + "_exps";
  const auto rows = static_cast<size_t>(t.shape[0] * t.shape[1]);
  const auto of_expert = static_cast<uint64_t>(t.shape[1] / step);
  const auto experts = static_cast<uint64_t>(t.shape[0]);
  std::string bytes;
  if (t.shape.size() == 2) {
    const std::vector<float> w = test::tiny_weights(t);
    for (auto r = static_cast<size_t>(first); r < rows; r += static_cast<size_t>(step))
      bytes.append(reinterpret_cast<const char*>(&w[r]), sizeof(float));
    b->tensor(name + ".bias", 0, {of_expert, experts}, bytes);
    return;
  }
  const test::TinyMx mx = test::tiny_mx(t);
  const auto k = static_cast<size_t>(t.shape[2]);
  for (auto r = static_cast<size_t>(first); r < rows; r += static_cast<size_t>(step)) {
    for (size_t g = r * k / 32; g < (r + 1) * k / 32; ++g) {
      bytes += static_cast<char>(mx.scales[g]);
      for (size_t i = 0; i < 16; ++i)
        bytes += static_cast<char>(mx.codes[32 * g + i] | mx.codes[32 * g + i + 16] << 4);
    }
  }
  b->tensor(name + ".weight", 39, {k, of_expert, experts}, bytes);
}

class GgufModel : public testing::TestWithParam<const char*> {};

TEST_P(GgufModel, logits_equal_those_of_the_hugging_face_checkpoint) {
  const std::string folder = test::fixture(std::string("golden/arch/") + GetParam());
  const Json c = parse_json(read_text_file(folder + "/config.json", 1 << 20), "config.json");
  const Json golden = parse_json(read_text_file(folder + "/logits.json", 1 << 20), "logits.json");
  const std::string type = c["model_type"];
  const std::string family = type == "mixtral"       ? "llama"
                             : type == "qwen3_moe"   ? "qwen3moe"
                             : type == "gemma3_text" ? "gemma3"
                             : type == "gpt_oss"     ? "gpt-oss"
                                                     : type;
  const bool gemma = family.starts_with("gemma"), gpt_oss = type == "gpt_oss",
             windows = gpt_oss || (gemma && family != "gemma");
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
  if (type == "mixtral" || type == "qwen3_moe" || gpt_oss) {
    b.pair(key("expert_count"),
           c[type != "qwen3_moe" ? "num_local_experts" : "num_experts"].get<uint32_t>())
        .pair(key("expert_used_count"), c["num_experts_per_tok"].get<uint32_t>());
  }
  if (type == "qwen3_moe")
    b.pair(key("expert_feed_forward_length"), c["moe_intermediate_size"].get<uint32_t>());
  if (gpt_oss) {
    const Json& scaling = c["rope_scaling"];
    b.pair(key("rope.scaling.type"), std::string("yarn"))
        .pair(key("rope.scaling.factor"), scaling["factor"].get<float>())
        .pair(key("rope.scaling.original_context_length"),
              scaling["original_max_position_embeddings"].get<uint32_t>());
  }
  if (windows) b.pair(key("attention.sliding_window"), c["sliding_window"].get<uint32_t>());
  if (family == "gemma2") {
    b.pair(key("attn_logit_softcapping"), c["attn_logit_softcapping"].get<float>())
        .pair(key("final_logit_softcapping"), c["final_logit_softcapping"].get<float>());
  }
  if (family == "gemma3") {
    b.pair(key("attention.sliding_window_pattern"), c["sliding_window_pattern"].get<uint32_t>())
        .pair(key("rope.freq_base_swa"), c["rope_local_base_freq"].get<float>())
        .pair(key("rope.scaling.type"), std::string("linear"))
        .pair(key("rope.scaling.factor"), c["rope_scaling"]["factor"].get<float>());
  }
  std::map<std::string, std::pair<std::vector<uint64_t>, std::string>> stacked;
  for (const auto& t : test::tiny_tensors(c)) {
    if (t.name.find("experts.gate_up_proj") != std::string::npos) {
      for (const int64_t part : {0, 1}) add_stacked(&b, t, part == 0 ? "gate" : "up", part, 2);
      continue;
    }
    if (t.name.find("experts.down_proj") != std::string::npos) {
      add_stacked(&b, t, "down", 0, 1);
      continue;
    }
    std::vector<float> w = test::tiny_weights(t);
    if (gemma && t.name.ends_with("norm.weight")) {
      for (float& v : w) v += 1;
    }
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
    b.tensor(gguf_name(t.name, windows), 0, shape,
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
                                         "phi3", "mixtral", "qwen3_moe", "gemma", "gemma2",
                                         "gemma3", "gpt_oss"),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace pith
