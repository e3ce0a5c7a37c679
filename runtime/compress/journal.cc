#include "runtime/compress/journal.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "formats/manifest_wire.h"
#include "formats/packed_file.h"

namespace pith {
namespace {

proto::Manifest manifest_of(const proto::JournalUnit& unit) {
  proto::Manifest m;
  *m.mutable_linears() = unit.linears();
  *m.mutable_vectors() = unit.vectors();
  *m.mutable_blobs() = unit.blobs();
  return m;
}

// Whether the planes still have their checksums.
bool has_its_bytes(const File& data, const proto::JournalUnit& unit) {
  constexpr uint64_t kPiece = 4 << 20;
  std::vector<std::byte> piece;
  bool good = true;
  const proto::Manifest m = manifest_of(unit);
  for_each_plane(m, [&](const proto::PlaneRecord& p) {
    if (!good) return;
    Hasher h;
    for (uint64_t at = 0; at < p.bytes(); at += piece.size()) {
      piece.resize(std::min(kPiece, p.bytes() - at));
      data.read(p.offset() + at, piece);
      h.add(piece);
    }
    good = h.value() == p.xxh3();
  });
  return good;
}

}  // namespace

std::vector<proto::JournalUnit> parse_units(const std::vector<std::string>& records,
                                            uint64_t data_bytes) {
  std::vector<proto::JournalUnit> units;
  uint64_t end = 0;
  for (const auto& bytes : records) {
    proto::JournalUnit unit;
    try {
      check_unit_wire(bytes, "journal");
      if (!unit.ParseFromString(bytes) || unit.data_end() > data_bytes) break;
      if (check_planes_follow(manifest_of(unit), end, unit.data_end(), "journal") !=
          unit.data_end()) {
        break;
      }
    } catch (const Error&) {
      break;
    }
    end = unit.data_end();
    units.push_back(std::move(unit));
  }
  return units;
}

Journal::Journal(WorkFolder& folder, const Fingerprint& fingerprint) : folder_(folder) {
  open(fingerprint);
}
Journal::Journal(std::unique_ptr<WorkFolder> own, const Fingerprint& fingerprint)
    : own_(std::move(own)), folder_(*own_) {
  open(fingerprint);
}

void Journal::open(const Fingerprint& fingerprint) {
  RecordLog& log = folder_.journal();
  // No data means no units: the data got its final name, and only the journal is left.
  const bool has_data = file_exists(folder_.file("data"));
  if (!has_data && !log.records().empty()) log.begin(fingerprint);
  folder_.begin(log, "finished parts", fingerprint);
  data_ = File::open_own(folder_.file("data"));
  if (has_data) {
    done_ = parse_units(log.records(), data_.size());
    const auto bad = std::ranges::find_if(
        done_, [&](const proto::JournalUnit& u) { return !has_its_bytes(data_, u); });
    done_.erase(bad, done_.end());
  }
  log.drop_from(done_.size());
  sync_folder_of(folder_.file("data"));
}

Journal::Journal(const std::string& output, const Fingerprint& fingerprint)
    : Journal(std::make_unique<WorkFolder>(output), fingerprint) {}

void Journal::commit(const proto::JournalUnit& unit) {
  data_.sync();
  folder_.journal().append(unit.SerializeAsString());
  done_.push_back(unit);
}

void Journal::drop_from(size_t unit) {
  folder_.journal().drop_from(unit);
  done_.resize(std::min(unit, done_.size()));
}

void Journal::finish() {
  data_.close();
  rename_file(folder_.file("data"), folder_.output());
  if (own_) own_->remove();
  done_.clear();
}

void Journal::discard() {
  data_.close();
  done_.clear();
  if (own_) {
    own_->remove();
  } else {
    syscalls().unlink(folder_.file("data").c_str());
    folder_.journal().begin({});
  }
}

}  // namespace pith
