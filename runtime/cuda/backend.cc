#include "runtime/cuda/backend.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>

#include "core/file.h"

namespace pith {
namespace {

std::string program_folder() {
  char path[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", path, sizeof(path));
  return n > 0 ? folder_of(std::string(path, static_cast<size_t>(n))) : ".";
}

template <class F>
F* symbol(void* library, const char* name) {
  return reinterpret_cast<F*>(::dlsym(library, name));
}

CudaBackend open_backend() {
  CudaBackend to;
  const std::string path = join_path(program_folder(), "libpith_cuda.so");
  if (!file_exists(path)) {
    to.note = "the CUDA backend is not built";
    return to;
  }
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    to.note = ::dlerror();
    return to;
  }
  const auto abi = symbol<decltype(pith_cuda_abi)>(library, "pith_cuda_abi");
  const auto get = symbol<decltype(pith_cuda_devices)>(library, "pith_cuda_devices");
  const auto ops = symbol<decltype(pith_cuda_ops)>(library, "pith_cuda_ops");
  if (abi != nullptr && get != nullptr && ops != nullptr && abi() == PITH_CUDA_ABI)
    to.ops = static_cast<const cuda::Ops*>(ops());
  if (to.ops == nullptr || to.ops->version != cuda::kOpsVersion ||
      to.ops->bytes != sizeof(cuda::Ops)) {
    to.ops = nullptr;
    to.note = path + " belongs to another version of pith";
    return to;
  }
  to.devices.resize(16);
  char error[256] = "";
  const int32_t n = get(to.devices.data(), 16, error, sizeof(error));
  to.devices.resize(n > 0 ? static_cast<size_t>(n) : 0);
  if (n <= 0) {
    const std::string why = n < 0 ? error : "";
    to.note = why.empty()                                     ? "no GPU found"
              : why.find("insufficient") == std::string::npos ? "no GPU: " + why
              : file_exists("/proc/driver/nvidia/version") ? "the NVIDIA driver is too old: " + why
                                                           : "no NVIDIA driver found";
    to.ops = nullptr;
  }
  return to;
}

}  // namespace

const CudaBackend& cuda_backend() {
  static const CudaBackend backend = open_backend();
  return backend;
}

}  // namespace pith
