#include "runtime/compress/calibration.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/rounded_inputs.h"
#include "runtime/cuda/gpu_algebra.h"
#include "runtime/forward/forward.h"

namespace pith {
namespace {

std::string of_expert(const std::string& linear) {  // "layers.3.mlp.experts.7."
  return linear.substr(0, linear.rfind('.') + 1);
}

// Gives the inputs of linears away: of one or one of each of some heads, and does nothing from the
// last on if `stop`; or of one of each of some experts of a mixture, and runs no more of that than
// it takes.
class InputCapture final : public ForwardingExecutor {
 public:
  InputCapture(Executor& inner, std::span<const std::string> names, bool stop)
      : ForwardingExecutor(inner), names_(names), stop_(stop) {
    if (names.front().find(".experts.") == std::string::npos) return;
    for (const auto& n : names) experts_.insert(of_expert(n));
  }

  // Runs `pass`, which is to come to the linears, and calls take(which, input) there. Experts may
  // get none.
  void run(FunctionRef<void()> pass, FunctionRef<void(size_t, Activation)> take) {
    take_ = &take;
    taken_ = 0;
    done_ = false;
    pass();
    if (taken_ < names_.size() && experts_.empty())
      fail(ErrorKind::kUsage, "{} did not run on the calibration text", names_.front());
  }

  void norm(const NormWeights& norm, Activation x, Activation y, bool add) override {
    if (!done_) inner_.norm(norm, x, y, add);
  }
  void linear(const Linear& linear, Activation x, Activation y, bool add) override {
    if (done_) return;
    const auto found = std::ranges::find(names_, linear.name);
    if (found == names_.end()) return inner_.linear(linear, x, y, add);
    (*take_)(static_cast<size_t>(found - names_.begin()), x);
    ++taken_;
    done_ = stop_ && (taken_ == names_.size() || !experts_.empty());
    if (!stop_) inner_.linear(linear, x, y, add);
  }
  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override {
    if (!done_) inner_.rope(rope, head_dim, batch, x);
  }
  void attention(const proto::Attention& spec, const FloatVector& sinks, int index,
                 const Batch& batch, KvCache& cache, Activation q, Activation k, Activation v,
                 Activation out) override {
    if (!done_) inner_.attention(spec, sinks, index, batch, cache, q, k, v, out);
  }
  void activate(proto::Activation activation, Activation gate, Activation up) override {
    if (!done_) inner_.activate(activation, gate, up);
  }
  void moe(const proto::Moe& spec, const MoeWeights& weights, Activation x, Activation y) override {
    if (done_) return;
    if (experts_.empty()) return Executor::moe(spec, weights, x, y);
    const std::vector<ExpertTokens> tokens = route_rows(spec, weights, x);
    for (size_t e = 0; e < tokens.size(); ++e) {
      if (!experts_.contains(of_expert(weights.experts[e].up.name))) continue;
      done_ = false;
      run_expert(spec.expert(), weights.experts[e], tokens[e], x, y);
    }
    done_ = true;
  }
  void gather(Activation x, std::span<const int64_t> rows, Activation y) override {
    if (!done_) inner_.gather(x, rows, y);
  }
  void add_rows(Activation x, std::span<const int64_t> rows, std::span<const float> weights,
                Activation y) override {
    if (!done_) inner_.add_rows(x, rows, weights, y);
  }
  void add_gated(Activation x, Activation gate, Activation y) override {
    if (!done_) inner_.add_gated(x, gate, y);
  }
  void copy_columns(Activation x, int64_t from, Activation y, int64_t to, int64_t count) override {
    if (!done_) inner_.copy_columns(x, from, y, to, count);
  }

