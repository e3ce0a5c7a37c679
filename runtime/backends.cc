#include "runtime/backends.h"

#include <unistd.h>

#include "core/error.h"
#include "core/parallel.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cuda/backend.h"
#include "runtime/cuda/gpu_executor.h"
#include "runtime/forward/split_executor.h"

namespace pith {

DeviceList list_devices() {
  DeviceList list;
  const auto pages = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)),
             page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  list.devices.push_back(
      {"cpu", fmt::format("{} threads", thread_count()), cpu_kernels().name, pages * page});
  const CudaBackend& cuda = cuda_backend();
  list.cuda_note = cuda.note;
  for (const auto& d : cuda.devices) {
    list.devices.push_back(
        {"cuda", d.name, fmt::format("sm_{}{}", d.major, d.minor), d.memory_bytes});
  }
  return list;
}

std::unique_ptr<Executor> make_executor(const ExecutorChoice& choice) {
  if (!choice.cuda) return make_cpu_executor(choice.inputs);
  auto gpu = make_cuda_executor(choice.batch_invariant);
  if (choice.gpu_layers < 0) return gpu;
  return make_split_executor(make_cpu_executor(choice.inputs), std::move(gpu), choice.gpu_layers);
}

}  // namespace pith
