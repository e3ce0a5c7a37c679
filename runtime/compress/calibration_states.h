// Hidden states of the calibration windows between two sublayers: in the memory of the executor's
// algebra where that is one of its own and they take no more than a quarter of what is free there,
// else on the host, or in a scratch file (without a name) beside the output where they would take
// more than `memory` bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/cancel.h"
#include "core/file.h"
#include "runtime/algebra/algebra.h"
#include "runtime/forward/executor.h"
#include "runtime/model/source.h"

namespace pith {

class CalibrationStates {
 public:
  // Embeds the windows.
  CalibrationStates(Executor& executor, const proto::ModelSpec& spec, const Linear& embedding,
                    std::vector<std::vector<int32_t>> windows, uint64_t memory = UINT64_MAX,
                    const std::string& scratch_folder = "",
                    const CancelToken& cancel = CancelToken::never());

  size_t windows() const { return windows_.size(); }
  int64_t hidden() const { return static_cast<int64_t>(spec_.hidden()); }
  int64_t tokens(size_t window) const { return static_cast<int64_t>(windows_[window].size()); }
  uint64_t bytes() const { return bytes_; }
  bool in_file() const { return file_.is_open(); }

  void load(size_t window, std::vector<float>* to) const;
  // Into [tokens(window), hidden()] of the executor's algebra.
  void load(size_t window, MatrixRef<float> to) const;
  // Runs one window through a sublayer of a block; its state becomes the output if `keeps`. Returns
  // the output, which lies in TensorId::kHidden.
  Tensor run(Executor& executor, const Block& block, int sublayer, size_t window, bool keeps);
  // Runs all windows through all blocks of a model, which is loaded block by block.
  void run_all(Executor& executor, const ModelSource& source);

 private:
  void keep(size_t window, MatrixRef<const float> x);
  int64_t row_of(size_t window) const { return first_rows_[window]; }
  uint64_t offset_of(size_t window) const {
    return static_cast<uint64_t>(row_of(window) * hidden()) * sizeof(float);
  }

  const proto::ModelSpec& spec_;
  Algebra& algebra_;
  std::vector<std::vector<int32_t>> windows_;
  const CancelToken& cancel_;
  std::vector<int64_t> first_rows_;  // of windows in `near_`, `host_` or `file_`
  // [tokens of all windows, hidden], in one of:
  Matrix<float> near_;  // memory of the algebra that is not the host's
  Buffer<float> host_;
  File file_;
  uint64_t bytes_ = 0;
  mutable std::vector<float> scratch_;
  std::unique_ptr<KvCache> cache_;
  int cached_layer_ = -1, cached_sublayer_ = -1;
};

}  // namespace pith
