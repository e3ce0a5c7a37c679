#include "quant/gptq_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/bytes.h"
#include "core/dtype.h"
#include "formats/encodings/fp8.h"
#include "runtime/compress/check.h"

namespace pith {

Levels levels_of(const Encoding& e) {
  switch (e.value_kind()) {
    case EncodingKind::kFp8:
      return e.dtype == DType::kF8E4M3 ? Levels::kE4M3 : Levels::kE5M2;
    case EncodingKind::kNf4:
      return Levels::kNf4;
    default:
      return Levels::kIntegers;
  }
}

namespace {

std::vector<uint32_t> stored_mask_of(const RowJob& job, int64_t first, int64_t rows) {
  if (!job.encoding.is_sparse()) return {};
  const auto words = static_cast<size_t>(mask_words(job.k));
  const auto mask = filled_mask(
      job.encoding.sparsity, job.k,
      job.mask.subspan(static_cast<size_t>(first) * words, static_cast<size_t>(rows) * words));
  check_mask(job.encoding.sparsity, job.k, job.row + first, mask);
  return mask;
}

}  // namespace

GptqRows::GptqRows(const GptqFactor& f, const RowJob& job, int64_t first, int64_t rows)
    : f_(f),
      job_(job),
      first_(first),
      rows_(rows),
      lanes_(static_cast<int64_t>(round_up(static_cast<uint64_t>(rows), 16))),
      levels_(levels_of(job.encoding)),
      codes_(lanes_ * f.k),
      scale_(static_cast<int64_t>(f.groups.size()) * lanes_),
      zero_(scale_.size()),
      exponent_(static_cast<size_t>(rows)),
      encoding_(job.encoding.inner()),
      mask_(stored_mask_of(job, first, rows)),
      columns_{job.encoding.sparsity, job.k, mask_},
      stored_{encoding_,
              job.n,
              mask_.empty() ? job.k : kept_per_row(job.encoding.sparsity, job.k),
              job.row + first,
              rows,
              nullptr,
              nullptr,
              job.tensor_absmax,
              job.to,
              job.row_hashes == nullptr ? nullptr : job.row_hashes + first,
              {},
              0,
              mask_.empty() ? nullptr : &columns_},
      layout_(encoding_, stored_.n, stored_.k),
      search_(encoding_, grid_kernels()) {}

void GptqRows::load() {
  original_ = Buffer<float>(lanes_ * f_.k);
  std::vector<float> row(static_cast<size_t>(f_.k));
  for (int64_t r = 0; r < rows_; ++r) {
    exponent_[static_cast<size_t>(r)] = scale_row(job_.w + (first_ + r) * f_.k, f_.k, row.data());
    for (int64_t p = 0; p < f_.k; ++p)
      original_[r * f_.k + p] = row[static_cast<size_t>(f_.order[static_cast<size_t>(p)])];
  }
  if (job_.mask.empty()) return;
  kept_ = Buffer<float>(lanes_ * f_.k);
  for (int64_t r = 0; r < rows_; ++r) {
    const auto kept = mask_row(job_.mask, f_.k, first_ + r);
    for (int64_t p = 0; p < f_.k; ++p)
      kept_[r * f_.k + p] = is_kept(kept, f_.order[static_cast<size_t>(p)]) ? 1.0f : 0.0f;
  }
}

float GptqRows::as_stored(int64_t r, float s) const {
  const int e = exponent_[static_cast<size_t>(r)];
  float real = std::ldexp(s, e);
  if (std::fabs(real) < 0x1p-126f) return 0;
  if (is_fp8(encoding_)) return s;
  const auto rounded = [type = encoding_.scale](float v) {
    return type == DType::kF16 ? f16_to_f32(f32_to_f16(v)) : bf16_to_f32(f32_to_bf16(v));
  };
  if (!largest_.empty()) {
    const float row_scale = rounded(largest_[static_cast<size_t>(r)] / 127);
    if (!(row_scale >= 0x1p-126f)) return 0;
    real = row_scale * std::clamp(std::nearbyint(real / row_scale), -127.0f, 127.0f);
  } else {
    real = rounded(real);
  }
  if (!std::isfinite(real)) return s;  // store_scales will say so
  return std::ldexp(real, -e);
}

float GptqRows::fp8_scale_of(int64_t r, const GptqFactor::Group& group) const {
  const Encoding& e = encoding_;
  const int64_t row = job_.row + first_ + r;
  if (e.has_tensor_scale()) return fp8_scale(e, job_.tensor_absmax, row);
  float s;
  std::memcpy(&s, fp8_scale_bytes(row, group), sizeof s);
  return s;
}
std::byte* GptqRows::fp8_scale_bytes(int64_t row, const GptqFactor::Group& group) const {
  const int64_t column = f_.order[static_cast<size_t>(group.begin)];
  return find_plane(job_.to, PlaneKind::kScales).data() +
         fp8_scale_index(encoding_, f_.k, row, column) * 4;
}

void GptqRows::choose_scales(size_t g, const float* x, int64_t stride, const float* weights,
                             bool search) {
  const auto& group = f_.groups[g];
  const int64_t width = group.end - group.begin;
  std::vector<float> kept(kept_.empty() ? 0 : static_cast<size_t>(width));
  for (int64_t r = 0; r < lanes_; ++r) {
    const auto at = scale_index(g, r);
    if (r >= rows_) {
      scale_[at] = zero_[at] = 0;
      continue;
    }
    if (is_fp8(encoding_)) {
      scale_[at] = std::ldexp(fp8_scale_of(r, group), -exponent_[static_cast<size_t>(r)]);
      zero_[at] = 0;
      continue;
    }
    const float* of_row = x + r * stride;
    if (!kept.empty()) {
      for (int64_t i = 0; i < width; ++i)
        kept[static_cast<size_t>(i)] = of_row[i] * kept_[r * f_.k + group.begin + i];
      of_row = kept.data();
    }
    if (levels_ == Levels::kNf4) {
      scale_[at] = as_stored(r, search_nf4(of_row, weights, width));
      zero_[at] = 0;
    } else if (job_.encoding.kind == EncodingKind::kTcq) {
      scale_[at] = as_stored(r, tcq_scale(job_.encoding.bits, of_row, weights, width));
      zero_[at] = kTcqZero;
    } else {
      const GridChoice c =
          search ? search_.run(of_row, weights, width) : search_.range(of_row, width);
      scale_[at] = as_stored(r, c.scale);
      zero_[at] = c.zero;
    }
  }
}

void GptqRows::fix_largest_scales() {
  // The refit may want a scale larger than the range does.
  constexpr float kHeadroom = 1.1f;
  std::vector<float> largest(static_cast<size_t>(rows_));
  for (size_t g = 0; g < f_.groups.size(); ++g) {
    const auto& group = f_.groups[g];
    choose_scales(g, original_.data() + group.begin, f_.k, f_.variance.data() + group.begin, false);
    for (int64_t r = 0; r < rows_; ++r) {
      auto& most = largest[static_cast<size_t>(r)];
      most = std::max(most, std::fabs(scale_[scale_index(g, r)]));
    }
  }
  for (int64_t r = 0; r < rows_; ++r) {
    auto& most = largest[static_cast<size_t>(r)];
    most = std::ldexp(most * kHeadroom, exponent_[static_cast<size_t>(r)]);
  }
  largest_ = std::move(largest);
}

template <class T>
std::span<const T> GptqRows::stored_numbers(int64_t r, const std::vector<T>& row,
                                            std::vector<T>* kept) const {
  if (mask_.empty()) return row;
  *kept = gather_kept(columns_.sparsity, f_.k, 1, mask_row(mask_, f_.k, r), row.data(), f_.k);
  return *kept;
}

void GptqRows::store() {
  if (!mask_.empty()) store_mask(f_.k, stored_.row, mask_, job_.to);
  if (is_fp8(encoding_)) return store_fp8();
  const auto groups = f_.groups.size();
  std::vector<float> scales(groups);
  std::vector<uint8_t> zeros(groups), codes(static_cast<size_t>(f_.k)), kept;
  for (int64_t r = 0; r < rows_; ++r) {
    for (size_t g = 0; g < groups; ++g) {
      const auto index = static_cast<size_t>(f_.groups[g].index);
      const auto at = scale_index(g, r);
      scales[index] = std::ldexp(scale_[at], exponent_[static_cast<size_t>(r)]);
      zeros[index] = static_cast<uint8_t>(zero_[at]);
    }
    for (int64_t p = 0; p < f_.k; ++p) {
      const float code = codes_[r * f_.k + p];
      codes[static_cast<size_t>(f_.order[static_cast<size_t>(p)])] =
          levels_ == Levels::kNf4 ? nearest_nf4(code) : static_cast<uint8_t>(code);
    }
    store_scales(encoding_, layout_, job_.to, stored_.row + r, scales,
                 largest_.empty() ? 0 : largest_[static_cast<size_t>(r)]);
    if (!windows_.empty()) {
      const auto of_row = std::span(windows_).subspan(static_cast<size_t>(r * f_.k), codes.size());
      store_tcq_row(stored_, layout_, r, scales, of_row);
      continue;
    }
    store_row(stored_, layout_, r, scales, zeros, stored_numbers(r, codes, &kept));
  }
}

void GptqRows::store_fp8() {
  std::vector<float> decoded(static_cast<size_t>(f_.k)), kept_decoded;
  std::vector<std::byte> codes(static_cast<size_t>(f_.k)), kept_codes;
  auto* plane = find_plane(job_.to, PlaneKind::kCodes).data();
  const bool e4m3 = levels_ == Levels::kE4M3;
  for (int64_t r = 0; r < rows_; ++r) {
    const int64_t row = stored_.row + r;
    for (size_t g = 0; g < f_.groups.size(); ++g) {
      const auto& group = f_.groups[g];
      const float s = std::ldexp(scale_[scale_index(g, r)], exponent_[static_cast<size_t>(r)]);
      if (has_own_scales(encoding_)) std::memcpy(fp8_scale_bytes(row, group), &s, sizeof s);
      for (int64_t p = group.begin; p < group.end; ++p) {
        const auto column = static_cast<size_t>(f_.order[static_cast<size_t>(p)]);
        const float v = codes_[r * f_.k + p];
        codes[column] = static_cast<std::byte>(e4m3 ? f32_to_f8e4m3(v) : f32_to_f8e5m2(v));
        decoded[column] = v * s;
      }
    }
    const auto stored = stored_numbers(r, codes, &kept_codes);
    std::memcpy(plane + row * stored_.k, stored.data(), stored.size());
    note_row_hash(stored_, r, stored_numbers(r, decoded, &kept_decoded).data());
  }
}

}  // namespace pith
