#include "formats/encodings/sparse.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "formats/encodings/names.h"

namespace pith {
namespace {

constexpr int64_t kMaxGroup = 1024;
constexpr int64_t kMaxKept = int64_t{1} << 31;

// Columns that share a limit: m of kNM, the row of kBitmap.
int64_t group_of(const Sparsity& s, int64_t k) {
  return s.kind == SparsityKind::kNM ? s.of : std::max<int64_t>(k, 1);
}

int64_t count_kept(std::span<const uint32_t> mask_row, int64_t begin, int64_t end) {
  int64_t count = 0;
  for (int64_t c = begin; c < end;) {
    const int64_t bit = c % 32, bits = std::min(32 - bit, end - c);
    const uint32_t some = bits == 32 ? ~uint32_t{0} : (uint32_t{1} << bits) - 1;
    count += std::popcount(mask_row[static_cast<size_t>(c / 32)] >> bit & some);
    c += bits;
  }
  return count;
}

// ---- Table row ----

std::string format(const Encoding& e) {
  return fmt::format("{}-{}", to_string(e.inner()), to_string(e.sparsity));
}

bool parse(std::string_view name, Encoding* to) {
  const size_t dash = name.rfind('-');
  Sparsity sparsity;
  if (dash == name.npos || !parse_sparsity(name.substr(dash + 1), &sparsity)) return false;
  Encoding inner;
  for (const auto* row : encoding_table()) {
    if (row->kind == EncodingKind::kSparse || !row->parse(name.substr(0, dash), &inner)) continue;
    *to = Encoding::sparse(inner, sparsity);
    return true;
  }
  return false;
}

void check(const Encoding& e) {
  const Sparsity& s = e.sparsity;
  switch (s.kind) {
    case SparsityKind::kNM:
      if (s.of < 2 || s.of > kMaxGroup || s.kept < 1 || s.kept >= s.of) {
        fail(ErrorKind::kUsage, "{}:{}: n:m keeps 1 to m - 1 of every m columns, m at most {}",
             s.kept, s.of, kMaxGroup);
      }
      break;
    case SparsityKind::kBitmap:
      if (s.of != 0 || s.kept < 1 || s.kept > kMaxKept) {
        fail(ErrorKind::kUsage, "bitmap{}: a bitmap keeps 1 to {} columns of each row", s.kept,
             kMaxKept);
      }
      break;
    default:
      fail(ErrorKind::kUsage, "a sparse encoding that says nothing of what is kept");
  }
  const Encoding inner = e.inner();
  if (!can_encode(inner) || inner.kind == EncodingKind::kTcq)
    fail(ErrorKind::kUsage, "{} cannot hold the values of a sparse matrix", to_string(inner));
  ops(inner.kind).check(inner);
}

std::vector<PlaneLayout> planes(const Encoding& e, int64_t n, int64_t k) {
  auto all = plane_layouts(e.inner(), n, kept_per_row(e.sparsity, k));
  const uint64_t row_bytes = 4 * static_cast<uint64_t>(mask_words(k));
  all.push_back({PlaneKind::kIndices,
                 checked_mul(static_cast<uint64_t>(n), row_bytes, "plane size"), 1, row_bytes});
  return all;
}

void encode(const Encoding& e, int64_t n, int64_t k, int64_t row, int64_t rows, const float* w,
            float tensor_absmax, MutablePlanes to) {
  require_finite(row, rows, k, w);
  encode_masked(e, n, k, row, rows, w, magnitude_mask(e.sparsity, k, rows, w), tensor_absmax, to);
}

void decode(const Weight& w, int64_t row, int64_t rows, float* out) {
  const Sparsity& s = w.encoding.sparsity;
  const auto mask = stored_mask(w, row, rows);
  check_mask(s, w.k, row, mask);
  const Weight inner = kept_values(w);
  std::vector<float> values(static_cast<size_t>(rows * inner.k));
  reference_decode(inner, row, rows, values.data());
  expand_rows(s, w.k, rows, mask, values.data(), out);
}

}  // namespace

int64_t kept_per_row(const Sparsity& s, int64_t k) {
  if (s.kind == SparsityKind::kBitmap) return std::min(s.kept, k);
  return k / s.of * s.kept + std::min(s.kept, k % s.of);
}

std::string to_string(const Sparsity& s) {
  return s.kind == SparsityKind::kNM ? fmt::format("{}:{}", s.kept, s.of)
                                     : fmt::format("bitmap{}", s.kept);
}

bool parse_sparsity(std::string_view name, Sparsity* to) {
  constexpr std::string_view kBitmapName = "bitmap";
  Sparsity s;
  if (name.starts_with(kBitmapName)) {
    s.kind = SparsityKind::kBitmap;
    if (!parse_whole(name.substr(kBitmapName.size()), &s.kept)) return false;
  } else {
    const size_t colon = name.find(':');
    s.kind = SparsityKind::kNM;
    if (colon == name.npos || !parse_whole(name.substr(0, colon), &s.kept) ||
        !parse_whole(name.substr(colon + 1), &s.of))
      return false;
  }
  *to = s;
  return true;
}

std::vector<uint32_t> magnitude_mask(const Sparsity& s, int64_t k, int64_t rows, const float* w,
                                     std::span<const uint32_t> among) {
  const int64_t group = group_of(s, k);
  std::vector<uint32_t> mask(static_cast<size_t>(rows * mask_words(k)));
  std::vector<int64_t> order;
  for (int64_t r = 0; r < rows; ++r) {
    uint32_t* const words = mask.data() + r * mask_words(k);
    const auto allowed = among.empty() ? among : mask_row(among, k, r);
    for (int64_t begin = 0; begin < k; begin += group) {
      order.clear();
      for (int64_t c = begin; c < std::min(k, begin + group); ++c) {
        if (allowed.empty() || is_kept(allowed, c)) order.push_back(c);
      }
      const int64_t kept = std::min<int64_t>(s.kept, std::ssize(order));
      std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                        [&](int64_t a, int64_t b) {
                          const float x = std::fabs(w[r * k + a]), y = std::fabs(w[r * k + b]);
                          return x > y || (x == y && a < b);
                        });
      for (const int64_t c : std::span(order).first(static_cast<size_t>(kept)))
        words[c / 32] |= 1u << (c % 32);
    }
  }
  return mask;
}

