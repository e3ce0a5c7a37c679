#include "quant/method.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "formats/encodings/tcq.h"
#include "quant/scaling.h"
#include "runtime/compress/check.h"
#include "runtime/compress/slabs.h"
#include "runtime/cpu/decode.h"

namespace pith {
namespace {

// A new method is a row here and a file beside this one.
constexpr Method kTable[] = {
    {"minmax",
     "plain rounding onto the range of each group: the baseline",
     {},
     encode_minmax,
     nullptr},
    {"rtn",
     "rounding with a search for the scale and zero point of each group",
     {.mean_square = true},
     encode_rtn,
     nullptr},
    {"gptq",
     "each column makes up for what the ones before it missed, on a calibration text",
     {.mean_square = true, .gram = true},
     encode_rtn,
     quantize_stage_gptq},
};

}  // namespace

void store_row(const RowJob& job, const GroupLayout& l, int64_t r, std::span<const float> scales,
               std::span<const uint8_t> zeros, std::span<const uint8_t> codes) {
  const Encoding& e = job.encoding;
  const bool integers = e.kind == EncodingKind::kInt;
  const auto& values = e.kind == EncodingKind::kMx ? kE2M1Values : kNf4Values;
  if (integers && !e.symmetric) store_zeros(l, job.to, job.row + r, zeros);
  store_codes(l, job.to, job.row + r, codes);
  if (job.row_hashes == nullptr) return;
  thread_local std::vector<float> row;
  row.resize(static_cast<size_t>(l.k));
  for (int64_t g = 0; g < l.groups; ++g) {
    const float s = scales[static_cast<size_t>(g)];
    const int zero = e.symmetric ? 1 << (e.bits - 1) : zeros[static_cast<size_t>(g)];
    for (int64_t i = l.group_begin(g); i < l.group_end(g); ++i) {
      const auto c = static_cast<size_t>(i);
      row[c] = s * (integers ? static_cast<float>(codes[c] - zero) : values[codes[c]]);
    }
  }
  note_row_hash(job, r, row.data());
}

void note_row_hash(const RowJob& job, int64_t r, const float* row) {
  if (job.row_hashes == nullptr) return;
  if (job.stored == nullptr) {
    job.row_hashes[r] = row_hash(row, job.k);
    return;
  }
  const StoredColumns& s = *job.stored;
  thread_local Buffer<float> wide;
  wide.require(s.k);
  expand_rows(s.sparsity, s.k, 1, mask_row(s.mask, s.k, r), row, wide.data());
  job.row_hashes[r] = row_hash(wide.data(), s.k);
}

void encode_kept(const RowJob& job, void (*encode)(const RowJob&)) {
  const Sparsity& sparsity = job.encoding.sparsity;
  const std::vector<uint32_t> mask = job.mask.empty()
                                         ? magnitude_mask(sparsity, job.k, job.rows, job.w)
                                         : filled_mask(sparsity, job.k, job.mask);
  check_mask(sparsity, job.k, job.row, mask);
  thread_local Buffer<float> masked;
  const auto w = gather_kept(sparsity, job.k, job.rows, mask, masked_rows(job, &masked), job.k);
  std::vector<float> weights;
  if (job.channel_weight != nullptr)
    weights = gather_kept(sparsity, job.k, job.rows, mask, job.channel_weight, job.weight_stride);
  const StoredColumns stored{sparsity, job.k, mask};
  const Encoding inner = job.encoding.inner();
  const int64_t kept = kept_per_row(sparsity, job.k);
  encode({inner,
          job.n,
          kept,
          job.row,
          job.rows,
          w.data(),
          weights.empty() ? nullptr : weights.data(),
          job.tensor_absmax,
          job.to,
          job.row_hashes,
          {},
          kept,
          &stored});
  store_mask(job.k, job.row, mask, job.to);
}

void store_tcq_row(const RowJob& job, const GroupLayout& l, int64_t r,
                   std::span<const float> scales, std::span<const uint16_t> windows) {
  store_windows(l, job.to, job.row + r, windows);
  if (job.row_hashes == nullptr) return;
  thread_local std::vector<float> row;
  row.resize(static_cast<size_t>(l.k));
  for (int64_t i = 0; i < l.k; ++i) {
    const auto c = static_cast<size_t>(i);
    row[c] = scales[static_cast<size_t>(i / l.group)] *
             static_cast<float>(tcq_code(windows[c]) - kTcqZero);
  }
  note_row_hash(job, r, row.data());
}

std::span<const Method> methods() { return kTable; }

std::string row_method(const Method& m, const Encoding& e, bool weighted) {
  const std::string name = m.stage == nullptr ? m.name : plain_rounding().name;
  const bool floats =
      e.value_kind() == EncodingKind::kDense || e.value_kind() == EncodingKind::kFp8;
  return weighted && !floats && m.needs.mean_square ? name + " weighted by inputs" : name;
}

const Method& plain_rounding() { return kTable[1]; }

std::string MethodChoice::name() const {
  if (scaling == nullptr) return rounding->name;
  const std::string alone = scaling->name;
  return rounding == &plain_rounding() ? alone : alone + "+" + rounding->name;
}

MethodChoice parse_method(std::string_view name) {
  const auto found = [&](auto table, std::string_view part) {
    const auto it = std::ranges::find(table, part, [](const auto& row) { return row.name; });
    return it == table.end() ? nullptr : &*it;
  };
  const size_t plus = name.find('+');
  const std::string_view first = name.substr(0, plus);
  MethodChoice choice;
  choice.scaling = found(scalings(), first);
  if (plus != std::string_view::npos || choice.scaling == nullptr) {
    const std::string_view last = plus == std::string_view::npos ? name : name.substr(plus + 1);
    choice.rounding = found(methods(), last);
  }
  if (choice.rounding == nullptr) {
    std::string known;
    for (const auto& m : methods()) known += fmt::format("{}{}", known.empty() ? "" : ", ", m.name);
    for (const auto& s : scalings()) known += std::string(", ") + s.name;
    fail(ErrorKind::kUsage, "unknown method \"{}\": {}", name, known);
  }
  if (plus != std::string_view::npos && choice.scaling == nullptr) {
    fail(ErrorKind::kUsage, "method \"{}\": {} is not a scaling (awq, smoothquant)", name, first);
  }
  return choice;
}

const float* masked_rows(const RowJob& job, Buffer<float>* memory) {
  if (job.mask.empty()) return job.w;
  memory->require(job.rows * job.k);
  for (int64_t r = 0; r < job.rows; ++r) {
    const auto kept = mask_row(job.mask, job.k, r);
    for (int64_t c = 0; c < job.k; ++c) {
      const int64_t at = r * job.k + c;
      (*memory)[at] = is_kept(kept, c) ? job.w[at] : 0;
    }
  }
  return memory->data();
}

LinearForm rounded_form(LinearForm form, const Encoding& e) {
  for (auto& t : form.terms) {
    t.weight = t.rank > 0 ? e.inner() : e;
    if (t.rank > 0) t.up = e.inner();
  }
  return form;
}

LinearReport round_parts(Linear& linear, const Mask* mask,
                         FunctionRef<LinearReport(const WeightPart&)> round) {
  if (linear.terms.size() == 1 && !linear.terms.front().up)
    return round({linear, nullptr, mask, true, false});
  LinearReport all;
  const auto part = [&](Weight& w, const Weight* through, const Mask* pruned, bool factor) {
    Linear alone{.name = linear.name, .n = w.n, .k = w.k, .terms = {{w, {}}}, .bias = {}};
    LinearReport done = round({alone, through, pruned, false, factor});
    w = alone.terms.front().w;
    all.error = std::max(all.error, done.error);
    if (all.method.empty()) all.method = done.method;
    if (all.fallback.empty()) all.fallback = done.fallback;
  };
  for (Term& t : linear.terms) {
    part(t.w, nullptr, t.up ? nullptr : mask, t.up.has_value());
    if (t.up) part(*t.up, &t.w, nullptr, true);
  }
  return all;
}

float absmax_of(const Linear& linear) {
  std::vector<float> maxima(static_cast<size_t>(linear.n));
  parallel_for(linear.n, [&](int64_t r) {
    thread_local Buffer<float> w;
    w.require(linear.k);
    decode_rows(linear, r, 1, w.data());
    for (int64_t i = 0; i < linear.k; ++i)
      maxima[static_cast<size_t>(r)] = std::max(maxima[static_cast<size_t>(r)], std::fabs(w[i]));
  });
  return *std::ranges::max_element(maxima);
}

Mask mask_for(const Linear& linear, const Sparsity& sparsity, const Mask* pruned) {
  const int64_t k = linear.k;
  const Weight& first = linear.terms.front().w;
  const bool stored = pruned == nullptr && linear.terms.size() == 1 && !linear.terms.front().up &&
                      first.encoding.sparsity == sparsity;
  Mask mask(linear.n, k);
  parallel_ranges(linear.n, 64, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    std::vector<uint32_t> words;
    if (stored) {
      words = stored_mask(first, begin, rows);
    } else {
      thread_local Buffer<float> w;
      w.require(rows * k);
      decode_rows(linear, begin, rows, w.data());
      words = magnitude_mask(
          sparsity, k, rows, w.data(),
          pruned == nullptr ? std::span<const uint32_t>{} : pruned->rows(begin, rows));
    }
    std::ranges::copy(words, mask.rows(begin, rows).begin());
  });
  return mask;
}

