// What stands around the ids of a text: BOS, [CLS], EOS, [SEP].
#pragma once

#include <cstdint>
#include <vector>

namespace pith {

struct PostProcessor {
  std::vector<int32_t> before, after;
};

}  // namespace pith