 private:
  const std::span<const std::string> names_;
  std::set<std::string> experts_;
  const FunctionRef<void(size_t, Activation)>* take_ = nullptr;
  size_t taken_ = 0;
  bool stop_, done_ = false;
};

void check_finite_input(const std::string& name, size_t channel, double squares) {
  if (!std::isfinite(squares))
    fail(ErrorKind::kNumeric, "{}: its input {} is not finite on the calibration text", name,
         channel);
}

constexpr int64_t kTile = 192;  // of a Gram matrix; 16 tiles of rows and 6 panels of the kernel

// Statistics of inputs while tokens come; they grow on the executor's GPU where it has one.
class Statistics {
 public:
  Statistics(Executor& executor, const std::string& name, const StatisticsNeeds& needs, int64_t k,
             int64_t hidden = 0)
      : name_(name), needs_(needs), k_(k), hidden_(hidden), device_(executor.gpu()) {
    if (device_ == nullptr) return;
    squares_ = GpuMatrix<double>(*device_, 1, k);
    absmax_ = GpuMatrix<float>(*device_, 1, k);
    if (needs.gram) gram_.emplace(*device_, k, k);
    if (needs.cross) cross_.emplace(*device_, k, k);
    if (needs.cross && hidden > 0) residual_.emplace(*device_, hidden, k);
  }

  // As InputStatistics::add; all here.
  void add(int64_t m, const float* x, const float* change = nullptr,
           const float* missing = nullptr) {
    if (device_ == nullptr) return so_far_.add(name_, needs_, m, k_, x, change, missing, hidden_);
    add_on_gpu(m, upload(&x_, x, m * k_), change ? upload(&change_, change, m * k_) : nullptr,
               missing ? upload(&missing_, missing, m * hidden_) : nullptr);
  }
  // All on the GPU.
  void add_on_gpu(int64_t m, const float* x, const float* change, const float* missing) {
    int64_t& before = so_far_.tokens;
    const double all = static_cast<double>(before + m);
    device_->run(&cuda::Ops::channel_sums, {x, m, k_, static_cast<double>(before) / all, 1 / all,
                                            squares_.data(), absmax_.data()});
    if (gram_) gram_->add(before, m, x, x);
    if (cross_ && change != nullptr) cross_->add(before, m, change, x);
    if (residual_ && missing != nullptr) residual_->add(before, m, missing, x);
    before += m;
  }
  InputStatistics finish() {
    if (device_ == nullptr || so_far_.tokens == 0) return std::move(so_far_);
    const auto k = static_cast<size_t>(k_);
    so_far_.mean_square.resize(k);
    so_far_.absmax.resize(k);
    device_->download(so_far_.mean_square.data(), squares_.data(), squares_.buffer.bytes());
    device_->download(so_far_.absmax.data(), absmax_.data(), absmax_.buffer.bytes());
    for (size_t c = 0; c < k; ++c) check_finite_input(name_, c, so_far_.mean_square[c]);
    if (gram_) gram_->read(&so_far_.gram);
    if (cross_) cross_->read(&so_far_.cross);
    if (residual_) residual_->read(&so_far_.residual);
    return std::move(so_far_);
  }

 private:
  const float* upload(GpuBuffer* to, const float* from, int64_t n) {
    const uint64_t bytes = static_cast<uint64_t>(n) * sizeof(float);
    to->require(*device_, bytes);
    device_->upload(to->data(), from, bytes);
    return to->data<float>();
  }

  const std::string& name_;
  StatisticsNeeds needs_;
  int64_t k_, hidden_;
  GpuDevice* device_;
  InputStatistics so_far_;
  GpuMatrix<double> squares_;
  GpuMatrix<float> absmax_;
  std::optional<GpuProductMean> gram_, cross_, residual_;
  GpuBuffer x_, change_, missing_;
};

// The inputs of some windows, one after the other: here, or where the executor has them.
class Inputs {
 public:
  Inputs(Executor& executor, bool on_gpu)
      : executor_(executor), device_(on_gpu ? executor.gpu() : nullptr) {}

