// Records of a journal with right hashes: whatever they contain, the accepted units never point
// outside of the data.

#include <cstdlib>

#include "core/bytes.h"
#include "core/error.h"
#include "formats/packed_file.h"
#include "runtime/compress/journal.h"
#include "runtime/compress/self_text.h"

// u16 length and that many bytes, again and again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kData = 1 << 16;
  std::vector<std::string> records;
  while (size >= 2 && records.size() < 64) {
    const size_t length = std::min<size_t>(size - 2, data[0] | data[1] << 8);
    records.emplace_back(reinterpret_cast<const char*>(data) + 2, length);
    data += 2 + length;
    size -= 2 + length;
  }
  uint64_t end = 0;
  for (const auto& unit : pith::parse_units(records, kData)) {
    if (unit.data_end() < end || unit.data_end() > kData) std::abort();
    end = unit.data_end();
    pith::proto::Manifest m;
    *m.mutable_linears() = unit.linears();
    *m.mutable_vectors() = unit.vectors();
    *m.mutable_blobs() = unit.blobs();
    pith::for_each_plane(m, [&](const pith::proto::PlaneRecord& p) {
      if (p.offset() > end || p.bytes() > end - p.offset()) std::abort();
    });
    for (const auto& l : m.linears()) {
      for (const auto& t : l.terms()) {
        const auto& w = t.weight();
        const auto layouts =
            pith::plane_layouts(pith::encoding_from(w.encoding()), static_cast<int64_t>(w.n()),
                                static_cast<int64_t>(w.k()));
        if (layouts.size() != static_cast<size_t>(w.planes_size())) std::abort();
      }
    }
  }
  for (const auto& r : records) {
    pith::difference(pith::parse_fingerprint(r), {});
    try {
      pith::piece_from(r);
    } catch (const pith::Error&) {
    }
  }
  return 0;
}
