#include "core/error.h"

namespace pith {

const char* kind_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kCorrupt:
      return "corrupt";
    case ErrorKind::kUnsupported:
      return "unsupported";
    case ErrorKind::kIo:
      return "io";
    case ErrorKind::kNoSpace:
      return "no-space";
    case ErrorKind::kNumeric:
      return "numeric";
    case ErrorKind::kMemory:
      return "memory";
    case ErrorKind::kBusy:
      return "busy";
    case ErrorKind::kUnavailable:
      return "unavailable";
    case ErrorKind::kDevice:
      return "device";
    case ErrorKind::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return 2;
    case ErrorKind::kCorrupt:
    case ErrorKind::kUnsupported:
      return 3;
    case ErrorKind::kIo:
    case ErrorKind::kNoSpace:
      return 4;
    case ErrorKind::kNumeric:
      return 5;
    case ErrorKind::kMemory:
      return 6;
    case ErrorKind::kBusy:
      return 7;
    case ErrorKind::kUnavailable:
      return 8;
    case ErrorKind::kDevice:
      return 9;
    case ErrorKind::kCancelled:
      return 130;
  }
  return 1;
}

}  // namespace pith
