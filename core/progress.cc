#include "core/progress.h"

namespace pith {
namespace {

class Silent final : public Progress {
 public:
  void begin(const std::string&, int64_t) override {}
  void advance(int64_t, const std::string&) override {}
  void end() override {}
  void note(const std::string&) override {}
};

}  // namespace

Progress& no_progress() {
  static Silent silent;
  return silent;
}

}  // namespace pith
