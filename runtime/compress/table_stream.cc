#include "runtime/compress/table_stream.h"

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "runtime/compress/check.h"
#include "runtime/compress/slabs.h"
#include "runtime/cpu/decode.h"

namespace pith {
namespace {

// The largest magnitude, for encodings with one scale for the whole tensor; 0 for others.
float table_absmax(const ModelSource& source, const LinearInfo& info, const Encoding& to) {
  float absmax = 0;
  if (!to.has_tensor_scale()) return absmax;
  const int64_t slab = slab_rows(to, info.n, info.k);
  std::vector<float> w(static_cast<size_t>(slab * info.k));
  for (int64_t begin = 0; begin < info.n; begin += slab) {
    const int64_t rows = std::min(slab, info.n - begin);
    source.rows(info, begin, rows, w.data());
    for (int64_t i = 0; i < rows * info.k; ++i)
      absmax = std::max(absmax, std::fabs(w[static_cast<size_t>(i)]));
  }
  return absmax;
}

proto::LinearRecord* begin_table(const LinearInfo& info, const LinearForm& form,
                                 UnitWriter& writer) {
  auto* record = writer.add_linear(info);
  if (form.input.rounds()) *record->mutable_input() = record_of(form.input);
  return record;
}

class TableStream {
 public:
  TableStream(const ModelSource& source, const LinearInfo& info, const Encoding& to,
              const TableEncoder& encoder)
      : source_(source),
        info_(info),
        to_(to),
        encoder_(encoder),
        slab_(slab_rows(to_, info.n, info.k)),
        absmax_(table_absmax(source, info, to_)),
        comparison_(ceil_div(info.n, slab_)),
        row_hashes_(static_cast<size_t>(info.n)) {}

  // Fills the record, and finishes it.
  void write(proto::LinearRecord* record, UnitWriter& writer) {
    auto* weight = record->add_terms()->mutable_weight();
    *weight->mutable_encoding() = record_of(to_);
    weight->set_n(static_cast<uint64_t>(info_.n));
    weight->set_k(static_cast<uint64_t>(info_.k));
    std::vector<PlaneWriter> planes;
    const auto layouts = plane_layouts(to_, info_.n, info_.k);
    for (const auto& l : layouts) planes.push_back(writer.file().begin_plane(l.kind, l.bytes));
    const int64_t together =
        slab_ * std::max(1, 2 * thread_count());  // read, encoded and written as one piece
    for (int64_t begin = 0; begin < info_.n; begin += together) {
      writer.progress().check();
      const OwnedWeight piece = encode(begin, std::min(together, info_.n - begin));
      for (size_t p = 0; p < planes.size(); ++p) {
        const bool once =
            layouts[p].unit_rows >= info_.n && begin > 0;  // one scale for the whole tensor
        if (!once) planes[p].append(piece.weight.planes[p].bytes);
      }
    }
    for (auto& p : planes) *weight->add_planes() = p.finish();
    if (info_.bias) {
      const auto bias = source_.bias(info_);
      *record->mutable_bias() =
          writer.file().add_plane(PlaneKind::kCodes, std::as_bytes(std::span(bias)));
    }
    if (std::ranges::any_of(row_hashes_, [](uint64_t h) { return h != 0; }))
      record->set_expected_hash(hash64(std::as_bytes(std::span(row_hashes_))));
    writer.finish(comparison_, plain_form(to_), encoder_.method(), record);
  }

 private:
  // Rows [begin, begin + rows), encoded and compared with their source.
  OwnedWeight encode(int64_t begin, int64_t rows) {
    OwnedWeight piece = allocate_weight(to_, rows, info_.k);
    original_.require(rows * info_.k);
    parallel_ranges(rows, slab_, [&](int64_t first, int64_t last) {
      float* w = original_.data() + first * info_.k;
      source_.rows(info_, begin + first, last - first, w);
      check_finite(info_.name, begin + first, info_.k,
                   {w, static_cast<size_t>((last - first) * info_.k)});
      try {
        encoder_.encode({rows, first, last - first, w, absmax_, piece.planes,
                         row_hashes_.data() + begin + first});
      } catch (const Error& e) {
        if (begin == 0) throw;
        throw Error(e.kind(), fmt::format("{} (rows counted from {} on)", e.what(), begin));
      }
    });
    parallel_ranges(rows, slab_, [&](int64_t first, int64_t last) {
      thread_local Buffer<float> decoded;
      const auto size = static_cast<size_t>((last - first) * info_.k);
      decoded.require(static_cast<int64_t>(size));
      decode_rows(piece.weight, first, last - first, decoded.data());
      compare_slab({info_.name, (begin + first) / slab_, begin + first, info_.k},
                   {original_.data() + first * info_.k, size}, decoded.span().first(size),
                   &comparison_);
    });
    return piece;
  }

  const ModelSource& source_;
  const LinearInfo& info_;
  const Encoding to_;
  const TableEncoder& encoder_;
  const int64_t slab_;  // rows that a thread works on at a time
  const float absmax_;
  Comparison comparison_;
  std::vector<uint64_t> row_hashes_;  // row_hash of each row as it should decode
  Buffer<float> original_;
};

}  // namespace

void copy_table(const ModelSource& source, const LinearInfo& info, UnitWriter& writer) {
  const Linear linear = source.linear(info);
  const LinearForm form = form_of(linear);
  auto* record = begin_table(info, form, writer);
  const int64_t slab = slab_rows(linear);
  Comparison comparison(ceil_div(info.n, slab));
  for (int64_t begin = 0; begin < info.n; begin += slab) {
    const int64_t rows = std::min(slab, info.n - begin);
    std::vector<float> w(static_cast<size_t>(rows * info.k));
    decode_rows(linear, begin, rows, w.data());
    compare_slab({info.name, begin / slab, begin, info.k}, w, w, &comparison);
  }
  writer.add_terms(linear, record);
  writer.finish(comparison, form, "kept", record);
}

void encode_table(const ModelSource& source, const LinearInfo& info, const LinearForm& form,
                  const TableEncoder& encoder, UnitWriter& writer) {
  if (!form.plain()) {
    fail(ErrorKind::kUnsupported, "{}: {} is asked for, and a table is one weight", info.name,
         to_string(form));
  }
  auto* record = begin_table(info, form, writer);
  TableStream(source, info, form.terms.front().weight, encoder).write(record, writer);
}

}  // namespace pith
