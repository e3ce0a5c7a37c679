#include "formats/encodings/dense.h"

#include "core/bytes.h"
#include "core/error.h"

namespace pith {
namespace {

std::string format(const Encoding& e) { return info(e.dtype).name; }

bool parse(std::string_view name, Encoding* to) {
  for (const auto& t : dtypes()) {
    if (name == t.name && t.bytes > 1) {
      *to = Encoding::dense(t.type);
      return true;
    }
  }
  return false;
}

void check(const Encoding&) {}

std::vector<PlaneLayout> planes(const Encoding& e, int64_t n, int64_t k) {
  const uint64_t row_bytes = checked_mul(static_cast<uint64_t>(k), info(e.dtype).bytes, "row size");
  return {{PlaneKind::kCodes, checked_mul(static_cast<uint64_t>(n), row_bytes, "plane size"), 1,
           row_bytes}};
}

void encode(const Encoding& e, int64_t, int64_t k, int64_t row, int64_t rows, const float* w, float,
            MutablePlanes to) {
  std::byte* p = find_plane(to, PlaneKind::kCodes).data() + row * k * info(e.dtype).bytes;
  from_f32(e.dtype, w, p, static_cast<size_t>(rows * k));
}

void decode(const Weight& w, int64_t row, int64_t rows, float* out) {
  const DType type = w.encoding.dtype;
  to_f32(type, w.plane(PlaneKind::kCodes).data() + row * w.k * info(type).bytes, out,
         static_cast<size_t>(rows * w.k));
}

}  // namespace

const EncodingOps kDenseOps = {
    EncodingKind::kDense, "dense", format, parse, check, planes, encode, decode};

}  // namespace pith
