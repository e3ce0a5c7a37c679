#include "quant/method.h"

#include <string>
#include <vector>

#include "core/error.h"
#include "formats/encodings/tcq.h"
#include "quant/scaling.h"
#include "runtime/compress/check.h"

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
  if (job.meant == nullptr) return;
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
  job.meant[r] = row_hash(row.data(), l.k);
}

void store_tcq_row(const RowJob& job, const GroupLayout& l, int64_t r,
                   std::span<const float> scales, std::span<const uint16_t> windows) {
  store_windows(l, job.to, job.row + r, windows);
  if (job.meant == nullptr) return;
  thread_local std::vector<float> row;
  row.resize(static_cast<size_t>(l.k));
  for (int64_t i = 0; i < l.k; ++i) {
    const auto c = static_cast<size_t>(i);
    row[c] = scales[static_cast<size_t>(i / l.group)] *
             static_cast<float>(tcq_code(windows[c]) - kTcqZero);
  }
  job.meant[r] = row_hash(row.data(), l.k);
}

std::span<const Method> methods() { return kTable; }

const Method& find_method(std::string_view name) {
  std::string known;
  if (const size_t plus = name.find('+'); plus != std::string_view::npos)
    return find_method(name.substr(plus + 1));
  for (const auto& s : scalings()) {
    if (name == s.name) return find_method("rtn");
  }
  for (const auto& m : kTable) {
    if (name == m.name) return m;
    known += std::string(known.empty() ? "" : ", ") + m.name;
  }
  for (const auto& s : scalings()) known += std::string(", ") + s.name;
  fail(ErrorKind::kUsage, "unknown method \"{}\": {}", name, known);
}

}  // namespace pith
