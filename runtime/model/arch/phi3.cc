// Phi-3: q, k, v in one tensor, gate and up in one tensor; sliding window in every layer; rotation
// of a part of each head.

#include "runtime/model/arch/decoder.h"

namespace pith {

ImportedModel import_phi3_hf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_hf(checkpoint), .tensors = {}};
  const uint64_t window = json_uint(checkpoint.config, "sliding_window", "config.json", 0);
  for_each_attention(&model.spec, [&](int, proto::Attention* a) { a->set_window(window); });
  name_tensors_hf(checkpoint, &model, {.fused_qkv = true, .fused_gate_up = true});
  return model;
}

ImportedModel import_phi3_gguf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint), .tensors = {}};
  name_tensors_gguf(&model, {.fused_qkv = true, .fused_gate_up = true});
  return model;
}

}  // namespace pith