std::vector<uint32_t> filled_mask(const Sparsity& s, int64_t k, std::span<const uint32_t> mask) {
  std::vector<uint32_t> filled(mask.begin(), mask.end());
  if (s.kind != SparsityKind::kNM || k == 0) return filled;
  const int64_t words = mask_words(k);
  for (int64_t r = 0; r < std::ssize(mask) / words; ++r) {
    uint32_t* const row = filled.data() + r * words;
    for (int64_t begin = 0; begin < k; begin += s.of) {
      const int64_t end = std::min(k, begin + s.of);
      int64_t missing =
          std::min(s.kept, end - begin) - count_kept(mask_row(mask, k, r), begin, end);
      for (int64_t c = begin; c < end && missing > 0; ++c) {
        const uint32_t bit = 1u << (c % 32);
        if ((row[c / 32] & bit) != 0) continue;
        row[c / 32] |= bit;
        --missing;
      }
    }
  }
  return filled;
}

void check_mask(const Sparsity& s, int64_t k, int64_t row, std::span<const uint32_t> mask) {
  const int64_t words = mask_words(k), group = group_of(s, k);
  for (int64_t r = 0; r < (words == 0 ? 0 : std::ssize(mask) / words); ++r) {
    const auto bits_of_row = mask_row(mask, k, r);
    if (count_kept(bits_of_row, k, 32 * words) != 0)
      fail(ErrorKind::kCorrupt, "row {}: a column beyond the {} of the matrix is kept", row + r, k);
    for (int64_t begin = 0; begin < k; begin += group) {
      const int64_t end = std::min(k, begin + group), kept = count_kept(bits_of_row, begin, end),
                    most = std::min(s.kept, end - begin);
      if (kept > most || (kept < most && s.kind == SparsityKind::kNM)) {
        fail(ErrorKind::kCorrupt, "row {}: {} columns of [{}, {}) are kept, {} are stored", row + r,
             kept, begin, end, most);
      }
    }
  }
}

void encode_masked(const Encoding& e, int64_t n, int64_t k, int64_t row, int64_t rows,
                   const float* w, std::span<const uint32_t> mask, float tensor_absmax,
                   MutablePlanes to) {
  const auto words = static_cast<size_t>(rows * mask_words(k));
  if (mask.size() != words)
    fail(ErrorKind::kUsage, "a mask of {} words for {} x {} weights", mask.size(), rows, k);
  check_mask(e.sparsity, k, row, mask);
  const auto values = gather_kept(e.sparsity, k, rows, mask, w, k);
  const Encoding inner = e.inner();
  ops(inner.kind)
      .encode(inner, n, kept_per_row(e.sparsity, k), row, rows, values.data(), tensor_absmax, to);
  store_mask(k, row, mask, to);
}

void store_mask(int64_t k, int64_t row, std::span<const uint32_t> mask, MutablePlanes to) {
  std::memcpy(find_plane(to, PlaneKind::kIndices).data() + 4 * row * mask_words(k), mask.data(),
              mask.size_bytes());
}

Weight kept_values(const Weight& w) {
  Weight inner = w;
  inner.encoding = w.encoding.inner();
  inner.k = kept_per_row(w.encoding.sparsity, w.k);
  std::erase_if(inner.planes, [](const Plane& p) { return p.kind == PlaneKind::kIndices; });
  return inner;
}

std::vector<uint32_t> stored_mask(const Weight& w, int64_t row, int64_t rows) {
  std::vector<uint32_t> mask(static_cast<size_t>(rows * mask_words(w.k)));
  std::memcpy(mask.data(), w.plane(PlaneKind::kIndices).data() + 4 * row * mask_words(w.k),
              4 * mask.size());
  return mask;
}

void expand_rows(const Sparsity& s, int64_t k, int64_t rows, std::span<const uint32_t> mask,
                 const float* values, float* out) {
  std::fill(out, out + rows * k, 0.0f);
  const int64_t kept = kept_per_row(s, k);
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = values + r * kept;
    const auto bits_of_row = mask_row(mask, k, r);
    for (size_t word = 0; word < bits_of_row.size(); ++word) {
      for (uint32_t bits = bits_of_row[word]; bits != 0; bits &= bits - 1)
        out[r * k + static_cast<int64_t>(32 * word) + std::countr_zero(bits)] = *from++;
    }
  }
}

const EncodingOps kSparseOps = {
    EncodingKind::kSparse, "sparse", format, parse, check, planes, encode, decode};

}  // namespace pith