  void append(Activation x) {
    if (device_ == nullptr) {
      const size_t before = here_.size();
      here_.resize(before + static_cast<size_t>(x.m * x.n));
      executor_.read(x, std::span(here_).subspan(before));
      return;
    }
    const auto bytes = static_cast<uint64_t>(x.m * x.n) * sizeof(float);
    there_.require(*device_, bytes);
    device_->copy(there_.data(), x.data, bytes);
  }
  // All n numbers less others.
  void subtract(const Inputs& other, int64_t n) {
    if (device_ != nullptr)
      return device_->run(&cuda::Ops::add_scaled, {other.data(), -1, n, there_.data<float>()});
    parallel_ranges(n, 1 << 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) here_[static_cast<size_t>(i)] -= other.data()[i];
    });
  }
  // States of a window less others.
  void append_difference(const CalibrationStates& a, const CalibrationStates& b, size_t window) {
    const int64_t n = a.tokens(window) * static_cast<int64_t>(a.hidden());
    const float *const first = a.on_gpu(window), *const second = b.on_gpu(window);
    if (device_ != nullptr && first != nullptr && second != nullptr) {
      there_.require(*device_, static_cast<uint64_t>(n) * sizeof(float));
      device_->copy(there_.data(), first, static_cast<uint64_t>(n) * sizeof(float));
      device_->run(&cuda::Ops::add_scaled, {second, -1, n, there_.data<float>()});
      return;
    }
    a.load(window, &minuend_);
    b.load(window, &subtrahend_);
    for (size_t i = 0; i < minuend_.size(); ++i) minuend_[i] -= subtrahend_[i];
    if (device_ == nullptr) {
      here_.insert(here_.end(), minuend_.begin(), minuend_.end());
    } else {
      there_.require(*device_, static_cast<uint64_t>(n) * sizeof(float));
      device_->upload(there_.data(), minuend_.data(), static_cast<uint64_t>(n) * sizeof(float));
    }
  }
  void clear() { here_.clear(); }
  std::vector<float>& here() { return here_; }
  const float* data() const { return device_ != nullptr ? there_.data<float>() : here_.data(); }

 private:
  Executor& executor_;
  GpuDevice* device_;
  std::vector<float> here_, minuend_, subtrahend_;
  GpuBuffer there_;  // the latest alone
};

std::span<float> sized(std::vector<float>& v, size_t n) {
  v.resize(n);
  return v;
}

// mean = mean * keep + a^T b * add for the tile at (row, column) of [n, k]; a [m, n], b [m, k]
void add_tile(int64_t m, int64_t n, int64_t k, const float* a, const float* b, int64_t row,
              int64_t column, float keep, float add, float* mean) {
  constexpr int64_t kDepth = 256, kStride = kDepth + 16;  // off a power of two: lines of their own
  thread_local Buffer<float> transposed, panel, product;
  const int64_t rows = std::min(kTile, n - row), columns = std::min(kTile, k - column);
  transposed.require(kTile * kStride);
  panel.require(32 * kDepth);
  product.require(kTile * kTile);
  for (int64_t t0 = 0; t0 < m; t0 += kDepth) {
    const int64_t depth = std::min(kDepth, m - t0);
    for (int64_t t = 0; t < depth; ++t) {
      const float* from = a + (t0 + t) * n + row;
      for (int64_t i = 0; i < rows; ++i) transposed[i * kStride + t] = from[i];
    }
    for (int64_t j = 0; j < columns; j += 32) {
      const int64_t width = std::min<int64_t>(32, columns - j);
      for (int64_t t = 0; t < depth; ++t) {
        const float* from = b + (t0 + t) * k + column + j;
        std::copy(from, from + width, panel.data() + t * 32);
      }
      cpu_kernels().gemm(rows, width, depth, transposed.data(), kStride, panel.data(), 32,
                         product.data() + j, kTile, t0 > 0);
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    float* to = mean + (row + i) * k + column;
    for (int64_t j = 0; j < columns; ++j) to[j] = to[j] * keep + product[i * kTile + j] * add;
  }
}

// mean [n, k] of a^T b over `before` tokens takes in m more. Where a is b, only the upper triangle
// is worked out, and copied to the lower one.
void add_products(int64_t before, int64_t m, int64_t n, int64_t k, const float* a, const float* b,
                  Buffer<float>* mean) {
  if (mean->size() != n * k) *mean = Buffer<float>(n * k);
  const bool symmetric = a == b;
  const double all = static_cast<double>(before + m);
  const auto keep = static_cast<float>(static_cast<double>(before) / all),
             add = static_cast<float>(1 / all);
  const int64_t across = ceil_div(k, kTile);
  parallel_for(ceil_div(n, kTile) * across, [&](int64_t i) {
    const int64_t row = i / across * kTile, column = i % across * kTile;
    if (symmetric && column < row) return;
    add_tile(m, n, k, a, b, row, column, keep, add, mean->data());
    if (!symmetric) return;
    for (int64_t r = row; r < std::min(n, row + kTile); ++r) {
      for (int64_t c = std::max(r, column); c < std::min(k, column + kTile); ++c)
        (*mean)[c * k + r] = (*mean)[r * k + c];
    }
  });
}

}  // namespace

