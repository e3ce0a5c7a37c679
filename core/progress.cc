#include "core/progress.h"

namespace pith {

Progress& no_progress() {
  static SilentProgress silent;
  return silent;
}

}  // namespace pith
