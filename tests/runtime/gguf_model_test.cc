// The same tiny models as GGUF files, renamed and permuted as the converters do it, give the same
// logits as transformers gave.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "core/json.h"
#include "runtime/cpu/cpu_executor.h"
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
           {"self_attn.q_a_proj", "attn_q_a"},
           {"self_attn.q_a_layernorm", "attn_q_a_norm"},
           {"self_attn.q_b_proj", "attn_q_b"},
           {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
           {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
           {"self_attn.kv_b_proj", "attn_kv_b"},
           {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
           {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
           {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
           {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
           {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
           {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
           {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
           {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
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

// What makes keys and values of latent vectors: by head, that of keys transposed, as newer files
// have it.
void add_latent(test::GgufBuilder* b, const test::TinyTensor& t, const Json& config) {
  const std::vector<float> w = test::tiny_weights(t);
  const size_t heads = config["num_attention_heads"], plain = config["qk_nope_head_dim"],
               value = config["v_head_dim"], rank = config["kv_lora_rank"];
  std::vector<float> keys, values;
  for (size_t h = 0; h < heads; ++h) {
    const float* const of_head = w.data() + h * (plain + value) * rank;
    for (size_t r = 0; r < rank; ++r)
      for (size_t i = 0; i < plain; ++i) keys.push_back(of_head[i * rank + r]);
    values.insert(values.end(), of_head + plain * rank, of_head + (plain + value) * rank);
  }
  const std::string layer = t.name.substr(13, t.name.find('.', 13) - 13);
  const auto bytes = [](const std::vector<float>& x) {
    return std::string(reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float));
  };
  b->tensor("blk." + layer + ".attn_k_b.weight", 0, {plain, rank, heads}, bytes(keys));
  b->tensor("blk." + layer + ".attn_v_b.weight", 0, {rank, value, heads}, bytes(values));
}

class GgufModel : public testing::TestWithParam<const char*> {};

TEST_P(GgufModel, logits_equal_those_of_the_hugging_face_checkpoint) {
  const std::string folder = test::fixture(std::string("golden/arch/") + GetParam());
  const Json c = parse_json(read_text_file(folder + "/config.json", 1 << 20), "config.json");
  const Json golden = parse_json(read_text_file(folder + "/logits.json", 1 << 20), "logits.json");
  const std::string type = c["model_type"];
  const std::string family = type == "mixtral"                ? "llama"
                             : type == "qwen3_moe"            ? "qwen3moe"
                             : type == "gemma3_text"          ? "gemma3"
                             : type == "gpt_oss"              ? "gpt-oss"
                             : type == "qwen2_moe"            ? "qwen2moe"
                             : type == "glm4_moe"             ? "glm4moe"
                             : type.starts_with("deepseek_v") ? "deepseek2"
                                                              : type;
  const bool gemma = family.starts_with("gemma"), gpt_oss = type == "gpt_oss",
             windows = gpt_oss || (gemma && family != "gemma"), latent = family == "deepseek2",
             deep = latent || type == "glm4_moe", post_norms = windows || type == "glm4_moe";
  const uint32_t heads = c["num_attention_heads"], kv_heads = c["num_key_value_heads"],
                 hidden = c["hidden_size"];
  const uint32_t d = c.value("head_dim", hidden / heads);
  test::GgufBuilder b;
  b.pair("general.architecture", family);
  const auto key = [&](const char* name) { return family + "." + name; };
  b.pair(key("embedding_length"), hidden)
      .pair(key("context_length"), c["max_position_embeddings"].get<uint32_t>());
  b.pair(key("block_count"), c["num_hidden_layers"].get<uint32_t>());
  // Some files have these for each layer; here the second layer of one has a wider MLP by zeros.
  constexpr uint32_t kWider = 16;
  const bool wider = std::string(GetParam()) == "llama_tied";
  const auto per_layer = [&](const char* name, uint32_t value) {
    if (type == "llama") {
      std::vector<uint32_t> values(c["num_hidden_layers"].get<size_t>(), value);
      if (wider && std::string_view(name) == "feed_forward_length") values.at(1) += kWider;
      b.array(key(name), values);
    } else {
      b.pair(key(name), value);
    }
  };
  per_layer("feed_forward_length", c["intermediate_size"].get<uint32_t>());
  per_layer("attention.head_count", heads);
  per_layer("attention.head_count_kv", kv_heads);
  b.pair(key("attention.layer_norm_rms_epsilon"), c["rms_norm_eps"].get<float>())
      .pair(key("rope.freq_base"), c["rope_theta"].get<float>());
  const bool qwen_moe = type == "qwen2_moe" || type == "qwen3_moe";
  // Older files have one tensor for keys and values, and sizes of heads under the plain names.
  const bool old = std::string(GetParam()) == "deepseek_v2";
  if (latent) {
    const uint32_t plain = c["qk_nope_head_dim"], rotated = c["qk_rope_head_dim"],
                   rank = c["kv_lora_rank"], value = c["v_head_dim"];
    b.pair(key("attention.kv_lora_rank"), rank).pair(key("rope.dimension_count"), rotated);
    b.pair(key("attention.key_length"), old ? plain + rotated : rank + rotated)
        .pair(key("attention.value_length"), old ? value : rank);
    if (!old)
      b.pair(key("attention.key_length_mla"), plain + rotated)
          .pair(key("attention.value_length_mla"), value);
    if (c["q_lora_rank"].is_number())
      b.pair(key("attention.q_lora_rank"), c["q_lora_rank"].get<uint32_t>());
    if (!c["rope_scaling"].is_null()) {
      const Json& scaling = c["rope_scaling"];
      b.pair(key("rope.scaling.type"), std::string("yarn"))
          .pair(key("rope.scaling.factor"), scaling["factor"].get<float>())
          .pair(key("rope.scaling.original_context_length"),
                scaling["original_max_position_embeddings"].get<uint32_t>())
          .pair(key("rope.scaling.yarn_log_multiplier"),
                0.1f * scaling["mscale_all_dim"].get<float>());
    }
  } else {
    b.pair(key("attention.key_length"), d).pair(key("attention.value_length"), d);
  }
  if (type == "glm4_moe") b.pair(key("rope.dimension_count"), d / 2);
  if (type == "mixtral" || qwen_moe || gpt_oss || deep) {
    b.pair(key("expert_count"), c[qwen_moe ? "num_experts"
                                  : deep   ? "n_routed_experts"
                                           : "num_local_experts"]
                                    .get<uint32_t>())
        .pair(key("expert_used_count"), c["num_experts_per_tok"].get<uint32_t>());
  }
  if (qwen_moe || deep)
    b.pair(key("expert_feed_forward_length"), c["moe_intermediate_size"].get<uint32_t>());
  if (type == "qwen2_moe")
    b.pair(key("expert_shared_feed_forward_length"),
           c["shared_expert_intermediate_size"].get<uint32_t>());
  if (deep) {
    const bool sigmoid = type != "deepseek_v2";
    b.pair(key("expert_shared_count"), c["n_shared_experts"].get<uint32_t>())
        .pair(key("expert_gating_func"), sigmoid ? 2u : 1u)
        .pair(key("expert_weights_norm"), c["norm_topk_prob"].get<bool>())
        .pair(key("expert_weights_scale"), c["routed_scaling_factor"].get<float>())
        .pair(key("expert_group_count"), c["n_group"].get<uint32_t>())
        .pair(key("expert_group_used_count"), c["topk_group"].get<uint32_t>());
  }
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
    if (t.name.find(".experts.gate_up_proj") != std::string::npos) {
      for (const int64_t part : {0, 1}) add_stacked(&b, t, part == 0 ? "gate" : "up", part, 2);
      continue;
    }
    if (t.name.find(".experts.down_proj") != std::string::npos) {
      add_stacked(&b, t, "down", 0, 1);
      continue;
    }
    if (!old && t.name.find("kv_b_proj") != std::string::npos) {
      add_latent(&b, t, c);
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
    if (wider && t.name.starts_with("model.layers.1.mlp.")) {
      const bool down = t.name.find("down_proj") != std::string::npos;
      for (auto row = t.shape[0]; down && row > 0; --row)
        w.insert(w.begin() + row * k, kWider, 0.f);
      shape[down ? 0 : 1] += kWider;
      w.resize(shape[0] * shape[1]);
    }
    if (t.name.find("shared_expert_gate") != std::string::npos) shape.pop_back();
    if (const std::string name = stacked_name(t.name); !name.empty()) {
      auto& [all, bytes] = stacked[name];
      if (all.empty()) all = {shape[0], shape[1], 0};
      ++all[2];
      bytes.append(reinterpret_cast<const char*>(w.data()), w.size() * 4);
      continue;
    }
    b.tensor(gguf_name(t.name, post_norms), 0, shape,
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
                                         "gemma3", "gpt_oss", "qwen2_moe", "deepseek_v2",
                                         "deepseek_v2_groups", "deepseek_v2_yarn", "deepseek_v3",
                                         "deepseek_v3_yarn", "glm4_moe", "glm4_moe_norms"),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace pith