void InputStatistics::add(const std::string& name, const StatisticsNeeds& needs, int64_t m,
                          int64_t k, const float* x, const float* change, const float* missing,
                          int64_t hidden) {
  mean_square.resize(static_cast<size_t>(k));
  absmax.resize(static_cast<size_t>(k));
  const auto before = static_cast<double>(tokens), after = static_cast<double>(tokens + m);
  // Columns are shared out; each is summed over its rows in order.
  parallel_ranges(k, 64, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      double sum = 0;
      float largest = absmax[static_cast<size_t>(c)];
      for (int64_t r = 0; r < m; ++r) {
        const float v = x[r * k + c];
        sum += static_cast<double>(v) * static_cast<double>(v);
        largest = std::max(largest, std::fabs(v));
      }
      check_finite_input(name, static_cast<size_t>(c), sum);
      double& mean = mean_square[static_cast<size_t>(c)];
      mean = mean * (before / after) + sum / after;
      absmax[static_cast<size_t>(c)] = largest;
    }
  });
  if (needs.gram) add_products(tokens, m, k, k, x, x, &gram);
  if (needs.cross && change != nullptr) add_products(tokens, m, k, k, change, x, &cross);
  if (needs.cross && missing != nullptr) add_products(tokens, m, hidden, k, missing, x, &residual);
  tokens += m;
}

std::vector<Stage> stages_of(const proto::ModelSpec& spec, int layer) {
  std::vector<Stage> stages;
  const auto input_of = [&](const LinearInfo& info) {  // the same number: the same input
    switch (info.role) {
      case LinearRole::kOutput:
      case LinearRole::kDown:
        return 1;
      case LinearRole::kKeyUp:
        return 2;
      case LinearRole::kValueUp:
        return 3;
      default:
        return reads_stream(spec, info) ? 0 : 4;
    }
  };
  for (const auto& info : linears_of(spec, layer)) {
    if (stages.empty() || stages.back().sublayer != info.sublayer ||
        stages.back().linears.front().part() != info.part() ||
        input_of(stages.back().linears.front()) != input_of(info)) {
      stages.push_back({info.sublayer, {}});
    }
    stages.back().linears.push_back(info);
  }
  // Of a mixture, all that reads its input comes first.
  std::ranges::stable_sort(stages, {}, [&](const Stage& stage) {
    const LinearInfo& first = stage.linears.front();
    return std::pair(stage.sublayer, first.expert >= 0 ? input_of(first) : 0);
  });
  return stages;
}

CalibrationStates::CalibrationStates(Executor& executor, const proto::ModelSpec& spec,
                                     const Linear& embedding,
                                     std::vector<std::vector<int32_t>> windows, uint64_t memory,
                                     const std::string& scratch_folder, const CancelToken& cancel)
    : spec_(spec), windows_(std::move(windows)), cancel_(cancel) {
  const auto hidden = static_cast<int64_t>(spec.hidden());
  for (const auto& w : windows_) {
    offsets_.push_back(bytes_);
    bytes_ += w.size() * static_cast<uint64_t>(hidden) * sizeof(float);
  }
  GpuDevice* const device = executor.gpu();
  if (device != nullptr && bytes_ <= device->free_bytes() / 4) {
    device_ = device;
    gpu_ = GpuBuffer(*device, bytes_);
  } else if (bytes_ > memory && !scratch_folder.empty()) {
    const std::string path = scratch_folder + "/calibration-states";
    syscalls().unlink(path.c_str());
    file_ = File::create(path);
    syscalls().unlink(path.c_str());  // gone with the process, however it ends
    file_.reserve(bytes_);
  } else {
    memory_ = Buffer<float>(static_cast<int64_t>(bytes_ / sizeof(float)));
  }
  for (size_t i = 0; i < windows_.size(); ++i) {
    const Activation x = executor.buffer(Slot::kHidden, tokens(i), hidden);
    embed_tokens(executor, spec, embedding, windows_[i], x);
    keep(executor, i, x);
  }
}

