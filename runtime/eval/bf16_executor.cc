#include "runtime/eval/bf16_executor.h"

namespace pith {

void Bf16Executor::run(const Op& op) {
  if (expand_composite(op, *this)) return;
  inner_.run(op);
  each_tensor(op, [&](Tensor x, Access access) {
    if (!writes(access)) return;
    host_.resize(static_cast<size_t>(x.m * x.n));
    inner_.read(x, host_);
    for (float& v : host_) v = bf16_to_f32(f32_to_bf16(v));
    inner_.write(host_, x);
  });
}

}  // namespace pith
