// Memory and streams of a device, as ops.h describes them: cudart's, or the emulation's.
#pragma once

#include "runtime/cuda/ops.h"

namespace pith::cuda {

Status allocate(uint64_t bytes, void** to);
void release(void* p);
Status memory(uint64_t* free, uint64_t* total);
Status make_stream(Stream* to);
void end_stream(Stream stream);
Status upload(void* to, const void* from, uint64_t bytes, Stream stream);
Status download(void* to, const void* from, uint64_t bytes, Stream stream);
Status wait(Stream stream);

}  // namespace pith::cuda