void CalibrationStates::load(size_t window, std::vector<float>* to) const {
  to->resize(windows_[window].size() * spec_.hidden());
  if (device_ != nullptr) {
    device_->download(to->data(), on_gpu(window), to->size() * sizeof(float));
  } else if (file_.is_open()) {
    file_.read(offsets_[window], std::as_writable_bytes(std::span(*to)));
  } else {
    const float* from = memory_.data() + offsets_[window] / sizeof(float);
    std::copy(from, from + to->size(), to->begin());
  }
}
void CalibrationStates::keep(Executor& executor, size_t window, Activation x) {
  if (device_ != nullptr)
    return device_->copy(on_gpu(window), x.data, static_cast<uint64_t>(x.m * x.n) * sizeof(float));
  state_.resize(static_cast<size_t>(x.m * x.n));
  executor.read(x, state_);
  if (file_.is_open()) {
    file_.write(offsets_[window], std::as_bytes(std::span(state_)));
  } else {
    std::ranges::copy(state_, memory_.data() + offsets_[window] / sizeof(float));
  }
}

Activation CalibrationStates::run(Executor& executor, const Block& block, int sublayer,
                                  size_t window, bool keeps) {
  cancel_.check();
  // A model of this one sublayer, so that its cache has no other.
  const int64_t m = tokens(window);
  const auto& sub = spec_.layers(block.layer).sublayers(sublayer);
  if (!cache_ || cache_->length() < m || cached_layer_ != block.layer ||
      cached_sublayer_ != sublayer) {
    proto::ModelSpec alone;
    *alone.add_layers()->add_sublayers() = sub;
    cache_.reset();
    cache_ = executor.make_cache(alone, 1, m, KvType::kF32);
    cached_layer_ = block.layer;
    cached_sublayer_ = sublayer;
  }
  const Activation x = executor.buffer(Slot::kHidden, m, static_cast<int64_t>(spec_.hidden()));
  if (device_ != nullptr) {
    device_->copy(x.data, on_gpu(window), static_cast<uint64_t>(x.m * x.n) * sizeof(float));
  } else {
    load(window, &state_);
    executor.write(state_, x);
  }
  const Segment segment{0, 0, m};
  forward_sublayer(executor, sub, block.sublayers[static_cast<size_t>(sublayer)], 0,
                   {windows_[window], std::span(&segment, 1)}, *cache_, x);
  if (keeps) keep(executor, window, x);
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

// Of an expert or a head, the same linear of as many behind it as there is room for the statistics
// of: they take the same pass over the text.
std::vector<std::string> Calibration::names_together(const Stage& stage) const {
  const LinearInfo& info = stage.linears.front();
  std::vector<std::string> names = {info.name};
  if (info.part() < 0) return names;
  const auto& sublayer = block_->sublayers[static_cast<size_t>(info.sublayer)];
  const size_t parts =
      info.expert >= 0 ? sublayer.moe->experts.size() : sublayer.attention->latent->k_up.size();
  const auto bytes = static_cast<uint64_t>(info.k * info.k) * sizeof(float);
  LinearInfo next = info;
  int& part = info.expert >= 0 ? next.expert : next.head;
  for (uint64_t i = 1; (i + 1) * bytes <= kStatisticsAhead; ++i) {
    if (static_cast<size_t>(++part) >= parts) break;
    names.push_back(find_linear(*block_, next).name);
  }
  return names;
}

InputStatistics Calibration::inputs(const Stage& stage, const StatisticsNeeds& needs, bool held_out,
                                    const InputEncoding& rounding) {
  const std::string& name = stage.linears.front().name;
  const Ahead::Key key{needs, held_out, rounding};
  for (auto& ahead : ahead_) {
    const auto known = ahead.statistics.find(name);
    if (!(ahead.key == key) || known == ahead.statistics.end()) continue;
    InputStatistics found = std::move(known->second);
    ahead.statistics.erase(known);
    return found;
  }
  const std::vector<std::string> names = names_together(stage);
  std::vector<InputStatistics> all = run_for(stage, names, needs, held_out, rounding);
  if (names.size() > 1) {
    std::erase_if(ahead_, [&](const Ahead& a) { return a.key == key; });
    ahead_.push_back({key, {}});
    for (size_t i = 1; i < names.size(); ++i)
      ahead_.back().statistics[names[i]] = std::move(all[i]);
  }
  return std::move(all.front());
}

std::vector<InputStatistics> Calibration::run_for(const Stage& stage,
                                                  std::span<const std::string> names,
                                                  const StatisticsNeeds& needs, bool held_out,
                                                  const InputEncoding& rounding) {
  const Phases::Scope phase(phases_, "inputs");
  constexpr int64_t kTokens = 1024;  // that go into a Gram matrix at a time
  const Block& block = options_.sequential ? *block_ : *original_;
  // The uncompressed model sends an expert other tokens; heads are taken many at a time.
  const bool cross = needs.cross && originals_ != nullptr && stage.linears.front().part() < 0;
  const LinearRole role = stage.linears.front().role;
  const bool ends = role == LinearRole::kOutput || role == LinearRole::kDown;
  // What goes through a norm is not what is missing in the hidden states.
  const bool adds =
      ends && block.sublayers[static_cast<size_t>(stage.sublayer)].post_norm.spec.kind() ==
                  proto::NORM_NONE;
  const auto hidden = static_cast<int64_t>(states_.hidden());
  StatisticsNeeds wanted = needs;
  wanted.cross = cross;
  // On a GPU they go in window by window from where they are, unless they are to be rounded.
  const bool stays = executor_.gpu() != nullptr && !rounding.rounds();
  struct Taking {
    Statistics out;
    Inputs x, original, missing;
    int64_t rows = 0;
  };
  std::vector<Taking> taking;
  taking.reserve(names.size());
  for (const auto& name : names) {
    taking.push_back({Statistics(executor_, name, wanted, stage.k(), cross && adds ? hidden : 0),
                      Inputs(executor_, stays), Inputs(executor_, stays),
                      Inputs(executor_, stays)});
  }
  RoundedInputs rounded;
  const auto flush = [&](Taking& t) {
    if (t.rows > 0) {
      const Phases::Scope gram(phases_, "Gram matrices");
      if (cross) t.original.subtract(t.x, t.rows * stage.k());
      const float* const change = cross ? t.original.data() : nullptr;
      const float* const of_missing = cross && adds ? t.missing.data() : nullptr;
      if (stays) {
        t.out.add_on_gpu(t.rows, t.x.data(), change, of_missing);
      } else {
        t.out.add(t.rows, t.x.data(), change, of_missing);
      }
    }
    for (Inputs* i : {&t.x, &t.original, &t.missing}) i->clear();
    t.rows = 0;
  };
  InputCapture capture(executor_, names, true), watch(executor_, names, false);
  const WeightCacheScope held(executor_);
  for (size_t w = 0; w < states_.windows(); ++w) {
    if (is_held_out(w) != held_out) continue;
    capture.run([&] { states_.run(capture, block, stage.sublayer, w, false); },
                [&](size_t which, Activation a) {
                  Taking& t = taking[which];
                  if (stays || t.rows + a.m > kTokens) flush(t);
                  t.x.append(a);
                  if (rounding.rounds()) {
                    float* const these = t.x.here().data() + t.rows * stage.k();
                    rounded.set(rounding, these, a.m, stage.k());
                    std::copy(rounded.values(), rounded.values() + a.m * stage.k(), these);
                  }
                  t.rows += a.m;
                });
    if (!cross) continue;
    Taking& t = taking.front();
    if (adds) t.missing.append_difference(*originals_, states_, w);
    // The last stage of a sublayer: nobody asks for these states again. (A rewritten original would
    // round in other places than the source, and a resumed run knows the source alone.)
    const bool last = ends && !rewritten_;
    if (originals_ahead_.contains(w))
      fail(ErrorKind::kUsage, "{}: inputs of the uncompressed model were taken before",
           names.front());
    InputCapture& by = last ? watch : capture;
    by.run([&] { originals_->run(by, *original_, stage.sublayer, w, last); },
           [&](size_t, Activation a) { t.original.append(a); });
    if (last) originals_ahead_.insert(w);
  }
  std::vector<InputStatistics> all;
  for (Taking& t : taking) {
    flush(t);
    all.push_back(t.out.finish());
  }
  return all;
}

InputStatistics head_inputs(Executor& executor, const ModelSource& source,
                            const std::vector<std::vector<int32_t>>& windows, int64_t tokens,
                            const StatisticsNeeds& needs) {
  const auto& spec = source.spec();
  std::vector<std::vector<int32_t>> some;
  int64_t taken = 0;
  for (size_t i = 0; i < windows.size() && taken < tokens; ++i) {
    some.push_back(windows[i]);
    taken += static_cast<int64_t>(windows[i].size());
  }
  CalibrationStates states(executor, spec, source.linear(linears_of(spec).front()), some);
  states.run_all(executor, source);
  const auto hidden = static_cast<int64_t>(spec.hidden());
  const NormWeights norm = load_final_norm(source);
  const std::string name = "head";
  Statistics out(executor, name, needs, hidden);
  std::vector<float> x;
  for (size_t w = 0; w < some.size(); ++w) {
    states.load(w, &x);
    const Activation at = executor.buffer(Slot::kHidden, states.tokens(w), hidden);
    executor.write(x, at);
    if (norm.spec.kind() != proto::NORM_NONE) executor.norm(norm, at, at, false);
    executor.read(at, x);
    out.add(states.tokens(w), x.data());
  }
  return out.finish();
}

void Calibration::advance(const Block& block, const Block& loaded, int sublayer) {
  const Phases::Scope phase(phases_, "propagation");
  const WeightCacheScope held(executor_);
  for (size_t w = 0; w < states_.windows(); ++w) {
    states_.run(executor_, block, sublayer, w, true);
    if (originals_ != nullptr && !originals_ahead_.contains(w))
      originals_->run(executor_, loaded, sublayer, w, true);
  }
  originals_ahead_.clear();
}

double Calibration::output_error(const Block& candidate, int sublayer, int64_t tokens) {
  if (reference_of_ != original_ || reference_sublayer_ != sublayer) {
    reference_.clear();
    reference_norm_ = 0;
    reference_of_ = original_;
    reference_sublayer_ = sublayer;
  }
  double error = 0;
  int64_t seen = 0;
  const WeightCacheScope held(executor_);
  for (size_t w = 0; w < states_.windows() && seen < tokens; ++w) {
    if (w == reference_.size()) {
      std::vector<float> before, after;
      states_.load(w, &before);
      executor_.read(states_.run(executor_, *original_, sublayer, w, false),
                     sized(after, before.size()));
      for (size_t i = 0; i < after.size(); ++i) {
        const double d = static_cast<double>(after[i]) - static_cast<double>(before[i]);
        reference_norm_ += d * d;
      }
      reference_.push_back(std::move(after));
    }
    std::vector<float> now;
    executor_.read(states_.run(executor_, candidate, sublayer, w, false),
                   sized(now, reference_[w].size()));
    for (size_t i = 0; i < now.size(); ++i) {
      const double d = static_cast<double>(now[i]) - static_cast<double>(reference_[w][i]);
      error += d * d;
    }
    seen += states_.tokens(w);
  }
  return reference_norm_ > 0 ? error / reference_norm_ : error;
}

}  // namespace pith
