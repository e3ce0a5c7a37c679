#include "runtime/forward/batch.h"

#include "core/error.h"

namespace pith {

void check_fits(const Batch& batch, const KvPages& pages) {
  for (const Segment& s : batch.segments) {
    if (s.slot < 0 || s.slot >= pages.slots() || s.begin < 0 ||
        s.begin + s.count > pages.length()) {
      fail(ErrorKind::kUsage, "tokens {} to {} of sequence {} do not fit a cache of {} x {}",
           s.begin, s.begin + s.count, s.slot, pages.slots(), pages.length());
    }
    if (!pages.owns(s.slot, s.begin, s.begin + s.count)) {
      fail(ErrorKind::kUsage, "tokens {} to {} of sequence {} have no pages of their own", s.begin,
           s.begin + s.count, s.slot);
    }
  }
}

}  // namespace pith