OwnedWeight encode_rows_of(const Linear& linear, const RowRounding& how) {
  const Encoding& e = how.encoding;
  std::optional<Mask> chosen;
  if (e.is_sparse()) chosen = mask_for(linear, e.sparsity, how.mask);
  const Mask* const mask = chosen ? &*chosen : how.mask;
  const float absmax = e.has_tensor_scale() ? absmax_of(linear) : 0;
  OwnedWeight result = allocate_weight(e, linear.n, linear.k);
  parallel_ranges(linear.n, slab_rows(e, linear.n, linear.k), [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w;
    w.require((end - begin) * linear.k);
    decode_rows(linear, begin, end - begin, w.data());
    check_finite(linear.name, begin, linear.k,
                 {w.data(), static_cast<size_t>((end - begin) * linear.k)});
    try {
      how.encode({e, linear.n, linear.k, begin, end - begin, w.data(), how.channel_weight, absmax,
                  result.planes, how.row_hashes == nullptr ? nullptr : how.row_hashes + begin,
                  mask == nullptr ? std::span<const uint32_t>{} : mask->rows(begin, end - begin)});
    } catch (const Error& error) {
      throw Error(error.kind(), linear.name + ": " + error.what());
    }
  });
  return result;
}

namespace {

// Mean squares of w x, by those of x, if the channels of x do not correlate.
std::vector<float> through(const Weight& w, const float* mean_square) {
  std::vector<float> out(static_cast<size_t>(w.n)), row(static_cast<size_t>(w.k));
  for (int64_t r = 0; r < w.n; ++r) {
    decode_rows(w, r, 1, row.data());
    for (size_t i = 0; i < row.size(); ++i)
      out[static_cast<size_t>(r)] += row[i] * row[i] * mean_square[i];
  }
  return out;
}

}  // namespace

LinearReport round_rows_of(Linear& linear, const RowRounding& how, const LinearReport& report) {
  return round_parts(linear, how.mask, [&](const WeightPart& part) {
    LinearReport done = report;
    done.rows.resize(static_cast<size_t>(part.linear.n));
    const Encoding e = part.encoding(how.encoding);
    RowRounding rounding{e, how.encode, how.channel_weight, part.mask, done.rows.data()};
    std::vector<float> weights;
    if (part.through != nullptr && how.channel_weight != nullptr) {
      weights = through(*part.through, how.channel_weight);
      rounding.channel_weight = weights.data();
    }
    set_weight(part.linear, encode_rows_of(part.linear, rounding));
    if (done.rows[0] == 0) done.rows.clear();  // the method does not say
    return done;
  });
}

std::vector<float> channel_weights(const InputStatistics& s) {
  double mean = 0;
  for (const double v : s.mean_square) mean += v;
  mean /= static_cast<double>(std::max<size_t>(1, s.mean_square.size()));
  std::vector<float> out;
  if (mean <= 0) return out;
  for (const double v : s.mean_square) out.push_back(static_cast<float>(std::max(v / mean, 1e-6)));
  return out;
}

}  // namespace pith
