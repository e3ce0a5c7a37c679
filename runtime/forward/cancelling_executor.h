// An executor that asks a CancelToken before every operation: a pass over a long window stops
// within one operation of one layer, not at its end. The operations are the other's, with the same
// bits.
#pragma once

#include "core/cancel.h"
#include "runtime/forward/forwarding_executor.h"

namespace pith {

class CancellingExecutor final : public ForwardingExecutor {
 public:
  CancellingExecutor(Executor& inner, const CancelToken& cancel)
      : ForwardingExecutor(inner), cancel_(cancel) {}

  // Error(kCancelled) where the work shall stop. Composites go on whole: the other may fuse them.
  void run(const Op& op) override {
    cancel_.check();
    inner_.run(op);
  }

 private:
  const CancelToken& cancel_;
};

}  // namespace pith
