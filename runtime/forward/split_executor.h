// A model over two executors: the first layers on one, the last and the head on the other. What
// goes from layer to layer is copied where they meet; each has the keys and values of its layers.
// Work beside the operations (view(), algebra()) is done in the memory of the last one.
#pragma once

#include "runtime/forward/executor.h"

namespace pith {

// The last `layers` layers, and the head where there are any, on `last`; all others, and the
// embedding where that is not all, on `first`.
std::unique_ptr<Executor> make_split_executor(std::unique_ptr<Executor> first,
                                              std::unique_ptr<Executor> last, int64_t layers);

}  // namespace pith
