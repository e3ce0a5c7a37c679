#include "runtime/compress/calibration_states.h"

#include <algorithm>
#include <utility>

#include "runtime/forward/forward.h"

namespace pith {

CalibrationStates::CalibrationStates(Executor& executor, const proto::ModelSpec& spec,
                                     const Linear& embedding,
                                     std::vector<std::vector<int32_t>> windows, uint64_t memory,
                                     const std::string& scratch_folder, const CancelToken& cancel)
    : spec_(spec), algebra_(executor.algebra()), windows_(std::move(windows)), cancel_(cancel) {
  int64_t rows = 0;
  for (const auto& w : windows_) {
    first_rows_.push_back(rows);
    rows += static_cast<int64_t>(w.size());
  }
  bytes_ = static_cast<uint64_t>(rows * hidden()) * sizeof(float);
  if (const auto free = algebra_.free_bytes(); free && bytes_ <= *free / 4) {
    near_ = Matrix<float>(algebra_, rows, hidden());
  } else if (bytes_ > memory && !scratch_folder.empty()) {
    const std::string path = scratch_folder + "/calibration-states";
    syscalls().unlink(path.c_str());
    file_ = File::create(path);
    syscalls().unlink(path.c_str());  // gone with the process, however it ends
    file_.reserve(bytes_);
  } else {
    host_ = Buffer<float>(rows * hidden());
  }
  for (size_t i = 0; i < windows_.size(); ++i) {
    const Tensor x = executor.buffer(TensorId::kHidden, tokens(i), hidden());
    embed_tokens(executor, spec, embedding, windows_[i], x);
    keep(i, executor.view(x));
  }
}

void CalibrationStates::load(size_t window, std::vector<float>* to) const {
  to->resize(windows_[window].size() * static_cast<size_t>(hidden()));
  if (!near_.empty()) {
    algebra_.download(near_.row_block(row_of(window), tokens(window)), to->data());
  } else if (file_.is_open()) {
    file_.read(offset_of(window), std::as_writable_bytes(std::span(*to)));
  } else {
    const float* from = host_.data() + row_of(window) * hidden();
    std::copy(from, from + to->size(), to->begin());
  }
}

void CalibrationStates::load(size_t window, MatrixRef<float> to) const {
  if (!near_.empty()) return algebra_.copy(near_.row_block(row_of(window), tokens(window)), to);
  if (file_.is_open()) load(window, &scratch_);
  algebra_.upload(file_.is_open() ? scratch_.data() : host_.data() + row_of(window) * hidden(), to);
}

void CalibrationStates::keep(size_t window, MatrixRef<const float> x) {
  if (!near_.empty()) return algebra_.copy(x, near_.row_block(row_of(window), tokens(window)));
  if (!file_.is_open()) return algebra_.download(x, host_.data() + row_of(window) * hidden());
  scratch_.resize(static_cast<size_t>(x.rows * x.columns));
  algebra_.download(x, scratch_.data());
  file_.write(offset_of(window), std::as_bytes(std::span(scratch_)));
}

Tensor CalibrationStates::run(Executor& executor, const Block& block, int sublayer, size_t window,
                              bool keeps) {
  cancel_.check();
  // A model of this one sublayer, so that its cache has no other.
  const int64_t m = tokens(window);
  const auto& sub = spec_.layers(block.layer).sublayers(sublayer);
  if (!cache_ || cache_->length() < m || cached_layer_ != block.layer ||
      cached_sublayer_ != sublayer) {
    proto::ModelSpec alone;
    *alone.add_layers()->add_sublayers() = sub;
    cache_.reset();
    cache_ = executor.make_cache(alone, {1, m, NumberFormat::kF32});
    cached_layer_ = block.layer;
    cached_sublayer_ = sublayer;
  }
  const Tensor x = executor.buffer(TensorId::kHidden, m, hidden());
  load(window, executor.view(x));
  const Segment segment{0, 0, m};
  const Batch batch{windows_[window], std::span(&segment, 1)};
  forward_sublayer({executor, batch, *cache_}, sub, block.sublayers[static_cast<size_t>(sublayer)],
                   0, x);
  if (keeps) keep(window, executor.view(x));
  return x;
}

void CalibrationStates::run_all(Executor& executor, const ModelSource& source) {
  for (int l = 0; l < spec_.layers_size(); ++l) {
    const Block block = load_block(source, l);
    const WeightCacheScope held(executor);
    for (int s = 0; s < spec_.layers(l).sublayers_size(); ++s) {
      for (size_t w = 0; w < windows_.size(); ++w) run(executor, block, s, w, true);
    }
  }
}

}  // namespace pith
