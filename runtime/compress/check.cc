#include "runtime/compress/check.h"

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "runtime/compress/calibration.h"
#include "runtime/compress/slabs.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/cpu/decode.h"
#include "runtime/eval/divergence.h"
#include "runtime/forward/forward.h"

namespace pith {
namespace {

bool is_constant(const Linear& linear) {
  std::vector<float> row(static_cast<size_t>(linear.k));
  float first = 0;
  for (int64_t r = 0; r < linear.n; ++r) {
    decode_rows(linear, r, 1, row.data());
    if (r == 0) first = row[0];
    if (std::ranges::any_of(row, [&](float v) { return v != first; })) return false;
  }
  return true;
}

// Logits [tokens, vocab] of a model that is loaded block by block.
std::vector<float> logits_of(const ModelSource& source, const std::vector<int32_t>& tokens) {
  const auto executor = make_cpu_executor();
  const auto& spec = source.spec();
  const auto linears = linears_of(spec);
  Model ends;  // no blocks
  ends.spec = spec;
  ends.embedding = source.linear(linears.front());
  ends.final_norm = load_final_norm(source);
  CalibrationStates states(*executor, spec, ends.embedding, {tokens});
  states.run_all(*executor, source);
  if (!spec.tied_head()) {  // one table at a time
    ends.embedding = {};
    ends.own_head = source.linear(linears.back());
  }
  const auto m = static_cast<int64_t>(tokens.size());
  std::vector<float> hidden;
  states.load(0, &hidden);
  const Tensor x = executor->buffer(TensorId::kHidden, m, static_cast<int64_t>(spec.hidden()));
  executor->write(hidden, x);
  std::vector<int64_t> rows(tokens.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i);
  const Tensor logits = forward_head(*executor, ends, x, rows);
  std::vector<float> out(static_cast<size_t>(logits.m * logits.n));
  executor->read(logits, out);
  return out;
}

}  // namespace

void check_finite(const std::string& name, int64_t row, int64_t k, std::span<const float> w) {
  for (size_t i = 0; i < w.size(); ++i) {
    if (std::isfinite(w[i])) continue;
    const auto at = static_cast<int64_t>(i);
    fail(ErrorKind::kNumeric, "{}: weight [{}, {}] is {}", name, row + at / k, at % k, w[i]);
  }
}

uint64_t row_hash(const float* row, int64_t k) {
  return hash64(std::as_bytes(std::span(row, static_cast<size_t>(k))));
}

DecodedLinear check_linear(const std::string& path, const Linear& linear) {
  check_masks(path, linear);
  const int64_t slab = slab_rows(linear);
  const int64_t slabs = (linear.n + slab - 1) / slab;
  std::vector<float> low(static_cast<size_t>(slabs)), high(low.size());
  std::vector<uint64_t> hashes(static_cast<size_t>(linear.n));
  parallel_ranges(linear.n, slab, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w;
    const int64_t size = (end - begin) * linear.k;
    w.require(size);
    decode_rows(linear, begin, end - begin, w.data());
    float lo = w[0], hi = w[0];
    for (int64_t i = 0; i < size; ++i) {
      if (!std::isfinite(w[i])) {
        fail(ErrorKind::kNumeric, "{}: {} [{}, {}] is {}", path, linear.name, begin + i / linear.k,
             i % linear.k, w[i]);
      }
      lo = std::min(lo, w[i]);
      hi = std::max(hi, w[i]);
    }
    low[static_cast<size_t>(begin / slab)] = lo;
    high[static_cast<size_t>(begin / slab)] = hi;
    for (int64_t r = begin; r < end; ++r)
      hashes[static_cast<size_t>(r)] = row_hash(w.data() + (r - begin) * linear.k, linear.k);
  });
  const bool constant =
      linear.n * linear.k > 1 && *std::ranges::min_element(low) == *std::ranges::max_element(high);
  return {hash64(std::as_bytes(std::span(hashes))), constant};
}

uint64_t check_bytes(const ModelSource& source, int64_t tokens) {
  const auto& spec = source.spec();
  const auto linears = linears_of(spec);
  uint64_t table = 0;
  if (source.manifest() == nullptr || !source.recipe().empty()) {
    for (const auto* info : {&linears.front(), &linears.back()}) {
      if (info->layer < 0)
        table = std::max(table, encoded_bytes(source.form(*info), info->n, info->k));
    }
  }
  // Logits of both models, the uniform ones, and those in the executor.
  return table + 4 * static_cast<uint64_t>(tokens) * spec.vocab() * sizeof(float);
}

CheckResult check_result(const std::string& path, const ModelSource& source,
                         const std::vector<int32_t>& tokens, Progress& progress) {
  const PackedFile file = PackedFile::open(path);
  file.check_planes();
  const auto packed = open_model(path, "", false);
  const auto infos = linears_of(packed->spec());
  progress.begin("checking", static_cast<int64_t>(infos.size()));
  for (size_t i = 0; i < infos.size(); ++i) {
    progress.check();
    const Linear linear = packed->linear(infos[i]);
    const DecodedLinear decoded = check_linear(path, linear);
    if (decoded.constant && !is_constant(source.linear(infos[i])))
      fail(ErrorKind::kNumeric, "{}: all weights of {} are the same", path, infos[i].name);
    const auto& record = file.manifest().linears(static_cast<int>(i));
    if (record.name() == infos[i].name && record.expected_hash() != 0 &&
        record.expected_hash() != decoded.hash) {
      fail(ErrorKind::kNumeric,
           "{}: {} does not decode to the numbers that the method chose; the file is not kept",
           path, infos[i].name);
    }
    progress.advance(static_cast<int64_t>(i) + 1, infos[i].name);
  }
  progress.end();

  CheckResult result;
  result.tokens = static_cast<int64_t>(tokens.size());
  const auto base = logits_of(source, tokens), now = logits_of(*packed, tokens);
  const auto vocab = static_cast<int64_t>(source.spec().vocab());
  result.kl = mean_kl(base, now, vocab);
  const double uniform = mean_kl(base, std::vector<float>(base.size()), vocab);
  if (!(result.kl <= std::max(5.0, uniform))) {
    fail(ErrorKind::kNumeric,
         "the compressed model has lost its source: KL divergence {:.3f} over {} tokens (knowing "
         "nothing would be {:.3f}); the file is not kept",
         result.kl, result.tokens, uniform);
  }
  return result;
}

}  // namespace pith
