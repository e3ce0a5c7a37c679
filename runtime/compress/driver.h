// The one loop of compression:
//
//   for each unit (tokenizer, embedding, every block, head):
//     journal has it?  skip it (and propagate through it)
//     else  load -> run and observe -> passes -> check -> write -> journal.commit
//     run again with the compressed weights
//   manifest, header, checksums read back, rename
//
// Same source, passes, calibration and seed: same bytes, for any number of threads and any
// interruption. Memory: the source's numbers of two blocks, one compressed block, calibration
// states, and 64 MiB; embedding and head stream.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/progress.h"
#include "runtime/compress/plan.h"

namespace pith {

struct CompressReport {
  uint64_t file_bytes = 0;
  double worst_error = 0;  // relative, over linears
  std::string worst_linear;
  int resumed_units = 0;
  std::vector<std::string> fallbacks;  // "layers.3.mlp.down: why"
  std::map<std::string, int> methods;  // what was done ("gptq", "rtn weighted by inputs"), to how
                                       // many linears
  std::vector<std::string> notes;      // worth telling: rows that are lost
  double check_kl = 0;                 // of the finished file against the source, on a few tokens
  int64_t check_tokens = 0;
  std::vector<std::pair<std::string, double>> seconds;  // by phase
};

CompressReport compress(const ModelSource& source, const Passes& passes,
                        const CompressOptions& options, Progress& progress = no_progress());

}  // namespace pith
