// Phi-3: q, k, v in one tensor, gate and up in one tensor; sliding window in every layer; rotation
// of a part of each head.

#include "core/error.h"
#include "runtime/model/arch/decoder.h"

namespace pith {

ImportedModel import_phi3_hf(const Checkpoint& checkpoint) {
  ImportedModel model;
  const Json c = read_hf_config(checkpoint, &model.notes);
  model.spec = decoder_spec_hf(checkpoint, c);
  for_each_attention(&model.spec, [&](int, proto::Attention* a) {
    a->set_window(json_uint(c, "sliding_window", kConfig, 0));
    const proto::RopeScaling scaling = a->rope().scaling();
    if (scaling != proto::ROPE_PLAIN && scaling != proto::ROPE_LONGROPE)
      fail(ErrorKind::kUnsupported, "{}: RoPE scaling other than longrope in this family", kConfig);
  });
  check_spec(model.spec, checkpoint.path);
  name_tensors_hf(checkpoint, &model, {.fused_qkv = true, .fused_gate_up = true});
  return model;
}

ImportedModel import_phi3_gguf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint)};
  name_tensors_gguf(&model, {.fused_qkv = true, .fused_gate_up = true});
  return model;
}

}  // namespace pith
