#include "runtime/devices.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cuda/abi.h"

namespace pith {
namespace {

std::string program_folder() {
  char path[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", path, sizeof(path));
  return n > 0 ? folder_of(std::string(path, static_cast<size_t>(n))) : ".";
}

void add_cuda(DeviceList* list) {
  const std::string path = join_path(program_folder(), "libpith_cuda.so");
  if (!file_exists(path)) {
    list->cuda_note = "the CUDA backend is not built";
    return;
  }
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    list->cuda_note = ::dlerror();
    return;
  }
  const auto abi = reinterpret_cast<decltype(&pith_cuda_abi)>(::dlsym(library, "pith_cuda_abi"));
  const auto get =
      reinterpret_cast<decltype(&pith_cuda_devices)>(::dlsym(library, "pith_cuda_devices"));
  if (abi == nullptr || get == nullptr || abi() != PITH_CUDA_ABI) {
    list->cuda_note = path + " belongs to another version of pith";
    return;
  }
  PithCudaDevice found[16];
  char error[256] = "";
  const int32_t n = get(found, 16, error, sizeof(error));
  if (n <= 0) list->cuda_note = n < 0 ? error : "no device";
  for (int32_t i = 0; i < n; ++i) {
    list->devices.push_back({"cuda", found[i].name,
                             fmt::format("sm_{}{}", found[i].major, found[i].minor),
                             found[i].memory_bytes});
  }
}

}  // namespace

DeviceList list_devices() {
  DeviceList list;
  const auto pages = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)),
             page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  list.devices.push_back(
      {"cpu", fmt::format("{} threads", thread_count()), cpu_kernels().name, pages * page});
  add_cuda(&list);
  return list;
}

}  // namespace pith
