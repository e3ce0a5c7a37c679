#include "runtime/compress/stage_collector.h"

#include <algorithm>
#include <utility>

#include "runtime/compress/input_capture.h"

namespace pith {
namespace {

constexpr int64_t kRoundedTogether = 1024;  // tokens that are rounded, which the host does

}  // namespace

StageCollector::StageCollector(Executor& executor, Request request, int64_t hidden, Phases& phases)
    : executor_(executor),
      algebra_(executor.algebra()),
      request_(std::move(request)),
      phases_(phases),
      // The uncompressed model sends an expert other tokens; heads are taken many at a time.
      compares_(request_.needs.cross_gram && request_.stage.linears.front().part() < 0),
      tokens_together_(request_.rounding.rounds() ? kRoundedTogether : algebra_.tokens_together()) {
  request_.needs.cross_gram = compares_;
  request_.feeds_residual = request_.feeds_residual && compares_;
  for (const auto& name : request_.names) {
    tokens_.push_back(
        {{algebra_, name, request_.needs, request_.stage.k(), request_.feeds_residual ? hidden : 0},
         {},
         {},
         {}});
  }
}

void StageCollector::add(const Block& block, CalibrationStates& states, size_t window) {
  InputCapture capture(executor_, request_.names, true);
  capture.run([&] { states.run(capture, block, request_.stage.sublayer, window, false); },
              [&](size_t which, Tensor x) { take(tokens_[which], executor_.view(x)); });
}

void StageCollector::take(Tokens& to, MatrixRef<const float> x) {
  if (to.rows + x.rows > tokens_together_) flush(to);
  algebra_.reserve_rows(to.rows, to.rows + x.rows, x.columns, &to.x);
  const MatrixRef<float> here = to.x.row_block(to.rows, x.rows);
  if (request_.rounding.rounds()) {
    host_.resize(static_cast<size_t>(x.rows * x.columns));
    algebra_.download(x, host_.data());
    rounded_.set(request_.rounding, host_.data(), x.rows, x.columns);
    algebra_.upload(rounded_.values(), here);
  } else {
    algebra_.copy(x, here);
  }
  to.rows += x.rows;
}

void StageCollector::add_original(const Block& original, CalibrationStates& originals,
                                  const CalibrationStates& states, size_t window, bool keeps) {
  Tokens& to = tokens_.front();
  const int64_t m = states.tokens(window), first = to.rows - m;
  if (request_.feeds_residual) {
    algebra_.reserve_rows(first, to.rows, states.hidden(), &to.stream_delta);
    algebra_.reserve_rows(0, m, states.hidden(), &scratch_);
    const auto delta = to.stream_delta.row_block(first, m), now = scratch_.row_block(0, m);
    originals.load(window, delta);
    states.load(window, now);
    algebra_.add_scaled(-1, now, delta);
  }
  InputCapture capture(executor_, request_.names, !keeps);
  capture.run([&] { originals.run(capture, original, request_.stage.sublayer, window, keeps); },
              [&](size_t, Tensor x) {
                algebra_.reserve_rows(first, to.rows, x.n, &to.input_delta);
                algebra_.copy(executor_.view(x), to.input_delta.row_block(first, m));
              });
}

void StageCollector::flush(Tokens& tokens) {
  if (tokens.rows == 0) return;
  const Phases::Scope phase(phases_, "Gram matrices");
  const MatrixRef<const float> x = tokens.x.row_block(0, tokens.rows);
  MatrixRef<float> input_delta, stream_delta;
  if (compares_) {
    input_delta = tokens.input_delta.row_block(0, tokens.rows);
    algebra_.add_scaled(-1, x, input_delta);
  }
  if (request_.feeds_residual) stream_delta = tokens.stream_delta.row_block(0, tokens.rows);
  tokens.statistics.add(x, input_delta, stream_delta);
  tokens.rows = 0;
}

std::vector<InputStatistics> StageCollector::finish() {
  std::vector<InputStatistics> all;
  for (Tokens& t : tokens_) {
    flush(t);
    all.push_back(t.statistics.finish());
  }
  return all;
}

}  // namespace pith
