#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/file.h"
#include "core/file_errors.h"

namespace pith {
namespace {

// Mappings that the SIGBUS handler can look through without a lock: slots in a chain that only
// grows.
struct MappingSlot {
  std::atomic<const std::byte*> begin{nullptr};
  std::atomic<size_t> size{0};
  std::atomic<const char*> path{nullptr};
};
struct MappingSlots {
  std::array<MappingSlot, 64> slots;
  std::atomic<MappingSlots*> next{nullptr};
};
MappingSlots first_slots;

// The first slot that f(slot) takes, or null.
template <class F>
MappingSlot* find_slot(F f) {
  for (MappingSlots* s = &first_slots; s != nullptr; s = s->next) {
    for (auto& slot : s->slots) {
      if (f(slot)) return &slot;
    }
  }
  return nullptr;
}

void add_slots() {
  auto* const added = new MappingSlots;
  for (MappingSlots* s = &first_slots;; s = s->next) {
    MappingSlots* expected = nullptr;
    if (s->next.compare_exchange_strong(expected, added)) return;
  }
}

void on_bus_error(int, siginfo_t* info, void*) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  const MappingSlot* const slot = find_slot([&](const MappingSlot& s) {
    const std::byte* begin = s.begin;
    return begin != nullptr && address >= begin && address < begin + s.size;
  });
  if (slot != nullptr) {
    const char message[] = "pith: model file changed while in use: ";
    const char* path = slot->path;
    [[maybe_unused]] ssize_t ignored = ::write(2, message, sizeof(message) - 1);
    ignored = ::write(2, path, std::strlen(path));
    ignored = ::write(2, "\n", 1);
    ::_exit(4);
  }
  ::signal(SIGBUS, SIG_DFL);
  ::raise(SIGBUS);
}

}  // namespace

void install_mapping_guard() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
  ::signal(SIGXFSZ, SIG_IGN);
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  const File file = File::open_read(path);
  const uint64_t size = file.size();
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  mapped->path_ = path;
  if (size == 0) return mapped;
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd(), 0);
  if (data == MAP_FAILED && errno == ENOMEM)
    fail(ErrorKind::kMemory, "{}: no memory to map {} bytes", path, size);
  if (data == MAP_FAILED) fail_io(errno, path, "map");
  mapped->bytes_ = {static_cast<const std::byte*>(data), size};
  const auto take = [&](MappingSlot& s) {
    const char* expected = nullptr;
    return s.path.compare_exchange_strong(expected, mapped->path_.c_str());
  };
  MappingSlot* slot = find_slot(take);
  while (slot == nullptr) {
    add_slots();
    slot = find_slot(take);
  }
  slot->size = size;
  slot->begin = mapped->bytes_.data();
  return mapped;
}
MappedFile::~MappedFile() {
  if (bytes_.empty()) return;
  MappingSlot* const slot =
      find_slot([&](const MappingSlot& s) { return s.begin == bytes_.data(); });
  if (slot != nullptr) {
    slot->begin = nullptr;
    slot->path = nullptr;
  }
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace pith
